//! Devices: their list, and the one that is asked for.

use crate::errors::error;
use crate::process;
use fullconv::gpu::{self, Adapter, cache_folder, kernels_left_out, wgpu};
use fullconv::{ErrorKind, Gpu, GpuOptions, Result};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The device that is asked for, and how it is opened.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// `auto`, `cpu`, or an adapter: its index, its PCI address after `pci:`, or a part of its name.
    pub device: String,
    /// The most device memory of a plan, in bytes.
    pub memory: Option<u64>,
    /// Whether measured kernels and compiled pipelines are kept on disk.
    pub cache: bool,
}

impl DeviceOptions {
    /// Opens the device; `None` is the CPU reference.
    pub async fn open(&self) -> Result<Option<Gpu>> {
        let adapter = match self.device.as_str() {
            "cpu" => return Ok(None),
            "auto" => first_gpu().await?,
            named => named.strip_prefix("pci:").unwrap_or(named).to_owned(),
        };
        let options = GpuOptions {
            adapter: Some(adapter),
            memory_bytes: self.memory,
            without_kernels: kernels_left_out(),
            cache: cache_folder().filter(|_| self.cache),
            ..GpuOptions::default()
        };
        Gpu::with_options(&options).await.map(Some)
    }
}

/// The index of the first adapter that can be used and is no CPU.
async fn first_gpu() -> Result<String> {
    let found = gpu::adapters(None).await;
    let is_gpu = |a: &Adapter| a.trouble().is_none() && kind(a) != CPU;
    match found.iter().position(is_gpu) {
        Some(index) => Ok(index.to_string()),
        None => {
            let others = found.iter().enumerate().map(|(i, adapter)| {
                let trouble = adapter.trouble();
                let trouble = trouble.map_or(String::new(), |t| format!(", unusable: {t}"));
                format!("; device={i} is {adapter}{trouble}")
            });
            let text = format!(
                "no GPU was found (`fullconv devices` says what stands in its way): device=\"cpu\" is the CPU reference, \
                 slow but right{}",
                others.collect::<String>()
            );
            Err(error(ErrorKind::NoAdapter, text))
        }
    }
}

const CPU: &str = "CPU";

fn kind(adapter: &Adapter) -> &'static str {
    match adapter.info().device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete GPU",
        wgpu::DeviceType::IntegratedGpu => "integrated GPU",
        wgpu::DeviceType::VirtualGpu => "virtual GPU",
        wgpu::DeviceType::Cpu => CPU,
        wgpu::DeviceType::Other => "other",
    }
}

/// The adapters, in the order in which they are preferred.
#[pyfunction]
pub fn adapters(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    process::enter()?;
    let found = crate::errors::detached(py, None, || Ok(pollster::block_on(gpu::adapters(None))))?;
    let entry = |(index, adapter): (usize, &Adapter)| {
        let entry = PyDict::new(py);
        let info = adapter.info();
        let driver = format!("{} {}", info.driver, info.driver_info);
        entry.set_item("index", index)?;
        entry.set_item("name", info.name.trim())?;
        entry.set_item("backend", info.backend.to_str())?;
        entry.set_item("kind", kind(adapter))?;
        entry.set_item("driver", driver.trim())?;
        entry.set_item("pci_address", adapter.pci_address())?;
        entry.set_item("trouble", adapter.trouble())?;
        Ok(entry)
    };
    found.iter().enumerate().map(entry).collect()
}

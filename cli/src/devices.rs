//! `fullconv devices`: lists the adapters and their known quirks, checks that they compute right, and on Linux says what
//! stands in the way of a GPU.

mod check;
#[cfg(target_os = "linux")]
mod system;

use crate::{Outcome, terminal};
use check::Checked;
use fullconv::gpu::{Adapter, Backend, adapters, find_adapter, quirks, wgpu};
use fullconv::{Error, ErrorKind};
use serde::Serialize;
use std::process::ExitCode;

/// The exit status if there is a GPU, and only CPUs can be used.
#[cfg(target_os = "linux")]
const ONLY_CPUS: u8 = 4;

/// The type of adapters that are CPUs.
const CPU: &str = "CPU";

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status:\n  \
                  0  an adapter can be used; with --check, every adapter computes right\n  \
                  1  no adapter can be used, or none could be checked\n  \
                  3  with --check: an adapter computes wrongly or not at all\n  \
                  4  on Linux: there is a GPU (/dev/nvidia0, /dev/dri/renderD*), but only CPUs can be used;\n     \
                  not with --backend or --adapter\n\
                  On Linux the lines of `system` say what stands in the way of a GPU: the loader of Vulkan, its driver\n\
                  files and libraries, device nodes and their groups.")]
pub struct Args {
    /// Only adapters of this backend: vulkan, metal, dx12 or gl [default: all]
    #[arg(long, value_name = "NAME")]
    backend: Option<Backend>,
    /// Only this adapter: its index, its PCI address (0000:01:00.0) or a part of its name
    #[arg(long, value_name = "NAME|INDEX|PCI")]
    adapter: Option<String>,
    /// Run a small network on each adapter and compare it with the CPU reference
    #[arg(long)]
    check: bool,
    /// Check without this kernel, by its name in `fullconv inspect`; may be given more than once
    #[arg(long, value_name = "NAME", requires = "check")]
    without_kernel: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Only load this library, for the section `system`
    #[cfg(target_os = "linux")]
    #[arg(long, value_name = "LIBRARY", hide = true, exclusive = true)]
    load: Option<std::path::PathBuf>,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Output {
    /// The index of the default adapter.
    default: Option<usize>,
    adapters: Vec<Entry>,
    #[cfg(target_os = "linux")]
    system: system::System,
}

#[derive(Serialize)]
struct Entry {
    index: usize,
    name: String,
    backend: String,
    r#type: &'static str,
    driver: String,
    /// The PCI address, such as `0000:01:00.0`; `None` if the backend does not report one.
    pci_address: Option<String>,
    /// The memory that is the GPU's own, or that it shares with the CPU; `None` if nothing tells it.
    memory_bytes: Option<u64>,
    limits: Limits,
    /// The smallest and the largest subgroup; `None` without subgroup support.
    subgroups: Option<[u32; 2]>,
    /// The known faults and limits of its driver and backend, with the remedies.
    quirks: Vec<QuirkEntry>,
    trouble: Option<String>,
    /// The result of `--check`.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<Checked>,
}

#[derive(Serialize)]
struct QuirkEntry {
    name: &'static str,
    symptom: &'static str,
    remedy: &'static str,
}

#[derive(Serialize)]
struct Limits {
    max_buffer_bytes: u64,
    max_binding_bytes: u64,
    max_workgroup_memory_bytes: u32,
    max_invocations_per_workgroup: u32,
    max_workgroups_per_dimension: u32,
    max_storage_buffers: u32,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    #[cfg(target_os = "linux")]
    if let Some(library) = &args.load {
        return system::load_here(library);
    }
    // Before the adapters: a broken driver may end the program when they are listed.
    #[cfg(target_os = "linux")]
    let system = system::System::look();
    #[cfg(target_os = "linux")]
    if !args.json {
        terminal::say(system.shown())?;
    }
    let found = pollster::block_on(adapters(args.backend));
    let mut output = Output {
        default: found.iter().position(|adapter| adapter.trouble().is_none()),
        adapters: found.iter().enumerate().map(entry).collect(),
        #[cfg(target_os = "linux")]
        system,
    };
    #[cfg(target_os = "linux")]
    output.complete();
    if let (Some(wanted), false) = (&args.adapter, found.is_empty()) {
        let only = find_adapter(&found, wanted).ok_or_else(|| no_such(&output, wanted))?;
        output.adapters.retain(|entry| entry.index == only);
    }
    if args.check {
        let without = crate::options::with_kernels_left_out(&args.without_kernel);
        for entry in output.adapters.iter_mut().filter(|e| e.trouble.is_none()) {
            entry.check = Some(Checked::of(entry.index, args.backend, &without)?);
        }
    }
    #[cfg(target_os = "linux")]
    let only_cpus = match args.backend.is_none() && args.adapter.is_none() {
        true => output.only_cpus(),
        false => None,
    };
    if args.json {
        terminal::json(&output)?;
    } else {
        for entry in &output.adapters {
            terminal::say(shown(entry, output.default))?;
        }
    }
    if output.adapters.iter().all(|entry| entry.trouble.is_some()) {
        return Err(unusable(&output, args.backend).into());
    }
    let mut checks = output.adapters.iter().filter_map(|e| e.check.as_ref());
    if !checks.all(Checked::is_right) {
        return Ok(ExitCode::from(check::WRONG));
    }
    #[cfg(target_os = "linux")]
    if let Some(text) = only_cpus {
        terminal::report(text);
        return Ok(ExitCode::from(ONLY_CPUS));
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(target_os = "linux")]
impl Output {
    /// Adds what the kernel tells of adapters.
    fn complete(&mut self) {
        for entry in &mut self.adapters {
            let at = entry.pci_address.as_deref();
            let memory = at.and_then(|at| self.system.memory_at(at));
            entry.memory_bytes = entry.memory_bytes.or(memory);
        }
    }

    /// The error if there is a GPU, and only CPUs can be used.
    fn only_cpus(&mut self) -> Option<String> {
        let mut usable = self.adapters.iter().filter(|e| e.trouble.is_none());
        usable.clone().next()?;
        match usable.all(|entry| entry.r#type == CPU) {
            true => self.system.only_cpus().map(str::to_owned),
            false => None,
        }
    }
}

/// The error if no adapter is the one that was named.
fn no_such(output: &Output, wanted: &str) -> Error {
    let names = output.adapters.iter();
    let names: Vec<_> = names.map(|e| format!("{} {}", e.index, e.name)).collect();
    let text = format!("no adapter is {wanted:?}; there are {}", names.join("; "));
    Error::new(ErrorKind::Request, text)
}

fn entry((index, adapter): (usize, &Adapter)) -> Entry {
    let info = adapter.info();
    let limits = adapter.wgpu().limits();
    let has_subgroups = adapter.wgpu().features().contains(wgpu::Features::SUBGROUP);
    Entry {
        index,
        name: info.name.trim().to_owned(),
        backend: info.backend.to_str().to_owned(),
        r#type: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete GPU",
            wgpu::DeviceType::IntegratedGpu => "integrated GPU",
            wgpu::DeviceType::VirtualGpu => "virtual GPU",
            wgpu::DeviceType::Cpu => CPU,
            wgpu::DeviceType::Other => "other",
        },
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .to_owned(),
        pci_address: adapter.pci_address().map(str::to_owned),
        memory_bytes: memory(adapter),
        limits: Limits {
            max_buffer_bytes: limits.max_buffer_size,
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
            max_invocations_per_workgroup: limits.max_compute_invocations_per_workgroup,
            max_workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
            max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        },
        subgroups: has_subgroups.then_some([info.subgroup_min_size, info.subgroup_max_size]),
        quirks: quirks::of(info)
            .map(|quirk| QuirkEntry {
                name: quirk.name,
                symptom: quirk.symptom,
                remedy: quirk.remedy,
            })
            .collect(),
        trouble: adapter.trouble(),
        check: None,
    }
}

/// The largest heap of a GPU's own memory, as Vulkan tells it; other backends do not tell. A CPU has none of its own.
fn memory(adapter: &Adapter) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        const DEVICE_LOCAL: u32 = 1;
        if adapter.info().device_type == wgpu::DeviceType::Cpu {
            return None;
        }
        // SAFETY: the adapter is only asked.
        let raw = unsafe { adapter.wgpu().as_hal::<wgpu::hal::api::Vulkan>() }?;
        let instance = raw.shared_instance().raw_instance();
        // SAFETY: the device is the instance's, which `raw` keeps.
        let memory =
            unsafe { instance.get_physical_device_memory_properties(raw.raw_physical_device()) };
        let heaps = memory.memory_heaps_as_slice().iter();
        let own = heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0);
        own.map(|heap| heap.size).max()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = adapter;
        None
    }
}

fn shown(entry: &Entry, default: Option<usize>) -> String {
    let Entry { limits, .. } = entry;
    let subgroups = match entry.subgroups {
        None => "no".to_owned(),
        Some([min, max]) if min == max => format!("of {min}"),
        Some([min, max]) => format!("of {min} to {max}"),
    };
    let state = match (&entry.trouble, default == Some(entry.index)) {
        (Some(trouble), _) => format!("cannot be used: {trouble}"),
        (None, true) => "the default".to_owned(),
        (None, false) => "usable".to_owned(),
    };
    let quirks = entry.quirks.iter().map(|quirk| {
        let QuirkEntry {
            name,
            symptom,
            remedy,
        } = quirk;
        format!("\n   quirk      {name}: {symptom}; {remedy}")
    });
    let quirks = quirks.collect::<String>();
    let check = entry.check.as_ref().map_or(String::new(), Checked::shown);
    let memory = entry.memory_bytes.map(terminal::bytes);
    let memory = memory.map_or(String::new(), |memory| format!("\n   memory     {memory}"));
    format!(
        "{}  {}\n   state      {state}\n   backend    {}, {}\n   driver     {}\n   PCI        {}{memory}\n   buffers    up to \
         {}; bindings up to {}, {} a shader\n   workgroups {} invocations, {} KiB of memory; {} a \
         dimension\n   subgroups  {subgroups}{quirks}{check}",
        entry.index,
        entry.name,
        entry.backend,
        entry.r#type,
        if entry.driver.is_empty() {
            "unknown"
        } else {
            &entry.driver
        },
        entry.pci_address.as_deref().unwrap_or("unknown"),
        terminal::bytes(limits.max_buffer_bytes),
        terminal::bytes(limits.max_binding_bytes),
        limits.max_storage_buffers,
        limits.max_invocations_per_workgroup,
        limits.max_workgroup_memory_bytes >> 10,
        limits.max_workgroups_per_dimension,
    )
}

/// The error if no adapter can be used, with a way out.
fn unusable(output: &Output, backend: Option<Backend>) -> Error {
    let through = backend.map_or(String::new(), |backend| format!(" through {backend}"));
    let message = if output.adapters.is_empty() {
        format!(
            "no graphics adapter was found{through}: install a driver (on Debian and Ubuntu, \
             mesa-vulkan-drivers has one that runs on any CPU); until then there is --backend cpu"
        )
    } else {
        format!("none of the adapters{through} can be used; there is --backend cpu")
    };
    Error::new(ErrorKind::NoAdapter, message)
}

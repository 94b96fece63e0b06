//! Builds a [`Segmenter`] on a device.

use super::executors::Executors;
use super::request::nominal_graphs;
use super::{Engine, Precision, Segmenter};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::gpu::low_level::Network;
use crate::model_file::Model;
use crate::plan::Plan;
use std::sync::{Arc, PoisonError, RwLock};

/// The default of [`SegmenterBuilder::memory`]: 2 GiB.
const MEMORY_BYTES: u64 = 2 << 30;

/// On which device a [`Segmenter`] runs, and how. See [`Segmenter::builder`].
///
/// ```no_run
/// # async fn example() -> fullconv::Result<()> {
/// use fullconv::{Gpu, Model, Precision, Segmenter};
///
/// let segmenter = Segmenter::builder(&Model::read("fcn8s.safetensors")?)
///     .gpu(&Gpu::new().await?)
///     .precision(Precision::F16)
///     .memory(512 << 20)
///     .build()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder makes nothing until `build` is called"]
pub struct SegmenterBuilder {
    model: Model,
    gpu: Option<Gpu>,
    settings: Settings,
}

/// Settings that stay when the device changes.
#[derive(Clone, Copy, Debug)]
struct Settings {
    precision: Precision,
    memory_bytes: u64,
}

impl SegmenterBuilder {
    pub(super) fn new(model: &Model) -> Self {
        Self {
            model: model.clone(),
            gpu: None,
            settings: Settings {
                precision: Precision::default(),
                memory_bytes: MEMORY_BYTES,
            },
        }
    }

    /// The device; by default the one that [`Gpu::new`] opens.
    pub fn gpu(mut self, gpu: &Gpu) -> Self {
        self.gpu = Some(gpu.clone());
        self
    }

    /// The precision of activations and weights; `f32` by default.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.settings.precision = precision;
        self
    }

    /// The most bytes of device memory for executors: beyond them, idle executors are dropped, the least recently used
    /// first. By default 2 GiB; never more than [`GpuOptions::memory_bytes`](crate::GpuOptions::memory_bytes).
    ///
    /// An executor holds the activations and read-back buffers of one size of picture
    /// ([`Plan::peak_device_bytes`], without the parameters). Weights are shared by all executors and are not
    /// counted. The bound limits what is kept, not what runs. Executors at work are never dropped: each of the pictures
    /// that run at the same time has memory of its own. An executor larger than the bound is used once. With 0 bytes no
    /// executor is kept.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.settings.memory_bytes = bytes;
        self
    }

    /// Compiles the model's pipelines and uploads its weights.
    ///
    /// # Errors
    /// As [`Segmenter::new`]; `NoAdapter` if no device was given and there is none; `Unsupported` if the device lacks
    /// the precision, and `ModelFile` if a weight is too large for it.
    pub async fn build(self) -> Result<Segmenter> {
        let gpu = match self.gpu {
            Some(gpu) => gpu,
            None => Gpu::new().await?,
        };
        let executors = load(&gpu, &self.model, self.settings).await?;
        let on = OnGpu {
            settings: self.settings,
            executors: RwLock::new(Arc::new(executors)),
        };
        Ok(Segmenter::with_engine(&self.model, Engine::Gpu(on)))
    }
}

/// A segmenter's device, which changes when the segmenter recovers.
#[derive(Debug)]
pub(super) struct OnGpu {
    settings: Settings,
    executors: RwLock<Arc<Executors>>,
}

impl OnGpu {
    pub(super) fn precision(&self) -> Precision {
        self.settings.precision
    }

    /// The executors on the current device.
    pub(super) fn executors(&self) -> Arc<Executors> {
        let executors = self.executors.read();
        executors.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loads `model` onto `gpu`, which replaces the current device.
    pub(super) async fn move_to(&self, gpu: &Gpu, model: &Model) -> Result<()> {
        let new = Arc::new(load(gpu, model, self.settings).await?);
        let mut executors = self
            .executors
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *executors, new);
        drop(executors);
        drop(old);
        Ok(())
    }
}

/// `model` on `gpu`, without executors.
async fn load(gpu: &Gpu, model: &Model, settings: Settings) -> Result<Executors> {
    // If another segmenter has loaded everything, nothing below would notice a lost device.
    gpu.check_lost()?;
    let target = match settings.precision {
        Precision::F32 => gpu.target().clone(),
        Precision::F16 => {
            gpu.check_matrices().await?;
            gpu.half_target()?
        }
    };
    let network = Network::sharing_weights(gpu, model.parameters(), target.options.half);
    for (graph, input) in nominal_graphs(model)? {
        let (outputs, choices) = ([graph.output()], gpu.choices());
        let plan = Plan::with_choices(&graph, input, &outputs, &target, &choices)?;
        network.load(&plan, &graph, model.parameters()).await?;
    }
    gpu.keep_pipelines();
    let most_bytes = settings.memory_bytes.min(target.options.memory_bytes);
    Ok(Executors::new(model, network, target, most_bytes))
}

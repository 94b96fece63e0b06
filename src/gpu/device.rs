//! Devices.

use super::adapters::{Backend, adapters, describe, invocations, pick, too_little};
use super::cache::{ChoicesCache, PipelineCache};
use super::kernel_names::check_kernel_names;
use super::lost::Lost;
use super::quirks;
use super::shared::Shared;
use super::waiter::Signal;
use crate::device_profile::{CooperativeMatrix, DeviceProfile, INVOCATIONS_AT_ONCE};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::plan::Choices;
use crate::target::{PlanOptions, Target};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Which device to open, and how.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Only this backend.
    pub backend: Option<Backend>,
    /// An adapter by its position in [`adapters`], by its address on the PCI bus (`0000:01:00.0`, or
    /// without the domain), or by a part of its name, in any case.
    pub adapter: Option<String>,
    /// Open the device with the limits that every WebGPU device has and no features, whatever it could
    /// do: what runs here runs everywhere.
    pub default_limits: bool,
    /// Take at most so many bytes of the device's memory: a large picture then runs in more bands. `None`:
    /// as much as the device's limits on single buffers allow.
    pub memory_bytes: Option<u64>,
    /// Keep the bounds checks and loop guards that naga adds to shaders. The shaders of this crate are tested with them
    /// and run without; those that a program brings ([`Shader::new`](crate::ops::kernel::Shader::new)) always have them.
    pub checked_shaders: bool,
    /// Fill every activation buffer with NaN before each run, so that a value that a kernel reads before
    /// it was written shows.
    pub poison: bool,
    /// Plan for a GPU even where the device is a CPU behind a graphics driver, so that the kernels which
    /// GPUs run can be tested without one.
    pub plan_as_gpu: bool,
    /// Plan without these kernels, by their names in [`kernel_names`](fn@super::kernel_names): for a device that computes one
    /// of them wrongly. Programs that want to follow `FULLCONV_WITHOUT` ask
    /// [`kernels_left_out`](super::kernels_left_out); nothing else reads that variable.
    pub without_kernels: Vec<String>,
    /// Keep in this folder which kernels were measured to be the fastest ([`tune`](fn@super::tune)) and, where the
    /// driver has them to give, compiled pipelines. The folder is made when there is something to keep.
    /// [`cache_folder`](super::cache_folder) is the usual one; `None`: nothing is kept and nothing is read.
    pub cache: Option<PathBuf>,
}

/// A device to run networks on. Cheap to clone; clones share the device.
#[derive(Clone, Debug)]
pub struct Gpu(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    target: Target,
    lost: Lost,
    shared: Shared,
    checked_shaders: bool,
    poison: bool,
    choices: RwLock<Arc<Choices>>,
    choices_cache: Option<ChoicesCache>,
    pipeline_cache: Option<PipelineCache>,
    #[cfg(not(target_arch = "wasm32"))]
    waiter: super::waiter::Waiter,
}

impl Gpu {
    /// Opens the best device: a GPU where there is one, else a CPU behind a graphics driver.
    ///
    /// # Errors
    /// `NoAdapter` if there is none that can run this crate's kernels, `Device` if it cannot be opened.
    pub async fn new() -> Result<Self> {
        Self::with_options(&GpuOptions::default()).await
    }

    /// Opens the device that `options` ask for.
    ///
    /// # Errors
    /// As [`Gpu::new`], and `Request` if no adapter is the one asked for, or a kernel is unknown.
    pub async fn with_options(options: &GpuOptions) -> Result<Self> {
        check_kernel_names(&options.without_kernels)?;
        let found = adapters(options.backend).await;
        let adapter = pick(&found, options.backend, options.adapter.as_deref())?;
        let limits = if options.default_limits {
            wgpu::Limits::default()
        } else {
            adapter.adapter.limits()
        };
        let features = if options.default_limits {
            wgpu::Features::empty()
        } else {
            adapter.adapter.features()
                & (wgpu::Features::SUBGROUP
                    | wgpu::Features::TIMESTAMP_QUERY
                    | wgpu::Features::PIPELINE_CACHE
                    | wgpu::Features::SHADER_F16
                    | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)
        };
        let opened = match adapter.open(features, &limits).await {
            // An experimental feature is no reason to go without the device.
            Err(error) if features.intersects(wgpu::Features::all_experimental_mask()) => {
                tracing::warn!("{adapter} is opened without experimental features: {error}");
                let stable = features - wgpu::Features::all_experimental_mask();
                adapter.open(stable, &limits).await
            }
            opened => opened,
        };
        let (device, queue) = opened.map_err(|e| {
            Error::new(ErrorKind::Device, format!("cannot open {adapter}: {e}")).with_source(e)
        })?;
        device.on_uncaptured_error(Arc::new(|e| tracing::error!("{e}")));
        let gpu = Self::build(device, queue, options, adapter.cooperative());
        gpu.0.lost.listen(gpu.device());
        Ok(gpu)
    }

    /// Adopts a device that the program already has, with whatever limits and features it was opened.
    ///
    /// It stays the program's: its callbacks for errors and for its loss are left alone. wgpu tells one callback
    /// alone that a device is lost, and drops all errors of one that is; so here every call looks, when it begins
    /// and when it ends, whether the device still reports a mistake made on purpose, which costs microseconds and
    /// never reaches the driver. (In a browser, where any number may listen, the device tells.)
    ///
    /// Of cooperative matrices only an adapter knows: they are not used.
    ///
    /// Clones of this share weights and pipelines; what is adopted twice does not.
    ///
    /// # Errors
    /// `Limit` if its limits are too low for any kernel.
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        Self::from_wgpu_with(device, queue, &GpuOptions::default())
    }

    /// The same, with those of `options` that do not say which device to open, and how.
    ///
    /// # Errors
    /// As [`Gpu::from_wgpu`], and `Request` if a kernel is unknown.
    pub fn from_wgpu_with(
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: &GpuOptions,
    ) -> Result<Self> {
        check_kernel_names(&options.without_kernels)?;
        if let Some(trouble) = too_little(&device.limits()) {
            let adapter = describe(&device.adapter_info());
            bail!(Limit, "this device of {adapter} cannot be used: {trouble}");
        }
        let gpu = Self::build(device, queue, options, Vec::new());
        if cfg!(target_arch = "wasm32") {
            gpu.0.lost.listen(gpu.device());
        }
        Ok(gpu)
    }

    /// `cooperative` is what the adapter has, whether the device was opened with it or not.
    fn build(
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: &GpuOptions,
        mut cooperative: Vec<CooperativeMatrix>,
    ) -> Self {
        let info = device.adapter_info();
        let feature = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        cooperative.retain(|_| device.features().contains(feature));
        let profile = DeviceProfile {
            cooperative,
            ..profile(&device, &info, options)
        };
        let target = Target {
            device: profile,
            options: PlanOptions {
                memory_bytes: options.memory_bytes.unwrap_or(u64::MAX),
                without_kernels: options.without_kernels.clone(),
                ..PlanOptions::DEFAULT
            },
        };
        let folder = options.cache.as_deref();
        let choices_cache = folder.map(|folder| ChoicesCache::new(folder, &info, &target));
        let choices = choices_cache.as_ref().map(ChoicesCache::read);
        Self(Arc::new(Inner {
            choices: RwLock::new(Arc::new(choices.unwrap_or_default())),
            choices_cache,
            pipeline_cache: folder.and_then(|f| PipelineCache::new(f, &info, &device)),
            device,
            queue,
            info,
            target,
            lost: Lost::default(),
            shared: Shared::default(),
            checked_shaders: options.checked_shaders,
            poison: options.poison,
            #[cfg(not(target_arch = "wasm32"))]
            waiter: Default::default(),
        }))
    }

    /// Whether this and `other` are clones of each other.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    /// Its queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    /// What wgpu says of the adapter.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.0.info
    }

    /// What the device is.
    pub fn profile(&self) -> &DeviceProfile {
        &self.0.target.device
    }

    /// What plans are made for: the device, and the memory that they may take.
    pub fn target(&self) -> &Target {
        &self.0.target
    }

    /// Which kernels plans are made of, where that was measured.
    pub fn choices(&self) -> Arc<Choices> {
        let choices = self.0.choices.read();
        choices.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds to [`Gpu::choices`], on disk too where that is wanted. Plans made before stay as they are.
    pub fn choose(&self, choices: Choices) {
        if choices.is_empty() {
            return;
        }
        if let Some(cache) = &self.0.choices_cache {
            cache.write(&choices);
        }
        let mut all = self
            .0
            .choices
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut all).extend(choices);
    }

    /// Keeps the pipelines made so far on disk, where that is wanted and the driver gives them.
    pub fn keep_pipelines(&self) {
        if let Some(cache) = &self.0.pipeline_cache {
            cache.write();
        }
    }

    pub(super) fn pipeline_cache(&self) -> Option<&wgpu::PipelineCache> {
        self.0.pipeline_cache.as_ref().map(PipelineCache::for_new)
    }

    /// What plans are made for that keep activations and weights in f16.
    ///
    /// # Errors
    /// `Unsupported` if the device was opened without `SHADER_F16`.
    pub fn half_target(&self) -> Result<Target> {
        let features = self.device().features();
        if !features.contains(wgpu::Features::SHADER_F16) {
            bail!(
                Unsupported,
                "{self} computes in f32 alone: it has no feature SHADER_F16, or was opened without it"
            );
        }
        Ok(self.target().in_half(true))
    }

    pub(super) fn checked_shaders(&self) -> bool {
        self.0.checked_shaders
    }

    pub(super) fn poison(&self) -> bool {
        self.0.poison
    }

    /// Has the callbacks of `submission` called when the device has done it; `signal` fails if it does not
    /// within `patience`.
    pub(super) fn watch(
        &self,
        submission: wgpu::SubmissionIndex,
        patience: Duration,
        signal: &Signal,
    ) {
        #[cfg(not(target_arch = "wasm32"))]
        let Inner { waiter, device, .. } = &*self.0;
        #[cfg(not(target_arch = "wasm32"))]
        waiter.watch(device, submission, patience, signal);
        // The browser calls them, however long it takes.
        #[cfg(target_arch = "wasm32")]
        let _ = (submission, patience, signal);
    }

    /// Waits until the device is lost, and says why. Natively, an adopted device never says so.
    pub fn until_lost(&self) -> impl Future<Output = String> + use<> {
        self.0.lost.until_lost()
    }

    /// An error if the device is lost. In a browser a device tells of that when the page is idle next.
    ///
    /// # Errors
    /// `DeviceLost`.
    pub fn check_lost(&self) -> Result<()> {
        self.0.lost.check(self.device(), self)
    }

    /// What the networks on this device share.
    pub(super) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// Runs `work` and turns what wgpu reports of it into an error that says `what` failed.
    pub(super) async fn guarded<T>(&self, what: &str, work: impl FnOnce() -> T) -> Result<T> {
        let guard = self.guard(what);
        let done = work();
        guard.end().await?;
        Ok(done)
    }

    /// Begins what [`Guard::end`] ends, on the same thread and without waiting for anything between.
    pub(super) fn guard(&self, what: &str) -> Guard {
        let device = self.device();
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        Guard {
            gpu: self.clone(),
            what: what.to_owned(),
            memory,
            validation,
            internal,
        }
    }
}

/// See [`Gpu::guard`].
pub(super) struct Guard {
    gpu: Gpu,
    what: String,
    memory: wgpu::ErrorScopeGuard,
    validation: wgpu::ErrorScopeGuard,
    internal: wgpu::ErrorScopeGuard,
}

impl Guard {
    /// What wgpu reports of all since the guard was made, as an error.
    pub(super) fn end(self) -> impl Future<Output = Result<()>> + use<> {
        let Self { gpu, what, .. } = self;
        let reports = (
            self.internal.pop(),
            self.validation.pop(),
            self.memory.pop(),
        );
        async move {
            let reports = [reports.0.await, reports.1.await, reports.2.await];
            gpu.check_lost()?;
            match reports.into_iter().flatten().next() {
                Some(error @ wgpu::Error::OutOfMemory { .. }) => {
                    let text = format!("{what}: {gpu} is out of memory");
                    Err(Error::new(ErrorKind::Limit, text).with_source(error))
                }
                Some(error) => {
                    let text = format!("{what} on {gpu}: {error}");
                    Err(Error::new(ErrorKind::Device, text).with_source(error))
                }
                None => Ok(()),
            }
        }
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(&self.0.info))
    }
}

fn profile(device: &wgpu::Device, info: &wgpu::AdapterInfo, options: &GpuOptions) -> DeviceProfile {
    let limits = device.limits();
    let fixed = info.subgroup_min_size == info.subgroup_max_size;
    let is_cpu = info.device_type == wgpu::DeviceType::Cpu && !options.plan_as_gpu;
    DeviceProfile {
        max_binding_bytes: limits
            .max_storage_buffer_binding_size
            .min(quirks::binding_bytes(info)),
        max_buffer_bytes: limits.max_buffer_size,
        max_workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
        max_invocations_per_workgroup: invocations(&limits),
        // Kernels that read textures read two.
        max_texture_side: match limits.max_storage_textures_per_shader_stage {
            0 | 1 => 0,
            _ if is_cpu && !quirks::reads_texels(info) => 0,
            _ => limits.max_texture_dimension_2d,
        },
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        invocations_at_once: INVOCATIONS_AT_ONCE,
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        binding_alignment: u64::from(limits.min_storage_buffer_offset_alignment),
        subgroup_size: (device.features().contains(wgpu::Features::SUBGROUP) && fixed)
            .then_some(info.subgroup_min_size),
        cooperative: Vec::new(),
        is_cpu,
    }
}

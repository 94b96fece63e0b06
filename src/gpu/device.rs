//! Devices.

use super::adapters::{Backend, adapters, describe, invocations, pick, too_little};
use super::cache::{ChoicesCache, PipelineCache};
use super::families;
use super::kernel_names::check_kernel_names;
use super::lost::Lost;
use super::quirks;
use super::shared::Shared;
use super::waiter::Signal;
use crate::device_profile::{CooperativeMatrix, DeviceProfile};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::plan::{Choices, Plan};
use crate::target::{PlanOptions, Target};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

/// Which device to open, and how.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// The backend to use; `None`: any.
    pub backend: Option<Backend>,
    /// The adapter to open: its position in [`adapters`], its PCI address (`0000:01:00.0`, or without the domain), or a
    /// part of its name in upper or lower case. `None`: the first usable adapter.
    pub adapter: Option<String>,
    /// Open the device with WebGPU's default limits and without features. A plan that runs with them runs on every
    /// WebGPU device.
    pub default_limits: bool,
    /// The most device memory that a plan may take, in bytes; a large picture then runs in more bands. `None`: limited
    /// only by the device's largest buffer and binding.
    pub memory_bytes: Option<u64>,
    /// Keep the bounds checks and loop guards that naga adds to shaders. By default this crate's own shaders run
    /// without them. A program's shaders ([`Shader::new`](crate::ops::kernel::Shader::new)) always have them.
    pub checked_shaders: bool,
    /// Fill every activation buffer with NaN before each run: a kernel that reads unwritten values then gives NaN.
    pub poison: bool,
    /// Plan for a GPU even if the device is a CPU behind a graphics driver: the kernels for GPUs can then be tested
    /// without a GPU.
    pub plan_as_gpu: bool,
    /// Names of kernels that plans leave out, from [`kernel_names`](fn@super::kernel_names), because the device
    /// computes them wrongly. [`kernels_left_out`](super::kernels_left_out) reads them from `FULLCONV_WITHOUT`; the
    /// library does not read this variable elsewhere.
    pub without_kernels: Vec<String>,
    /// The folder for the fastest measured kernels ([`tune`](fn@crate::low_level::gpu::tune)) and, if the driver supports it, compiled
    /// pipelines. It is created at the first write. [`cache_folder`](super::cache_folder) is the usual folder; `None`:
    /// nothing is read or written.
    pub cache: Option<PathBuf>,
}

/// A fault of a device, for tests of what detects it: it changes every plan before its execution.
#[derive(Clone)]
pub struct Fault(pub Arc<dyn Fn(&mut Plan) + Send + Sync>);

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fault")
    }
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
    /// The cooperative matrices that f16 plans may use, once they are checked.
    matrices: OnceLock<Vec<CooperativeMatrix>>,
    lost: Lost,
    shared: Shared,
    checked_shaders: bool,
    poison: bool,
    fault: Mutex<Option<Fault>>,
    choices: RwLock<Arc<Choices>>,
    choices_cache: Option<ChoicesCache>,
    pipeline_cache: Option<PipelineCache>,
    #[cfg(not(target_arch = "wasm32"))]
    waiter: super::waiter::Waiter,
}

impl Gpu {
    /// Opens the best device: a GPU if there is one, else a CPU behind a graphics driver.
    ///
    /// # Errors
    /// `NoAdapter` if no adapter can run this crate's kernels, `Device` if the device cannot be opened.
    pub async fn new() -> Result<Self> {
        Self::with_options(&GpuOptions::default()).await
    }

    /// Opens the device that `options` describe.
    ///
    /// # Errors
    /// As [`Gpu::new`]; `Request` if no adapter matches `options`, or a kernel name is unknown.
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
            // If the device does not open with experimental features, it is opened without them.
            Err(error) if features.intersects(wgpu::Features::all_experimental_mask()) => {
                tracing::warn!(
                    "{adapter} does not open with experimental features, trying without: {error}"
                );
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

    /// Adopts a device that the program has opened, with the limits and features of that device.
    ///
    /// The program keeps its callbacks for errors and for device loss: natively, wgpu has one device-lost callback per
    /// device, so this crate sets none. Instead every call provokes a validation error at its begin and end, because
    /// wgpu reports no errors of a lost device. This takes microseconds and does not reach the driver. In a browser,
    /// this crate listens for the device's loss.
    ///
    /// Cooperative matrices are not used, because only the adapter describes them.
    ///
    /// Clones of the returned `Gpu` share weights and pipelines. Two `Gpu`s adopted from the same device share neither.
    ///
    /// # Errors
    /// `Limit` if the device's limits are too low for this crate.
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        Self::from_wgpu_with(device, queue, &GpuOptions::default())
    }

    /// As [`Gpu::from_wgpu`], with `options`. The fields `backend`, `adapter` and `default_limits` have no effect.
    ///
    /// # Errors
    /// As [`Gpu::from_wgpu`]; `Request` if a kernel name is unknown.
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

    /// `cooperative` are the adapter's matrices; they are dropped if the device was opened without the feature.
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
            matrices: OnceLock::new(),
            lost: Lost::default(),
            shared: Shared::default(),
            checked_shaders: options.checked_shaders,
            poison: options.poison,
            fault: Mutex::default(),
            #[cfg(not(target_arch = "wasm32"))]
            waiter: Default::default(),
        }))
    }

    /// Whether this and `other` are clones of each other.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The wgpu device.
    pub fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    /// The device's queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    /// wgpu's description of the adapter.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.0.info
    }

    /// The device's limits and features.
    pub fn profile(&self) -> &DeviceProfile {
        &self.0.target.device
    }

    /// The target of f32 plans: the device, its memory limit, and the kernels left out.
    pub fn target(&self) -> &Target {
        &self.0.target
    }

    /// The fastest measured kernels, which new plans use.
    pub fn choices(&self) -> Arc<Choices> {
        let choices = self.0.choices.read();
        choices.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds `choices` to [`Gpu::choices`], and to the cache if there is one. Existing plans do not change.
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

    /// Writes the pipelines compiled so far to the cache, if there is one and the driver supports it.
    pub fn keep_pipelines(&self) {
        if let Some(cache) = &self.0.pipeline_cache {
            cache.write();
        }
    }

    pub(super) fn pipeline_cache(&self) -> Option<&wgpu::PipelineCache> {
        self.0.pipeline_cache.as_ref().map(PipelineCache::for_new)
    }

    /// The target of f16 plans: activations and weights in f16. Until [`Gpu::check_matrices`], plans for it use no
    /// cooperative matrices.
    ///
    /// # Errors
    /// `Unsupported` if the device was opened without `SHADER_F16`.
    pub fn half_target(&self) -> Result<Target> {
        let features = self.device().features();
        if !features.contains(wgpu::Features::SHADER_F16) {
            bail!(
                Unsupported,
                "{self} computes only in f32: it lacks the feature SHADER_F16, or was opened without it"
            );
        }
        let mut target = self.target().in_half(true);
        if let Some(matrices) = self.0.matrices.get() {
            target.device.cooperative.clone_from(matrices);
        }
        Ok(target)
    }

    pub(super) fn has_checked_matrices(&self) -> bool {
        self.0.matrices.get().is_some()
    }

    /// Plans for [`Gpu::half_target`] may use only these cooperative matrices. Only the first call has an effect.
    pub(super) fn use_matrices(&self, matrices: Vec<CooperativeMatrix>) {
        self.0.matrices.get_or_init(|| matrices);
    }

    /// From now on, new executors have this fault, or none.
    #[doc(hidden)]
    pub fn set_fault(&self, fault: Option<Fault>) {
        *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// `plan` with the device's fault, if it has one.
    pub(super) fn with_fault(&self, mut plan: Arc<Plan>) -> Arc<Plan> {
        let fault = self.0.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Fault(change)) = &*fault {
            change(Arc::make_mut(&mut plan));
        }
        plan
    }

    pub(super) fn checked_shaders(&self) -> bool {
        self.0.checked_shaders
    }

    pub(super) fn poison(&self) -> bool {
        self.0.poison
    }

    /// Polls the device until `submission` is complete, so that its callbacks run. `signal` fails after the timeout
    /// `patience`.
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
        // The browser runs the callbacks itself, without a timeout.
        #[cfg(target_arch = "wasm32")]
        let _ = (submission, patience, signal);
    }

    /// Resolves with the reason when the device is lost. Natively, it never resolves for an adopted device.
    pub fn until_lost(&self) -> impl Future<Output = String> + use<> {
        self.0.lost.until_lost()
    }

    /// An error if the device is lost. In a browser, the loss is reported when the page is next idle.
    ///
    /// # Errors
    /// `DeviceLost` if the device is lost.
    pub fn check_lost(&self) -> Result<()> {
        self.0.lost.check(self.device(), self)
    }

    /// The values that networks on this device share.
    pub(super) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// Runs `work`; turns an error that wgpu reports meanwhile into an error of `what`.
    pub(super) async fn guarded<T>(&self, what: &str, work: impl FnOnce() -> T) -> Result<T> {
        let guard = self.guard(what);
        let done = work();
        guard.end().await?;
        Ok(done)
    }

    /// Begins to record wgpu's errors, until [`Guard::end`]. Call both on the same thread, without an await between
    /// them.
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

/// Open error scopes; see [`Gpu::guard`].
pub(super) struct Guard {
    gpu: Gpu,
    what: String,
    memory: wgpu::ErrorScopeGuard,
    validation: wgpu::ErrorScopeGuard,
    internal: wgpu::ErrorScopeGuard,
}

impl Guard {
    /// The first error that wgpu reported since [`Gpu::guard`].
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
    let (limits, family) = (device.limits(), families::of(info));
    let fixed = info.subgroup_min_size == info.subgroup_max_size;
    let is_cpu = info.device_type == wgpu::DeviceType::Cpu && !options.plan_as_gpu;
    DeviceProfile {
        max_binding_bytes: limits
            .max_storage_buffer_binding_size
            .min(quirks::binding_bytes(info)),
        max_buffer_bytes: limits.max_buffer_size,
        max_workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
        max_invocations_per_workgroup: invocations(&limits),
        // Kernels that read textures bind two storage textures.
        max_texture_side: match limits.max_storage_textures_per_shader_stage {
            0 | 1 => 0,
            _ if is_cpu && !quirks::reads_texels(info) => 0,
            _ => limits.max_texture_dimension_2d,
        },
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        invocations_at_once: family.invocations_at_once,
        sums_in_registers: families::sums_in_registers(info),
        dispatch_flops: family.dispatch_flops,
        flops_per_byte: family.flops_per_byte,
        matrix_flops_per_byte: families::matrix_flops_per_byte(info),
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        binding_alignment: u64::from(limits.min_storage_buffer_offset_alignment),
        subgroup_size: (device.features().contains(wgpu::Features::SUBGROUP) && fixed)
            .then_some(info.subgroup_min_size),
        cooperative: Vec::new(),
        is_cpu,
    }
}

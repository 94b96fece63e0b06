//! Adapters and devices.

use super::cache::{ChoicesCache, PipelineCache};
use super::lost::Lost;
use super::shared::Shared;
use super::waiter::Signal;
use crate::device_profile::{DeviceProfile, INVOCATIONS_AT_ONCE};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::plan::Choices;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// A graphics API to reach a device through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Vulkan.
    Vulkan,
    /// Metal.
    Metal,
    /// Direct3D 12.
    Dx12,
    /// OpenGL and OpenGL ES, where they have compute shaders.
    Gl,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Vulkan, Self::Metal, Self::Dx12, Self::Gl];

    fn flags(self) -> wgpu::Backends {
        match self {
            Self::Vulkan => wgpu::Backends::VULKAN,
            Self::Metal => wgpu::Backends::METAL,
            Self::Dx12 => wgpu::Backends::DX12,
            Self::Gl => wgpu::Backends::GL,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Dx12 => "dx12",
            Self::Gl => "gl",
        })
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|b| b.to_string() == name) {
            Some(backend) => Ok(backend),
            None => bail!(
                Request,
                "unknown backend {name:?}; known are {}",
                Self::ALL.map(|b| b.to_string()).join(", ")
            ),
        }
    }
}

/// Which device to open, and how.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Only this backend.
    pub backend: Option<Backend>,
    /// An adapter by its position in [`adapters`], or by a part of its name, in any case.
    pub adapter: Option<String>,
    /// Open the device with the limits that every WebGPU device has and no features, whatever it could
    /// do: what runs here runs everywhere.
    pub default_limits: bool,
    /// Take at most so many bytes of the device's memory: a large picture then runs in more bands. `None`:
    /// as much as the device's limits on single buffers allow.
    pub memory_bytes: Option<u64>,
    /// Keep the bounds checks and loop guards that drivers and naga add to shaders. The shaders of this
    /// crate are tested with them and run without.
    pub checked_shaders: bool,
    /// Fill every activation buffer with NaN before each run, so that a value that a kernel reads before
    /// it was written shows.
    pub poison: bool,
    /// Plan for a GPU even where the device is a CPU behind a graphics driver, so that the kernels which
    /// GPUs run can be tested without one.
    pub plan_as_gpu: bool,
    /// Keep in this folder which kernels were measured to be the fastest ([`tune`](fn@super::tune)) and, where the
    /// driver has them to give, compiled pipelines. The folder is made when there is something to keep.
    /// [`cache_folder`](super::cache_folder) is the usual one; `None`: nothing is kept and nothing is read.
    pub cache: Option<PathBuf>,
}

/// An adapter that wgpu found.
#[derive(Clone, Debug)]
pub struct Adapter {
    adapter: wgpu::Adapter,
    info: wgpu::AdapterInfo,
}

impl Adapter {
    /// What wgpu says of it.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }

    /// The adapter.
    pub fn wgpu(&self) -> &wgpu::Adapter {
        &self.adapter
    }

    /// Why this crate cannot use it, if it cannot.
    pub fn trouble(&self) -> Option<String> {
        let capabilities = self.adapter.get_downlevel_capabilities();
        if !capabilities
            .flags
            .contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
        {
            return Some("no compute shaders".into());
        }
        too_little(&self.adapter.limits())
    }

    /// Real GPUs first, CPUs behind a graphics driver last; OpenGL after all else.
    fn rank(&self) -> (u8, bool) {
        let kind = match self.info.device_type {
            wgpu::DeviceType::DiscreteGpu => 0,
            wgpu::DeviceType::IntegratedGpu => 1,
            wgpu::DeviceType::VirtualGpu => 2,
            wgpu::DeviceType::Other => 3,
            wgpu::DeviceType::Cpu => 4,
        };
        (kind, self.info.backend == wgpu::Backend::Gl)
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(&self.info))
    }
}

/// Why a device with these limits cannot be used, if it cannot.
fn too_little(limits: &wgpu::Limits) -> Option<String> {
    if limits.max_storage_buffers_per_shader_stage < 5 {
        return Some(format!(
            "shaders bind at most {} storage buffers; 5 are needed",
            limits.max_storage_buffers_per_shader_stage
        ));
    }
    let invocations = invocations(limits);
    (invocations < 64)
        .then(|| format!("workgroups hold at most {invocations} invocations; 64 are needed"))
}

/// The longest workgroup: those of this crate have one dimension.
fn invocations(limits: &wgpu::Limits) -> u32 {
    let most = limits.max_compute_invocations_per_workgroup;
    most.min(limits.max_compute_workgroup_size_x)
}

/// `NAME (backend, kind)`.
fn describe(info: &wgpu::AdapterInfo) -> String {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete GPU",
        wgpu::DeviceType::IntegratedGpu => "integrated GPU",
        wgpu::DeviceType::VirtualGpu => "virtual GPU",
        wgpu::DeviceType::Cpu => "CPU",
        wgpu::DeviceType::Other => "other",
    };
    // Browsers seldom tell a name.
    let name = match info.name.trim() {
        "" => "a device",
        name => name,
    };
    format!("{name} ({}, {kind})", info.backend.to_str())
}

fn instance(backend: Option<Backend>) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backend.map_or(wgpu::Backends::all(), Backend::flags);
    descriptor.backend_options = wgpu::BackendOptions::from_env_or_default();
    wgpu::Instance::new(descriptor)
}

/// The adapters there are, those that [`Gpu::new`] prefers first.
pub async fn adapters(backend: Option<Backend>) -> Vec<Adapter> {
    let flags = backend.map_or(wgpu::Backends::all(), Backend::flags);
    let mut found: Vec<_> = instance(backend)
        .enumerate_adapters(flags)
        .await
        .into_iter()
        .map(|adapter| Adapter {
            info: adapter.get_info(),
            adapter,
        })
        .collect();
    found.sort_by_key(Adapter::rank);
    found
}

/// A device to run networks on. Cheap to clone; clones share the device.
#[derive(Clone, Debug)]
pub struct Gpu(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    profile: DeviceProfile,
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
    /// As [`Gpu::new`], and `Request` if no adapter is the one asked for.
    pub async fn with_options(options: &GpuOptions) -> Result<Self> {
        let found = adapters(options.backend).await;
        let adapter = pick(&found, options)?;
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
                    | wgpu::Features::SHADER_F16)
        };
        let (device, queue) = adapter
            .adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("fullconv"),
                required_features: features,
                required_limits: limits,
                ..Default::default()
            })
            .await
            .map_err(|e| Error::new(ErrorKind::Device, format!("cannot open {adapter}: {e}")))?;
        device.on_uncaptured_error(Arc::new(|e| tracing::error!("{e}")));
        let gpu = Self::build(device, queue, options);
        gpu.lost().listen(gpu.device());
        Ok(gpu)
    }

    /// Adopts a device that the program already has, with whatever limits and features it was opened.
    ///
    /// It stays the program's: its callbacks for errors and for its loss are left alone. wgpu tells one callback
    /// alone that a device is lost, and drops all errors of one that is; so here every call looks, when it begins
    /// and when it ends, whether the device still reports a mistake made on purpose, which costs microseconds and
    /// never reaches the driver. (In a browser, where any number may listen, the device tells.)
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
    /// As [`Gpu::from_wgpu`].
    pub fn from_wgpu_with(
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: &GpuOptions,
    ) -> Result<Self> {
        if let Some(trouble) = too_little(&device.limits()) {
            let adapter = describe(&device.adapter_info());
            bail!(Limit, "this device of {adapter} cannot be used: {trouble}");
        }
        let gpu = Self::build(device, queue, options);
        if cfg!(target_arch = "wasm32") {
            gpu.lost().listen(gpu.device());
        }
        Ok(gpu)
    }

    fn build(device: wgpu::Device, queue: wgpu::Queue, options: &GpuOptions) -> Self {
        let info = device.adapter_info();
        let profile = DeviceProfile {
            memory_bytes: options.memory_bytes.unwrap_or(u64::MAX),
            ..profile(&device, &info, options)
        };
        let folder = options.cache.as_deref();
        let choices_cache = folder.map(|folder| ChoicesCache::new(folder, &info, &profile));
        let choices = choices_cache.as_ref().map(ChoicesCache::read);
        Self(Arc::new(Inner {
            choices: RwLock::new(Arc::new(choices.unwrap_or_default())),
            choices_cache,
            pipeline_cache: folder.and_then(|f| PipelineCache::new(f, &info, &device)),
            device,
            queue,
            info,
            profile,
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

    /// What plans are made for.
    pub fn profile(&self) -> &DeviceProfile {
        &self.0.profile
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

    /// The same, for plans that keep activations and weights in f16.
    ///
    /// # Errors
    /// `Unsupported` if the device was opened without `SHADER_F16`.
    pub fn half_profile(&self) -> Result<DeviceProfile> {
        let features = self.device().features();
        if !features.contains(wgpu::Features::SHADER_F16) {
            bail!(
                Unsupported,
                "{self} computes in f32 alone: it has no feature SHADER_F16, or was opened without it"
            );
        }
        Ok(DeviceProfile {
            half: true,
            ..self.profile().clone()
        })
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

    pub(super) fn lost(&self) -> &Lost {
        &self.0.lost
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
                Some(wgpu::Error::OutOfMemory { .. }) => {
                    bail!(Limit, "{what}: {gpu} is out of memory")
                }
                Some(error) => bail!(Device, "{what} on {gpu}: {error}"),
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

/// The adapter asked for, or the first that works.
fn pick<'a>(found: &'a [Adapter], options: &GpuOptions) -> Result<&'a Adapter> {
    let through = options
        .backend
        .map_or(String::new(), |b| format!(" through {b}"));
    if found.is_empty() {
        let hint = match options.backend {
            None | Some(Backend::Vulkan) => {
                " (on Debian and Ubuntu, mesa-vulkan-drivers has one that runs on any CPU)"
            }
            _ => "",
        };
        bail!(
            NoAdapter,
            "no graphics adapter was found{through}: install a driver{hint}"
        );
    }
    let list = || {
        found
            .iter()
            .map(Adapter::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    let Some(wanted) = &options.adapter else {
        return match found.iter().find(|a| a.trouble().is_none()) {
            Some(adapter) => Ok(adapter),
            None => {
                let why = |a: &Adapter| format!("{a}: {}", a.trouble().unwrap_or_default());
                let why = found.iter().map(why).collect::<Vec<_>>().join("; ");
                bail!(NoAdapter, "no adapter{through} can be used: {why}")
            }
        };
    };
    let lower = wanted.to_lowercase();
    let by_name = |a: &&Adapter| a.info.name.to_lowercase().contains(&lower);
    let adapter = match wanted.parse::<usize>() {
        Ok(index) => found.get(index),
        Err(_) => found.iter().find(by_name),
    };
    match adapter {
        None => bail!(
            Request,
            "no adapter{through} is {wanted:?}; there are {}",
            list()
        ),
        Some(adapter) => match adapter.trouble() {
            None => Ok(adapter),
            Some(trouble) => bail!(NoAdapter, "{adapter} cannot be used: {trouble}"),
        },
    }
}

fn profile(device: &wgpu::Device, info: &wgpu::AdapterInfo, options: &GpuOptions) -> DeviceProfile {
    let limits = device.limits();
    let fixed = info.subgroup_min_size == info.subgroup_max_size;
    let is_cpu = info.device_type == wgpu::DeviceType::Cpu && !options.plan_as_gpu;
    DeviceProfile {
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        memory_bytes: u64::MAX,
        max_workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
        max_invocations_per_workgroup: invocations(&limits),
        // Kernels that read textures read two. A browser's CPU (SwiftShader) runs them twice as fast as others,
        // but takes more than ten seconds to compile each.
        max_texture_side: match limits.max_storage_textures_per_shader_stage {
            0 | 1 => 0,
            _ if is_cpu && cfg!(target_arch = "wasm32") => 0,
            _ => limits.max_texture_dimension_2d,
        },
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        invocations_at_once: INVOCATIONS_AT_ONCE,
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
        binding_alignment: u64::from(limits.min_storage_buffer_offset_alignment),
        subgroup_size: (device.features().contains(wgpu::Features::SUBGROUP) && fixed)
            .then_some(info.subgroup_min_size),
        whole_padding: false,
        half: false,
        is_cpu,
    }
}

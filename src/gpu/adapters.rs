//! Lists the adapters, checks their limits, and finds the requested one.

use super::quirks;
use crate::device_profile::CooperativeMatrix;
use crate::error::{Error, Result, bail};
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// A graphics API to reach a device through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// Vulkan.
    Vulkan,
    /// Metal.
    Metal,
    /// Direct3D 12.
    Dx12,
    /// OpenGL and OpenGL ES with compute shaders.
    Gl,
}

impl Backend {
    /// All backends.
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

/// An adapter that wgpu found.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub(super) adapter: wgpu::Adapter,
    info: wgpu::AdapterInfo,
}

impl Adapter {
    /// wgpu's description of the adapter.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.info
    }

    /// The PCI address, such as `0000:01:00.0`; `None` if the backend does not report one.
    pub fn pci_address(&self) -> Option<&str> {
        let address = self.info.device_pci_bus_id.as_str();
        (!address.is_empty()).then_some(address)
    }

    /// The wgpu adapter.
    pub fn wgpu(&self) -> &wgpu::Adapter {
        &self.adapter
    }

    /// Why this crate cannot use the adapter; `None` if it can.
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

    /// Opens the adapter's device.
    pub(super) async fn open(
        &self,
        features: wgpu::Features,
        limits: &wgpu::Limits,
    ) -> std::result::Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
        let experimental = features.intersects(wgpu::Features::all_experimental_mask());
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("fullconv"),
            required_features: features,
            required_limits: limits.clone(),
            experimental_features: match experimental {
                // SAFETY: only this crate's own shaders need an experimental feature. Plans use such a shader only
                // after `Gpu::check_matrices` or the tuner has checked its results on this device.
                true => unsafe { wgpu::ExperimentalFeatures::enabled() },
                false => wgpu::ExperimentalFeatures::disabled(),
            },
            ..Default::default()
        };
        self.adapter.request_device(&descriptor).await
    }

    /// The adapter's cooperative matrices of f16 with sums in f32.
    pub(super) fn cooperative(&self) -> Vec<CooperativeMatrix> {
        let kinds = (
            wgpu::CooperativeScalarType::F16,
            wgpu::CooperativeScalarType::F32,
        );
        let reported = self.adapter.cooperative_matrix_properties();
        let of_f16 = reported.iter().filter(|p| (p.ab_type, p.cr_type) == kinds);
        let mut found: Vec<CooperativeMatrix> = Vec::new();
        for properties in of_f16 {
            let matrix = CooperativeMatrix {
                size: [properties.m_size, properties.n_size, properties.k_size],
                subgroup: quirks::largest_subgroup(&self.info),
                vectors: quirks::loads_vectors(&self.info),
                checked: false,
            };
            if matrix.subgroup > 0 && !found.contains(&matrix) {
                found.push(matrix);
            }
        }
        found
    }

    /// The sort key of an adapter: GPUs first, CPUs behind a graphics driver last, OpenGL after the other backends.
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

/// Why this crate cannot use a device with these limits; `None` if it can.
pub(super) fn too_little(limits: &wgpu::Limits) -> Option<String> {
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

/// The most invocations of a workgroup; this crate's workgroups have one dimension.
pub(super) fn invocations(limits: &wgpu::Limits) -> u32 {
    let most = limits.max_compute_invocations_per_workgroup;
    most.min(limits.max_compute_workgroup_size_x)
}

/// `NAME (backend, kind)`.
pub(super) fn describe(info: &wgpu::AdapterInfo) -> String {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete GPU",
        wgpu::DeviceType::IntegratedGpu => "integrated GPU",
        wgpu::DeviceType::VirtualGpu => "virtual GPU",
        wgpu::DeviceType::Cpu => "CPU",
        wgpu::DeviceType::Other => "other",
    };
    // Browsers seldom report a name.
    let name = match info.name.trim() {
        "" => "a device",
        name => name,
    };
    format!("{name} ({}, {kind})", info.backend.to_str())
}

/// Creates wgpu instances one at a time: a driver crashes otherwise (the quirk `instances-together`), and the drivers
/// are unknown before the first instance exists.
fn instance(backend: Option<Backend>) -> wgpu::Instance {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    wgpu::Instance::new(descriptor(backend))
}

fn descriptor(backend: Option<Backend>) -> wgpu::InstanceDescriptor {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backend.map_or(wgpu::Backends::all(), Backend::flags);
    // WGPU_DEBUG, WGPU_VALIDATION and wgpu's other variables.
    descriptor.flags = wgpu::InstanceFlags::from_env_or_default();
    descriptor.backend_options = wgpu::BackendOptions::from_env_or_default();
    descriptor
}

/// All adapters, in the order in which [`Gpu::new`](super::Gpu::new) prefers them.
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

/// The `wanted` adapter among `found`, or the first usable one. `backend` only serves the error messages.
pub(super) fn pick<'a>(
    found: &'a [Adapter],
    backend: Option<Backend>,
    wanted: Option<&str>,
) -> Result<&'a Adapter> {
    let through = backend.map_or(String::new(), |b| format!(" through {b}"));
    if found.is_empty() {
        let hint = match backend {
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
    let Some(wanted) = wanted else {
        return match found.iter().find(|a| a.trouble().is_none()) {
            Some(adapter) => Ok(adapter),
            None => {
                let why = |a: &Adapter| format!("{a}: {}", a.trouble().unwrap_or_default());
                let why = found.iter().map(why).collect::<Vec<_>>().join("; ");
                bail!(NoAdapter, "no adapter{through} can be used: {why}")
            }
        };
    };
    match find_adapter(found, wanted).map(|i| &found[i]) {
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

/// The position in `found` of the adapter that `wanted` names: its position, its PCI address (`0000:01:00.0`, or without
/// the domain) or a part of its name in upper or lower case. Of several, the first usable one: several backends may list
/// the same device.
pub fn find_adapter(found: &[Adapter], wanted: &str) -> Option<usize> {
    if let Ok(index) = wanted.parse::<usize>() {
        return (index < found.len()).then_some(index);
    }
    let lower = wanted.to_lowercase();
    let by_address = |a: &Adapter| a.pci_address().is_some_and(|at| is_at(at, &lower));
    let by_name = |a: &Adapter| a.info.name.to_lowercase().contains(&lower);
    let first = |is_wanted: &dyn Fn(&Adapter) -> bool| {
        let mut wanted = (0..found.len()).filter(|i| is_wanted(&found[*i]));
        let usable = wanted.clone().find(|i| found[*i].trouble().is_none());
        usable.or_else(|| wanted.next())
    };
    first(&by_address).or_else(|| first(&by_name))
}

/// Whether `wanted` is the PCI address `address`, with or without the domain, as `lspci` prints it. Systems write
/// domains with different numbers of digits.
fn is_at(address: &str, wanted: &str) -> bool {
    let parts = |text: &str| {
        let (domain, rest) = match text.matches(':').count() {
            1 => ("0", text),
            _ => text.split_once(':')?,
        };
        let domain = u32::from_str_radix(domain, 16).ok()?;
        Some((domain, rest.to_lowercase()))
    };
    let wanted = parts(wanted);
    wanted.is_some() && wanted == parts(address)
}

#[cfg(test)]
mod tests {
    use super::{Backend, descriptor, is_at};

    /// Remedies of quirks rely on some of these flags.
    #[test]
    fn wgpu_reads_its_flags_from_the_environment() {
        for backend in [None, Some(Backend::Vulkan)] {
            let flags = wgpu::InstanceFlags::from_env_or_default();
            assert_eq!(descriptor(backend).flags, flags);
        }
    }

    #[test]
    fn pci_addresses_are_compared_as_numbers_and_not_as_parts_of_names() {
        let at = "0000:01:00.0";
        for same in [at, "01:00.0", "00000000:01:00.0"] {
            assert!(is_at(at, same), "{same}");
            assert!(is_at(same, at), "{same}");
        }
        assert!(is_at("0000:C1:00.0", "c1:00.0"));
        for other in [
            "",
            ":",
            "01",
            "0001:01:00.0",
            "02:00.0",
            "1:00.0",
            "llvmpipe",
            "x:01:00.0",
        ] {
            assert!(!is_at(at, other), "{other}");
        }
    }
}

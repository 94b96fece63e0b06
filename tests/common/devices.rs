//! Devices, and the targets that plans are made for.

use super::known;
use fullconv::gpu::{Backend, wgpu};
use fullconv::low_level::device_profile::{CooperativeMatrix, DeviceProfile};
use fullconv::low_level::target::{PlanOptions, Target};
use fullconv::{ErrorKind, Gpu, GpuOptions};

/// The backend that `FULLCONV_TEST_BACKEND` names: tests run on it or fail. `None`: any backend.
pub fn wanted_backend() -> Option<Backend> {
    let name = std::env::var("FULLCONV_TEST_BACKEND").ok()?;
    Some(name.parse().unwrap_or_else(|e| panic!("{e}")))
}

/// A device with `options` and poisoned buffers. Without an adapter, `None` and a printed SKIP; a panic if
/// `FULLCONV_REQUIRE_GPU` is 1 or `FULLCONV_TEST_BACKEND` names a backend.
pub fn gpu(options: GpuOptions) -> Option<Gpu> {
    let wanted = wanted_backend();
    let options = GpuOptions {
        poison: true,
        backend: options.backend.or(wanted),
        ..options
    };
    match pollster::block_on(Gpu::with_options(&options)) {
        Ok(gpu) => {
            let found = gpu.info().backend.to_str();
            let asked = options.backend.map(|backend| backend.to_string());
            assert_eq!(found, asked.as_deref().unwrap_or(found), "{gpu}");
            Some(gpu)
        }
        Err(e) if e.kind() == ErrorKind::NoAdapter => {
            let required = std::env::var("FULLCONV_REQUIRE_GPU").is_ok_and(|v| v == "1");
            assert!(!required && wanted.is_none(), "a GPU is required: {e}");
            eprintln!("SKIP: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// The device, opened in each of the ways that lead to different kernels or cuts.
pub fn all_gpus() -> Vec<(&'static str, Gpu)> {
    let options = |default_limits, checked_shaders, plan_as_gpu| GpuOptions {
        default_limits,
        checked_shaders,
        plan_as_gpu,
        ..GpuOptions::default()
    };
    [
        ("as it is", options(false, false, false)),
        ("with checked shaders", options(false, true, false)),
        ("with WebGPU's default limits", options(true, false, false)),
        (
            "with WebGPU's default limits and checked shaders",
            options(true, true, false),
        ),
        ("planned as a GPU", options(false, false, true)),
        (
            "planned as a GPU with WebGPU's default limits and checked shaders",
            options(true, true, true),
        ),
    ]
    .into_iter()
    .filter_map(|(name, options)| {
        let is_checked = options.checked_shaders;
        let gpu = another_gpu(options)?;
        let is_known = is_checked && known::expected(known::CHECKED_SHADERS, gpu.info()).is_some();
        (!is_known).then_some((name, gpu))
    })
    .collect()
}

/// As [`gpu`]; `None` if `options` ask to plan for a GPU and the device is one anyway, since that device is tested
/// without the option.
pub fn another_gpu(options: GpuOptions) -> Option<Gpu> {
    let asked = options.plan_as_gpu;
    let is_cpu = |gpu: &Gpu| gpu.info().device_type == wgpu::DeviceType::Cpu;
    gpu(options).filter(|gpu| !asked || is_cpu(gpu))
}

/// The cooperative matrices that a kernel is written for.
pub fn matrices() -> Vec<CooperativeMatrix> {
    let matrix = |size, subgroup, vectors| CooperativeMatrix {
        size: [size; 3],
        subgroup,
        vectors,
        checked: false,
    };
    let large = [8, 16, 32, 64].map(|subgroup| matrix(16, subgroup, true));
    let small = [8, 16, 32].map(|subgroup| matrix(8, subgroup, true));
    [&large[..], &small, &[matrix(8, 32, false)]].concat()
}

/// `target` with f16, these cooperative matrices, and 32 KiB of workgroup memory, as devices with matrices have.
pub fn with_matrices(target: &Target, cooperative: Vec<CooperativeMatrix>) -> Target {
    Target {
        device: DeviceProfile {
            cooperative,
            max_workgroup_bytes: target.device.max_workgroup_bytes.max(32 << 10),
            ..target.device.clone()
        },
        options: PlanOptions {
            half: true,
            ..target.options.clone()
        },
    }
}

/// The invocations that keep a small GPU busy.
pub const FEW_INVOCATIONS: u32 = 128;

/// The fewest sums that a family of GPUs keeps in registers.
const FEW_SUMS: u32 = 8;

/// `target`, and for GPUs also with few `invocations_at_once`: plans then prefer large tiles even at the small sizes of
/// tests. Once with few sums in registers, too.
pub fn preferences(target: &Target) -> Vec<Target> {
    let with = |invocations_at_once, sums_in_registers| Target {
        device: DeviceProfile {
            invocations_at_once,
            sums_in_registers,
            ..target.device.clone()
        },
        ..target.clone()
    };
    let sums = target.device.sums_in_registers;
    match target.device.is_cpu {
        true => vec![target.clone()],
        false => vec![
            target.clone(),
            with(1, sums),
            with(FEW_INVOCATIONS, sums),
            with(1, FEW_SUMS),
        ],
    }
}

/// What is particular about a target of [`preferences`], for messages.
pub fn preference(target: &Target) -> String {
    let DeviceProfile {
        invocations_at_once,
        sums_in_registers,
        ..
    } = &target.device;
    format!("busy with {invocations_at_once} invocations of {sums_in_registers} sums")
}

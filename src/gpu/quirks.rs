//! Known faults and limits of drivers, backends and wgpu: a table, and the effects of its entries on planning. Facts
//! about drivers are in this file only.

use crate::device_profile::DX12_BINDING_BYTES;
use wgpu::{AdapterInfo, Backend, DeviceType};

/// A known fault or limit of a driver, a backend or wgpu.
#[derive(Debug)]
pub struct Quirk {
    /// The name, unique in this table.
    pub name: &'static str,
    /// The drivers, backends or devices that have it.
    pub holds_for: &'static str,
    /// The symptom on such a device.
    pub symptom: &'static str,
    /// The evidence: an observation, an issue, or another project's source.
    pub source: &'static str,
    /// The workaround, in this crate or by the user.
    pub remedy: &'static str,
    /// The name of the test function for the remedy. If there is none, the test of this entry.
    pub test: &'static str,
    applies: fn(&AdapterInfo) -> bool,
    effect: Effect,
}

/// The effect of a quirk on planning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// None: the remedy applies to every device, or is the user's.
    None,
    /// The largest usable binding, in bytes.
    BindingBytes(u64),
    /// Invocations of the largest subgroup; replaces the size that wgpu reports.
    Subgroup(u32),
    /// Cooperative matrices are loaded only from arrays of scalars.
    ScalarMatrices,
    /// Plans use no kernels that read textures.
    NoTexels,
}

impl Quirk {
    /// Whether the adapter `info` has this quirk.
    pub fn applies(&self, info: &AdapterInfo) -> bool {
        (self.applies)(info)
    }
}

/// The quirks of the adapter `info`, in the order of [`QUIRKS`].
pub fn of(info: &AdapterInfo) -> impl Iterator<Item = &'static Quirk> {
    QUIRKS.iter().filter(|quirk| quirk.applies(info))
}

fn effects(info: &AdapterInfo) -> impl Iterator<Item = Effect> {
    of(info).map(|quirk| quirk.effect)
}

/// The largest binding that shaders read correctly, in bytes; `u64::MAX` without such a quirk.
pub(super) fn binding_bytes(info: &AdapterInfo) -> u64 {
    let most = effects(info).filter_map(|effect| match effect {
        Effect::BindingBytes(bytes) => Some(bytes),
        _ => None,
    });
    most.min().unwrap_or(u64::MAX)
}

/// Invocations of the largest subgroup.
pub(super) fn largest_subgroup(info: &AdapterInfo) -> u32 {
    let known = effects(info).find_map(|effect| match effect {
        Effect::Subgroup(size) => Some(size),
        _ => None,
    });
    known.unwrap_or(info.subgroup_max_size)
}

/// Whether matrices can be loaded from arrays of vectors.
pub(super) fn loads_vectors(info: &AdapterInfo) -> bool {
    !effects(info).any(|effect| effect == Effect::ScalarMatrices)
}

/// Whether plans may use kernels that read textures.
pub(super) fn reads_texels(info: &AdapterInfo) -> bool {
    !effects(info).any(|effect| effect == Effect::NoTexels)
}

/// Mesa's CPU driver, through OpenGL or Vulkan.
fn is_llvmpipe(info: &AdapterInfo) -> bool {
    matches!(info.backend, Backend::Vulkan | Backend::Gl) && info.name.contains("llvmpipe")
}

/// Mesa's CPU driver, through Vulkan.
fn is_lavapipe(info: &AdapterInfo) -> bool {
    info.backend == Backend::Vulkan && is_llvmpipe(info)
}

fn is_mesa_22_3(info: &AdapterInfo) -> bool {
    info.driver_info.contains("Mesa 22.3")
}

/// Direct3D 12 in Wine on Linux, on top of lavapipe.
fn is_wine_on_lavapipe(info: &AdapterInfo) -> bool {
    info.backend == Backend::Dx12 && info.name.contains("llvmpipe")
}

/// NVIDIA's own driver, not Mesa's NVK.
fn is_nvidias(info: &AdapterInfo) -> bool {
    info.vendor == 0x10de && !is_driver(info, "nvk")
}

/// Whether the driver's name, in lower case, contains `name`.
fn is_driver(info: &AdapterInfo, name: &str) -> bool {
    info.driver.to_lowercase().contains(name)
}

/// All known quirks.
pub const QUIRKS: &[Quirk] = &[
    Quirk {
        name: "loops-end",
        holds_for: "Mesa on the CPU, through OpenGL (llvmpipe) and Vulkan (lavapipe)",
        symptom: "the loops of an invocation end without an error after 65,535 steps in total",
        source: "seen with Mesa 22.3.6 through both APIs; a test expects it of every version",
        remedy: "an invocation takes at most 60,000 steps; the next dispatch continues a longer sum",
        test: "a_sum_of_more_terms_than_loop_steps_is_complete",
        applies: is_llvmpipe,
        effect: Effect::None,
    },
    Quirk {
        name: "wide-subgroups",
        holds_for: "lavapipe of Mesa 22.3 with subgroups of 32",
        symptom: "lanes 16 to 31 broadcast zeros",
        source: "seen with LP_NATIVE_VECTOR_WIDTH=1024",
        remedy: "kernels for CPUs share loads among 16 lanes at most",
        test: "quirks_are_found_by_what_wgpu_says_of_an_adapter",
        applies: |info| is_lavapipe(info) && is_mesa_22_3(info) && info.subgroup_max_size > 16,
        effect: Effect::None,
    },
    Quirk {
        name: "empty-pipeline-cache",
        holds_for: "lavapipe of Mesa 22.3",
        symptom: "a pipeline cache holds a header and no pipelines",
        source: "seen with Mesa 22.3.6, which keeps compiled shaders itself",
        remedy: "a pipeline cache without pipelines is not written to disk",
        test: "damaged_pipelines_are_ignored_with_a_warning",
        applies: |info| is_lavapipe(info) && is_mesa_22_3(info),
        effect: Effect::None,
    },
    Quirk {
        name: "instances-together",
        holds_for: "NVIDIA's Vulkan driver for Linux",
        symptom: "the program crashes if several wgpu instances are created at the same time",
        source: "https://github.com/gfx-rs/wgpu/issues/5930",
        remedy: "wgpu instances are created one at a time",
        test: "devices_are_opened_from_several_threads",
        applies: |info| {
            info.backend == Backend::Vulkan && is_nvidias(info) && cfg!(target_os = "linux")
        },
        effect: Effect::None,
    },
    Quirk {
        name: "matrices-and-atomics",
        holds_for: "Vulkan with cooperative matrices",
        symptom: "naga 30 omits a SPIR-V capability that atomics need in shaders with cooperative matrices",
        source: "the SPIR-V that naga 30 writes for a shader with both",
        remedy: "shaders with matrices report values beyond f16 by a plain store, without atomics",
        test: "spirv_val_accepts_cooperative_matrices",
        applies: |info| info.backend == Backend::Vulkan,
        effect: Effect::None,
    },
    Quirk {
        name: "robust-buffers",
        holds_for: "Vulkan drivers with robustBufferAccess2",
        symptom: "wgpu 30 always enables robustBufferAccess2, so drivers check every load: results are right, but slower",
        source: "wgpu-hal; NVK of Mesa 26 compiles a vec4 load to four scalar loads",
        remedy: "nothing is done",
        test: "quirks_are_found_by_what_wgpu_says_of_an_adapter",
        applies: |info| info.backend == Backend::Vulkan,
        effect: Effect::None,
    },
    Quirk {
        name: "hidden-adapter",
        holds_for: "Vulkan drivers that do not claim conformance, such as NVK on Hopper",
        symptom: "wgpu does not list the adapter",
        source: "wgpu-hal; seen with NVK of Mesa 26",
        remedy: "the environment variable WGPU_ALLOW_UNDERLYING_NONCOMPLIANT_ADAPTER=1 makes wgpu list it",
        test: "wgpu_reads_its_flags_from_the_environment",
        // wgpu does not report whether a listed adapter needed the variable.
        applies: |_| false,
        effect: Effect::None,
    },
    Quirk {
        name: "no-f16",
        holds_for: "Adreno through Turnip",
        symptom: "wgpu 30 does not offer SHADER_F16",
        source: "seen with Turnip of Mesa 26",
        remedy: "plans are in f32; f16 is refused with the reason",
        test: "f16_on_a_device_without_the_feature_is_an_error",
        applies: |info| info.backend == Backend::Vulkan && is_driver(info, "turnip"),
        effect: Effect::None,
    },
    Quirk {
        name: "timestamps-backwards",
        holds_for: "Apple's M1 through Honeykrisp",
        symptom: "the timestamp at a layer's end is before the one at its begin",
        source: "seen with Honeykrisp of Mesa 26 without the hardware",
        remedy: "timestamps that run backwards are an error",
        test: "timestamps_that_run_backwards_give_no_time",
        applies: |info| info.backend == Backend::Vulkan && is_driver(info, "honeykrisp"),
        effect: Effect::None,
    },
    Quirk {
        name: "binding-of-512-mib",
        holds_for: "Direct3D 12",
        symptom: "reads past the first 512 MiB of a binding return other data, though wgpu offers bindings of 2 GiB",
        source: "seen in Wine 10; Direct3D 12 guarantees 2^27 elements of a buffer",
        remedy: "a binding is at most 512 MiB",
        test: "quirks_set_the_limits_of_planning",
        applies: |info| info.backend == Backend::Dx12,
        effect: Effect::BindingBytes(DX12_BINDING_BYTES),
    },
    Quirk {
        name: "slow-compiler",
        holds_for: "Direct3D 12 with FXC",
        symptom: "kernels take seconds to compile: conv2d_tiled 1.6 s, and two minutes if workgroup memory is zeroed",
        source: "measured with FXC 10.0.26100 in Wine 10",
        remedy: "workgroup memory is not zeroed; tests do not run checked shaders there",
        test: "every_known_failure_names_a_quirk",
        applies: |info| info.backend == Backend::Dx12,
        effect: Effect::None,
    },
    Quirk {
        name: "debug-information",
        holds_for: "Direct3D 12 in Wine",
        symptom: "FXC fails if debug information is requested, as in debug builds; the device is then lost",
        source: "seen in Wine 10",
        remedy: "the environment variable WGPU_DEBUG=0 turns debug information off",
        test: "wgpu_reads_its_flags_from_the_environment",
        applies: is_wine_on_lavapipe,
        effect: Effect::None,
    },
    Quirk {
        name: "opening-together",
        holds_for: "Direct3D 12 in Wine",
        symptom: "Wine's Vulkan loader sometimes fails if several threads open devices at the same time",
        source: "seen in Wine 10: an assertion of dlls/winevulkan/loader.c",
        remedy: "tests in Wine run one at a time",
        test: "quirks_are_found_by_what_wgpu_says_of_an_adapter",
        applies: is_wine_on_lavapipe,
        effect: Effect::None,
    },
    Quirk {
        name: "subgroup-sizes",
        holds_for: "Metal",
        symptom: "wgpu 30 reports subgroups of 4 to 64 invocations for every GPU",
        source: "wgpu-hal",
        remedy: "plans use no kernel that needs one subgroup size; kernels with matrices assume 32",
        test: "quirks_set_the_limits_of_planning",
        applies: |info| info.backend == Backend::Metal,
        // All Metal GPUs with cooperative matrices have subgroups of 32.
        effect: Effect::Subgroup(32),
    },
    Quirk {
        name: "scalar-matrices",
        holds_for: "Metal",
        symptom: "cooperative matrices are loaded only from arrays of scalars",
        source: "naga's writer of MSL",
        remedy: "kernels with matrices use arrays of scalars on Metal",
        test: "naga_writes_every_variant_as_msl",
        applies: |info| info.backend == Backend::Metal,
        effect: Effect::ScalarMatrices,
    },
    Quirk {
        name: "sizes-of-buffers",
        holds_for: "Metal",
        symptom: "the sizes of buffers take a buffer binding of their own",
        source: "naga's writer of MSL",
        remedy: "a shader binds one storage buffer fewer than WebGPU allows",
        test: "buffers_are_bound_in_the_order_inputs_output_params",
        applies: |info| info.backend == Backend::Metal,
        effect: Effect::None,
    },
    Quirk {
        name: "slow-texels",
        holds_for: "CPUs in browsers (SwiftShader)",
        symptom: "kernels that read textures run twice as fast, but take more than ten seconds to compile",
        source: "seen in Chromium",
        remedy: "plans use no kernels that read textures",
        test: "quirks_set_the_limits_of_planning",
        applies: |info| {
            info.backend == Backend::BrowserWebGpu && info.device_type == DeviceType::Cpu
        },
        effect: Effect::NoTexels,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn adapter(
        device_type: DeviceType,
        backend: Backend,
        [name, driver, info]: [&str; 3],
    ) -> AdapterInfo {
        AdapterInfo {
            name: name.to_owned(),
            driver: driver.to_owned(),
            driver_info: info.to_owned(),
            ..AdapterInfo::new(device_type, backend)
        }
    }

    fn lavapipe(subgroup: u32) -> AdapterInfo {
        let said = [
            "llvmpipe (LLVM 15.0.6, 256 bits)",
            "llvmpipe",
            "Mesa 22.3.6 (LLVM 15.0.6)",
        ];
        AdapterInfo {
            subgroup_min_size: subgroup,
            subgroup_max_size: subgroup,
            ..adapter(DeviceType::Cpu, Backend::Vulkan, said)
        }
    }

    fn of_wine() -> AdapterInfo {
        adapter(
            DeviceType::IntegratedGpu,
            Backend::Dx12,
            ["llvmpipe", "", ""],
        )
    }

    fn names(info: &AdapterInfo) -> Vec<&'static str> {
        of(info).map(|quirk| quirk.name).collect()
    }

    #[test]
    fn quirks_are_found_by_what_wgpu_says_of_an_adapter() {
        let vulkan = ["matrices-and-atomics", "robust-buffers"];
        let mesa = ["loops-end", "empty-pipeline-cache", vulkan[0], vulkan[1]];
        assert_eq!(names(&lavapipe(8)), mesa);
        assert_eq!(names(&lavapipe(32))[1], "wide-subgroups");
        let opengl = adapter(
            DeviceType::Cpu,
            Backend::Gl,
            ["llvmpipe", "", "Mesa 22.3.6"],
        );
        assert_eq!(names(&opengl), ["loops-end"]);
        let gpu = |driver| {
            adapter(
                DeviceType::DiscreteGpu,
                Backend::Vulkan,
                ["a GPU", driver, ""],
            )
        };
        assert_eq!(names(&gpu("radv")), vulkan);
        assert_eq!(names(&gpu("turnip Mesa driver"))[2], "no-f16");
        assert_eq!(names(&gpu("Honeykrisp"))[2], "timestamps-backwards");
        let nvidia = AdapterInfo {
            vendor: 0x10de,
            ..gpu("NVIDIA")
        };
        let has = names(&nvidia).contains(&"instances-together");
        assert_eq!(has, cfg!(target_os = "linux"));
        let nvk = AdapterInfo {
            vendor: 0x10de,
            ..gpu("NVK")
        };
        assert_eq!(names(&nvk), vulkan);
        let dx12 = adapter(DeviceType::DiscreteGpu, Backend::Dx12, ["a GPU", "", ""]);
        assert_eq!(names(&dx12), ["binding-of-512-mib", "slow-compiler"]);
        let wine = ["debug-information", "opening-together"];
        assert!(wine.iter().all(|name| names(&of_wine()).contains(name)));
        let metal = adapter(DeviceType::IntegratedGpu, Backend::Metal, ["a GPU", "", ""]);
        assert_eq!(
            names(&metal),
            ["subgroup-sizes", "scalar-matrices", "sizes-of-buffers"]
        );
    }

    #[test]
    fn quirks_set_the_limits_of_planning() {
        let metal = adapter(DeviceType::IntegratedGpu, Backend::Metal, ["a GPU", "", ""]);
        let browser = |kind| adapter(kind, Backend::BrowserWebGpu, [""; 3]);
        let all = |info: &AdapterInfo| {
            (
                binding_bytes(info),
                largest_subgroup(info),
                loads_vectors(info),
                reads_texels(info),
            )
        };
        assert_eq!(all(&lavapipe(8)), (u64::MAX, 8, true, true));
        assert_eq!(all(&of_wine()), (512 << 20, 128, true, true));
        assert_eq!(all(&metal), (u64::MAX, 32, false, true));
        assert_eq!(all(&browser(DeviceType::Cpu)), (u64::MAX, 128, true, false));
        assert_eq!(
            all(&browser(DeviceType::Other)),
            (u64::MAX, 128, true, true)
        );
    }

    /// Adds the names of the test functions in `folder` and its subfolders to `found`.
    fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                tests_below(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let tests = text.split("#[test]").skip(1);
                let name =
                    |rest: &str| Some(rest.split_once("fn ")?.1.split_once('(')?.0.to_owned());
                found.extend(tests.filter_map(name));
            }
        }
    }

    #[test]
    fn every_quirk_has_a_name_of_its_own_and_a_test_that_is_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut tests = BTreeSet::new();
        for folder in ["src", "tests", "cli", "capi"] {
            tests_below(&root.join(folder), &mut tests);
        }
        let mut names = BTreeSet::new();
        for quirk in QUIRKS {
            assert!(names.insert(quirk.name), "{} is there twice", quirk.name);
            assert!(
                tests.contains(quirk.test),
                "{}: no test {}",
                quirk.name,
                quirk.test
            );
            for said in [quirk.holds_for, quirk.symptom, quirk.source, quirk.remedy] {
                assert!(
                    !said.is_empty() && said.lines().count() == 1,
                    "{}",
                    quirk.name
                );
            }
        }
    }
}

//! Runs every shader, in every variant that the ops' cases use, through naga's validator, its SPIR-V, MSL, HLSL and
//! GLSL writers, and Tint if `tint` is on the PATH. Checks the facts on which Rust and WGSL must agree.

#[path = "../common/mod.rs"]
mod common;

mod bindings;
mod params;
mod text;
mod tiles;
mod writers;

use crate::common::plans::full_width;
use crate::common::{matrices, preferences, with_matrices};
use fullconv::Shape;
use fullconv::gpu::wgpu;
use fullconv::low_level::device_profile::{
    CooperativeMatrix, DX12_BINDING_BYTES, DeviceProfile, TEXELS_PER_ROW,
};
use fullconv::low_level::gpu::texture_pipelines;
use fullconv::low_level::graph::Graph;
use fullconv::low_level::ops::grid::Grid;
use fullconv::low_level::ops::kernel::{self, Binding, Format, Kernel, Packing, Shader, Word};
use fullconv::low_level::ops::narrow::{self, SATURATED_GROUP};
use fullconv::low_level::plan::lowered;
use fullconv::low_level::plan::{Pipeline, Plan};
use fullconv::low_level::target::Target;
use naga::back::{glsl, hlsl, msl, pipeline_constants::process_overrides, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{
    AddressSpace, GlobalVariable, Module, ScalarKind, ShaderStage, StorageAccess, TypeInner,
};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// The storage buffers that every WebGPU device can bind, less one, which Metal needs for the sizes of buffers.
const MOST_STORAGE_BUFFERS: usize = 7;

/// The files in `shaders/`, by name without extension.
fn files() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let files: BTreeMap<_, _> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            assert_eq!(path.extension().unwrap(), "wgsl", "{}", path.display());
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(!files.is_empty());
    files
}

/// Targets whose plans together use every kernel.
fn profiles() -> Vec<Target> {
    let with = |is_cpu, subgroup_size| Target {
        device: DeviceProfile {
            is_cpu,
            subgroup_size,
            ..DeviceProfile::WEBGPU_DEFAULTS
        },
        ..Target::WEBGPU_DEFAULTS
    };
    let cpus = [4, 8, 16, 32, 64].map(|size| with(true, Some(size)));
    let others = [with(true, None), with(false, Some(32))];
    let gpus = preferences(&Target::WEBGPU_DEFAULTS);
    let defaults = &Target::WEBGPU_DEFAULTS;
    let matrices = matrices().into_iter();
    let matrices = matrices.map(|matrix| with_matrices(defaults, vec![matrix]));
    let gpus = gpus.into_iter().chain(matrices);
    gpus.chain(others).chain(cpus).collect()
}

/// Devices on which tests seldom run, as wgpu 30 describes them: Metal, and Direct3D 12 with each of its compilers. FXC
/// has shader model 5.1, without subgroups and f16; DXC has both.
fn elsewhere() -> Vec<(&'static str, wgpu::Backend, Target)> {
    let metal = Target {
        device: DeviceProfile {
            max_binding_bytes: 4 << 30,
            max_buffer_bytes: 4 << 30,
            max_invocations_per_workgroup: 1024,
            max_texture_side: 16_384,
            max_workgroup_bytes: 32 << 10,
            max_storage_buffers: 29,
            binding_alignment: 32,
            // wgpu reports sizes from 4 to 64, so the size is not fixed.
            subgroup_size: None,
            ..DeviceProfile::WEBGPU_DEFAULTS
        },
        ..Target::WEBGPU_DEFAULTS
    };
    let fxc = Target {
        device: DeviceProfile {
            max_binding_bytes: DX12_BINDING_BYTES,
            max_buffer_bytes: i32::MAX as u64,
            max_storage_buffers: 16,
            ..metal.device.clone()
        },
        ..metal.clone()
    };
    let half = |target: &Target| target.in_half(true);
    let dxc = |subgroup_size| Target {
        device: DeviceProfile {
            subgroup_size: Some(subgroup_size),
            ..fxc.device.clone()
        },
        ..fxc.clone()
    };
    let warp = |subgroup_size| Target {
        device: DeviceProfile {
            subgroup_size,
            is_cpu: true,
            ..fxc.device.clone()
        },
        ..fxc.clone()
    };
    let (metal_backend, dx12) = (wgpu::Backend::Metal, wgpu::Backend::Dx12);
    vec![
        ("Metal", metal_backend, metal.clone()),
        ("Metal, f16", metal_backend, half(&metal)),
        ("DX12, FXC", dx12, fxc.clone()),
        ("DX12, DXC, waves of 32", dx12, dxc(32)),
        ("DX12, DXC, waves of 64", dx12, dxc(64)),
        ("DX12, DXC, f16", dx12, half(&dxc(32))),
        ("WARP, FXC", dx12, warp(None)),
        ("WARP, DXC", dx12, warp(Some(4))),
    ]
}

/// Every kernel of every case on every device.
fn kernels() -> Vec<Kernel> {
    let mut kernels = Vec::new();
    for case in lowered::cases() {
        for target in profiles() {
            kernels.extend(common::ways::kernels(
                case.op.as_ref(),
                &case.inputs,
                &target,
            ));
        }
    }
    kernels
}

/// The f16 variants of a kernel, including those that read or write sums in f32.
fn halves(kernel: &Kernel) -> Vec<Kernel> {
    let is_last_stage = ["sum_parts", "attention_combine"].contains(&kernel.shader.name);
    let half = |reads, writes| kernel.clone().in_half(reads, writes);
    match kernel.can_be_half() {
        false => Vec::new(),
        true if is_last_stage => vec![half(false, false), half(true, false)],
        // The second of its stages reads sums.
        true if kernel.shader.name == "avg_pool2d" => {
            vec![half(false, false), half(true, false), half(false, true)]
        }
        // A first stage.
        true if kernel.shader.name == "spread_heads" => vec![half(false, true)],
        true if kernel.terms.is_some() => vec![half(false, false), half(false, true)],
        true => vec![half(false, false)],
    }
}

/// Whether `source` is a variant from [`Kernel::in_half`].
fn is_half(source: &str) -> bool {
    source.starts_with("enable f16;")
}

fn uses_half(source: &str) -> bool {
    source.lines().any(|line| line == "enable f16;")
}

/// All kernels with distinct shaders or constants, f16 variants included.
fn variants() -> Vec<Kernel> {
    let mut seen = BTreeSet::new();
    let wide = kernels();
    let halves = wide.iter().flat_map(halves);
    let mut kernels: Vec<_> = halves.collect();
    kernels.extend(wide);
    kernels.retain(|k| seen.insert((k.shader.source.to_string(), format!("{:?}", k.constants))));
    kernels
}

/// The pipelines of plans of full-width FCN-8s for several picture sizes, and every variant.
fn pipelines() -> Vec<Pipeline> {
    let graph = full_width();
    let mut pipelines = Vec::from(texture_pipelines());
    for kernel in variants() {
        pipelines.push(Pipeline {
            shader: kernel.shader,
            constants: kernel.constants,
        });
    }
    let half = |target: &Target| target.in_half(true);
    let halves = preferences(&Target::WEBGPU_DEFAULTS);
    let halves = halves.iter().map(half);
    for target in profiles()
        .into_iter()
        .chain(halves)
        .chain(elsewhere().into_iter().map(|(.., target)| target))
    {
        for pipeline in planned(&graph, &target) {
            if !pipelines.contains(&pipeline) {
                pipelines.push(pipeline);
            }
        }
    }
    assert!(pipelines.len() > variants().len());
    pipelines
}

/// The pipelines of plans of `graph` on a device, for several picture sizes.
fn planned(graph: &Graph, target: &Target) -> Vec<Pipeline> {
    let sizes = [500, 224, 96].map(|side| Shape::new(1, 3, side, side));
    let plans = sizes.map(|input| Plan::new(graph, input, &[graph.output()], target).unwrap());
    plans.into_iter().flat_map(|plan| plan.pipelines).collect()
}

fn uses_subgroups(source: &str) -> bool {
    source.contains("subgroup_") || source.contains("subgroupBroadcast")
}

/// Whether `source` uses cooperative matrices. Direct3D 12 and OpenGL have none, naga writes none for them, and Tint
/// does not know the extension.
fn uses_matrices(source: &str) -> bool {
    source.contains("enable wgpu_cooperative_matrix;")
}

/// Whether Metal can run `source`: its matrices have 8 rows and columns, and are loaded from arrays of scalars.
fn is_for_metal(source: &str) -> bool {
    !uses_matrices(source) || source.contains("coop_mat8x8") && source.contains("alias Cell = f16;")
}

/// Parses and validates a shader, with only the capabilities that it needs.
fn validated(name: &str, source: &str) -> (Module, ModuleInfo) {
    validated_for(name, source, uses_subgroups(source), uses_half(source))
}

/// The same for a device with or without subgroups and f16.
fn validated_for(name: &str, source: &str, subgroups: bool, half: bool) -> (Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(source)
        .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(source, name)));
    let mut capabilities = Capabilities::empty();
    capabilities.set(Capabilities::SUBGROUP, subgroups);
    capabilities.set(Capabilities::SHADER_FLOAT16, half);
    capabilities.set(Capabilities::COOPERATIVE_MATRIX, uses_matrices(source));
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(source, name)));
    (module, info)
}

/// The module with its overrides replaced by numbers.
fn resolved(
    name: &str,
    (module, info): &(Module, ModuleInfo),
    constants: &[(&'static str, f64)],
) -> (Module, ModuleInfo) {
    let constants = constants.iter();
    let constants = constants
        .map(|(key, value)| (key.to_string(), *value))
        .collect();
    let entry = Some((ShaderStage::Compute, "main"));
    let (module, info) = process_overrides(module, info, entry, &constants)
        .unwrap_or_else(|e| panic!("{name} with {constants:?}: {e}"));
    (module.into_owned(), info.into_owned())
}

/// Calls `check` with the module of every pipeline, its overrides replaced by numbers.
fn for_each_resolved(check: impl Fn(&Shader, &Module, &ModuleInfo)) {
    for pipeline in pipelines() {
        let name = pipeline.shader.name;
        let valid = validated(name, &pipeline.shader.source);
        let (module, info) = resolved(name, &valid, &pipeline.constants);
        check(&pipeline.shader, &module, &info);
    }
}

/// The shader's buffers in the order of their bindings, all of group 0.
fn buffers<'a>(name: &str, module: &'a Module) -> Vec<&'a GlobalVariable> {
    let globals = module.global_variables.iter().map(|(_, global)| global);
    let is_bound = |global: &&GlobalVariable| global.binding.is_some_and(|b| b.group == 0);
    let mut bound: Vec<_> = globals.filter(is_bound).collect();
    bound.sort_by_key(|global| global.binding.unwrap().binding);
    for (i, global) in (0..).zip(&bound) {
        let binding = global.binding.unwrap();
        assert_eq!((binding.group, binding.binding), (0, i), "{name}");
    }
    bound
}

fn name_of(global: &GlobalVariable) -> &str {
    global.name.as_deref().unwrap()
}

/// The size of an element of a buffer that is one array, in bytes.
fn element_bytes(module: &Module, global: &GlobalVariable) -> u64 {
    match module.types[global.ty].inner {
        TypeInner::Array { stride, .. } => u64::from(stride),
        ref other => panic!("{} is {other:?}", name_of(global)),
    }
}

/// The value of a `const` of type u32 in the shader.
fn constant(module: &Module, name: &str) -> Option<usize> {
    let (_, constant) = module
        .constants
        .iter()
        .find(|(_, c)| c.name.as_deref() == Some(name))?;
    match module.global_expressions[constant.init] {
        naga::Expression::Literal(naga::Literal::U32(value)) => Some(value as usize),
        ref other => panic!("{name} is {other:?}"),
    }
}

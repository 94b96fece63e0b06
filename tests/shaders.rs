//! Every shader, and every variant of it that the ops' cases lead to, through naga's validator and its
//! SPIR-V, MSL, HLSL and GLSL writers, and through Tint where `tint` is on the PATH; and the facts that
//! Rust and WGSL must agree on.

mod common;

use common::plans::full_width;
use common::{matrices, preferences, with_matrices};
use fullconv::Shape;
use fullconv::device_profile::{DX12_BINDING_BYTES, DeviceProfile, TEXELS_PER_ROW};
use fullconv::gpu::{texture_pipelines, wgpu};
use fullconv::graph::Graph;
use fullconv::ops::grid::Grid;
use fullconv::ops::kernel::{self, Binding, Format, Kernel, Packing, Shader, Word};
use fullconv::ops::narrow::{self, SATURATED_GROUP};
use fullconv::plan::lowered;
use fullconv::plan::{Pipeline, Plan};
use fullconv::target::Target;
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

/// What every WebGPU device binds, less the one that Metal needs for the sizes of buffers.
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

/// Devices that lead to every kernel there is.
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

/// Devices that are seldom where tests run, as wgpu 30 describes them: with Metal, and with Direct3D 12 and
/// each of its compilers. FXC has shader model 5.1, without subgroups and f16; DXC has them.
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
            // Between 4 and 128, says wgpu.
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
            kernels.extend(common::kernels(case.op.as_ref(), &case.inputs, &target));
        }
    }
    kernels
}

/// The f16 variants of a kernel: with sums in f32 where they may be read or written, too.
fn halves(kernel: &Kernel) -> Vec<Kernel> {
    let is_sum_of_parts = kernel.shader.name == "sum_parts";
    let half = |reads, writes| kernel.clone().in_half(reads, writes);
    match kernel.can_be_half() {
        false => Vec::new(),
        true if is_sum_of_parts => vec![half(false, false), half(true, false)],
        // The second of its stages reads sums.
        true if kernel.shader.name == "avg_pool2d" => {
            vec![half(false, false), half(true, false), half(false, true)]
        }
        true if kernel.terms.is_some() => vec![half(false, false), half(false, true)],
        true => vec![half(false, false)],
    }
}

/// A variant that [`Kernel::in_half`] makes.
fn is_half(source: &str) -> bool {
    source.starts_with("enable f16;")
}

fn uses_half(source: &str) -> bool {
    source.lines().any(|line| line == "enable f16;")
}

/// The kernels whose shaders and constants differ, those in f16 among them.
fn variants() -> Vec<Kernel> {
    let mut seen = BTreeSet::new();
    let wide = kernels();
    let halves = wide.iter().flat_map(halves);
    let mut kernels: Vec<_> = halves.collect();
    kernels.extend(wide);
    kernels.retain(|k| seen.insert((k.shader.source.to_string(), format!("{:?}", k.constants))));
    kernels
}

/// What the plans of FCN-8s at full width compile, for pictures of several sizes, and every variant.
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

/// What the plans of `graph` compile on a device, for pictures of several sizes.
fn planned(graph: &Graph, target: &Target) -> Vec<Pipeline> {
    let sizes = [500, 224, 96].map(|side| Shape::new(1, 3, side, side));
    let plans = sizes.map(|input| Plan::new(graph, input, &[graph.output()], target).unwrap());
    plans.into_iter().flat_map(|plan| plan.pipelines).collect()
}

fn uses_subgroups(source: &str) -> bool {
    source.contains("subgroup_") || source.contains("subgroupBroadcast")
}

/// Such a shader is not for DX12 and OpenGL, whose devices have no such matrices: naga writes none for them.
/// Nor does Tint know the extension.
fn uses_matrices(source: &str) -> bool {
    source.contains("enable wgpu_cooperative_matrix;")
}

/// Metal's matrices have 8 rows and columns, and are loaded from arrays of single numbers.
fn is_for_metal(source: &str) -> bool {
    !uses_matrices(source) || source.contains("coop_mat8x8") && source.contains("alias Cell = f16;")
}

/// Parses and validates a shader, with no more capabilities than it needs.
fn validated(name: &str, source: &str) -> (Module, ModuleInfo) {
    validated_for(name, source, uses_subgroups(source), uses_half(source))
}

/// The same for a device that has subgroups and f16, or has not.
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

/// A module with numbers in the place of its overrides.
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

/// Calls `check` with the module of every pipeline, its overrides numbers.
fn for_each_resolved(check: impl Fn(&Shader, &Module, &ModuleInfo)) {
    for pipeline in pipelines() {
        let name = pipeline.shader.name;
        let valid = validated(name, &pipeline.shader.source);
        let (module, info) = resolved(name, &valid, &pipeline.constants);
        check(&pipeline.shader, &module, &info);
    }
}

#[test]
fn every_file_is_complete_and_valid_as_it_stands() {
    for (name, source) in files() {
        let (module, _) = validated(&name, &source);
        let [entry] = module.entry_points.as_slice() else {
            panic!("{name} has {} entry points", module.entry_points.len());
        };
        assert_eq!(
            (entry.name.as_str(), entry.stage),
            ("main", ShaderStage::Compute),
            "{name}"
        );
    }
}

#[test]
fn every_file_says_what_it_computes_and_how_its_buffers_lie() {
    for (name, source) in files() {
        let header = source.lines().take_while(|line| line.starts_with("//"));
        let header = header.collect::<Vec<_>>().join("\n");
        for word in ["One invocation", "A workgroup"] {
            if header.contains(word) {
                break;
            }
            assert_ne!(word, "A workgroup", "{name}: who computes what?\n{header}");
        }
        assert!(
            header.contains("output"),
            "{name}: how does the output lie?\n{header}"
        );
    }
}

#[test]
fn every_file_is_the_shader_of_some_kernel_or_reads_or_writes_textures() {
    let files: BTreeSet<_> = files().into_keys().collect();
    let of_textures = texture_pipelines().map(|pipeline| pipeline.shader.name.to_owned());
    let mut used = BTreeSet::from(of_textures);
    used.extend(kernels().iter().map(|k| k.shader.name.to_owned()));
    assert_eq!(files, used);
}

/// Bounds checks as they are put in for devices that run checked shaders, and none.
fn policies() -> [BoundsCheckPolicies; 2] {
    [BoundsCheckPolicy::Restrict, BoundsCheckPolicy::Unchecked].map(|policy| BoundsCheckPolicies {
        index: policy,
        buffer: policy,
        image_load: policy,
        binding_array: policy,
    })
}

#[test]
fn naga_writes_every_variant_as_spirv() {
    for_each_resolved(|Shader { name, .. }, module, info| {
        for bounds_check_policies in policies() {
            let options = spv::Options {
                lang_version: (1, 3),
                bounds_check_policies,
                ..spv::Options::default()
            };
            let pipeline = spv::PipelineOptions {
                shader_stage: ShaderStage::Compute,
                entry_point: "main".into(),
            };
            let words = spv::write_vec(module, info, &options, Some(&pipeline));
            let words = words.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(words[0], 0x0723_0203, "{name}");
        }
    });
}

/// SPIR-V without the strides of its sized arrays. naga gives them to those in workgroup memory too, of any shader,
/// which no driver minds; newer validators stop there.
fn without_strides(words: &[u32]) -> Vec<u32> {
    let (head, mut rest) = words.split_at(5);
    let mut instructions = Vec::new();
    while let Some(first) = rest.first() {
        let (instruction, others) = rest.split_at((first >> 16) as usize);
        instructions.push(instruction);
        rest = others;
    }
    let [array, decorate, stride] = [28, 71, 6];
    let arrays = instructions.iter().filter(|i| i[0] & 0xffff == array);
    let arrays: BTreeSet<_> = arrays.map(|i| i[1]).collect();
    instructions.retain(|i| i[0] & 0xffff != decorate || i[2] != stride || !arrays.contains(&i[1]));
    [head, &instructions.concat()].concat()
}

/// naga writes what the Khronos validator accepts: not checked elsewhere, since few drivers run these shaders.
#[test]
fn spirv_val_accepts_cooperative_matrices() {
    if Command::new("spirv-val").arg("--version").output().is_err() {
        eprintln!("SKIP: spirv-val (spirv-tools) is not on the PATH");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let checked = Cell::new(0);
    for_each_resolved(|Shader { name, source }, module, info| {
        if !uses_matrices(source) {
            return;
        }
        let options = spv::Options {
            lang_version: (1, 3),
            ..spv::Options::default()
        };
        let pipeline = spv::PipelineOptions {
            shader_stage: ShaderStage::Compute,
            entry_point: "main".into(),
        };
        let words = spv::write_vec(module, info, &options, Some(&pipeline)).unwrap();
        let file = folder.path().join("shader.spv");
        std::fs::write(&file, bytemuck::cast_slice(&without_strides(&words))).unwrap();
        let mut validator = Command::new("spirv-val");
        let output = validator
            .args(["--target-env", "vulkan1.1"])
            .arg(&file)
            .output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("Invalid capability operand") {
            return;
        }
        assert!(output.status.success(), "{name}: {said}\n{source}");
        checked.set(checked.get() + 1);
    });
    if checked.get() == 0 {
        eprintln!("SKIP: this spirv-val does not know cooperative matrices");
        return;
    }
    assert!(checked.get() > 50, "{}", checked.get());
}

/// Panics unless naga writes the module for Metal.
fn check_msl(name: &str, module: &Module, info: &ModuleInfo) {
    for bounds_check_policies in policies() {
        let options = msl::Options {
            lang_version: (2, 4),
            bounds_check_policies,
            ..msl::Options::default()
        };
        let pipeline = msl::PipelineOptions {
            entry_point: Some((ShaderStage::Compute, "main".into())),
            ..msl::PipelineOptions::default()
        };
        let written = msl::write_string(module, info, &options, &pipeline);
        let (text, translation) = written.unwrap_or_else(|e| panic!("{name}: {e}"));
        let entry = translation.entry_point_names[0].as_ref();
        assert!(text.contains(entry.unwrap().as_str()), "{name}:\n{text}");
    }
}

#[test]
fn naga_writes_every_variant_as_msl() {
    for_each_resolved(|Shader { name, source }, module, info| {
        if is_for_metal(source) {
            check_msl(name, module, info);
        }
    });
}

/// The least shader model that wgpu compiles for: FXC's, and where there are subgroups or f16 DXC's.
fn shader_model(subgroups: bool, half: bool) -> hlsl::ShaderModel {
    match (half, subgroups) {
        (true, _) => hlsl::ShaderModel::V6_2,
        (false, true) => hlsl::ShaderModel::V6_0,
        (false, false) => hlsl::ShaderModel::V5_1,
    }
}

/// Panics unless naga writes the module for Direct3D 12.
fn check_hlsl(name: &str, module: &Module, info: &ModuleInfo, shader_model: hlsl::ShaderModel) {
    for restrict_indexing in [true, false] {
        let options = hlsl::Options {
            shader_model,
            restrict_indexing,
            ..hlsl::Options::default()
        };
        let pipeline = hlsl::PipelineOptions {
            entry_point: Some((ShaderStage::Compute, "main".into())),
        };
        let mut text = String::new();
        let written = hlsl::Writer::new(&mut text, &options, &pipeline).write(module, info, None);
        let reflection = written.unwrap_or_else(|e| panic!("{name}: {e}"));
        let entry = reflection.entry_point_names[0].as_ref();
        assert!(text.contains(entry.unwrap()), "{name}:\n{text}");
    }
}

#[test]
fn naga_writes_every_variant_as_hlsl() {
    for_each_resolved(|Shader { name, source }, module, info| {
        if uses_matrices(source) {
            return;
        }
        let model = shader_model(uses_subgroups(source), is_half(source));
        check_hlsl(name, module, info, model);
    });
}

/// What runs on Metal and on Direct3D 12 is written for them, and takes no feature and no limit that such a
/// device has not.
#[test]
fn plans_for_metal_and_dx12_take_nothing_that_is_not_there() {
    let graph = full_width();
    for (device, backend, target) in elsewhere() {
        let mut pipelines = planned(&graph, &target);
        for case in lowered::cases() {
            let kernels = common::kernels(case.op.as_ref(), &case.inputs, &target);
            let kernels = kernels
                .into_iter()
                .flat_map(|kernel| match target.options.half {
                    true => [halves(&kernel), vec![kernel]].concat(),
                    false => vec![kernel],
                });
            pipelines.extend(kernels.map(|kernel| Pipeline {
                shader: kernel.shader,
                constants: kernel.constants,
            }));
        }
        let mut seen = BTreeSet::new();
        pipelines
            .retain(|p| seen.insert((p.shader.source.to_string(), format!("{:?}", p.constants))));
        assert!(pipelines.len() > 50, "{device}: {}", pipelines.len());
        let subgroups = target.device.subgroup_size.is_some();
        for Pipeline { shader, constants } in pipelines {
            let name = format!("{} on {device}", shader.name);
            let valid = validated_for(&name, &shader.source, subgroups, target.options.half);
            let (module, info) = resolved(&name, &valid, &constants);
            check_room(&name, &module, &target);
            match backend {
                wgpu::Backend::Metal => check_msl(&name, &module, &info),
                _ => check_hlsl(
                    &name,
                    &module,
                    &info,
                    shader_model(subgroups, target.options.half),
                ),
            }
        }
    }
}

/// Panics unless a workgroup and its memory and bindings fit the device.
fn check_room(name: &str, module: &Module, target: &Target) {
    let invocations: u32 = module.entry_points[0].workgroup_size.iter().product();
    assert!(
        invocations <= target.device.max_invocations_per_workgroup,
        "{name}"
    );
    let globals = || module.global_variables.iter().map(|(_, global)| global);
    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap();
    let shared = globals().filter(|global| global.space == AddressSpace::WorkGroup);
    let bytes: u32 = shared.map(|global| layouter[global.ty].size).sum();
    assert!(
        bytes <= target.device.max_workgroup_bytes,
        "{name}: {bytes} bytes"
    );
    let storage = globals().filter(|g| matches!(g.space, AddressSpace::Storage { .. }));
    assert!(
        storage.count() < target.device.max_storage_buffers as usize,
        "{name}"
    );
}

#[test]
fn naga_writes_every_variant_as_glsl() {
    for_each_resolved(|Shader { name, source }, module, info| {
        // There is no f16 in GLSL: wgpu has no such feature through OpenGL.
        if uses_half(source) {
            return;
        }
        for version in [glsl::Version::new_gles(310), glsl::Version::Desktop(430)] {
            let options = glsl::Options {
                version,
                ..glsl::Options::default()
            };
            let pipeline = glsl::PipelineOptions {
                shader_stage: ShaderStage::Compute,
                entry_point: "main".into(),
                multiview: None,
            };
            for mut policies in policies() {
                // GLSL ES does not tell how many levels a texture has: wgpu leaves these reads unchecked there.
                if version.is_es() {
                    policies.image_load = BoundsCheckPolicy::Unchecked;
                }
                let mut text = String::new();
                glsl::Writer::new(&mut text, module, info, &options, &pipeline, policies)
                    .and_then(|mut writer| writer.write())
                    .unwrap_or_else(|e| panic!("{name} as {version}: {e}"));
                assert!(text.contains("void main()"), "{name} as {version}:\n{text}");
            }
        }
    });
}

/// `source` as Tint takes it: with the line that asks for subgroups, which naga does not know, and with
/// these values in place of its overrides, which Tint has no option for.
fn for_tint(source: &str, constants: &[(&'static str, f64)]) -> String {
    let mut text = String::new();
    if uses_subgroups(source) {
        text.push_str("enable subgroups;\n");
    }
    for line in source.lines() {
        let value = constants.iter().find_map(|(name, value)| {
            let rest = line.strip_prefix("override ")?.strip_prefix(name)?;
            let kind = rest.strip_prefix(": ")?.split(' ').next()?;
            Some(format!("const {name} = {kind}({value});"))
        });
        text.push_str(value.as_deref().unwrap_or(line));
        text.push('\n');
    }
    text
}

/// What Tint makes of `source` with these values of its overrides, in one of its formats.
fn tint(name: &str, source: &str, constants: &[(&'static str, f64)], format: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(format!("{name}.wgsl"));
    std::fs::write(&file, for_tint(source, constants)).unwrap();
    let output = Command::new("tint")
        .args(["--format", format])
        .arg(&file)
        .output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name} {constants:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Panics unless Tint accepts `source` with these values of its overrides.
fn check_with_tint(name: &str, source: &str, constants: &[(&'static str, f64)]) {
    // Tint writes the shader again from what it understood.
    let written = tint(name, source, constants, "wgsl");
    assert!(written.contains("@compute"), "{name}: {written}");
    assert_eq!(
        written.contains("override "),
        constants.is_empty() && source.contains("override ")
    );
}

#[test]
fn tint_accepts_every_file_and_every_variant() {
    if Command::new("tint").arg("--help").output().is_err() {
        eprintln!("SKIP: tint is not on the PATH");
        return;
    }
    for (name, source) in files() {
        if !uses_matrices(&source) {
            check_with_tint(&name, &source, &[]);
        }
    }
    let is_known = |kernel: &Pipeline| !uses_matrices(&kernel.shader.source);
    for kernel in pipelines().into_iter().filter(is_known) {
        check_with_tint(kernel.shader.name, &kernel.shader.source, &kernel.constants);
    }
}

#[test]
fn tint_writes_every_variant_as_msl_and_hlsl() {
    let Ok(help) = Command::new("tint").arg("--help").output() else {
        eprintln!("SKIP: tint is not on the PATH");
        return;
    };
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for (format, sign) in [("msl", "kernel void"), ("hlsl", "[numthreads(")] {
        // The line reads <none|spirv|msl|…>.
        let known = help.lines().find(|line| line.contains("--format "));
        if !known.is_some_and(|line| line.contains(format)) {
            eprintln!("SKIP: this tint was built without a writer of {format}");
            continue;
        }
        for Pipeline { shader, constants } in pipelines() {
            let written = tint(shader.name, &shader.source, &constants, format);
            assert!(written.contains(sign), "{}: {written}", shader.name);
        }
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

/// Bytes of the elements of a buffer that is one array.
fn element_bytes(module: &Module, global: &GlobalVariable) -> u64 {
    match module.types[global.ty].inner {
        TypeInner::Array { stride, .. } => u64::from(stride),
        ref other => panic!("{} is {other:?}", name_of(global)),
    }
}

#[test]
fn buffers_are_bound_in_the_order_of_the_house() {
    for kernel in variants() {
        let name = kernel.shader.name;
        let (module, _) = validated(name, &kernel.shader.source);
        let buffers = buffers(name, &module);
        let [inputs @ .., output, params] = &buffers[..] else {
            panic!("{name} binds {} buffers", buffers.len());
        };
        assert_eq!(inputs.len(), kernel.bindings.len(), "{name}");
        let told = usize::from(check_saturated(&kernel, &module));
        assert!(inputs.len() + told < MOST_STORAGE_BUFFERS, "{name}");
        for (binding, global) in kernel.bindings.iter().zip(inputs) {
            if binding.is_texels() {
                check_texels(binding, &module, global);
                continue;
            }
            let access = StorageAccess::LOAD;
            assert_eq!(global.space, AddressSpace::Storage { access }, "{name}");
            check_input(
                &kernel,
                binding,
                name_of(global),
                element_bytes(&module, global),
            );
        }
        let access = StorageAccess::LOAD | StorageAccess::STORE;
        assert_eq!(output.space, AddressSpace::Storage { access }, "{name}");
        assert_eq!(name_of(output), "output", "{name}");
        assert_eq!(
            element_bytes(&module, output),
            kernel.output.element_bytes(),
            "{name}"
        );
        assert_eq!(
            (params.space, name_of(params)),
            (AddressSpace::Uniform, "params"),
            "{name}"
        );
    }
}

/// Whether the shader tells of values that f16 does not hold, as those that write f16 do and no others.
fn check_saturated(kernel: &Kernel, module: &Module) -> bool {
    let name = kernel.shader.name;
    let mut others = module.global_variables.iter().filter_map(|(_, global)| {
        let binding = global.binding.filter(|b| b.group != 0)?;
        Some((name_of(global), binding.group, binding.binding))
    });
    let told = others.next();
    assert_eq!(others.next(), None, "{name}");
    let writes = kernel.output == Format::Nhwc4Half;
    assert_eq!(
        told,
        writes.then_some(("saturated", SATURATED_GROUP, 0)),
        "{name}"
    );
    // Nothing is stored past the function that looks.
    let source = &kernel.shader.source;
    assert!(!writes || !source.contains("Written("), "{name}");
    assert!(!writes || source.matches(" written(").count() > 1, "{name}");
    writes
}

#[test]
fn every_kernel_that_reads_no_texture_has_a_variant_in_f16() {
    for kernel in kernels() {
        let texels = [
            "conv2d_depthwise_texels",
            "conv2d_texels",
            "conv2d_depthwise_texels",
            "winograd_input",
            "winograd_output",
            "winograd_product",
        ];
        let expected = !texels.contains(&kernel.shader.name);
        assert_eq!(kernel.can_be_half(), expected, "{}", kernel.shader.name);
        for half in halves(&kernel) {
            assert!(is_half(&half.shader.source) && half.shader.source != kernel.shader.source);
        }
    }
    let bits = narrow::MAX.to_bits();
    let tells = variants()
        .iter()
        .any(|k| k.shader.source.contains(&format!("{bits:#010x}u")));
    assert!(tells, "{bits:#x} is the largest f16 in the shaders too");
}

/// One input that is read as texels: its name, and that the shader knows the width of the texture.
fn check_texels(binding: &Binding, module: &Module, global: &GlobalVariable) {
    let name = match binding.activation() {
        Some(_) => "input",
        None => "weight",
    };
    assert_eq!(name_of(global), name);
    let TypeInner::Image { class, .. } = module.types[global.ty].inner else {
        panic!("{name} is no texture");
    };
    let expected = naga::ImageClass::Storage {
        format: naga::StorageFormat::Rgba32Float,
        access: StorageAccess::LOAD,
    };
    assert_eq!(class, expected);
    assert_eq!(constant(module, "ROW"), Some(TEXELS_PER_ROW as usize));
}

/// One input buffer: its name, and that its elements are those that the planner counts in.
fn check_input(kernel: &Kernel, binding: &Binding, name: &str, bytes: u64) {
    let shader = kernel.shader.name;
    match binding {
        Binding::Parameter { packing, .. } if *packing != Packing::Vector => {
            assert_eq!((name, bytes), ("weight", 16), "{shader}");
        }
        // Some ops have several vectors, or one that is no bias.
        Binding::Parameter { .. } if ["batch_norm2d", "prelu"].contains(&shader) => {
            let vectors = ["weight", "bias", "mean", "variance"];
            assert!(vectors.contains(&name) && bytes == 16, "{shader}: {name}");
        }
        Binding::ParameterHalf { .. } => {
            assert_eq!((name, bytes), ("weight", 8), "{shader}");
        }
        Binding::Parameter { .. } | Binding::Zeros { .. } => {
            assert_eq!((name, bytes), ("bias", 16), "{shader}");
        }
        // With groups, channels are read one by one; offsets still count in fours.
        Binding::Activation { format, .. } if shader.ends_with("_grouped") => {
            assert_eq!(
                (name, bytes),
                ("input", format.element_bytes() / 4),
                "{shader}"
            );
        }
        Binding::ActivationTexels { .. } | Binding::ParameterTexels { .. } => unreachable!(),
        Binding::Activation { format, .. } => {
            let several = ["a", "b", "c", "d", "e", "indices"];
            assert!(
                name == "input" || several.contains(&name),
                "{shader}: {name}"
            );
            assert_eq!(name == "indices", *format == Format::Nhwc4Exact, "{shader}");
            assert_eq!(bytes, format.element_bytes(), "{shader}");
        }
    }
}

/// The members of the shader's `Params`: names and kinds, all of 32 bits and none with a gap before it.
fn params(name: &str, module: &Module) -> Vec<(String, ScalarKind)> {
    let buffers = buffers(name, module);
    let TypeInner::Struct { members, .. } = &module.types[buffers[buffers.len() - 1].ty].inner
    else {
        panic!("{name}: params is no struct");
    };
    let member = |(i, member): (u32, &naga::StructMember)| {
        assert_eq!(member.offset, 4 * i, "{name}");
        match module.types[member.ty].inner {
            TypeInner::Scalar(scalar) if scalar.width == 4 => {
                (member.name.clone().unwrap(), scalar.kind)
            }
            ref other => panic!("{name}: {:?} is {other:?}", member.name),
        }
    };
    (0..).zip(members).map(member).collect()
}

#[test]
fn params_are_the_words_that_rust_writes() {
    for kernel in kernels() {
        let shader = kernel.shader.name;
        let (module, _) = validated(shader, &kernel.shader.source);
        let members = params(shader, &module);
        assert_eq!(members.len(), kernel.params.len(), "{shader}: {members:?}");
        let buffers = buffers(shader, &module);
        for ((given, word), (name, kind)) in kernel.params.iter().zip(&members) {
            assert_eq!(given, name, "{shader}: {word:?}");
            let float = matches!(word, Word::Float(_));
            assert_eq!(
                float,
                *kind == ScalarKind::Float,
                "{shader}: {name} is {word:?}"
            );
            // What the planner fills in has a name that says what it is.
            let expected = match word {
                Word::Value(_) | Word::Float(_) => continue,
                Word::InputStart(binding) => format!("{}_start", name_of(buffers[*binding])),
                word => kernel::words([*word])[0].0.into(),
            };
            assert_eq!(*name, expected, "{shader}: {word:?}");
        }
    }
}

/// A word that the planner fills in is there if the kernel can be cut that way, so that no cut goes
/// unnoticed by the shader.
#[test]
fn params_have_every_word_that_a_cut_changes() {
    for kernel in kernels() {
        let shader = kernel.shader.name;
        let has = |word: Word| kernel.params.iter().any(|(_, held)| *held == word);
        assert!(
            has(Word::RowBegin) && has(Word::RowEnd) && has(Word::OutputStart),
            "{shader}"
        );
        for (i, binding) in kernel.bindings.iter().enumerate() {
            let is_activation = binding.activation().is_some();
            assert_eq!(
                has(Word::InputStart(i)),
                is_activation,
                "{shader}: binding {i}"
            );
        }
        // Labels need all of the weight at once, and their kernel refuses one that does not fit.
        let packings = kernel.bindings.iter().filter_map(Binding::parameter);
        let sharded =
            kernel.output != Format::Labels8 && packings.into_iter().any(|(_, p)| !p.is_whole());
        assert_eq!(
            has(Word::ChannelBegin) && has(Word::ChannelEnd),
            sharded,
            "{shader}"
        );
        let summed = kernel.terms.is_some();
        assert_eq!(
            has(Word::TermBegin) && has(Word::TermEnd),
            summed,
            "{shader}"
        );
    }
}

#[test]
fn constants_are_the_overrides_of_the_shader() {
    for kernel in variants() {
        let name = kernel.shader.name;
        let (module, _) = validated(name, &kernel.shader.source);
        let overrides = module.overrides.iter();
        let overrides: BTreeSet<_> = overrides.map(|(_, o)| o.name.clone().unwrap()).collect();
        let constants: BTreeSet<_> = kernel
            .constants
            .iter()
            .map(|(k, _)| k.to_string())
            .collect();
        assert_eq!(overrides, constants, "{name}");
        assert_eq!(
            constants.len(),
            kernel.constants.len(),
            "{name} names one twice"
        );
    }
}

/// The value of a `const` of the shader, a u32.
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

/// Side of the squares of pixels of each of which a kernel writes one value.
fn pool_side(kernel: &Kernel, module: &Module) -> usize {
    let overridden = kernel.constants.iter().find(|(name, _)| *name == "POOL");
    match overridden {
        Some((_, side)) => *side as usize,
        None => constant(module, "POOL").unwrap_or(1),
    }
}

/// How many groups of four channels of one pixel an invocation writes.
fn per_invocation(kernel: &Kernel, module: &Module) -> usize {
    let side = pool_side(kernel, module);
    computed_per_invocation(kernel, module) / (side * side)
}

/// How many it computes.
fn computed_per_invocation(kernel: &Kernel, module: &Module) -> usize {
    match (kernel.shader.name, kernel.grid) {
        // Four pixels.
        ("conv2d" | "argmax" | "argmax_resized", _) => 4,
        // All pixels of the tile that one lane's channels take.
        ("conv2d_texels" | "winograd_product", _) => {
            let of = |name| constant(module, name).unwrap();
            let [invocations, ..] = module.entry_points[0].workgroup_size;
            of("PIXELS") * of("LANES") * of("BLOCKS") / invocations as usize
        }
        (
            "conv2d_coop",
            Grid::Blocks {
                rows,
                columns,
                channels,
                ..
            },
        ) => {
            let [invocations, ..] = module.entry_points[0].workgroup_size;
            rows * columns * channels / 4 / invocations as usize
        }
        ("conv2d_tiled", _) => {
            constant(module, "PIXELS").unwrap() * constant(module, "OWN_QUADS").unwrap()
        }
        // All points of a tile, of which an item is four channels.
        ("winograd_input", Grid::Items { channels, .. }) => channels / 4,
        ("winograd_output", _) => 16,
        // Four or eight pixels, but as items are counted one.
        ("conv_transpose2d", _) => {
            let groups = kernel.constants.iter().find(|(name, _)| *name == "GROUPS");
            groups.unwrap().1 as usize
        }
        // All channels of a pixel, or items that count those of every channel.
        ("softmax", Grid::Tiles { channels, .. })
        | ("max_pool2d" | "max_pool2d_indices", Grid::Items { channels, .. }) => channels / 4,
        _ => 1,
    }
}

#[test]
fn a_workgroup_computes_what_the_grid_says() {
    for kernel in kernels() {
        let name = kernel.shader.name;
        let (module, _) = validated(name, &kernel.shader.source);
        let [x, y, z] = module.entry_points[0].workgroup_size;
        assert_eq!((y, z), (1, 1), "{name}");
        assert!(
            x <= DeviceProfile::WEBGPU_DEFAULTS.max_invocations_per_workgroup,
            "{name}"
        );
        let computed = match kernel.grid {
            Grid::Elements(elements) => elements,
            Grid::Tiles { pixels, channels } => {
                assert_eq!(channels % 4, 0, "{name}");
                pixels * channels / 4
            }
            Grid::Planes {
                items, channels, ..
            } => {
                assert_eq!(channels % 4, 0, "{name}");
                items * channels / 4
            }
            Grid::Blocks {
                rows,
                columns,
                channels,
                ..
            } => {
                assert_eq!(channels % 4, 0, "{name}");
                rows * columns * channels / 4
            }
            Grid::Items {
                items, channels, ..
            } => {
                assert_eq!(channels % 4, 0, "{name}");
                items * channels / 4
            }
        };
        assert_eq!(
            computed,
            x as usize * per_invocation(&kernel, &module),
            "{name}"
        );
    }
}

#[test]
fn a_tile_of_texels_is_as_wide_as_its_packed_weights() {
    let mut subgroups = BTreeSet::new();
    let is_tile = |k: &&Kernel| ["conv2d_texels", "winograd_product"].contains(&k.shader.name);
    for kernel in kernels().iter().filter(is_tile) {
        let (module, _) = validated(kernel.shader.name, &kernel.shader.source);
        let of = |name| constant(&module, name).unwrap();
        let channels = 4 * of("LANES") * of("BLOCKS");
        let pixels = of("PIXELS") / (of("POOL") * of("POOL"));
        let tile = channels;
        let packing = match kernel.grid {
            Grid::Tiles {
                pixels: p,
                channels,
            } => {
                assert_eq!((p, channels), (pixels, tile));
                Packing::Conv {
                    tile,
                    pad_input: true,
                }
            }
            Grid::Planes {
                items, channels, ..
            } => {
                assert_eq!((items, channels), (pixels, tile));
                Packing::Winograd { tile }
            }
            grid => panic!("{grid:?}"),
        };
        let mut packings = kernel.bindings.iter().filter_map(Binding::parameter);
        assert!(packings.any(|(_, p)| p == packing), "{:?}", kernel.bindings);
        if uses_subgroups(&kernel.shader.source) {
            let [invocations, ..] = module.entry_points[0].workgroup_size;
            assert_eq!(invocations as usize, of("LANES"));
            subgroups.insert(invocations);
        }
    }
    assert_eq!(subgroups.into_iter().collect::<Vec<_>>(), [4, 8, 16]);
}

/// Every block that the kernel for GPUs has, with windows staged whole and row by row, and no more workgroup
/// memory than every device has.
#[test]
fn every_tile_of_a_halo_is_tried_and_fits_workgroup_memory() {
    let (mut blocks, mut stages, mut sides) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let kernels = kernels();
    for kernel in kernels.iter().filter(|k| k.shader.name == "conv2d_tiled") {
        let (module, _) = validated(kernel.shader.name, &kernel.shader.source);
        let value = |name| constant(&module, name).unwrap();
        let halo = value("STAGE_GROUPS") * value("HALO_ROWS") * value("HALO_PITCH");
        let bytes = 16 * (halo + value("TAPS_SIZE"));
        assert!(bytes <= DeviceProfile::WEBGPU_DEFAULTS.max_workgroup_bytes as usize);
        let channels = 4 * value("QUADS");
        let (rows, columns) = (value("ROWS"), value("COLUMNS"));
        let parts = kernel.constants.iter().find(|(name, _)| *name == "PARTS");
        let side = value("POOL");
        assert_eq!(
            kernel.grid,
            Grid::Blocks {
                rows: rows / side,
                columns: columns / side,
                channels,
                parts: parts.unwrap().1 as usize
            }
        );
        let packed = kernel.bindings.iter().any(|binding| {
            matches!(binding, Binding::Parameter { packing: Packing::Conv { tile, .. }, .. } if *tile == channels)
        });
        assert!(packed, "{:?}", kernel.bindings);
        blocks.insert((rows, columns, channels));
        stages.insert((value("STAGE_ROWS"), value("STAGE_GROUPS")));
        sides.insert((side, rows, columns));
    }
    assert_eq!(blocks.len(), 4, "{blocks:?}");
    // With and without pooling, for each size.
    assert_eq!(sides.len(), 6, "{sides:?}");
    assert!(stages.len() >= 5, "{stages:?}");
}

/// Every block of the kernel with cooperative matrices, for each kind of these.
#[test]
fn every_tile_of_matrices_is_tried_and_fits_workgroup_memory() {
    let mut blocks = BTreeSet::new();
    let mut stages = BTreeSet::new();
    for kernel in kernels().iter().filter(|k| k.shader.name == "conv2d_coop") {
        let (module, _) = validated(kernel.shader.name, &kernel.shader.source);
        let value = |name| constant(&module, name).unwrap();
        let (size, cells) = (value("SIZE"), value("CELLS"));
        let halo = value("HALO_ROWS") * value("HALO_COLUMNS") * value("HALO_PITCH");
        let taps = value("TAPS_ROWS") * value("TAPS_PITCH");
        let bytes = 8 * (halo + taps) + 4 * value("SUBGROUPS") * size * size;
        assert!(bytes <= 32 << 10, "{bytes}");
        let [invocations, ..] = module.entry_points[0].workgroup_size;
        assert_eq!(invocations as usize, value("SUBGROUPS") * value("SUBGROUP"));
        let channels = 4 * value("QUADS");
        let (rows, columns) = (value("ROWS"), value("COLUMNS"));
        let is_grid = matches!(
            kernel.grid,
            Grid::Blocks { rows: r, columns: c, channels: n, .. } if (r, c, n) == (rows, columns, channels)
        );
        assert!(is_grid, "{:?}", kernel.grid);
        let own = value("PIXEL_TILES") * value("CHANNEL_TILES") * size * size;
        assert_eq!(own * value("SUBGROUPS"), rows * columns * channels);
        let packed = kernel.bindings.iter().any(|binding| {
            matches!(binding, Binding::Parameter { packing: Packing::Conv { tile, .. }, .. } if *tile == channels)
        });
        assert!(packed, "{:?}", kernel.bindings);
        blocks.insert((size, cells, rows, columns, channels));
        stages.insert((value("STAGE_ROWS"), value("STAGE_GROUPS")));
    }
    assert_eq!(blocks.len(), 9, "{blocks:?}");
    assert!(stages.len() >= 5, "{stages:?}");
}

/// A kernel that few devices have run is no plan's until it was found right and fast on the device at hand.
#[test]
fn no_plan_has_cooperative_matrices_of_itself() {
    let graph = full_width();
    for side in [500, 224, 96] {
        let target = with_matrices(&Target::WEBGPU_DEFAULTS, matrices());
        let shape = Shape::new(1, 3, side, side);
        let plan = Plan::new(&graph, shape, &[graph.output()], &target).unwrap();
        let mut pipelines = plan.pipelines.iter();
        assert!(
            pipelines.all(|p| !uses_matrices(&p.shader.source)),
            "{plan}"
        );
    }
}

//! Every variant through the writers of naga and Tint.

use super::*;

/// Two policies: the bounds checks of checked shaders, and none.
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

/// SPIR-V without the strides of its sized arrays. naga also writes strides for arrays in workgroup memory, in any
/// shader. Drivers accept them; newer validators do not.
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

/// The Khronos validator accepts naga's SPIR-V for cooperative matrices, which few drivers in tests can run.
#[test]
fn spirv_val_accepts_cooperative_matrices() {
    if Command::new("spirv-val").arg("--version").output().is_err() {
        eprintln!("SKIP: spirv-val (spirv-tools) is not on the PATH");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let checked = Cell::new(0);
    for_each_resolved(|Shader { name, source, .. }, module, info| {
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
    for_each_resolved(|Shader { name, source, .. }, module, info| {
        if is_for_metal(source) {
            check_msl(name, module, info);
        }
    });
}

/// The lowest shader model that wgpu compiles for: DXC's with subgroups or f16, else FXC's.
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
    for_each_resolved(|Shader { name, source, .. }, module, info| {
        if uses_matrices(source) {
            return;
        }
        let model = shader_model(uses_subgroups(source), is_half(source));
        check_hlsl(name, module, info, model);
    });
}

/// naga writes every kernel that plans use on Metal and Direct3D 12 for these, and the kernel needs only features and
/// limits of such a device.
#[test]
fn kernels_for_metal_and_dx12_need_only_their_features_and_limits() {
    let graph = full_width();
    for (device, backend, target) in elsewhere() {
        let mut pipelines = planned(&graph, &target);
        for case in lowered::cases() {
            let kernels = common::ways::kernels(case.op.as_ref(), &case.inputs, &target);
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
    for_each_resolved(|Shader { name, source, .. }, module, info| {
        // GLSL has no f16, and wgpu does not offer it through OpenGL.
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
                // GLSL ES cannot query the number of mip levels: wgpu leaves these reads unchecked.
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

/// `source` for Tint: with `enable subgroups`, which naga does not know, and with constants in place of overrides,
/// which Tint cannot set.
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

/// Tint's output for `source` with these values of its overrides, in one of its formats.
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
    // Tint writes the shader again from its own representation.
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

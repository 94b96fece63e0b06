//! The names of all kernels, which are the names of their shaders, and the kernels that a user leaves out.

use crate::device_profile::{CooperativeMatrix, DeviceProfile};
use crate::error::{Result, bail};
use crate::ops::candidate::{Way, input_shapes};
use crate::ops::{Op, Stage};
use crate::plan::lowered;
use crate::target::Target;
use crate::tensor::Shape;
use std::collections::BTreeSet;

/// The names in the environment variable `FULLCONV_WITHOUT`, separated by commas, for
/// [`GpuOptions::without_kernels`](super::GpuOptions::without_kernels). The library does not read the variable
/// elsewhere; a program calls this function to follow it.
pub fn kernels_left_out() -> Vec<String> {
    let said = std::env::var("FULLCONV_WITHOUT").unwrap_or_default();
    let names = said.split(',').map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// An error unless all `names` are names of kernels, as `fullconv inspect` prints them.
///
/// # Errors
/// `Request` with the unknown name and all kernel names.
pub fn check_kernel_names(names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let known = kernel_names();
    match names.iter().find(|name| !known.contains(name.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let known: Vec<_> = known.into_iter().collect();
            bail!(
                Request,
                "there is no kernel {unknown:?}; the kernels are {}",
                known.join(", ")
            )
        }
    }
}

/// The names of all kernels, collected from the cases of all ops on several targets.
pub fn kernel_names() -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    for case in lowered::cases() {
        for target in targets() {
            add(&mut names, case.op.as_ref(), &case.inputs, &target);
        }
    }
    names
}

/// Targets whose plans together use every kernel.
fn targets() -> [Target; 4] {
    let cpu = DeviceProfile {
        is_cpu: true,
        ..DeviceProfile::WEBGPU_DEFAULTS
    };
    let large_tiles = DeviceProfile {
        invocations_at_once: 1,
        ..DeviceProfile::WEBGPU_DEFAULTS
    };
    let with_matrices = DeviceProfile {
        max_workgroup_bytes: 32 << 10,
        cooperative: vec![CooperativeMatrix {
            size: [16; 3],
            subgroup: 32,
            vectors: true,
            checked: false,
        }],
        ..DeviceProfile::WEBGPU_DEFAULTS
    };
    [
        Target::WEBGPU_DEFAULTS,
        cpu.into(),
        large_tiles.into(),
        Target::from(with_matrices).in_half(true),
    ]
}

/// Adds the names of the kernels of `op` and of its stages to `names`.
fn add(names: &mut BTreeSet<&'static str>, op: &dyn Op, inputs: &[Shape], target: &Target) {
    for candidate in op.candidates(inputs, target).unwrap_or_default() {
        match candidate.way {
            Way::Kernel(kernel) => drop(names.insert(kernel.shader.name)),
            Way::Stages(stages) => drop(add_stages(names, &stages, inputs, target)),
        }
    }
}

fn add_stages(
    names: &mut BTreeSet<&'static str>,
    stages: &[Stage],
    inputs: &[Shape],
    target: &Target,
) -> Result<()> {
    for (stage, shapes) in stages.iter().zip(input_shapes(stages, inputs)?) {
        for candidate in stage.op.candidates(&shapes, target)? {
            if let Way::Kernel(kernel) = candidate.way {
                names.insert(kernel.shader.name);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::textures::texture_pipelines;
    use super::*;

    #[test]
    fn every_shader_file_of_an_op_is_a_named_kernel() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/shaders");
        let files = std::fs::read_dir(folder).unwrap();
        let stem =
            |path: std::path::PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut files: BTreeSet<_> = files.map(|file| stem(file.unwrap().path())).collect();
        for pipeline in texture_pipelines() {
            assert!(files.remove(pipeline.shader.name));
        }
        let known: BTreeSet<_> = kernel_names().into_iter().map(str::to_owned).collect();
        assert_eq!(known, files);
    }

    #[test]
    fn an_unknown_name_is_an_error_with_all_names() {
        let check = |name: &str| check_kernel_names(&["relu".to_owned(), name.to_owned()]);
        check("conv2d_tiled").unwrap();
        let error = check("conv2d_tilde").unwrap_err().to_string();
        assert!(
            error.contains("\"conv2d_tilde\"") && error.contains("conv2d_tiled, "),
            "{error}"
        );
    }
}

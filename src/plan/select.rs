//! The choice of kernels: the best kernel of an op on a device, and all ways to compute the op.

use super::choices::{Choices, hash};
use crate::error::{Result, bail};
use crate::ops::candidate::input_shapes;
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Packing};
use crate::ops::{Op, Stage, StageInput};
use crate::target::Target;
use crate::tensor::Shape;
use std::collections::HashSet;
use std::sync::Arc;

/// The best kernel of an op that fits the device.
pub(super) fn best_kernel(op: &dyn Op, inputs: &[Shape], target: &Target) -> Result<Kernel> {
    let most = target
        .device
        .max_binding_bytes
        .min(target.device.max_buffer_bytes);
    let tile_fits = |binding: &Binding| match (binding.parameter(), binding.is_texels()) {
        (Some((input, packing)), false) => packing.tile_bytes(inputs[input]) <= most,
        _ => true,
    };
    let kernels = op.kernels(inputs, target)?.into_iter();
    let kernels: Vec<_> = kernels.filter(|kernel| kernel.fits(target)).collect();
    // If no kernel's weights can be cut to the limit, the first kernel is taken: planning then fails with the sizes.
    let cuts_small = |kernel: &Kernel| kernel.bindings.iter().all(tile_fits);
    let best = kernels.iter().position(cuts_small).unwrap_or(0);
    match kernels.into_iter().nth(best) {
        Some(kernel) => Ok(kernel),
        None if !target.options.without_kernels.is_empty() => bail!(
            Unsupported,
            "no kernel for inputs of shapes {inputs:?} fits this device; left out are {}",
            target.options.without_kernels.join(", ")
        ),
        None => bail!(
            Unsupported,
            "no kernel for inputs of shapes {inputs:?} fits this device"
        ),
    }
}

/// An op lowered to kernels: a sequence of ops with one kernel each.
#[derive(Clone, Debug)]
pub struct Lowering {
    /// The ops; only the op itself if one kernel computes it.
    pub stages: Vec<Stage>,
    /// One kernel per stage.
    pub kernels: Vec<Kernel>,
}

impl Lowering {
    /// A hash of the kernels' shaders, constants and weight packings.
    pub fn fingerprint(&self) -> u64 {
        let of = |kernel: &Kernel| {
            let packings: Vec<_> = kernel.bindings.iter().map(|b| b.parameter()).collect();
            let Kernel {
                shader, constants, ..
            } = kernel;
            format!(
                "{} {constants:?} {packings:?} {}",
                shader.name, shader.source
            )
        };
        hash(self.kernels.iter().map(of).collect::<String>().as_bytes())
    }

    /// The positions of the op's inputs that are weights of its kernels. They are f16 if activations are.
    pub fn weights(&self) -> Vec<usize> {
        let mut weights = Vec::new();
        for (stage, kernel) in self.stages.iter().zip(&self.kernels) {
            let packed = kernel.bindings.iter().filter_map(|b| b.parameter());
            let factors = packed.filter(|(_, packing)| *packing != Packing::Vector);
            weights.extend(factors.filter_map(|(input, _)| match stage.inputs[input] {
                StageInput::Op(input) => Some(input),
                StageInput::Stage(_) => None,
            }));
        }
        weights
    }

    /// The names of the kernels, with their tiles and parts.
    pub fn description(&self) -> String {
        let of = |kernel: &Kernel| match kernel.grid {
            Grid::Blocks {
                rows,
                columns,
                channels,
                ..
            } => {
                format!("{} {rows}x{columns}x{channels}", kernel.shader.name)
            }
            _ => kernel.shader.name.to_owned(),
        };
        let parts = self.kernels.first().map_or(1, |kernel| kernel.grid.parts());
        let names = self.kernels.iter().map(of).collect::<Vec<_>>().join(" + ");
        match parts {
            1 => names,
            parts => format!("{names}, {parts} parts"),
        }
    }
}

/// The candidate that `choices` names for an op; `None` if the device has no such candidate.
pub(super) fn chosen(
    choices: &Choices,
    op: &Arc<dyn Op>,
    inputs: &[Shape],
    target: &Target,
) -> Option<Lowering> {
    let choice = choices.get(op.as_ref(), inputs, target)?;
    let candidates = candidates(op, inputs, target).ok()?;
    let is_chosen = |c: &Lowering| c.fingerprint() == choice.fingerprint;
    candidates.into_iter().find(is_chosen)
}

/// The distinct ways to compute an op on the device; the first is the one of a plan without choices.
pub(super) fn candidates(
    op: &Arc<dyn Op>,
    inputs: &[Shape],
    target: &Target,
) -> Result<Vec<Lowering>> {
    let whole = vec![Stage {
        op: op.clone(),
        inputs: (0..inputs.len()).map(StageInput::Op).collect(),
    }];
    let mut ways = vec![op.stages(inputs, target), whole];
    ways.extend(op.other_stages(inputs, target));
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for stages in ways.into_iter().filter(|stages| !stages.is_empty()) {
        for kernels in combinations(&stages, inputs, target)? {
            let stages = stages.clone();
            let candidate = Lowering { stages, kernels };
            let writes = candidate.kernels.last().map(|kernel| kernel.output);
            // The tuner checks sums against an error bound, which labels do not have.
            if writes != Some(Format::Labels8) && seen.insert(candidate.fingerprint()) {
                all.push(candidate);
            }
        }
    }
    Ok(all)
}

/// All combinations of the stages' kernels, the best first.
fn combinations(stages: &[Stage], inputs: &[Shape], target: &Target) -> Result<Vec<Vec<Kernel>>> {
    let mut all: Vec<Vec<Kernel>> = vec![Vec::new()];
    for (stage, shapes) in stages.iter().zip(input_shapes(stages, inputs)?) {
        let mut kernels = stage.op.kernels(&shapes, target)?;
        kernels.extend(stage.op.other_kernels(&shapes, target)?);
        kernels.retain(|kernel| kernel.fits(target));
        let with = |before: Vec<Kernel>| {
            let append =
                move |kernel: &Kernel| [before.as_slice(), std::slice::from_ref(kernel)].concat();
            kernels.iter().map(append).collect::<Vec<_>>()
        };
        all = all.into_iter().flat_map(with).collect();
    }
    Ok(all)
}

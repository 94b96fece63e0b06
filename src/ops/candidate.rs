//! The ways to compute an op on a device, and the trust in each.

use super::kernel::Kernel;
use super::{Op, Stage, StageInput};
use crate::error::Result;
use crate::target::Target;
use crate::tensor::Shape;

/// One way to compute an op.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The kernel or the stages.
    pub way: Way,
    /// When a plan takes the candidate.
    pub trust: Trust,
}

/// How a candidate computes the op.
#[derive(Clone, Debug)]
pub enum Way {
    /// A kernel of the op's own.
    Kernel(Box<Kernel>),
    /// Ops that run one after the other; the last one computes the op's output. Each has candidates of its own.
    Stages(Vec<Stage>),
}

/// When a plan takes a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// If it is the first static candidate that fits the device.
    Static,
    /// Only where the tuner measured it as the fastest on the user's device.
    Measured,
    /// As `Measured`, for a candidate that has run on few devices. The tuner checks every candidate against the
    /// reference before timing it.
    Experimental,
}

impl Candidate {
    /// A kernel that a plan may take unmeasured.
    pub fn kernel(kernel: Kernel) -> Self {
        Self {
            way: Way::Kernel(Box::new(kernel)),
            trust: Trust::Static,
        }
    }

    /// Stages that a plan may take unmeasured.
    pub const fn stages(stages: Vec<Stage>) -> Self {
        Self {
            way: Way::Stages(stages),
            trust: Trust::Static,
        }
    }

    /// The same candidate with another trust.
    #[must_use]
    pub fn trusted(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }
}

/// Selections from an op's candidates.
impl dyn Op {
    /// The static kernels among the candidates, best first; empty if only stages compute the op.
    ///
    /// # Errors
    /// As [`Op::candidates`].
    pub fn kernels(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Kernel>> {
        let all = allowed(self, inputs, target)?;
        Ok(kernels(all, |trust| trust == Trust::Static))
    }

    /// The measured and experimental kernels among the candidates.
    ///
    /// # Errors
    /// As [`Op::candidates`].
    pub fn other_kernels(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Kernel>> {
        let all = allowed(self, inputs, target)?;
        Ok(kernels(all, |trust| trust != Trust::Static))
    }

    /// The static stages that a plan takes in place of a kernel; empty if there are none.
    pub fn stages(&self, inputs: &[Shape], target: &Target) -> Vec<Stage> {
        let of_plan = stages(self, inputs, target, |trust| trust == Trust::Static);
        of_plan.into_iter().next().unwrap_or_default()
    }

    /// The measured and experimental stages among the candidates.
    pub fn other_stages(&self, inputs: &[Shape], target: &Target) -> Vec<Vec<Stage>> {
        stages(self, inputs, target, |trust| trust != Trust::Static)
    }
}

fn kernels(all: Vec<Candidate>, wanted: impl Fn(Trust) -> bool) -> Vec<Kernel> {
    let wanted = all.into_iter().filter(|candidate| wanted(candidate.trust));
    let kernel = |candidate: Candidate| match candidate.way {
        Way::Kernel(kernel) => Some(*kernel),
        Way::Stages(_) => None,
    };
    wanted.filter_map(kernel).collect()
}

/// The stages whose trust is `wanted`. An error of `candidates` gives none: the choice of a kernel reports it.
fn stages(
    op: &dyn Op,
    inputs: &[Shape],
    target: &Target,
    wanted: impl Fn(Trust) -> bool,
) -> Vec<Vec<Stage>> {
    let all = allowed(op, inputs, target).unwrap_or_default().into_iter();
    let stages = |candidate: Candidate| match candidate.way {
        Way::Stages(stages) => Some(stages),
        Way::Kernel(_) => None,
    };
    all.filter(|candidate| wanted(candidate.trust))
        .filter_map(stages)
        .collect()
}

/// The candidates of `op`, without the kernels that plans leave out and without stages that depend on them.
fn allowed(op: &dyn Op, inputs: &[Shape], target: &Target) -> Result<Vec<Candidate>> {
    let mut all = op.candidates(inputs, target)?;
    let without = &target.options.without_kernels;
    if !without.is_empty() {
        all.retain(|candidate| match &candidate.way {
            Way::Kernel(kernel) => !without.iter().any(|name| name == kernel.shader.name),
            Way::Stages(stages) => have_kernels(stages, candidate.trust, inputs, target),
        });
    }
    Ok(all)
}

/// Whether the target has a kernel for each of `stages`; static stages need static kernels.
fn have_kernels(stages: &[Stage], trust: Trust, inputs: &[Shape], target: &Target) -> bool {
    let Ok(shapes) = input_shapes(stages, inputs) else {
        return false;
    };
    stages.iter().zip(&shapes).all(|(stage, shapes)| {
        let mut kernels = stage.op.kernels(shapes, target).unwrap_or_default();
        if trust != Trust::Static {
            kernels.extend(stage.op.other_kernels(shapes, target).unwrap_or_default());
        }
        kernels.iter().any(|kernel| kernel.fits(target))
    })
}

/// The shapes of the inputs of each of `stages`, which together compute an op on `inputs`.
///
/// # Errors
/// As [`Op::output_shape`] of a stage.
pub fn input_shapes(stages: &[Stage], inputs: &[Shape]) -> Result<Vec<Vec<Shape>>> {
    let mut outputs: Vec<Shape> = Vec::with_capacity(stages.len());
    let mut all = Vec::with_capacity(stages.len());
    for stage in stages {
        let of = |input: &StageInput| match *input {
            StageInput::Op(i) => inputs[i],
            StageInput::Stage(i) => outputs[i],
        };
        let shapes: Vec<_> = stage.inputs.iter().map(of).collect();
        outputs.push(stage.op.output_shape(&shapes)?);
        all.push(shapes);
    }
    Ok(all)
}

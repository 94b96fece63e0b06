//! The ways to compute an op on a device, and how far each is trusted.

use super::kernel::Kernel;
use super::{Op, Stage};
use crate::error::Result;
use crate::target::Target;
use crate::tensor::Shape;

/// One way to compute an op.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What is run.
    pub way: Way,
    /// When a plan takes it.
    pub trust: Trust,
}

/// What is run.
#[derive(Clone, Debug)]
pub enum Way {
    /// A kernel of the op's own.
    Kernel(Box<Kernel>),
    /// Ops one after the other, the last of them the op's output. Each has candidates for what it is given there.
    Stages(Vec<Stage>),
}

/// When a plan takes a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Where it comes first among those that fit the device.
    Static,
    /// Where it was measured to be the fastest on the user's device.
    Measured,
    /// The same: it has run on few devices. The tuner holds every candidate to the reference before it times it.
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

    /// The same, trusted less.
    #[must_use]
    pub fn trusted(self, trust: Trust) -> Self {
        Self { trust, ..self }
    }
}

/// What is asked of an op's candidates.
impl dyn Op {
    /// The kernels among the candidates that a plan may take unmeasured, best first; none where stages alone compute
    /// the op.
    ///
    /// # Errors
    /// As [`Op::candidates`].
    pub fn kernels(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Kernel>> {
        let all = self.candidates(inputs, target)?;
        Ok(kernels(all, |trust| trust == Trust::Static))
    }

    /// The kernels that a plan takes only where they were measured.
    ///
    /// # Errors
    /// As [`Op::candidates`].
    pub fn other_kernels(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Kernel>> {
        let all = self.candidates(inputs, target)?;
        Ok(kernels(all, |trust| trust != Trust::Static))
    }

    /// The stages that a plan takes in place of a kernel, if there are some.
    pub fn stages(&self, inputs: &[Shape], target: &Target) -> Vec<Stage> {
        let of_plan = stages(self, inputs, target, |trust| trust == Trust::Static);
        of_plan.into_iter().next().unwrap_or_default()
    }

    /// The stages that a plan takes only where they were measured.
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

/// An op that has no candidates says why where a kernel of it is wanted.
fn stages(
    op: &dyn Op,
    inputs: &[Shape],
    target: &Target,
    wanted: impl Fn(Trust) -> bool,
) -> Vec<Vec<Stage>> {
    let all = op
        .candidates(inputs, target)
        .unwrap_or_default()
        .into_iter();
    let stages = |candidate: Candidate| match candidate.way {
        Way::Stages(stages) => Some(stages),
        Way::Kernel(_) => None,
    };
    all.filter(|candidate| wanted(candidate.trust))
        .filter_map(stages)
        .collect()
}

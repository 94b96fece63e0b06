//! Copies side by side: `out[n, c, y, x] = input[n, c mod channels, y mod h, x mod w]`, of `repeats` times the
//! channels, rows and columns.
//!
//! Source: `torch.Tensor.repeat` with 1 for the batch, and `torch.tile`; `expand` of sizes of 1.

use super::gather::{Gather, Positions};
use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::target::Target;
use crate::tensor::{MAX_SIZE, Shape, Tensor};
use serde::Deserialize;

/// The numbers of copies.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    /// Along channels, rows and columns, each at least 1.
    pub repeats: [usize; 3],
}

impl Repeat {
    fn gather(&self, inputs: &[Shape]) -> Result<Gather> {
        let [input] = take_inputs(self.name(), inputs)?;
        let mut gather = Gather::all(input);
        for (dim, times) in (1..).zip(self.repeats) {
            if times == 0 || times > MAX_SIZE {
                bail!(
                    Shape,
                    "repeats {:?} are not all from 1 to {MAX_SIZE}",
                    self.repeats
                );
            }
            gather = gather.along(dim, |all| Positions {
                outputs: all.inputs.saturating_mul(times),
                ..all
            })?;
        }
        Ok(gather)
    }
}

impl Op for Repeat {
    fn name(&self) -> &'static str {
        "repeat"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        self.gather(inputs)?.output_shape(inputs[0])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        self.gather(&super::shapes(inputs))?.reference(inputs[0])
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        self.gather(inputs)?.candidates(inputs[0])
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::OfInputs
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let repeat = |repeats, shape| case(Repeat { repeats }, [shape]);
    vec![
        repeat([3, 1, 1], [2, 5, 3, 4]),
        repeat([2, 1, 1], [1, 8, 2, 3]),
        repeat([1, 2, 3], [3, 6, 3, 2]),
        repeat([7, 5, 4], [2, 1, 1, 1]),
    ]
}

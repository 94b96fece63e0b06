//! A part of one dimension: its positions from `start` up to, but without, `end`, in steps: `out = input[:, start : end
//! : step]` for dim 1, the channels; dim 2 is rows, dim 3 columns.
//!
//! Positions count as in Python: negative ones from the end, those outside as the nearest inside. Source: slicing and
//! `narrow`, `chunk`, `split` and `select` in PyTorch.

use super::gather::{Gather, Positions};
use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::target::Target;
use crate::tensor::{MAX_SIZE, Shape, Tensor};
use serde::Deserialize;

/// The dimension and the positions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// 1 for channels, 2 for rows, 3 for columns.
    pub dim: usize,
    /// The first position; `None` is 0.
    #[serde(default)]
    pub start: Option<i64>,
    /// The end, which is left out; `None` is the dimension's size.
    #[serde(default)]
    pub end: Option<i64>,
    /// From one position to the next, at least 1.
    #[serde(default = "one")]
    pub step: usize,
}

const fn one() -> usize {
    1
}

impl Slice {
    fn gather(&self, inputs: &[Shape]) -> Result<Gather> {
        let [input] = take_inputs(self.name(), inputs)?;
        if self.step == 0 || self.step > MAX_SIZE {
            bail!(Shape, "a step of {} is not from 1 to {MAX_SIZE}", self.step);
        }
        Gather::all(input).along(self.dim, |all| {
            let size = all.inputs as i64;
            let inside = |at: i64| match at < 0 {
                true => at.saturating_add(size).max(0) as usize,
                false => at.min(size) as usize,
            };
            let begin = self.start.map_or(0, inside);
            let end = self.end.map_or(all.inputs, inside);
            let outputs = end.saturating_sub(begin).div_ceil(self.step);
            Positions {
                outputs,
                begin,
                period: outputs.max(1),
                step: self.step as i64,
                ..all
            }
        })
    }
}

impl Op for Slice {
    fn name(&self) -> &'static str {
        "slice"
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
    let slice = |dim, start: i64, end, step, shape| {
        let start = Some(start);
        case(
            Slice {
                dim,
                start,
                end,
                step,
            },
            [shape],
        )
    };
    vec![
        slice(1, 3, Some(8), 1, [2, 11, 3, 5]),
        slice(1, 4, Some(9), 1, [1, 13, 4, 3]),
        slice(1, -6, None, 2, [3, 9, 2, 3]),
        slice(2, 1, None, 2, [2, 5, 8, 3]),
        slice(2, -3, Some(-1), 1, [3, 6, 5, 4]),
        slice(3, 2, Some(100), 3, [1, 7, 3, 12]),
    ]
}

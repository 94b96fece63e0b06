//! Product of two tensors, element by element: `out = a · b`. Sizes are equal; a size of 1 broadcasts.
//!
//! Source: `torch.mul`; with one value a channel, the gate of a squeeze-and-excitation block.

use super::broadcast::Arithmetic;
use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case};
use crate::error::Result;
use crate::ops::candidate::Candidate;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// Multiplication has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mul {}

const MUL: Arithmetic = Arithmetic {
    name: "mul",
    number: 2,
    value: |a, b| a * b,
};

impl Op for Mul {
    fn name(&self) -> &'static str {
        MUL.name
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        MUL.output_shape(inputs)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        MUL.reference(inputs)
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        // The errors of both factors add up.
        2f64.sqrt() * inputs[0].root_mean_square() * inputs[1].root_mean_square()
    }

    fn broadcasts(&self) -> bool {
        true
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::Product
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::rounded()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        Ok(vec![Candidate::kernel(MUL.kernel(inputs, false)?)])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Mul {}, [[2, 8, 3, 5], [2, 8, 3, 5]]),
        case(Mul {}, [[2, 10, 5, 4], [2, 10, 1, 1]]),
        case(Mul {}, [[1, 6, 4, 5], [1, 1, 4, 5]]),
        case(Mul {}, [[2, 7, 3, 1], [1, 7, 3, 6]]),
    ]
}

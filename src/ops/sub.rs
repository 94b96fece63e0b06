//! Difference of two tensors, element by element: `out = a − b`. Sizes are equal; a size of 1 broadcasts.
//!
//! Source: `torch.sub`.

use super::broadcast::Arithmetic;
use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case};
use crate::error::Result;
use crate::ops::candidate::Candidate;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// Subtraction has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sub {}

const SUB: Arithmetic = Arithmetic {
    name: "sub",
    number: 1,
    value: |a, b| a - b,
};

impl Op for Sub {
    fn name(&self) -> &'static str {
        SUB.name
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        SUB.output_shape(inputs)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        SUB.reference(inputs)
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        inputs[0]
            .root_mean_square()
            .hypot(inputs[1].root_mean_square())
    }

    fn broadcasts(&self) -> bool {
        true
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::Difference
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::rounded()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        Ok(vec![Candidate::kernel(SUB.kernel(inputs, false)?)])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Sub {}, [[1, 5, 3, 7], [1, 5, 3, 7]]),
        case(Sub {}, [[1, 5, 1, 1], [2, 5, 4, 3]]),
        case(Sub {}, [[2, 6, 4, 3], [2, 1, 4, 3]]),
        case(Sub {}, [[3, 3, 5, 2], [1, 1, 1, 1]]),
    ]
}

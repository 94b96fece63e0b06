//! Sum of two tensors, element by element: `out = a + b`. Sizes are equal; a size of 1 broadcasts.
//!
//! Source: `torch.add`; in the FCN papers, the fusion of two streams.

use super::broadcast::Arithmetic;
use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case};
use crate::error::Result;
use crate::ops::candidate::Candidate;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// Addition has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Add {}

pub(crate) const ADD: Arithmetic = Arithmetic {
    name: "add",
    number: 0,
    value: |a, b| a + b,
};

impl Op for Add {
    fn name(&self) -> &'static str {
        ADD.name
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        ADD.output_shape(inputs)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        ADD.reference(inputs)
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
        Probabilities::Sum
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::rounded()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        Ok(vec![Candidate::kernel(ADD.kernel(inputs, false)?)])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Add {}, [[1, 5, 3, 7], [1, 5, 3, 7]]),
        case(Add {}, [[3, 12, 1, 9], [3, 12, 1, 9]]),
        case(Add {}, [[2, 5, 3, 7], [2, 5, 1, 1]]),
        case(Add {}, [[3, 6, 4, 5], [1, 6, 4, 5]]),
        case(Add {}, [[2, 1, 4, 3], [2, 7, 4, 3]]),
        case(Add {}, [[2, 4, 1, 3], [1, 1, 5, 1]]),
    ]
}

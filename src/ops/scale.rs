//! Multiplication by a constant: `out = factor · input`.
//!
//! Source: `torch.mul` with a number; in the FCN papers, the factors ahead of the score layers of
//! `fcn8s-atonce`.

use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::Result;
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Kernel, floats, shader};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The factor.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// The factor of every element.
    pub factor: f32,
}

impl Op for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        Ok(input)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let [input] = take_inputs(self.name(), inputs)?;
        Ok(input.map(|x| x * self.factor))
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::Scaled(self.factor)
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::rounded()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let shape = self.output_shape(inputs)?;
        let factor = floats([("factor", self.factor)]);
        Ok(vec![Candidate::kernel(Kernel::elementwise(
            shader!("scale"),
            &["input_start"],
            &factor,
            shape,
        ))])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Scale { factor: 0.01 }, [[1, 5, 3, 7]]),
        case(Scale { factor: -3.5 }, [[3, 8, 2, 5]]),
    ]
}

//! Rectified linear unit: `out = max(input, 0)`; NaN propagates.
//!
//! Source: `torch.nn.functional.relu`.

use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::Result;
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Kernel, shader};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// ReLU has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relu {}

impl Op for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        Ok(input)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let [input] = take_inputs(self.name(), inputs)?;
        Ok(input.map(|x| if x < 0.0 { 0.0 } else { x }))
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::OfInputs
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let shape = self.output_shape(inputs)?;
        Ok(vec![Candidate::kernel(Kernel::elementwise(
            shader!("relu"),
            &["input_start"],
            &[],
            shape,
        ))])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![case(Relu {}, [[1, 5, 3, 7]]), case(Relu {}, [[3, 4, 9, 1]])]
}

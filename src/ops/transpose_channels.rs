//! Channels and rows of a matrix exchanged: `out[n, k, c, 0] = input[n, c, k, 0]`, from `[n, c, k, 1]` to
//! `[n, k, c, 1]`, the form of matrices between [`Gram`](super::Gram) and [`MixChannels`](super::MixChannels).
//!
//! Source: `torch.transpose(1, 2)`.

use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, rearrange, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The transpose has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransposeChannels {}

/// The steps in the input `[n, c, k, 1]`.
fn steps(input: Shape) -> [usize; 3] {
    [1, input.h, 0]
}

impl Op for TransposeChannels {
    fn name(&self) -> &'static str {
        "transpose_channels"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        if input.w != 1 {
            bail!(Shape, "{input} is no matrix [n, c, k, 1]");
        }
        Ok(Shape::new(input.n, input.h, input.c, 1))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        rearrange::rearranged(inputs[0], output, steps(inputs[0].shape()))
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let kernel = rearrange::kernel(inputs[0], output, steps(inputs[0]));
        Ok(vec![Candidate::kernel(kernel)])
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
    let transpose = |shape| case(TransposeChannels {}, [shape]);
    vec![
        transpose([1, 5, 7, 1]),
        transpose([2, 33, 6, 1]),
        transpose([1, 1, 70, 1]),
    ]
}

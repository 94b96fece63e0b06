//! 2-D max pooling to a given size: output row y is the largest value of the input rows from ⌊y · h / height⌋ up to, but
//! without, ⌈(y + 1) · h / height⌉; columns likewise. NaN propagates.
//!
//! Source: `torch.nn.functional.adaptive_max_pool2d`.

use super::adaptive_avg_pool2d::{sizes, windows};
use super::candidate::Candidate;
use super::means::Means;
use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::Result;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The size to pool to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveMaxPool2d {
    /// Height and width of the output; `None` keeps the input's.
    #[serde(deserialize_with = "sizes")]
    pub output_size: [Option<usize>; 2],
}

impl AdaptiveMaxPool2d {
    fn windows(&self, input: Shape) -> Result<Means> {
        windows(self.output_size, input, true)
    }
}

impl Op for AdaptiveMaxPool2d {
    fn name(&self) -> &'static str {
        "adaptive_max_pool2d"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        self.windows(input)?.output_shape(inputs)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let [input] = take_inputs(self.name(), inputs)?;
        self.windows(input.shape())?.reference(inputs)
    }

    fn candidates(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Candidate>> {
        let [input] = take_inputs(self.name(), inputs)?;
        self.windows(input)?.candidates(inputs, target)
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::OfInputs
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        // Each result has the error of one value.
        inputs[0].root_mean_square()
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let to = |h, w| AdaptiveMaxPool2d {
        output_size: [h, w],
    };
    vec![
        case(to(Some(1), Some(1)), [[1, 6, 11, 13]]),
        case(to(Some(2), Some(3)), [[3, 5, 7, 8]]),
        case(to(Some(6), None), [[1, 4, 4, 5]]),
        case(to(Some(9), Some(20)), [[2, 5, 4, 7]]),
    ]
}

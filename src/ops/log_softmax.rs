//! The logarithm of the softmax over the channels of each pixel, or over the pixels of each channel:
//! `out = in − max − log(Σ exp(in − max))`.
//!
//! Source: `torch.nn.functional.log_softmax`; over the pixels, of the channels as vectors.

use super::candidate::Candidate;
use super::numerics::Numerics;
use super::reduce::Dims;
use super::scores::{Scores, channels};
use super::{Activation, Case, Op, Probabilities, case};
use crate::error::Result;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSoftmax {
    /// [`Dims::CHANNELS`], the classes, by default, or [`Dims::PIXELS`].
    #[serde(default = "channels")]
    pub dim: Dims,
}

impl Default for LogSoftmax {
    fn default() -> Self {
        Self { dim: channels() }
    }
}

impl LogSoftmax {
    fn scores(&self) -> Scores {
        Scores {
            name: "log_softmax",
            logarithm: true,
            dim: self.dim,
        }
    }
}

impl Op for LogSoftmax {
    fn name(&self) -> &'static str {
        self.scores().name
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        self.scores().output_shape(inputs)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        self.scores().reference(inputs)
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        self.scores().candidates(inputs)
    }

    fn probabilities(&self) -> Probabilities {
        match self.dim == Dims::CHANNELS {
            true => Probabilities::LogOf(Activation::Softmax),
            false => Probabilities::No,
        }
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        self.scores().numerics(inputs)
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        self.scores().noise(inputs)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let pixels = || LogSoftmax { dim: Dims::PIXELS };
    vec![
        case(LogSoftmax::default(), [[1, 21, 3, 7]]),
        case(LogSoftmax::default(), [[3, 2, 5, 13]]),
        case(pixels(), [[2, 5, 3, 7]]),
        case(pixels(), [[1, 6, 17, 19]]),
        case(pixels(), [[3, 3, 1, 1]]),
    ]
}

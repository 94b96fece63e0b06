//! The logarithm of the softmax over the channels of each pixel, or over the pixels of each channel:
//! `out = in − max − log(Σ exp(in − max))`.
//!
//! Source: `torch.nn.functional.log_softmax`; over the pixels, of the channels as vectors.

use super::reduce::Dims;
use super::scores::{self, Scores, channels, scores};
use super::{Activation, Case, Probabilities};
use serde::Deserialize;

/// The dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSoftmax {
    /// [`Dims::CHANNELS`], the classes, by default, or [`Dims::PIXELS`].
    #[serde(default = "channels")]
    pub dim: Dims,
}

impl LogSoftmax {
    const fn scores(&self) -> Scores {
        Scores {
            name: "log_softmax",
            logarithm: true,
            dim: self.dim,
        }
    }
}

scores!(LogSoftmax, Probabilities::LogOf(Activation::Softmax));

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    scores::cases(|dim| LogSoftmax { dim })
}

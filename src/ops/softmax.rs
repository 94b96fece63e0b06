//! Softmax over the channels of each pixel, or over the pixels of each channel: `out = exp(in − max) / Σ exp(in − max)`.
//!
//! Source: `torch.nn.functional.softmax`; over the pixels, of the channels as vectors.

use super::reduce::Dims;
use super::scores::{self, Scores, channels, scores};
use super::{Activation, Case, Probabilities};
use serde::Deserialize;

/// The dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {
    /// [`Dims::CHANNELS`], the classes, by default, or [`Dims::PIXELS`].
    #[serde(default = "channels")]
    pub dim: Dims,
}

impl Softmax {
    const fn scores(&self) -> Scores {
        Scores {
            name: "softmax",
            logarithm: false,
            dim: self.dim,
        }
    }
}

scores!(Softmax, Probabilities::Of(Activation::Softmax));

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    scores::cases(|dim| Softmax { dim })
}

//! Largest value over dimensions, whose sizes become 1. NaN propagates.
//!
//! Source: `torch.amax` with `keepdim`.

use super::Case;
use super::reduce::{self, Dims, Reduce, Reduction, reduction};
use serde::Deserialize;

/// The dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amax {
    /// The dimensions whose sizes become 1.
    pub dim: Dims,
}

impl Amax {
    const fn reduce(&self) -> Reduce {
        Reduce {
            name: "amax",
            reduction: Reduction::Largest,
            dims: self.dim,
        }
    }
}

reduction!(Amax);

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    reduce::cases(|dim| Amax { dim })
}

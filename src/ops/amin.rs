//! Smallest value over dimensions, whose sizes become 1. NaN propagates.
//!
//! Source: `torch.amin` with `keepdim`.

use super::Case;
use super::reduce::{self, Dims, Reduce, Reduction, reduction};
use serde::Deserialize;

/// The dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amin {
    /// The dimensions whose sizes become 1.
    pub dim: Dims,
}

impl Amin {
    const fn reduce(&self) -> Reduce {
        Reduce {
            name: "amin",
            reduction: Reduction::Smallest,
            dims: self.dim,
        }
    }
}

reduction!(Amin);

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    reduce::cases(|dim| Amin { dim })
}

//! Sum over dimensions, whose sizes become 1.
//!
//! Source: `torch.sum` with `keepdim`.

use super::Case;
use super::reduce::{self, Dims, Reduce, Reduction, reduction};
use serde::Deserialize;

/// The dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    /// The dimensions whose sizes become 1.
    pub dim: Dims,
}

impl Sum {
    const fn reduce(&self) -> Reduce {
        Reduce {
            name: "sum",
            reduction: Reduction::Sum,
            dims: self.dim,
        }
    }
}

reduction!(Sum);

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    reduce::cases(|dim| Sum { dim })
}

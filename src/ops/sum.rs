//! Sum over dimensions, whose sizes become 1.
//!
//! Source: `torch.sum` with `keepdim`.

use super::reduce::{Dims, Reduce, Reduction, reduction};
use super::{Case, case};
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
    let over = |channels, height, width, shape| {
        let dim = Dims {
            channels,
            height,
            width,
        };
        case(Sum { dim }, [shape])
    };
    vec![
        over(true, false, false, [2, 7, 3, 5]),
        over(false, true, false, [3, 6, 5, 4]),
        over(false, false, true, [2, 5, 3, 9]),
        over(true, true, true, [2, 13, 16, 17]),
        over(false, true, true, [2, 5, 17, 19]),
        over(true, true, false, [3, 6, 4, 5]),
    ]
}

//! Mean over dimensions: `out = Σ input / count`; the dimensions' sizes become 1.
//!
//! Source: `torch.mean` with `keepdim`; over height and width, global average pooling.

use super::reduce::{Dims, Reduce, Reduction, reduction};
use super::{Case, Probabilities, case};
use serde::Deserialize;

/// The dimensions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mean {
    /// Height and width by default.
    pub dim: Dims,
}

impl Mean {
    const fn reduce(&self) -> Reduce {
        Reduce {
            name: "mean",
            reduction: Reduction::Mean,
            dims: self.dim,
        }
    }
}

reduction!(Mean, |dim| match dim.channels {
    true => Probabilities::Changed,
    false => Probabilities::OfInputs,
});

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let over = |channels, height, width, shape| {
        let dim = Dims {
            channels,
            height,
            width,
        };
        case(Mean { dim }, [shape])
    };
    vec![
        case(Mean::default(), [[1, 5, 3, 7]]),
        case(Mean::default(), [[3, 8, 1, 1]]),
        case(Mean::default(), [[2, 6, 40, 1]]),
        case(Mean::default(), [[2, 13, 16, 17]]),
        over(true, false, false, [2, 7, 3, 5]),
        over(false, true, false, [3, 6, 5, 4]),
        over(false, false, true, [2, 5, 3, 9]),
        over(true, true, true, [2, 13, 16, 17]),
        over(true, false, true, [3, 6, 4, 5]),
        over(true, false, false, [1, 1, 4, 5]),
    ]
}

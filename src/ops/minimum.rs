//! The smaller of two values, element by element; NaN propagates. Sizes are equal; a size of 1 broadcasts.
//!
//! Source: `torch.minimum`.

use super::broadcast::{Arithmetic, broadcasting};
use super::numerics::Numerics;
use super::{Case, case};
use serde::Deserialize;

/// The operation has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Minimum {}

broadcasting!(
    Minimum,
    Arithmetic {
        name: "minimum",
        number: 5,
        value: |a, b| match a.is_nan() || a <= b {
            true => a,
            false => b,
        },
    },
    Numerics::exact(),
    |inputs| inputs[0]
        .root_mean_square()
        .max(inputs[1].root_mean_square())
);

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Minimum {}, [[2, 5, 3, 7], [2, 5, 3, 7]]),
        case(Minimum {}, [[3, 8, 1, 9], [3, 8, 1, 9]]),
        case(Minimum {}, [[2, 10, 5, 4], [2, 10, 1, 1]]),
        case(Minimum {}, [[1, 1, 4, 5], [1, 6, 4, 5]]),
        case(Minimum {}, [[2, 7, 3, 1], [1, 7, 3, 6]]),
    ]
}

//! Comparison, element by element: 1 where the first value is not larger than the second, else 0. Sizes are equal; a size of 1 broadcasts.
//!
//! Source: `torch.le`.

use super::broadcast::{Arithmetic, broadcasting};
use super::numerics::Numerics;
use super::{Case, case};
use serde::Deserialize;

/// The operation has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Le {}

broadcasting!(
    Le,
    Arithmetic {
        name: "le",
        number: 9,
        value: |a, b| f64::from(u8::from(a <= b)),
    },
    Numerics::steps(),
    |_| 0.0
);

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Le {}, [[2, 5, 3, 7], [2, 5, 3, 7]]),
        case(Le {}, [[3, 8, 1, 9], [3, 8, 1, 9]]),
        case(Le {}, [[2, 10, 5, 4], [2, 10, 1, 1]]),
        case(Le {}, [[1, 1, 4, 5], [1, 6, 4, 5]]),
        case(Le {}, [[2, 7, 3, 1], [1, 7, 3, 6]]),
    ]
}

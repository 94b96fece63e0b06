//! Reciprocal: `out = 1 / input`.
//!
//! Source: `torch.reciprocal`.

use super::numerics::{FLUSHED, absolute};
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reciprocal {}

impl Unary for Reciprocal {
    const NAME: &'static str = "reciprocal";
    const FUNCTION: u8 = 13;

    fn value(&self, x: f64) -> f64 {
        x.recip()
    }

    fn error(&self, _x: f64, y: f64) -> f64 {
        // 2.5 ULP; a device may flush a small result to zero.
        absolute(5.0, y, FLUSHED)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Reciprocal {}, [[1, 5, 3, 7]]),
        case(Reciprocal {}, [[3, 8, 2, 5]]),
    ]
}

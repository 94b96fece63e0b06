//! A piecewise linear swish: `out = input · min(max(input + 3, 0), 6) / 6`.
//!
//! Source: `torch.nn.functional.hardswish`.

use super::numerics::{FLUSHED, absolute};
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// Hardswish has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardswish {}

impl Unary for Hardswish {
    const NAME: &'static str = "hardswish";
    const FUNCTION: u8 = 7;

    fn value(&self, x: f64) -> f64 {
        x * (x + 3.0).clamp(0.0, 6.0) / 6.0
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        // One unit each for the sum, the constant and two products. A flushed value is multiplied by x.
        absolute(4.0, y, (x.abs() + 1.0) * FLUSHED)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Hardswish {}, [[1, 5, 3, 7]]),
        case(Hardswish {}, [[3, 8, 2, 5]]),
    ]
}

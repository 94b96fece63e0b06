//! Reciprocal of the square root: `out = 1 / √input`, NaN for negative numbers.
//!
//! Source: `torch.rsqrt`.

use super::numerics::absolute;
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rsqrt {}

impl Unary for Rsqrt {
    const NAME: &'static str = "rsqrt";
    const FUNCTION: u8 = 12;

    fn value(&self, x: f64) -> f64 {
        1.0 / x.sqrt()
    }

    fn error(&self, _x: f64, y: f64) -> f64 {
        // 2 ULP.
        absolute(4.0, y, 0.0)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Rsqrt {}, [[1, 5, 3, 7]]),
        case(Rsqrt {}, [[3, 8, 2, 5]]),
    ]
}

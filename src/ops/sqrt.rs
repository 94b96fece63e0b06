//! Square root: `out = √input`, NaN for negative numbers.
//!
//! Source: `torch.sqrt`.

use super::numerics::{SQRT_UNITS, absolute};
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sqrt {}

impl Unary for Sqrt {
    const NAME: &'static str = "sqrt";
    const FUNCTION: u8 = 11;

    fn value(&self, x: f64) -> f64 {
        x.sqrt()
    }

    fn error(&self, _x: f64, y: f64) -> f64 {
        absolute(SQRT_UNITS, y, 0.0)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![case(Sqrt {}, [[1, 5, 3, 7]]), case(Sqrt {}, [[3, 8, 2, 5]])]
}

//! Softsign: `out = input / (1 + |input|)`.
//!
//! Source: `torch.nn.functional.softsign`.

use super::numerics::{FLUSHED, absolute};
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softsign {}

impl Unary for Softsign {
    const NAME: &'static str = "softsign";
    const FUNCTION: u8 = 21;

    fn value(&self, x: f64) -> f64 {
        x / (1.0 + x.abs())
    }

    fn error(&self, _x: f64, y: f64) -> f64 {
        // The sum errs by a unit, the division by five.
        absolute(6.0, y, FLUSHED)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Softsign {}, [[1, 5, 3, 7]]),
        case(Softsign {}, [[3, 8, 2, 5]]),
    ]
}

//! Natural logarithm: `out = log(input)`, −∞ for 0, NaN for negative numbers.
//!
//! Source: `torch.log`.

use super::numerics::{FLUSHED, LOG_UNITS, absolute};
use super::unary::Unary;
use super::{Case, Probabilities, case};
use serde::Deserialize;

/// The function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {}

impl Unary for Log {
    const NAME: &'static str = "log";
    const FUNCTION: u8 = 10;

    fn probabilities(&self) -> Probabilities {
        Probabilities::Logarithm
    }

    fn value(&self, x: f64) -> f64 {
        x.ln()
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        if x < FLUSHED {
            // A device may take such a number for zero.
            return f64::INFINITY;
        }
        absolute(LOG_UNITS, y, 0.0)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![case(Log {}, [[1, 5, 3, 7]]), case(Log {}, [[3, 8, 2, 5]])]
}

//! Absolute value: `out = |input|`.
//!
//! Source: `torch.abs`.

use super::unary::Unary;
use super::{Case, Probabilities, case};
use serde::Deserialize;

/// The function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Abs {}

impl Unary for Abs {
    const NAME: &'static str = "abs";
    const FUNCTION: u8 = 8;

    fn probabilities(&self) -> Probabilities {
        Probabilities::OfInputs
    }

    fn value(&self, x: f64) -> f64 {
        x.abs()
    }

    fn error(&self, _x: f64, _y: f64) -> f64 {
        0.0
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![case(Abs {}, [[1, 5, 3, 7]]), case(Abs {}, [[3, 8, 2, 5]])]
}

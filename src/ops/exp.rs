//! Exponential: `out = exp(input)`.
//!
//! Source: `torch.exp`.

use super::numerics::{FLUSHED, absolute, exp_units};
use super::unary::Unary;
use super::{Case, Probabilities, case};
use serde::Deserialize;

/// The function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exp {}

impl Unary for Exp {
    const NAME: &'static str = "exp";
    const FUNCTION: u8 = 9;

    fn probabilities(&self) -> Probabilities {
        Probabilities::Exponential
    }

    fn value(&self, x: f64) -> f64 {
        x.exp()
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        absolute(exp_units(x), y, FLUSHED)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![case(Exp {}, [[1, 5, 3, 7]]), case(Exp {}, [[3, 8, 2, 5]])]
}

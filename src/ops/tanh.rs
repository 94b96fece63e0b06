//! The hyperbolic tangent: `out = tanh(input)`.
//!
//! Source: `torch.nn.functional.tanh`.

use super::numerics::{FLUSHED, absolute, expm1_units};
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The hyperbolic tangent has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tanh {}

impl Unary for Tanh {
    const NAME: &'static str = "tanh";
    const FUNCTION: u8 = 4;

    fn value(&self, x: f64) -> f64 {
        x.tanh()
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        // −e / (2 + e) with e = exp(−2·|x|) − 1; an error of e counts 2 / (2 + e) times.
        let x = -2.0 * x.abs();
        let of_e = expm1_units(x) * 2.0 / (2.0 + x.exp_m1());
        absolute(of_e + 6.0, y, FLUSHED)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![case(Tanh {}, [[1, 5, 3, 7]]), case(Tanh {}, [[3, 8, 2, 5]])]
}

//! Mish: `out = input · tanh(log(1 + exp(input)))`.
//!
//! Source: `torch.nn.functional.mish`.

use super::numerics::{FLUSHED, absolute, exp_units, softplus};
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mish {}

impl Unary for Mish {
    const NAME: &'static str = "mish";
    const FUNCTION: u8 = 18;

    fn value(&self, x: f64) -> f64 {
        x * softplus(x).tanh()
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        // The gate is n / (n + r) with e = exp(−|x|): n = e · (e + 2) and r = 2 for a negative input, else n = 1 + 2 · e
        // and r = 2 · e². An error of e counts 4/3 times, or e times; n and the gate add 11 units, the product one.
        let of_e = if x < 0.0 { 4.0 / 3.0 } else { (-x).exp() };
        absolute(
            of_e * exp_units(x) + 12.0,
            y,
            FLUSHED * (1.0 + 2.0 * x.abs()),
        )
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![case(Mish {}, [[1, 5, 3, 7]]), case(Mish {}, [[3, 8, 2, 5]])]
}

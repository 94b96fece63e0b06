//! Sigmoid linear unit, also called swish: `out = input · sigmoid(input)`.
//!
//! Source: `torch.nn.functional.silu`.

use super::numerics::{FLUSHED, absolute, sigmoid_units};
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// SiLU has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Silu {}

impl Unary for Silu {
    const NAME: &'static str = "silu";
    const FUNCTION: u8 = 5;

    fn value(&self, x: f64) -> f64 {
        x / (1.0 + (-x).exp())
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        // A flushed value is multiplied by x.
        absolute(sigmoid_units(x) + 1.0, y, (x.abs() + 1.0) * FLUSHED)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![case(Silu {}, [[1, 5, 3, 7]]), case(Silu {}, [[3, 8, 2, 5]])]
}

//! The logistic function: `out = 1 / (1 + exp(−input))`.
//!
//! Source: `torch.nn.functional.sigmoid`.

use super::numerics::{FLUSHED, absolute, sigmoid_units};
use super::unary::Unary;
use super::{Activation, Case, Probabilities, case};
use serde::Deserialize;

/// The logistic function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sigmoid {}

impl Unary for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const FUNCTION: u8 = 3;

    fn probabilities(&self) -> Probabilities {
        Probabilities::Of(Activation::Sigmoid)
    }

    fn value(&self, x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        absolute(sigmoid_units(x), y, FLUSHED)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Sigmoid {}, [[1, 5, 3, 7]]),
        case(Sigmoid {}, [[3, 8, 2, 5]]),
    ]
}

//! Logarithm of the sigmoid: `out = −log(1 + exp(−input))`.
//!
//! Source: `torch.nn.functional.logsigmoid`.

use super::numerics::{FLUSHED, absolute, softplus, softplus_units};
use super::unary::Unary;
use super::{Activation, Case, Probabilities, case};
use serde::Deserialize;

/// The function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logsigmoid {}

impl Unary for Logsigmoid {
    const NAME: &'static str = "logsigmoid";
    const FUNCTION: u8 = 22;

    fn probabilities(&self) -> Probabilities {
        Probabilities::LogOf(Activation::Sigmoid)
    }

    fn value(&self, x: f64) -> f64 {
        -softplus(-x)
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        absolute(softplus_units(-x), y, FLUSHED)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Logsigmoid {}, [[1, 5, 3, 7]]),
        case(Logsigmoid {}, [[3, 8, 2, 5]]),
    ]
}

//! A piecewise linear sigmoid: `out = min(max(input + 3, 0), 6) / 6`.
//!
//! Source: `torch.nn.functional.hardsigmoid`.

use super::numerics::{FLUSHED, absolute};
use super::unary::Unary;
use super::{Activation, Case, Probabilities, case};
use serde::Deserialize;

/// Hardsigmoid has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardsigmoid {}

impl Unary for Hardsigmoid {
    const NAME: &'static str = "hardsigmoid";
    const FUNCTION: u8 = 6;

    fn probabilities(&self) -> Probabilities {
        Probabilities::Of(Activation::Sigmoid)
    }

    fn value(&self, x: f64) -> f64 {
        (x + 3.0).clamp(0.0, 6.0) / 6.0
    }

    fn error(&self, _x: f64, y: f64) -> f64 {
        // One unit each for the sum, the constant and the product.
        absolute(3.0, y, FLUSHED)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Hardsigmoid {}, [[1, 5, 3, 7]]),
        case(Hardsigmoid {}, [[3, 8, 2, 5]]),
    ]
}

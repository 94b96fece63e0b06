//! The hyperbolic tangent: `out = tanh(input)`.
//!
//! Source: `torch.nn.functional.tanh`.

use super::unary::{Function, Unary};
use super::{Case, case};
use serde::Deserialize;

/// The hyperbolic tangent has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tanh {}

impl Unary for Tanh {
    const NAME: &'static str = "tanh";
    const FUNCTION: Function = Function::Tanh;

    fn value(&self, x: f64) -> f64 {
        x.tanh()
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![case(Tanh {}, [[1, 5, 3, 7]]), case(Tanh {}, [[3, 8, 2, 5]])]
}

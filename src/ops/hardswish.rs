//! A swish of straight lines: `out = input · min(max(input + 3, 0), 6) / 6`.
//!
//! Source: `torch.nn.functional.hardswish`.

use super::unary::{Function, Unary};
use super::{Case, case};
use serde::Deserialize;

/// A swish of straight lines has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardswish {}

impl Unary for Hardswish {
    const NAME: &'static str = "hardswish";
    const FUNCTION: Function = Function::Hardswish;

    fn value(&self, x: f64) -> f64 {
        x * (x + 3.0).clamp(0.0, 6.0) / 6.0
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Hardswish {}, [[1, 5, 3, 7]]),
        case(Hardswish {}, [[3, 8, 2, 5]]),
    ]
}

//! The largest whole number that is not above the input.
//!
//! Source: `torch.floor`.

use super::numerics::Jumps;
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {}

impl Unary for Floor {
    const NAME: &'static str = "floor";
    const FUNCTION: u8 = 25;

    fn value(&self, x: f64) -> f64 {
        x.floor()
    }

    fn error(&self, _x: f64, _y: f64) -> f64 {
        0.0
    }

    fn jumps(&self) -> Jumps<'_> {
        Jumps::Steps
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Floor {}, [[1, 5, 3, 7]]),
        case(Floor {}, [[3, 8, 2, 5]]),
    ]
}

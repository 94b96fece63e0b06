//! The sign of the input: 1, −1, or 0; as in PyTorch, that of NaN is 0.
//!
//! Source: `torch.sign`.

use super::numerics::Jumps;
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {}

impl Unary for Sign {
    const NAME: &'static str = "sign";
    const FUNCTION: u8 = 26;

    fn value(&self, x: f64) -> f64 {
        match x {
            x if x > 0.0 => 1.0,
            x if x < 0.0 => -1.0,
            _ => 0.0,
        }
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
    vec![case(Sign {}, [[1, 5, 3, 7]]), case(Sign {}, [[3, 8, 2, 5]])]
}

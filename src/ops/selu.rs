//! Scaled exponential linear unit: `out = 1.0507 · input` for a positive input, else `1.7581 · (exp(input) − 1)`.
//!
//! Source: `torch.nn.functional.selu`.

use super::numerics::{FLUSHED, absolute, expm1_units};
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selu {}

const ALPHA: f64 = 1.673_263_242_354_377_2;
const SCALE: f64 = 1.050_700_987_355_480_5;

impl Unary for Selu {
    const NAME: &'static str = "selu";
    const FUNCTION: u8 = 19;

    fn value(&self, x: f64) -> f64 {
        match x > 0.0 {
            true => SCALE * x,
            false => SCALE * ALPHA * x.exp_m1(),
        }
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        // The factor and the product err by a unit each.
        match x > 0.0 {
            true => absolute(2.0, y, 0.0),
            false => absolute(expm1_units(x) + 2.0, y, FLUSHED),
        }
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![case(Selu {}, [[1, 5, 3, 7]]), case(Selu {}, [[3, 8, 2, 5]])]
}

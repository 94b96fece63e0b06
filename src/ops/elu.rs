//! Exponential linear unit: `out = input` for a positive input, else `alpha · (exp(input) − 1)`.
//!
//! Source: `torch.nn.functional.elu`.

use super::numerics::{FLUSHED, absolute, expm1_units};
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The scale.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Elu {
    /// Large negative numbers approach −`alpha`.
    pub alpha: f32,
}

impl Default for Elu {
    fn default() -> Self {
        Self { alpha: 1.0 }
    }
}

impl Unary for Elu {
    const NAME: &'static str = "elu";
    const FUNCTION: u8 = 2;

    fn attributes(&self) -> [f32; 2] {
        [self.alpha, 0.0]
    }

    fn value(&self, x: f64) -> f64 {
        if x > 0.0 {
            x
        } else {
            f64::from(self.alpha) * x.exp_m1()
        }
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        match x > 0.0 {
            true => absolute(0.0, y, 0.0),
            false => absolute(expm1_units(x) + 1.0, y, FLUSHED),
        }
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Elu::default(), [[1, 5, 3, 7]]),
        case(Elu { alpha: 0.3 }, [[3, 8, 2, 5]]),
    ]
}

//! Continuous exponential linear unit: `out = input` for a positive input, else `alpha · (exp(input / alpha) − 1)`.
//!
//! Source: `torch.nn.functional.celu`.

use super::numerics::{FLUSHED, absolute, expm1_units};
use super::unary::Unary;
use super::{Case, case};
use crate::error::{Result, bail};
use serde::Deserialize;

/// The attributes, with PyTorch's defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Celu {
    /// Large negative numbers approach −`alpha`.
    pub alpha: f32,
}

impl Default for Celu {
    fn default() -> Self {
        Self { alpha: 1.0 }
    }
}

impl Unary for Celu {
    const NAME: &'static str = "celu";
    const FUNCTION: u8 = 20;

    fn attributes(&self) -> [f32; 2] {
        [self.alpha, 0.0]
    }

    fn value(&self, x: f64) -> f64 {
        let alpha = f64::from(self.alpha);
        match x > 0.0 {
            true => x,
            false => alpha * (x / alpha).exp_m1(),
        }
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        // The division errs by five units; they count less than once.
        match x > 0.0 {
            true => absolute(0.0, y, 0.0),
            false => absolute(expm1_units(x / f64::from(self.alpha)) + 6.0, y, FLUSHED),
        }
    }

    fn check(&self) -> Result<()> {
        if !self.alpha.is_finite() || self.alpha <= 0.0 {
            bail!(Shape, "alpha is {}, not a positive number", self.alpha);
        }
        Ok(())
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Celu::default(), [[1, 5, 3, 7]]),
        case(Celu { alpha: 0.3 }, [[3, 8, 2, 5]]),
    ]
}

//! Softplus: `out = log(1 + exp(beta · input)) / beta`, or the input where `beta · input` exceeds `threshold`.
//!
//! Source: `torch.nn.functional.softplus`.

use super::numerics::{FLUSHED, UNIT, absolute, softplus, softplus_units};
use super::unary::Unary;
use super::{Case, case};
use crate::error::{Result, bail};
use serde::Deserialize;

/// The attributes, with PyTorch's defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Softplus {
    /// The factor of the input.
    pub beta: f32,
    /// Beyond it the function is the identity.
    pub threshold: f32,
}

impl Default for Softplus {
    fn default() -> Self {
        Self {
            beta: 1.0,
            threshold: 20.0,
        }
    }
}

impl Unary for Softplus {
    const NAME: &'static str = "softplus";
    const FUNCTION: u8 = 17;

    fn attributes(&self) -> [f32; 2] {
        [self.beta, self.threshold]
    }

    fn value(&self, x: f64) -> f64 {
        let [beta, threshold] = self.attributes().map(f64::from);
        match beta * x > threshold {
            true => x,
            false => softplus(beta * x) / beta,
        }
    }

    fn error(&self, x: f64, y: f64) -> f64 {
        let [beta, threshold] = self.attributes().map(f64::from);
        let scaled = beta * x;
        let (plus, log) = (softplus(scaled), (-scaled.abs()).exp().ln_1p());
        // The product with beta errs by a unit, which counts as much as the slope; the division adds five.
        let of_product = scaled.abs() / (1.0 + (-scaled).exp()) / plus;
        let units = softplus_units(scaled) + of_product + 5.0;
        // Near the threshold, a device may take the other side.
        let near = (scaled - threshold).abs() <= 4.0 * UNIT * scaled.abs();
        let step = if near { log / beta.abs() } else { 0.0 };
        match plus.is_finite() && plus > 0.0 {
            true => absolute(units, plus / beta, FLUSHED * (1.0 + 1.0 / beta.abs())) + step,
            false => absolute(0.0, y, FLUSHED * (1.0 + 1.0 / beta.abs())),
        }
    }

    fn check(&self) -> Result<()> {
        if self.beta == 0.0 || !self.beta.is_finite() {
            bail!(Shape, "beta is {}, not a number other than 0", self.beta);
        }
        Ok(())
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let of = |beta, threshold| Softplus { beta, threshold };
    vec![
        case(Softplus::default(), [[1, 5, 3, 7]]),
        case(of(3.5, 2.0), [[3, 8, 2, 5]]),
    ]
}

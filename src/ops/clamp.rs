//! Clamping: `out = min(max(input, min), max)`.
//!
//! Source: `torch.clamp`; `relu6` is `clamp` with 0 and 6.

use super::unary::Unary;
use super::{Case, Probabilities, case};
use crate::error::{Result, bail};
use serde::Deserialize;

/// The bounds; one may be left out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clamp {
    /// The lower bound.
    pub min: Option<f32>,
    /// The upper bound.
    pub max: Option<f32>,
}

impl Unary for Clamp {
    const NAME: &'static str = "clamp";
    const FUNCTION: u8 = 0;

    fn attributes(&self) -> [f32; 2] {
        [
            self.min.unwrap_or(f32::NEG_INFINITY),
            self.max.unwrap_or(f32::INFINITY),
        ]
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::Clamped
    }

    fn value(&self, x: f64) -> f64 {
        // NaN propagates, and `max` wins where it is below `min`.
        let [min, max] = self.attributes().map(f64::from);
        let raised = if x < min { min } else { x };
        if raised > max { max } else { raised }
    }

    fn check(&self) -> Result<()> {
        if self.min.is_none() && self.max.is_none() {
            bail!(Shape, "clamp takes min or max, or both");
        }
        Ok(())
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let clamped = |min, max, shape| case(Clamp { min, max }, [shape]);
    vec![
        clamped(Some(0.1), Some(0.6), [1, 5, 3, 7]),
        clamped(Some(-0.4), None, [3, 8, 2, 5]),
        clamped(None, Some(-0.2), [2, 7, 3, 3]),
    ]
}

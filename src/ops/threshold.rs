//! Threshold: `out = input` for an input above `threshold`, else `value`.
//!
//! Source: `torch.nn.functional.threshold`.

use super::numerics::Jumps;
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The attributes, with PyTorch's defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// The largest number that is replaced.
    pub threshold: f32,
    /// What replaces it.
    pub value: f32,
}

impl Unary for Threshold {
    const NAME: &'static str = "threshold";
    const FUNCTION: u8 = 24;

    fn attributes(&self) -> [f32; 2] {
        [self.threshold, self.value]
    }

    fn value(&self, x: f64) -> f64 {
        // NaN propagates.
        let [threshold, value] = self.attributes().map(f64::from);
        if x <= threshold { value } else { x }
    }

    fn error(&self, _x: f64, _y: f64) -> f64 {
        0.0
    }

    fn jumps(&self) -> Jumps<'_> {
        let passes = |x: f32| f32::from(u8::from(x > self.threshold));
        Jumps::Branches(Box::new(move |inputs| Ok(inputs[0].map(passes))))
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let of = |threshold, value| Threshold { threshold, value };
    vec![
        case(of(0.1, -2.0), [[1, 5, 3, 7]]),
        case(of(-0.3, 0.5), [[3, 8, 2, 5]]),
        case(of(0.25, 2.0), [[1, 5, 3, 7]]),
    ]
}

//! Hard shrinkage: `out = 0` for an input from −`lambd` to `lambd`, else the input.
//!
//! Source: `torch.nn.functional.hardshrink`.

use super::numerics::Jumps;
use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The attributes, with PyTorch's defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hardshrink {
    /// The largest magnitude that becomes 0.
    pub lambd: f32,
}

impl Default for Hardshrink {
    fn default() -> Self {
        Self { lambd: 0.5 }
    }
}

impl Unary for Hardshrink {
    const NAME: &'static str = "hardshrink";
    const FUNCTION: u8 = 23;

    fn attributes(&self) -> [f32; 2] {
        [self.lambd, 0.0]
    }

    fn value(&self, x: f64) -> f64 {
        let lambd = f64::from(self.lambd);
        if x.abs() <= lambd { 0.0 } else { x }
    }

    fn error(&self, _x: f64, _y: f64) -> f64 {
        0.0
    }

    fn jumps(&self) -> Jumps<'_> {
        let passes = |x: f32| f32::from(u8::from(x.abs() > self.lambd));
        Jumps::Branches(Box::new(move |inputs| Ok(inputs[0].map(passes))))
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Hardshrink::default(), [[1, 5, 3, 7]]),
        case(Hardshrink { lambd: 0.2 }, [[3, 8, 2, 5]]),
    ]
}

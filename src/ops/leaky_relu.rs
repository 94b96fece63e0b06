//! Leaky ReLU: `out = input` for a positive input, else `negative_slope · input`.
//!
//! Source: `torch.nn.functional.leaky_relu`.

use super::unary::Unary;
use super::{Case, case};
use serde::Deserialize;

/// The slope.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeakyRelu {
    /// The factor of negative inputs.
    pub negative_slope: f32,
}

impl Default for LeakyRelu {
    fn default() -> Self {
        Self {
            negative_slope: 0.01,
        }
    }
}

impl Unary for LeakyRelu {
    const NAME: &'static str = "leaky_relu";
    const FUNCTION: u8 = 1;

    fn attributes(&self) -> [f32; 2] {
        [self.negative_slope, 0.0]
    }

    fn value(&self, x: f64) -> f64 {
        if x > 0.0 {
            x
        } else {
            f64::from(self.negative_slope) * x
        }
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(LeakyRelu::default(), [[1, 5, 3, 7]]),
        case(
            LeakyRelu {
                negative_slope: -0.3,
            },
            [[3, 8, 2, 5]],
        ),
    ]
}

//! Sine: `out = sin(input)`, accurate for every number.
//!
//! Source: `torch.sin`.

use super::numerics::{FLUSHED, SINE_UNITS, absolute};
use super::unary::Unary;
use super::{Case, case};
use crate::ops::kernel::{Shader, shader};
use serde::Deserialize;

/// The function has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sin {}

impl Unary for Sin {
    const NAME: &'static str = "sin";
    const FUNCTION: u8 = 0;

    fn shader(&self) -> (Shader, &'static str) {
        (shader!("sine"), "COSINE")
    }

    fn value(&self, x: f64) -> f64 {
        x.sin()
    }

    fn error(&self, _x: f64, y: f64) -> f64 {
        absolute(SINE_UNITS, y, FLUSHED)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![case(Sin {}, [[1, 5, 3, 7]]), case(Sin {}, [[3, 8, 2, 5]])]
}

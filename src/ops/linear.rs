//! Linear layer over the channels of each pixel: `out[n, o, y, x] = bias[o] + Σ weight[o, i] · input[n, i, y, x]`.
//!
//! Inputs: `[n, c, h, w]`, weight `[out, c, 1, 1]` (`[out, c]` in a file), and optionally bias
//! `[out, 1, 1, 1]`. It is planned as a convolution with a window of one pixel.
//! Source: `torch.nn.functional.linear`, whose last dimension is the channels here.

use super::numerics::Numerics;
use super::{Case, Conv2d, Element, Op, case};
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// A linear layer has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {}

impl Linear {
    fn conv() -> Conv2d {
        Conv2d::default()
    }
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        if let Some(weight) = inputs.get(1)
            && [weight.h, weight.w] != [1, 1]
        {
            bail!(Shape, "a linear layer has a weight [out, in], not {weight}");
        }
        Self::conv().output_shape(inputs)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        self.output_shape(&super::shapes(inputs))?;
        Self::conv().reference(inputs)
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        Numerics::weighted_sum(Self::conv().reduction_length(inputs))
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        Self::conv().noise(inputs)
    }

    fn elements(&self, inputs: &[&Tensor], at: &[[usize; 4]]) -> Result<Vec<Element>> {
        Self::conv().elements(inputs, at)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Linear {}, [[2, 13, 1, 1], [7, 13, 1, 1], [7, 1, 1, 1]]),
        case(Linear {}, [[1, 20, 3, 5], [36, 20, 1, 1]]),
    ]
}

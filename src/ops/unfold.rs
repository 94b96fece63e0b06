//! The pixels of every sliding window as channels: `out[n, (c · kh + ky) · kw + kx, y, x]` is the input's channel c at
//! row y · stride + ky · dilation − padding, columns likewise, and zero outside.
//!
//! The output is `[n, c · kh · kw, oh, ow]`, where PyTorch joins the last two dimensions. Source:
//! `torch.nn.functional.unfold`.

use super::attributes::pair;
use super::numerics::Numerics;
use super::windows::{self, Windows};
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::Result;
use crate::ops::candidate::Candidate;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The windows; pairs are `[vertical, horizontal]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfold {
    /// Rows and columns of a window.
    #[serde(deserialize_with = "pair")]
    pub kernel_size: [usize; 2],
    /// Distance of neighbouring pixels of a window.
    #[serde(default = "ones", deserialize_with = "pair")]
    pub dilation: [usize; 2],
    /// Rows and columns of zeros on each side of the input.
    #[serde(default, deserialize_with = "pair")]
    pub padding: [usize; 2],
    /// Step between neighbouring windows.
    #[serde(default = "ones", deserialize_with = "pair")]
    pub stride: [usize; 2],
}

const fn ones() -> [usize; 2] {
    [1; 2]
}

impl Unfold {
    fn windows(&self) -> [Windows; 2] {
        [0, 1].map(|axis| Windows {
            kernel: self.kernel_size[axis],
            dilation: self.dilation[axis],
            padding: self.padding[axis],
            stride: self.stride[axis],
        })
    }
}

impl Op for Unfold {
    fn name(&self) -> &'static str {
        "unfold"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        windows::output_shape(&self.windows(), input)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let [input] = take_inputs(self.name(), inputs)?;
        windows::reference(&self.windows(), input)
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let [input] = take_inputs(self.name(), inputs)?;
        windows::candidates(&self.windows(), input)
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::OfInputs
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let unfold = |kernel_size, dilation, padding, stride, shape| {
        case(
            Unfold {
                kernel_size,
                dilation,
                padding,
                stride,
            },
            [shape],
        )
    };
    vec![
        unfold([3, 3], [1, 1], [1, 1], [1, 1], [2, 5, 4, 6]),
        unfold([2, 3], [2, 1], [0, 2], [2, 3], [1, 4, 9, 7]),
        unfold([1, 1], [1, 1], [0, 0], [2, 2], [3, 6, 3, 5]),
    ]
}

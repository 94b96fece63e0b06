//! Pixels laid out as channels, the inverse of [`PixelShuffle`](super::PixelShuffle):
//! `out[n, (c·r + i)·r + j, y, x] = input[n, c, y·r + i, x·r + j]` with `r = downscale_factor`, from `[n, c, h·r, w·r]`
//! to `[n, c·r², h, w]`.
//!
//! Source: `torch.nn.functional.pixel_unshuffle`.

use super::numerics::Numerics;
use super::windows::{self, Windows};
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The factor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelUnshuffle {
    /// The divisor of height and width.
    pub downscale_factor: usize,
}

impl PixelUnshuffle {
    const fn windows(&self) -> [Windows; 2] {
        [Windows {
            kernel: self.downscale_factor,
            dilation: 1,
            padding: 0,
            stride: self.downscale_factor,
        }; 2]
    }
}

impl Op for PixelUnshuffle {
    fn name(&self) -> &'static str {
        "pixel_unshuffle"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        let factor = self.downscale_factor;
        let whole = |size: usize| size.is_multiple_of(factor);
        if factor == 0 || !whole(input.h) || !whole(input.w) {
            bail!(
                Shape,
                "height and width of {input} are no multiples of downscale_factor, {factor}"
            );
        }
        windows::output_shape(&self.windows(), input)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        self.output_shape(&super::shapes(inputs))?;
        windows::reference(&self.windows(), inputs[0])
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        self.output_shape(inputs)?;
        windows::candidates(&self.windows(), inputs[0])
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
    let unshuffle = |downscale_factor, shape| case(PixelUnshuffle { downscale_factor }, [shape]);
    vec![
        unshuffle(2, [1, 5, 6, 10]),
        unshuffle(3, [3, 1, 6, 9]),
        unshuffle(1, [2, 6, 3, 4]),
        unshuffle(4, [1, 8, 8, 12]),
    ]
}

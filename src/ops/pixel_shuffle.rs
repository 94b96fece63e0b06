//! Channels laid out as pixels: `out[n, c, y, x] = input[n, (c·r + y mod r)·r + x mod r, ⌊y / r⌋, ⌊x / r⌋]` with
//! `r = upscale_factor`, from `[n, c·r², h, w]` to `[n, c, h·r, w·r]`.
//!
//! Source: `torch.nn.functional.pixel_shuffle`.

use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, shader, sizes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The factor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PixelShuffle {
    /// The factor of height and width.
    pub upscale_factor: usize,
}

impl Op for PixelShuffle {
    fn name(&self) -> &'static str {
        "pixel_shuffle"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        let factor = self.upscale_factor;
        super::check_attributes(&[[factor; 2]])?;
        if factor == 0 || !input.c.is_multiple_of(factor * factor) {
            bail!(
                Shape,
                "the channels of {input} are no multiple of the square of upscale_factor, {factor}"
            );
        }
        let output = input.with_size(input.h * factor, input.w * factor);
        Ok(output.with_channels(input.c / (factor * factor)))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        let factor = self.upscale_factor;
        Tensor::from_fn(output, |n, c, y, x| {
            let channel = (c * factor + y % factor) * factor + x % factor;
            input.at(n, channel, y / factor, x / factor)
        })
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::OfInputs
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let [input] = take_inputs(self.name(), inputs)?;
        let extra = sizes([
            ("in_width", input.w),
            ("in_c4", input.c4()),
            ("in_channels", input.c),
            ("c4", output.c4()),
        ]);
        Ok(vec![Candidate::kernel(Kernel {
            constants: vec![("FACTOR", self.upscale_factor as f64)],
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                // Holds for rows counted through the batch too: output images are `factor` times as high.
                rows: Rows {
                    mul: 1,
                    div: self.upscale_factor as i64,
                    first: 0,
                    last: 0,
                },
            }],
            ..Kernel::elementwise(shader!("pixel_shuffle"), &["input_start"], &extra, output)
        })])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let shuffle = |upscale_factor, shape| case(PixelShuffle { upscale_factor }, [shape]);
    vec![
        shuffle(2, [1, 20, 3, 5]),
        shuffle(3, [3, 9, 2, 3]),
        shuffle(1, [2, 6, 3, 4]),
        shuffle(4, [1, 80, 3, 2]),
    ]
}

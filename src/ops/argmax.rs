//! The class of each pixel: the channel with the highest score, the lowest such channel if several are equal.
//!
//! The output is `[n, 1, h, w]`. A class id is one byte, and 255 is [`NO_CLASS`]: there are at most 255 classes. A
//! pixel with a score that is not finite gets [`NO_CLASS`].
//! Source: `torch.argmax(dim=1)`.

use super::numerics::Numerics;
use super::{Case, Op, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::Grid;
use crate::ops::kernel::{
    Binding, Format, Kernel, Param, Rows, Shader, Word, shader, sizes, words,
};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The most classes: a label is one byte, and 255 is [`NO_CLASS`].
pub const MAX_CLASSES: usize = 255;
/// The label of a pixel with a score that is not finite.
pub const NO_CLASS: u8 = 255;

/// Argmax is over dimension 1, the classes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argmax {}

impl Op for Argmax {
    fn name(&self) -> &'static str {
        "argmax"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [scores] = take_inputs(self.name(), inputs)?;
        if !(1..=MAX_CLASSES).contains(&scores.c) {
            bail!(
                Shape,
                "labels are one byte each: argmax takes 1 to {MAX_CLASSES} classes, not {}",
                scores.c
            );
        }
        Ok(scores.with_channels(1))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [scores] = take_inputs(self.name(), inputs)?;
        Tensor::from_planes(output, |n, _, plane| {
            for (pixel, label) in plane.iter_mut().enumerate() {
                let score = |c: usize| scores.plane(n, c)[pixel];
                let mut classes = 0..scores.shape().c;
                *label = if classes.clone().all(|c| score(c).is_finite()) {
                    let better = |best, c| if score(c) > score(best) { c } else { best };
                    classes.by_ref().fold(0, better) as f32
                } else {
                    f32::from(NO_CLASS)
                };
            }
        })
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::steps()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let (shader, rows) = (shader!("argmax"), Rows::shifted(0));
        let kernel = kernel(inputs[0], output, None, shader, rows, &[]);
        Ok(vec![Candidate::kernel(kernel)])
    }
}

/// The constants of a kernel of labels: argmax, or with a `threshold` those of one channel.
pub(crate) fn constants(threshold: Option<f32>) -> [(&'static str, f64); 2] {
    [
        ("BINARY", f64::from(u8::from(threshold.is_some()))),
        ("THRESHOLD", f64::from(threshold.unwrap_or(0.0))),
    ]
}

/// The kernel that labels an input, or pixels interpolated from it, see [`constants`]. An output row reads `rows` of the
/// input; `extra` are further parameters.
pub(crate) fn kernel(
    input: Shape,
    output: Shape,
    threshold: Option<f32>,
    shader: Shader,
    rows: Rows,
    extra: &[Param],
) -> Kernel {
    let mut params = sizes([
        ("in_height", input.h),
        ("in_width", input.w),
        ("out_height", output.h),
        ("out_width", output.w),
        ("channels", input.c),
        ("c4", input.c4()),
    ])
    .to_vec();
    params.extend_from_slice(extra);
    params.extend(words([
        Word::RowBegin,
        Word::RowEnd,
        Word::InputStart(0),
        Word::OutputStart,
    ]));
    Kernel {
        shader,
        constants: constants(threshold).to_vec(),
        bindings: vec![Binding::Activation {
            input: 0,
            format: Format::Nhwc4,
            rows,
        }],
        output: Format::Labels8,
        params,
        grid: Grid::Tiles {
            pixels: 256,
            channels: 4,
        },
        terms: None,
        steps_per_term: 4 * (1 + input.c4() as u64),
        fixed_steps: 0,
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Argmax {}, [[1, 21, 3, 7]]),
        case(Argmax {}, [[3, 2, 5, 13]]),
        case(Argmax {}, [[2, 8, 3, 5]]),
        case(Argmax {}, [[1, 7, 4, 3]]),
        // Many rows of few pixels: small bindings show a part of the labels.
        case(Argmax {}, [[2, 3, 70, 4]]),
    ]
}

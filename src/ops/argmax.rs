//! The class of each pixel: the channel with the highest score, the lower one of equals.
//!
//! The output is `[n, 1, h, w]`; at most 255 channels, since a class id is one byte and [`NO_CLASS`] is
//! none. A pixel with a score that is not finite gets that.
//! Source: `torch.argmax(dim=1)`.

use super::conv_transpose2d::labels;
use super::numerics::Numerics;
use super::{Case, ConvTranspose2d, Crop, Interpolate, Op, case, diagonal_case, take_inputs};
use crate::device_profile::DeviceProfile;
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, shader, sizes, words};
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The most classes that labels of one byte tell apart.
pub const MAX_CLASSES: usize = 255;
/// The label of a pixel of which some score is not finite.
pub const NO_CLASS: u8 = 255;

/// What the scores are: set when planning fuses the op that makes them with this, so that they, by far the
/// largest tensor of a large picture, are never written.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Scores {
    /// The input.
    #[default]
    Given,
    /// The input resized, bilinearly.
    Resized(Interpolate),
    /// A transposed convolution of the inputs, not grouped.
    Upsampled(ConvTranspose2d),
}

impl Scores {
    /// The op that makes them, if they are not given.
    fn op(&self) -> Option<&dyn Op> {
        match self {
            Self::Given => None,
            Self::Resized(op) => Some(op),
            Self::Upsampled(op) => Some(op),
        }
    }
}

/// Argmax is over dimension 1, the classes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argmax {
    /// Where the scores come from.
    #[serde(skip)]
    pub scores: Scores,
}

impl Op for Argmax {
    fn name(&self) -> &'static str {
        "argmax"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let scores = match self.scores.op() {
            Some(op) => op.output_shape(inputs)?,
            None => take_inputs::<_, 1>(self.name(), inputs)?[0],
        };
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
        let made = match self.scores.op() {
            Some(op) => Some(op.reference(inputs)?),
            None => None,
        };
        let scores = made.as_ref().unwrap_or(inputs[0]);
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

    fn reads(&self, input: usize) -> bool {
        self.scores.op().is_none_or(|op| op.reads(input))
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }

    fn candidates(&self, inputs: &[Shape], device: &DeviceProfile) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        if let Scores::Upsampled(upsample) = &self.scores {
            return Ok(vec![Candidate::kernel(labels::kernel(
                upsample, inputs, device,
            )?)]);
        }
        let input = inputs[0];
        let mut params = sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("out_height", output.h),
            ("out_width", output.w),
            ("channels", input.c),
            ("c4", input.c4()),
        ])
        .to_vec();
        let (shader, rows) = match &self.scores {
            Scores::Resized(resize) => {
                let [rows, columns] = resize.positions(input, output)?;
                params.extend(rows.params(["row_mul", "row_add", "row_div"]));
                params.extend(columns.params(["column_mul", "column_add", "column_div"]));
                (shader!("argmax_resized"), rows.rows())
            }
            _ => (shader!("argmax"), Rows::shifted(0)),
        };
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]));
        Ok(vec![Candidate::kernel(Kernel {
            shader,
            constants: Vec::new(),
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
        })])
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        let made = match &self.scores {
            Scores::Upsampled(upsample) => upsample.flops(inputs),
            _ => 0,
        };
        let pixels = self.output_shape(inputs).map_or(0, |s| s.elements() as u64);
        made.saturating_add(pixels)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let resized = |h, w| Argmax {
        scores: Scores::Resized(Interpolate::bilinear([h, w], false)),
    };
    let upsampled = |stride, diagonal, offset: Option<[usize; 2]>| Argmax {
        scores: Scores::Upsampled(ConvTranspose2d {
            diagonal,
            crop: offset.map(|offset| Crop { offset }),
            ..ConvTranspose2d::strided(stride, 0)
        }),
    };
    let mut cases = vec![
        case(Argmax::default(), [[1, 21, 3, 7]]),
        case(Argmax::default(), [[3, 2, 5, 13]]),
        case(resized(9, 11), [[1, 11, 5, 4]]),
        case(resized(5, 7), [[2, 6, 10, 9]]),
        // Dense: a group of channels that is missing, windows of odd and of even width, strides that are no
        // multiples of four, and rows of more than eight places.
        case(
            upsampled(8, false, None),
            [[2, 5, 3, 11], [5, 13, 16, 16], [13, 1, 1, 1]],
        ),
        case(upsampled(3, false, None), [[3, 2, 3, 2], [2, 2, 5, 4]]),
    ];
    for diagonal in [false, true] {
        let case = |op, inputs| match diagonal {
            true => diagonal_case(op, inputs),
            false => case(op, inputs),
        };
        cases.extend([
            case(
                upsampled(8, diagonal, Some([31, 30])),
                [[1, 21, 11, 10], [21, 21, 16, 16], [1, 3, 50, 45]],
            ),
            case(
                upsampled(2, diagonal, Some([1, 5])),
                [[3, 7, 6, 41], [7, 7, 4, 4], [3, 1, 9, 76]],
            ),
        ]);
    }
    cases.push(diagonal_case(
        upsampled(1, true, None),
        [[1, 6, 5, 9], [6, 6, 3, 3], [6, 1, 1, 1]],
    ));
    cases
}

//! The class of each pixel: the channel with the highest score, the lower one of equals.
//!
//! The output is `[n, 1, h, w]`; at most 255 channels, since a class id is one byte and [`NO_CLASS`] is
//! none. A pixel with a score that is not finite gets that.
//! Source: `torch.argmax(dim=1)`.

use super::{Case, Op, ResizeBilinear, case, take_inputs};
use crate::device_profile::DeviceProfile;
use crate::error::{Result, bail};
use crate::ops::kernel::{Binding, Format, Grid, Kernel, Rows, Word, shader};
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The most classes that labels of one byte tell apart.
pub const MAX_CLASSES: usize = 255;
/// The label of a pixel of which some score is not finite.
pub const NO_CLASS: u8 = 255;

/// Argmax is over dimension 1, the classes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argmax {
    /// Resize the scores first: set when planning fuses the two, so that the resized scores, by far the
    /// largest tensor of a large picture, are never written.
    #[serde(skip)]
    pub resize: Option<ResizeBilinear>,
}

impl Op for Argmax {
    fn name(&self) -> &'static str {
        "argmax"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let scores = match &self.resize {
            Some(resize) => resize.output_shape(inputs)?,
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
        let resized = match &self.resize {
            Some(resize) => Some(resize.reference(inputs)?),
            None => None,
        };
        let scores = resized.as_ref().unwrap_or(inputs[0]);
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

    fn kernels(&self, inputs: &[Shape], _device: &DeviceProfile) -> Result<Vec<Kernel>> {
        let output = self.output_shape(inputs)?;
        let input = inputs[0];
        let mut params = Word::sizes([
            input.h, input.w, output.h, output.w, input.c, input.c4(),
        ])
        .to_vec();
        let (shader, rows) = match &self.resize {
            Some(resize) => {
                let [rows, columns] = resize.positions(input)?;
                params.extend(rows.words());
                params.extend(columns.words());
                (shader!("argmax_resized"), rows.rows())
            }
            None => (shader!("argmax"), Rows::shifted(0)),
        };
        params.extend([
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]);
        Ok(vec![Kernel {
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
        }])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let resized = |h, w| Argmax {
        resize: Some(ResizeBilinear {
            size: [h, w],
            align_corners: false,
        }),
    };
    vec![
        case(Argmax::default(), [[1, 21, 3, 7]]),
        case(Argmax::default(), [[3, 2, 5, 13]]),
        case(resized(9, 11), [[1, 11, 5, 4]]),
        case(resized(5, 7), [[2, 6, 10, 9]]),
    ]
}

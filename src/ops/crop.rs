//! A window of the first input, of the second's size: `out = input[:, :, y : y + h, x : x + w]`, where h and w
//! are the height and width of the second input.
//!
//! Source: Caffe's Crop layer with axis 2; slicing in PyTorch; `center_crop` of torchvision. The second input's values
//! are not read.

use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, shader, sizes, words};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::{Deserialize, Deserializer};

/// Where the window begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crop {
    /// Rows cut from the top, columns cut from the left.
    pub offset: Offset,
}

/// Rows cut from the top, columns cut from the left. Where d is the difference of the two sizes, a window in the centre
/// begins at about d / 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// These.
    At([usize; 2]),
    /// ⌊d / 2⌋.
    Center,
    /// d / 2, rounded to the nearest whole number, or to the even one of two: torchvision's rule.
    CenterRound,
}

impl Default for Offset {
    fn default() -> Self {
        Self::At([0, 0])
    }
}

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Centre {
            Center,
            CenterRound,
        }
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "an offset is [y, x], \"center\" or \"center_round\""
        )]
        enum Value {
            At([usize; 2]),
            Centre(Centre),
        }
        Ok(match Value::deserialize(from)? {
            Value::At(at) => Self::At(at),
            Value::Centre(Centre::Center) => Self::Center,
            Value::Centre(Centre::CenterRound) => Self::CenterRound,
        })
    }
}

impl Crop {
    /// A window that begins at `[y, x]`.
    pub const fn at(offset: [usize; 2]) -> Self {
        Self {
            offset: Offset::At(offset),
        }
    }

    /// Where every window begins, if that does not depend on the sizes.
    pub(crate) const fn fixed(&self) -> Option<[usize; 2]> {
        match self.offset {
            Offset::At(at) => Some(at),
            _ => None,
        }
    }

    /// Where a window of the size of `like` begins in `input`.
    ///
    /// # Errors
    /// `Shape` if it does not lie inside.
    fn begin(&self, input: Shape, like: Shape) -> Result<[usize; 2]> {
        let rest = [input.h, input.w].into_iter().zip([like.h, like.w]);
        let rest: Option<Vec<usize>> = rest.map(|(size, part)| size.checked_sub(part)).collect();
        let begin = |rest: &[usize]| match self.offset {
            Offset::At(at) => at,
            Offset::Center => [rest[0] / 2, rest[1] / 2],
            // Of an odd 2k + 1, the half is k + ½, which is rounded to k if that is even.
            Offset::CenterRound => [rest[0], rest[1]].map(|rest| rest / 2 + (rest % 4) / 3),
        };
        match rest {
            Some(rest) if (0..2).all(|axis| begin(&rest)[axis] <= rest[axis]) => Ok(begin(&rest)),
            _ => bail!(
                Shape,
                "a window of {}×{} at {:?} does not lie inside {input}",
                like.h,
                like.w,
                self.offset
            ),
        }
    }
}

impl Op for Crop {
    fn name(&self) -> &'static str {
        "crop"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input, like] = take_inputs(self.name(), inputs)?;
        self.begin(input, like)?;
        Ok(input.with_size(like.h, like.w))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [input, like] = take_inputs(self.name(), inputs)?;
        let width = input.shape().w;
        let [top, left] = self.begin(input.shape(), like.shape())?;
        Tensor::from_planes(output, |n, c, plane| {
            let from = input.plane(n, c);
            for (y, row) in plane.chunks_exact_mut(output.w).enumerate() {
                row.copy_from_slice(&from[(top + y) * width + left..][..output.w]);
            }
        })
    }

    fn reads(&self, input: usize) -> bool {
        input == 0
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::OfInputs
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let input = inputs[0];
        let [top, left] = self.begin(input, inputs[1])?;
        let mut params = sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("out_height", output.h),
            ("out_width", output.w),
            ("c4", output.c4()),
            ("top", top),
            ("left", left),
        ])
        .to_vec();
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]));
        Ok(vec![Candidate::kernel(Kernel {
            shader: shader!("crop"),
            constants: Vec::new(),
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: Rows::shifted(top),
            }],
            output: Format::Nhwc4,
            params,
            grid: Grid::Elements(64),
            terms: None,
            steps_per_term: 1,
            fixed_steps: 0,
        })])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let centre = |offset, inputs: [[usize; 4]; 2]| case(Crop { offset }, inputs);
    vec![
        case(Crop::at([2, 3]), [[1, 5, 9, 11], [1, 1, 4, 6]]),
        case(Crop::at([0, 0]), [[3, 4, 7, 8], [3, 9, 7, 5]]),
        centre(Offset::Center, [[2, 3, 8, 9], [1, 1, 5, 4]]),
        centre(Offset::CenterRound, [[1, 6, 8, 10], [1, 2, 5, 5]]),
    ]
}

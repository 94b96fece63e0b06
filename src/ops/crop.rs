//! A window of the first input, of the second's size: `out = input[:, :, y : y + h, x : x + w]`, where h and w
//! are the height and width of the second input.
//!
//! Source: Caffe's Crop layer with axis 2; slicing in PyTorch. The second input's values are not read.

use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, shader, sizes, words};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// Where the window begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crop {
    /// Rows cut from the top, columns cut from the left.
    pub offset: [usize; 2],
}

impl Op for Crop {
    fn name(&self) -> &'static str {
        "crop"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input, like] = take_inputs(self.name(), inputs)?;
        let [y, x] = self.offset;
        if y.saturating_add(like.h) > input.h || x.saturating_add(like.w) > input.w {
            bail!(
                Shape,
                "a window of {}×{} at ({y}, {x}) does not lie inside {input}",
                like.h,
                like.w
            );
        }
        Ok(input.with_size(like.h, like.w))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [input, _] = take_inputs(self.name(), inputs)?;
        let width = input.shape().w;
        let [top, left] = self.offset;
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
        let [top, left] = self.offset;
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
    vec![
        case(Crop { offset: [2, 3] }, [[1, 5, 9, 11], [1, 1, 4, 6]]),
        case(Crop { offset: [0, 0] }, [[3, 4, 7, 8], [3, 9, 7, 5]]),
    ]
}

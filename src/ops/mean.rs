//! Mean over height and width: `out[n, c, 0, 0] = Σ input[n, c, y, x] / (h · w)`, `[n, c, 1, 1]`.
//!
//! Source: `torch.mean` over dimensions 2 and 3 with `keepdim`; global average pooling.

use super::candidate::Candidate;
use super::numerics::Numerics;
use super::{Case, Op, Stage, StageInput, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, shader, sizes, words};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;
use std::sync::Arc;

/// Inputs of at least this many pixels take the means of rows first: many invocations with short sums replace few with
/// long sums, which err by more.
const LEAST_PIXELS: usize = 256;

/// The mean has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mean {}

impl Op for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        if input.h * input.w == 0 {
            bail!(Shape, "the mean of {input}, which has no pixels");
        }
        Ok(input.with_size(1, 1))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        mean(inputs, self.output_shape(&super::shapes(inputs))?)
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let input = inputs[0];
        let kernel = Candidate::kernel(kernel(input, output, Rows::all(input.h)));
        if input.w == 1 || input.h * input.w < LEAST_PIXELS {
            return Ok(vec![kernel]);
        }
        let stages = vec![
            Stage {
                op: Arc::new(MeanOfRows {}),
                inputs: vec![StageInput::Op(0)],
            },
            Stage {
                op: Arc::new(Self {}),
                inputs: vec![StageInput::Stage(0)],
            },
        ];
        Ok(vec![Candidate::stages(stages), kernel])
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        Numerics::sum(inputs[0].h * inputs[0].w)
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let Shape { h, w, .. } = inputs[0].shape();
        inputs[0].root_mean_square() / ((h * w) as f64).sqrt()
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        inputs.first().map_or(0, |input| input.elements() as u64)
    }
}

/// The mean of each row: `[n, c, h, 1]`.
#[derive(Clone, Debug)]
struct MeanOfRows {}

impl Op for MeanOfRows {
    fn name(&self) -> &'static str {
        "mean_of_rows"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        Ok(input.with_size(input.h, 1))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        mean(inputs, self.output_shape(&super::shapes(inputs))?)
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let kernel = kernel(inputs[0], output, Rows::shifted(0));
        Ok(vec![Candidate::kernel(kernel)])
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        Numerics::sum(inputs[0].w)
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        inputs.first().map_or(0, |input| input.elements() as u64)
    }
}

/// The reference of both ops: each output is the mean of equally many consecutive pixels.
fn mean(inputs: &[&Tensor], output: Shape) -> Result<Tensor> {
    let input = inputs[0];
    let count = input.shape().h * input.shape().w / output.h;
    Tensor::from_fn(output, |n, c, y, _| {
        let pixels = &input.plane(n, c)[y * count..][..count];
        let sum: f64 = pixels.iter().map(|x| f64::from(*x)).sum();
        (sum / count as f64) as f32
    })
}

/// The kernel of an output with one column; each output pixel is the mean of equally many input pixels.
fn kernel(input: Shape, output: Shape, rows: Rows) -> Kernel {
    let count = input.h * input.w / output.h;
    let [c4, terms] = sizes([("c4", output.c4()), ("terms", count)]);
    Kernel {
        shader: shader!("mean"),
        constants: Vec::new(),
        bindings: vec![Binding::Activation {
            input: 0,
            format: Format::Nhwc4,
            rows,
        }],
        output: Format::Nhwc4,
        params: [
            &words([Word::RowBegin, Word::RowEnd])[..],
            &[c4],
            &words([
                Word::OutputStart,
                Word::InputStart(0),
                Word::TermBegin,
                Word::TermEnd,
            ]),
            &[terms],
        ]
        .concat(),
        grid: Grid::Elements(64),
        terms: Some(count),
        steps_per_term: 1,
        fixed_steps: 0,
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Mean {}, [[1, 5, 3, 7]]),
        case(Mean {}, [[3, 8, 1, 1]]),
        case(Mean {}, [[2, 6, 40, 1]]),
        case(Mean {}, [[2, 13, 16, 17]]),
    ]
}

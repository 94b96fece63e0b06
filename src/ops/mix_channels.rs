//! A matrix product over the channels of each pixel, with a computed matrix:
//! `out[n, k, y, x] = Σ_c x[n, c, y, x] · m[n, c, k, 0]`, from x `[n, c, h, w]` and m `[n, c, k, 1]` to `[n, k, h, w]`.
//! An input of batch size 1 serves all images.
//!
//! Source: `torch.matmul` of pixels × channels with channels × k: attention between channels (DANet), values of object
//! regions (OCR), non-local blocks without softmax.

use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::{Count, Grid};
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, counts, shader, sizes, words};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The product has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixChannels {}

impl Op for MixChannels {
    fn name(&self) -> &'static str {
        "mix_channels"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input, matrix] = take_inputs(self.name(), inputs)?;
        if matrix.w != 1 || matrix.c != input.c || input.c * matrix.h == 0 {
            bail!(
                Shape,
                "{matrix} is no matrix [n, {}, k, 1] for the channels of {input}",
                input.c
            );
        }
        if input.n != matrix.n && input.n != 1 && matrix.n != 1 {
            bail!(Shape, "{input} and {matrix} have different batch sizes");
        }
        let n = input.n.max(matrix.n);
        Ok(input.with_batch(n).with_channels(matrix.h))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [input, matrix] = take_inputs(self.name(), inputs)?;
        let image = |n: usize, tensor: &Tensor| n.min(tensor.shape().n - 1);
        Tensor::from_planes(output, |n, k, plane| {
            let mut sums = vec![0.0; plane.len()];
            for c in 0..input.shape().c {
                let factor = f64::from(matrix.at(image(n, matrix), c, k, 0));
                let from = input.plane(image(n, input), c);
                for (sum, x) in sums.iter_mut().zip(from) {
                    *sum += factor * f64::from(*x);
                }
            }
            for (out, sum) in plane.iter_mut().zip(sums) {
                *out = sum as f32;
            }
        })
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let [input, matrix] = take_inputs(self.name(), inputs)?;
        let image = |shape: Shape, size| if shape.n == 1 { 0 } else { size };
        let mut params = sizes([
            ("out_height", output.h),
            ("out_width", output.w),
            ("outputs", output.c),
            ("out_c4", output.c4()),
            ("c4", input.c4()),
            ("a_image", image(input, input.h * input.w)),
            ("b_image", image(matrix, matrix.h)),
        ])
        .to_vec();
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::TermBegin,
            Word::TermEnd,
        ]));
        params.extend([
            ("a_start", Word::InputStart(0)),
            ("b_start", Word::InputStart(1)),
        ]);
        params.extend(words([Word::OutputStart]));
        params.extend(counts(Count::OF_BLOCKS));
        let activation = |input, rows| Binding::Activation {
            input,
            format: Format::Nhwc4,
            rows,
        };
        Ok(vec![Candidate::kernel(Kernel {
            shader: shader!("mix_channels"),
            constants: Vec::new(),
            bindings: vec![
                activation(0, Rows::shifted(0)),
                activation(1, Rows::all(matrix.h)),
            ],
            output: Format::Nhwc4,
            params,
            grid: Grid::Blocks {
                rows: 16,
                columns: 16,
                channels: 4,
                parts: 1,
            },
            terms: Some(input.c4()),
            steps_per_term: 1,
            fixed_steps: 0,
        })])
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::Changed
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        Numerics::sum(inputs[0].c)
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let terms = inputs[0].shape().c as f64;
        inputs[0].root_mean_square() * inputs[1].root_mean_square() * terms.sqrt()
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let mix = |input, matrix| case(MixChannels {}, [input, matrix]);
    vec![
        mix([1, 5, 3, 7], [1, 5, 6, 1]),
        mix([2, 12, 19, 18], [2, 12, 9, 1]),
        mix([3, 33, 6, 17], [1, 33, 4, 1]),
        mix([1, 3, 5, 4], [2, 3, 1, 1]),
    ]
}

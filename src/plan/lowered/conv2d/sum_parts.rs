//! The sum of the parts that a convolution leaves: `out[n, o, y, x] = Σ input[n, p·C + o, y, x]` over the parts p, with
//! C the channels padded to a multiple of 4; then an activation and pooling if wanted.

use super::{Activation, pool};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, shader, sizes, words};
use crate::ops::numerics::Numerics;
use crate::ops::{MaxPool2d, Op, take_inputs};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};

/// Runs after a convolution in [`parts`](super::Convolution::parts).
#[derive(Clone, Debug, PartialEq)]
pub struct SumParts {
    /// Number of parts.
    pub parts: usize,
    /// Channels of the sum.
    pub channels: usize,
    /// Applied to the sum.
    pub activation: Activation,
    /// Pool the result, as [`Convolution::pool`](super::Convolution::pool).
    pub pool: Option<MaxPool2d>,
}

impl SumParts {
    /// The shape of the sums, before they are pooled.
    fn map_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        let map = input.with_channels(self.channels);
        if self.parts == 0 || input.c != self.parts * 4 * map.c4() {
            bail!(
                Shape,
                "{input} is not {} parts of {} channels",
                self.parts,
                self.channels
            );
        }
        Ok(map)
    }

    /// The kernel that pools the sums.
    fn pooled_kernel(&self, input: Shape, output: Shape) -> Kernel {
        let mut params = sizes([
            ("map_height", input.h),
            ("map_width", input.w),
            ("out_height", output.h),
            ("out_width", output.w),
            ("c4", output.c4()),
        ])
        .to_vec();
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]));
        let side = pool::side(self.pool.as_ref()) as i64;
        Kernel {
            shader: shader!("sum_parts_pooled"),
            constants: Vec::new(),
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: Rows {
                    mul: side,
                    div: 1,
                    first: 0,
                    last: side - 1,
                },
            }],
            output: Format::Nhwc4,
            params,
            grid: Grid::Elements(64),
            terms: None,
            steps_per_term: 4 * self.parts as u64,
            fixed_steps: 0,
        }
    }
}

impl Op for SumParts {
    fn name(&self) -> &'static str {
        "sum_parts"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        pool::pooled(self.pool.as_ref(), self.map_shape(inputs)?)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let [input] = take_inputs(self.name(), inputs)?;
        let map = self.map_shape(&[input.shape()])?;
        let sums = Tensor::from_fn(map, |n, c, y, x| {
            let part = |p: usize| f64::from(input.at(n, p * 4 * map.c4() + c, y, x));
            let sum = (0..self.parts).map(part).sum::<f64>() as f32;
            self.activation.apply(sum)
        })?;
        pool::pool_map(self.pool.as_ref(), sums)
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let shape = self.output_shape(inputs)?;
        let kernel = match self.pool {
            Some(_) => self.pooled_kernel(inputs[0], shape),
            None => Kernel {
                steps_per_term: self.parts as u64,
                ..Kernel::elementwise(
                    shader!("sum_parts"),
                    &["input_start"],
                    &sizes([("c4", shape.c4())]),
                    shape,
                )
            },
        };
        Ok(vec![Candidate::kernel(Kernel {
            constants: [("PARTS", self.parts as f64)]
                .into_iter()
                .chain(self.activation.constants())
                .collect(),
            ..kernel
        })])
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        self.activation.bounding(Numerics::sum(self.parts), || {
            Box::new(Self {
                activation: Activation::Relu,
                ..self.clone()
            })
        })
    }
}

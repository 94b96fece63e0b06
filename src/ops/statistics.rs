//! Statistics of an image, as stages of other ops: sums of a function of the distance from a value of each channel, and
//! means over groups of channels. In f16 plans they stay f32.

use super::candidate::Candidate;
use super::numerics::Numerics;
use super::reduce::{Dims, rows};
use super::{Op, take_inputs};
use crate::error::{Result, bail};
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, floats, shader, sizes, words};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};

/// A binding of statistics, which stay f32: a value for each channel, or for each channel of a row.
pub(super) const fn statistics(input: usize, rows: Rows) -> Binding {
    Binding::Activation {
        input,
        format: Format::Nhwc4Exact,
        rows,
    }
}

/// The sum of a function of `input − shift` over height, width or both, whose sizes become 1. Inputs: `[n, c, h, w]`
/// and shifts `[n, c, 1, 1]`.
#[derive(Clone, Debug)]
pub(super) struct ShiftedSum {
    /// The exponential of the distance, or its square.
    pub exponential: bool,
    /// Whether the sum is divided by the number of its terms.
    pub mean: bool,
    /// The dimensions of the sum, without the channels; height alone is not possible.
    pub dims: Dims,
}

impl ShiftedSum {
    /// The terms of a sum.
    fn terms(&self, input: Shape) -> usize {
        match self.dims.height {
            true => input.h * input.w,
            false => input.w,
        }
    }
}

impl Op for ShiftedSum {
    fn name(&self) -> &'static str {
        "shifted_sum"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input, shift] = take_inputs(self.name(), inputs)?;
        if shift != input.with_size(1, 1) {
            bail!(Shape, "{shift} is not a value for each channel of {input}");
        }
        Ok(input.with_size(if self.dims.height { 1 } else { input.h }, 1))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [input, shift] = take_inputs(self.name(), inputs)?;
        let terms = self.terms(input.shape());
        let divisor = if self.mean { terms as f64 } else { 1.0 };
        Tensor::from_planes(output, |n, c, plane| {
            let shift = f64::from(shift.at(n, c, 0, 0));
            let rows = input.plane(n, c).chunks(terms);
            for (out, row) in plane.iter_mut().zip(rows) {
                let value = |x: &f32| match (f64::from(*x) - shift, self.exponential) {
                    (distance, true) => distance.exp(),
                    (distance, false) => distance * distance,
                };
                *out = (row.iter().map(value).sum::<f64>() / divisor) as f32;
            }
        })
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let (input, terms) = (inputs[0], self.terms(inputs[0]));
        let mut extra = sizes([
            ("shift_rows", output.h),
            ("channels", output.c),
            ("c4", output.c4()),
        ])
        .to_vec();
        extra.extend(words([Word::TermBegin, Word::TermEnd]));
        extra.extend(sizes([("terms", terms)]));
        let divisor = if self.mean { terms as f32 } else { 1.0 };
        extra.extend(floats([("divisor", divisor)]));
        Ok(vec![Candidate::kernel(Kernel {
            constants: vec![("EXPONENTIAL", f64::from(u8::from(self.exponential)))],
            bindings: vec![
                Binding::Activation {
                    input: 0,
                    format: Format::Nhwc4,
                    rows: rows(self.dims, input),
                },
                statistics(1, Rows::all(1)),
            ],
            terms: Some(terms),
            ..Kernel::elementwise(
                shader!("reduce_shifted"),
                &["input_start", "shift_start"],
                &extra,
                output,
            )
        })])
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        Numerics::sum(self.terms(inputs[0]))
    }
}

/// For each channel the mean over the channels of its group, of `size` channels: `[n, c, h, w]`.
#[derive(Clone, Debug)]
pub(super) struct GroupMean {
    pub size: usize,
}

impl Op for GroupMean {
    fn name(&self) -> &'static str {
        "group_mean"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        if self.size == 0 || !input.c.is_multiple_of(self.size) {
            bail!(Shape, "{input} has no groups of {} channels", self.size);
        }
        Ok(input)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let shape = self.output_shape(&super::shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        Tensor::from_fn(shape, |n, c, y, x| {
            let begin = c / self.size * self.size;
            let channels = begin..begin + self.size;
            let sum: f64 = channels.map(|c| f64::from(input.at(n, c, y, x))).sum();
            (sum / self.size as f64) as f32
        })
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let shape = self.output_shape(inputs)?;
        let extra = sizes([
            ("channels", shape.c),
            ("c4", shape.c4()),
            ("size", self.size),
        ]);
        Ok(vec![Candidate::kernel(Kernel {
            steps_per_term: 4 * (self.size as u64 / 4 + 3),
            ..Kernel::elementwise(shader!("group_mean"), &["input_start"], &extra, shape)
        })])
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::sum(self.size)
    }
}

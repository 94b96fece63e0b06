//! Antialiased resize: where the output is smaller, the filter is widened to cover every input pixel. One axis after
//! the other.
//!
//! With s = in / out, output pixel i has its centre at (i + ½) · s, and input pixel j the weight
//! f(((j + ½) − (i + ½) · s) / max(s, 1)), divided by the sum of all weights. f is the triangle 1 − |x| or, for bicubic,
//! Keys' cubic with a = −½.

use super::positions::Axis;
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, shader, sizes};
use crate::ops::numerics::{Numerics, UNIT};
use crate::ops::{Op, Stage, StageInput, shapes, take_inputs};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// The error of a weight in units of the filter's largest, 1. The distance is a quotient of whole numbers of 7 units
/// and at most 2; the cubic's slope is at most 1.4, and 10 units are its own roundings.
const WEIGHT_UNITS: f64 = 30.0;

/// The filter along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    inputs: usize,
    outputs: usize,
    /// s as `mul` / `div`.
    mul: usize,
    div: usize,
    cubic: bool,
}

impl Filter {
    /// The filter for a resize of an axis.
    ///
    /// # Errors
    /// `Unsupported` if positions would overflow an `i32`.
    pub fn new(axis: Axis, cubic: bool) -> Result<Self> {
        let Axis {
            inputs, outputs, ..
        } = axis;
        let (mul, div) = match inputs == outputs {
            true => (1, 1),
            false => axis.step(i32::MAX as usize / (inputs + 1) / 8)?,
        };
        let filter = Self {
            inputs,
            outputs,
            mul,
            div,
            cubic,
        };
        let largest = [
            (2 * outputs as u64 + 1).saturating_mul(mul as u64),
            (2 * inputs as u64 + 1).saturating_mul(div as u64),
            filter.radius() as u64 + div as u64,
        ];
        if largest.iter().fold(0, |sum: u64, x| sum.saturating_add(*x)) > i32::MAX as u64 {
            return axis.too_many();
        }
        Ok(filter)
    }

    /// Whether the output is the input.
    const fn is_identity(&self) -> bool {
        self.inputs == self.outputs
    }

    /// The distance at which x is 1, in units of |(2j + 1) · div − (2i + 1) · mul| from input j to output i.
    fn unit(&self) -> i64 {
        2 * self.mul.max(self.div) as i64
    }

    /// The distance from which on weights are 0, in the same units.
    fn radius(&self) -> i64 {
        self.unit() * if self.cubic { 2 } else { 1 }
    }

    /// The inputs under the filter of output `i`, and their weights before the division by their sum.
    fn weights(&self, i: usize) -> (Range<usize>, Vec<f64>) {
        let (centre, div) = ((2 * i as i64 + 1) * self.mul as i64, self.div as i64);
        let begin = (centre - self.radius() + div).max(0) / (2 * div);
        let end = ((centre + self.radius() + div - 1) / (2 * div)).min(self.inputs as i64);
        let weight = |j: i64| {
            let x = ((2 * j + 1) * div - centre).abs() as f64 / self.unit() as f64;
            match self.cubic {
                false => (1.0 - x).max(0.0),
                true if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
                true if x < 2.0 => -0.5 * (x - 1.0) * (x - 2.0) * (x - 2.0),
                true => 0.0,
            }
        };
        (
            begin as usize..end as usize,
            (begin..end).map(weight).collect(),
        )
    }

    /// The weights of output `i`, which add up to 1.
    fn shares(&self, i: usize) -> (Range<usize>, Vec<f64>) {
        let (inputs, mut weights) = self.weights(i);
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        (inputs, weights)
    }

    fn rows(&self) -> Rows {
        let (mul, div) = (self.mul as i64, self.div as i64);
        Rows {
            mul: 2 * mul,
            div: 2 * div,
            first: mul - self.radius() + div,
            last: mul + self.radius() - div - 1,
        }
    }

    /// The most inputs under the filter.
    fn taps(&self) -> usize {
        self.radius() as usize / self.div + 1
    }

    /// The largest sum of the shares' magnitudes, and the largest error of a resize along this axis, in units of the
    /// largest input. Each weight errs by [`WEIGHT_UNITS`], in the sum of products and in the sum of weights; both sums
    /// round once a term, and the quotient of the two takes 5 units.
    fn error(&self) -> (f64, f64) {
        if self.is_identity() {
            return (1.0, 0.0);
        }
        let (mut gain, mut error) = (1.0f64, 0.0f64);
        for i in 0..self.outputs {
            let (_, weights) = self.weights(i);
            let count = weights.len() as f64;
            let sum: f64 = weights.iter().sum();
            let of_all = weights.iter().map(|w| w.abs()).sum::<f64>() / sum;
            let of_weights = WEIGHT_UNITS * count / sum * (1.0 + of_all);
            gain = gain.max(of_all);
            error = error.max(of_weights + (2.0 * count + 8.0) * of_all);
        }
        (gain, error)
    }
}

/// A resize along rows, along columns, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Antialiased {
    /// The filters of rows and of columns.
    pub filters: [Filter; 2],
}

impl Antialiased {
    /// The same along columns only.
    const fn of_columns(&self) -> Self {
        let [rows, columns] = self.filters;
        Self {
            filters: [kept(rows.inputs), columns],
        }
    }

    /// The same along rows only, of an input whose columns are resized.
    const fn of_rows(&self) -> Self {
        let [rows, columns] = self.filters;
        Self {
            filters: [rows, kept(columns.outputs)],
        }
    }

    /// The error bound of an element: errors of one axis are weighted by the other's shares.
    fn bound(&self, input: &Tensor) -> f32 {
        let largest = input.data().iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let [(rows, of_rows), (columns, of_columns)] = self.filters.map(|axis| axis.error());
        (1.01 * (of_rows * columns + of_columns * rows) * UNIT) as f32 * largest
    }

    /// The op's numerics, which hold its filters.
    pub fn into_numerics(self) -> Numerics<'static> {
        let [rows, columns] = self.filters.map(|axis| axis.taps());
        Numerics::elements(rows + columns, move |inputs, expected| {
            let bound = self.bound(inputs[0]);
            Ok(expected.map(|_| bound))
        })
    }

    fn kernel(&self, input: Shape, output: Shape) -> Kernel {
        let [rows, columns] = self.filters;
        let along_rows = columns.is_identity();
        let filter = if along_rows { rows } else { columns };
        let extra = sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("height", output.h),
            ("c4", output.c4()),
            ("along_rows", usize::from(along_rows)),
            ("inputs", filter.inputs),
            ("step_mul", filter.mul),
            ("step_div", filter.div),
        ]);
        Kernel {
            constants: vec![("CUBIC", f64::from(u8::from(filter.cubic)))],
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: match along_rows {
                    true => filter.rows(),
                    false => Rows::shifted(0),
                },
            }],
            steps_per_term: filter.taps() as u64,
            ..Kernel::elementwise(
                shader!("interpolate_antialiased"),
                &["input_start"],
                &extra,
                output,
            )
        }
    }
}

/// A filter that keeps an axis.
const fn kept(size: usize) -> Filter {
    Filter {
        inputs: size,
        outputs: size,
        mul: 1,
        div: 1,
        cubic: false,
    }
}

impl Op for Antialiased {
    fn name(&self) -> &'static str {
        "antialiased"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        let [rows, columns] = self.filters;
        if [input.h, input.w] != [rows.inputs, columns.inputs] {
            bail!(
                Shape,
                "{input} is not of {} × {} pixels",
                rows.inputs,
                columns.inputs
            );
        }
        Ok(input.with_size(rows.outputs, columns.outputs))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        let width = input.shape().w;
        let [rows, columns] = self.filters;
        let columns: Vec<_> = (0..output.w).map(|x| columns.shares(x)).collect();
        Tensor::from_planes(output, |n, c, plane| {
            let source = input.plane(n, c);
            let across = |y: usize, x: usize| -> f64 {
                let (at, shares) = &columns[x];
                let line = source[y * width..][at.clone()].iter();
                let terms = line.zip(shares).filter(|(_, w)| **w != 0.0);
                terms.map(|(v, w)| f64::from(*v) * w).sum()
            };
            for (y, line) in plane.chunks_exact_mut(output.w).enumerate() {
                let (at, shares) = rows.shares(y);
                for (x, out) in line.iter_mut().enumerate() {
                    // An axis that keeps its size is not filtered: what has no weight is not read.
                    let terms = at.clone().zip(&shares).filter(|(_, w)| **w != 0.0);
                    *out = terms.map(|(y, w)| w * across(y, x)).sum::<f64>() as f32;
                }
            }
        })
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let [rows, columns] = self.filters;
        if rows.is_identity() || columns.is_identity() {
            return Ok(vec![Candidate::kernel(self.kernel(inputs[0], output))]);
        }
        let stage = |op: Self, input| Stage {
            op: Arc::new(op),
            inputs: vec![input],
        };
        Ok(vec![Candidate::stages(vec![
            stage(self.of_columns(), StageInput::Op(0)),
            stage(self.of_rows(), StageInput::Stage(0)),
        ])])
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        self.clone().into_numerics()
    }
}

//! Means over windows, the common part of both average poolings: `out[n, c, y, x] = Σ input[n, c, i, j] / divisor` over
//! the positions (i, j) of a window that lie inside the input. Or the largest value there, for the adaptive max pooling.
//!
//! The ops of networks are [`AvgPool2d`](super::AvgPool2d), [`AdaptiveAvgPool2d`](super::AdaptiveAvgPool2d) and
//! [`AdaptiveMaxPool2d`](super::AdaptiveMaxPool2d).

use super::candidate::Candidate;
use super::numerics::Numerics;
use super::{Op, Stage, StageInput, take_inputs};
use crate::error::{Result, bail};
use crate::ops::grid::Grid;
use crate::ops::kernel::{
    Binding, Format, Kernel, Param, Rows, Word, floats, shader, sizes, words,
};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// Windows of this many positions or more are added up row by row first, if there are few windows.
const LARGE_WINDOW: usize = 64;

/// Windows along one axis: window i covers the positions from ⌊(i · `mul` − `before`) / `div`⌋ to
/// ⌊(i · `mul` + `last`) / `div`⌋, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Windows {
    /// Positions of the input.
    pub inputs: usize,
    /// Windows.
    pub outputs: usize,
    /// Factor of the window's number.
    pub mul: usize,
    /// Divisor; 1 if windows begin before the input.
    pub div: usize,
    /// Subtracted for the first position.
    pub before: usize,
    /// Added for the last.
    pub last: usize,
    /// Positions on each side of the input that count in the divisor.
    pub counted: usize,
    /// Positions of the longest window.
    pub longest: usize,
}

impl Windows {
    /// Windows of one position each.
    const fn identity(size: usize) -> Self {
        Self {
            inputs: size,
            outputs: size,
            mul: 1,
            div: 1,
            before: 0,
            last: 0,
            counted: 0,
            longest: 1,
        }
    }

    /// The positions of window `i` inside the input.
    fn taps(&self, i: usize) -> Range<usize> {
        let begin = (i * self.mul).saturating_sub(self.before) / self.div;
        let end = (i * self.mul + self.last) / self.div + 1;
        begin..end.min(self.inputs)
    }

    /// The number of positions of window `i` that count in the divisor.
    fn counts(&self, i: usize) -> usize {
        // The window's positions before the input, up to `counted` of them.
        let before = self.before.saturating_sub(i * self.mul).min(self.counted);
        let end = (i * self.mul + self.last) / self.div + 1;
        let after = end.saturating_sub(self.inputs).min(self.counted);
        self.taps(i).len() + before + after
    }

    /// The input rows that an output row needs.
    fn rows(&self) -> Rows {
        Rows {
            mul: self.mul as i64,
            div: self.div as i64,
            first: -(self.before as i64),
            last: self.last as i64,
        }
    }

    /// The parameters of a kernel.
    fn params(&self, [mul, div, before, last, counted]: [&'static str; 5]) -> [Param; 5] {
        sizes([
            (mul, self.mul),
            (div, self.div),
            (before, self.before),
            (last, self.last),
            (counted, self.counted),
        ])
    }

    /// An error if a kernel's positions would overflow an `i32`.
    fn check(&self) -> Result<()> {
        let most = (self.outputs as u64).saturating_mul(self.mul as u64);
        if most.saturating_add((self.last + self.before) as u64) > i32::MAX as u64 {
            bail!(
                Unsupported,
                "{} windows of {} positions are more than this kernel can count",
                self.outputs,
                self.inputs
            );
        }
        Ok(())
    }
}

/// The windows along rows, then along columns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Means {
    pub axes: [Windows; 2],
    /// The divisor of every sum, in place of the number of positions that count.
    pub divisor: Option<f64>,
    /// The largest value in place of the mean.
    pub largest: bool,
}

impl Means {
    /// The divisor of output `(y, x)`.
    fn divisor(&self, y: usize, x: usize) -> f64 {
        let [rows, columns] = &self.axes;
        let counted = || rows.counts(y) as f64 * columns.counts(x) as f64;
        self.divisor.unwrap_or_else(counted)
    }

    fn longest(&self) -> usize {
        self.axes[0].longest.saturating_mul(self.axes[1].longest)
    }
}

impl Op for Means {
    fn name(&self) -> &'static str {
        "means"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        let [rows, columns] = &self.axes;
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
        let output = self.output_shape(&super::shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        let width = input.shape().w;
        let [rows, columns] = &self.axes;
        Tensor::from_planes(output, |n, c, plane| {
            let from = input.plane(n, c);
            for (i, out) in plane.iter_mut().enumerate() {
                let (y, x) = (i / output.w, i % output.w);
                let taps = columns.taps(x);
                let row = |y: usize| from[y * width..][taps.clone()].iter();
                let values = rows.taps(y).flat_map(row).copied();
                *out = match self.largest {
                    true => values.fold(f32::NEG_INFINITY, |max, x| {
                        if x > max || x.is_nan() { x } else { max }
                    }),
                    false => (values.map(f64::from).sum::<f64>() / self.divisor(y, x)) as f32,
                };
            }
        })
    }

    fn candidates(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Candidate>> {
        let stages = self.stages(inputs, target);
        match (self.kernel(inputs), stages.is_empty()) {
            (Ok(kernel), true) => Ok(vec![Candidate::kernel(kernel)]),
            (Ok(kernel), false) => Ok(vec![Candidate::stages(stages), Candidate::kernel(kernel)]),
            (Err(_), false) => Ok(vec![Candidate::stages(stages)]),
            (Err(error), true) => Err(error),
        }
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        match self.largest {
            true => Numerics::exact(),
            false => Numerics::sum(self.longest()),
        }
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        if self.largest {
            // Each result has the error of one value.
            return inputs[0].root_mean_square();
        }
        // The sum of n independent numbers, divided by d, is √n / d times as large as one.
        let [rows, columns] = self.axes.map(|axis| {
            let share = |i: usize| match (axis.taps(i).len() as f64, self.divisor) {
                (taps, Some(_)) => taps,
                (taps, None) => taps / (axis.counts(i) as f64).powi(2),
            };
            (0..axis.outputs).map(share).sum::<f64>() / axis.outputs as f64
        });
        let divisor = self.divisor.unwrap_or(1.0).abs();
        inputs[0].root_mean_square() * (rows * columns).sqrt() / divisor
    }
}

impl Means {
    /// The kernel that adds up whole windows.
    fn kernel(&self, inputs: &[Shape]) -> Result<Kernel> {
        let output = self.output_shape(inputs)?;
        let [rows, columns] = &self.axes;
        rows.check()?;
        columns.check()?;
        if self.longest() > i32::MAX as usize {
            bail!(
                Unsupported,
                "windows of {} positions are more than this kernel can count",
                self.longest()
            );
        }
        let mut params = sizes([
            ("in_height", rows.inputs),
            ("in_width", columns.inputs),
            ("out_height", output.h),
            ("out_width", output.w),
            ("c4", output.c4()),
        ])
        .to_vec();
        params.extend(rows.params([
            "row_mul",
            "row_div",
            "row_before",
            "row_last",
            "row_counted",
        ]));
        params.extend(columns.params([
            "column_mul",
            "column_div",
            "column_before",
            "column_last",
            "column_counted",
        ]));
        params.extend(sizes([("pitch", columns.longest)]));
        // 0 means: divide by the number of valid taps.
        params.extend(floats([("divisor", self.divisor.unwrap_or(0.0) as f32)]));
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::TermBegin,
            Word::TermEnd,
        ]));
        params.extend(sizes([("terms", self.longest())]));
        params.extend(words([Word::InputStart(0), Word::OutputStart]));
        Ok(Kernel {
            shader: shader!("avg_pool2d"),
            constants: vec![("LARGEST", f64::from(u8::from(self.largest)))],
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: rows.rows(),
            }],
            output: Format::Nhwc4,
            params,
            grid: Grid::Elements(64),
            terms: Some(self.longest()),
            // The last position of a row takes a second step, to the next row.
            steps_per_term: 2,
            fixed_steps: 2,
        })
    }

    /// Rows of a window first, then their sums: for few and large windows, which leave a device idle.
    fn stages(&self, inputs: &[Shape], target: &Target) -> Vec<Stage> {
        let [rows, columns] = self.axes;
        let few = self.output_shape(inputs).is_ok_and(|output| {
            output.pixels().saturating_mul(output.c4()) < target.device.invocations_at_once as usize
        });
        if !few || rows.longest == 1 || columns.longest == 1 || self.longest() < LARGE_WINDOW {
            return Vec::new();
        }
        let stage = |axes, divisor, input| Stage {
            op: Arc::new(Self {
                axes,
                divisor,
                largest: self.largest,
            }),
            inputs: vec![input],
        };
        let divisor = self.divisor.map(|_| 1.0);
        vec![
            stage(
                [Windows::identity(rows.inputs), columns],
                divisor,
                StageInput::Op(0),
            ),
            stage(
                [rows, Windows::identity(columns.outputs)],
                self.divisor,
                StageInput::Stage(0),
            ),
        ]
    }
}

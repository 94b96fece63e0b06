//! Softmax and its logarithm, over the channels of a pixel or over the pixels of a channel:
//! `exp(in − max) / Σ exp(in − max)`, or `in − max − log(Σ exp(in − max))`. Over pixels, the largest value and the sum are
//! stages.

use super::candidate::Candidate;
use super::numerics::{FLUSHED, LOG_UNITS, Numerics, UNIT, exp_units};
use super::reduce::{Dims, Reduce, Reduction};
use super::statistics::{ShiftedSum, statistics};
use super::{Case, Op, Stage, StageInput, case, shapes, take_inputs};
use crate::error::{Result, bail};
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, shader, sizes, words};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;

/// The dimension when a model file names none: the channels.
pub(super) fn channels() -> Dims {
    Dims::CHANNELS
}

/// Softmax of `dim`, or its logarithm.
#[derive(Clone, Debug)]
pub(super) struct Scores {
    pub name: &'static str,
    pub logarithm: bool,
    pub dim: Dims,
}

/// Values that are normalized together: `len` elements of a tensor, `stride` apart.
#[derive(Clone, Copy)]
struct Run {
    first: usize,
    stride: usize,
    len: usize,
}

impl Run {
    fn indices(self) -> impl Iterator<Item = usize> + Clone {
        (0..self.len).map(move |i| self.first + i * self.stride)
    }

    /// The largest value of the run, and the sum of exponentials of the distances from it.
    fn top_and_sum(self, input: &Tensor) -> (f64, f64) {
        let value = |i: usize| f64::from(input.data()[i]);
        let top = self.indices().map(value).fold(f64::NEG_INFINITY, f64::max);
        (top, self.indices().map(|i| (value(i) - top).exp()).sum())
    }
}

impl Scores {
    fn over_channels(&self) -> bool {
        self.dim == Dims::CHANNELS
    }

    pub(super) fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name, inputs)?;
        if !self.over_channels() && self.dim != Dims::PIXELS {
            bail!(
                Shape,
                "{} is over dimension 1, the channels, or over [2, 3], the pixels",
                self.name
            );
        }
        let (count, what) = match self.over_channels() {
            true => (input.c, "channels"),
            false => (input.h * input.w, "pixels"),
        };
        if count == 0 {
            bail!(Shape, "{} of {input}, which has no {what}", self.name);
        }
        Ok(input)
    }

    fn runs(&self, shape: Shape) -> Vec<Run> {
        let plane = shape.h * shape.w;
        match self.over_channels() {
            true => {
                let image = |n: usize| (0..plane).map(move |pixel| n * shape.c * plane + pixel);
                let run = |first| Run {
                    first,
                    stride: plane,
                    len: shape.c,
                };
                (0..shape.n).flat_map(image).map(run).collect()
            }
            false => {
                let run = |i| Run {
                    first: i * plane,
                    stride: 1,
                    len: plane,
                };
                (0..shape.n * shape.c).map(run).collect()
            }
        }
    }

    pub(super) fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let shape = self.output_shape(&shapes(inputs))?;
        let [input] = take_inputs(self.name, inputs)?;
        let mut output = Tensor::zeros(shape)?;
        for run in self.runs(shape) {
            let (top, sum) = run.top_and_sum(input);
            for i in run.indices() {
                let distance = f64::from(input.data()[i]) - top;
                output.data_mut()[i] = match self.logarithm {
                    true => distance - sum.ln(),
                    false => distance.exp() / sum,
                } as f32;
            }
        }
        Ok(output)
    }

    pub(super) fn numerics(&self, inputs: &[Shape]) -> Numerics<'static> {
        let (scores, shape) = (self.clone(), inputs[0]);
        let length = match self.over_channels() {
            true => shape.c,
            false => shape.h * shape.w,
        };
        Numerics::elements(length, move |inputs, expected| {
            Ok(scores.bounds(inputs[0], expected))
        })
    }

    /// The error bound of each element. WGSL allows `exp(d)` 6 + 4·|d| units; the rounding of d, the distance from the
    /// largest score, adds |d|. The sum of exponentials has the weighted errors of its terms, and a rounding for every
    /// term. Relative errors of the sum are absolute errors of its logarithm.
    fn bounds(&self, input: &Tensor, expected: &Tensor) -> Tensor {
        let mut bounds = expected.clone();
        for run in self.runs(input.shape()) {
            let (top, sum) = run.top_and_sum(input);
            let distance = |i: usize| top - f64::from(input.data()[i]);
            let units_of = |i: usize| exp_units(distance(i)) + distance(i);
            let share = |i: usize| (-distance(i)).exp() / sum;
            // An exponential of 0 may be that of a distance without bound.
            let weighted = |i: usize| match share(i) {
                0.0 => 0.0,
                share => share * units_of(i),
            };
            let of_sum = run.indices().map(weighted).sum::<f64>() + (run.len + 16) as f64;
            for i in run.indices() {
                let value = f64::from(expected.data()[i]);
                let units = match self.logarithm {
                    true => distance(i) + of_sum + LOG_UNITS * sum.ln() + 2.0 * value.abs(),
                    false => weighted(i) + value * of_sum,
                };
                bounds.data_mut()[i] = (units * UNIT + FLUSHED) as f32;
            }
        }
        bounds
    }

    /// If the scores change by Δ, the logarithm of share p_i changes by Δ_i − Σ p_k Δ_k, and the share by p_i times that.
    pub(super) fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let input = inputs[0];
        let of_run = |run: Run| -> f64 {
            let (top, sum) = run.top_and_sum(input);
            let share = |i: usize| (f64::from(input.data()[i]) - top).exp() / sum;
            let squares: f64 = run.indices().map(|i| share(i).powi(2)).sum();
            let of_share = |p: f64| {
                let factor = if self.logarithm { 1.0 } else { p * p };
                factor * (1.0 - 2.0 * p + squares)
            };
            run.indices().map(|i| of_share(share(i))).sum()
        };
        let shape = input.shape();
        let sum: f64 = self.runs(shape).into_iter().map(of_run).sum();
        input.root_mean_square() * (sum / shape.elements() as f64).sqrt()
    }

    pub(super) fn candidates(&self, inputs: &[Shape]) -> Result<Vec<Candidate>> {
        let shape = self.output_shape(inputs)?;
        Ok(vec![match self.over_channels() {
            true => Candidate::kernel(self.of_channels(shape)),
            false => Candidate::stages(self.of_pixels(shape)),
        }])
    }

    fn of_channels(&self, shape: Shape) -> Kernel {
        let mut params = sizes([
            ("width", shape.w),
            ("channels", shape.c),
            ("c4", shape.c4()),
        ])
        .to_vec();
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]));
        Kernel {
            shader: shader!("softmax"),
            constants: vec![("LOGARITHM", f64::from(u8::from(self.logarithm)))],
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: Rows::shifted(0),
            }],
            output: Format::Nhwc4,
            params,
            grid: Grid::Tiles {
                pixels: 64,
                channels: 4 * shape.c4(),
            },
            terms: None,
            steps_per_term: 3 * shape.c4() as u64,
            fixed_steps: 0,
        }
    }

    fn of_pixels(&self, shape: Shape) -> Vec<Stage> {
        let reduce = |name, reduction| Reduce {
            name,
            reduction,
            dims: self.dim,
        };
        let top = reduce("largest_of_channels", Reduction::Largest);
        let sum = reduce("sum_of_channels", Reduction::Sum);
        let mut stages = Vec::new();
        let mut then = |op: Arc<dyn Op>, inputs: Vec<StageInput>| {
            stages.push(Stage { op, inputs });
            StageInput::Stage(stages.len() - 1)
        };
        let passes = top.stages_of(shape);
        let mut of_top = StageInput::Op(0);
        for dims in &passes {
            of_top = then(Arc::new(top.over(*dims)), vec![of_top]);
        }
        let exponentials = ShiftedSum {
            exponential: true,
            mean: false,
            dims: passes[0],
        };
        let mut of_sum = then(Arc::new(exponentials), vec![StageInput::Op(0), of_top]);
        for dims in &passes[1..] {
            of_sum = then(Arc::new(sum.over(*dims)), vec![of_sum]);
        }
        let last = OfPixels {
            logarithm: self.logarithm,
        };
        then(Arc::new(last), vec![StageInput::Op(0), of_top, of_sum]);
        stages
    }
}

/// The last stage over pixels. Inputs: `[n, c, h, w]`, and the largest value and the sum of exponentials, `[n, c, 1, 1]`.
#[derive(Clone, Debug)]
struct OfPixels {
    logarithm: bool,
}

impl Op for OfPixels {
    fn name(&self) -> &'static str {
        "softmax_of_pixels"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input, top, sum] = take_inputs(self.name(), inputs)?;
        if [top, sum] != [input.with_size(1, 1); 2] {
            bail!(Shape, "{top} and {sum} are not values a channel of {input}");
        }
        Ok(input)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let [input, top, sum] = take_inputs(self.name(), inputs)?;
        Tensor::from_fn(output, |n, c, y, x| {
            let [top, sum] = [top, sum].map(|t| f64::from(t.at(n, c, 0, 0)));
            let distance = f64::from(input.at(n, c, y, x)) - top;
            let value = match self.logarithm {
                true => distance - sum.ln(),
                false => distance.exp() / sum,
            };
            value as f32
        })
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let shape = self.output_shape(inputs)?;
        let extra = sizes([
            ("height", shape.h),
            ("channels", shape.c),
            ("c4", shape.c4()),
        ]);
        let starts = ["input_start", "top_start", "sum_start"];
        Ok(vec![Candidate::kernel(Kernel {
            constants: vec![("LOGARITHM", f64::from(u8::from(self.logarithm)))],
            bindings: vec![
                Binding::Activation {
                    input: 0,
                    format: Format::Nhwc4,
                    rows: Rows::shifted(0),
                },
                statistics(1, Rows::all(1)),
                statistics(2, Rows::all(1)),
            ],
            ..Kernel::elementwise(shader!("softmax_pixels"), &starts, &extra, shape)
        })])
    }

    /// Of the stage alone; the op's own numerics count the stages before. The distance from the largest value has a
    /// rounding, which is a relative error of its exponential, and so have the difference and the quotient.
    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::elements(2, move |inputs, expected| {
            let [input, top, sum] = take_inputs(self.name(), inputs)?;
            Tensor::from_fn(expected.shape(), |n, c, y, x| {
                let [top, sum] = [top, sum].map(|t| f64::from(t.at(n, c, 0, 0)));
                let distance = f64::from(input.at(n, c, y, x)) - top;
                let value = f64::from(expected.at(n, c, y, x)).abs();
                let units = match self.logarithm {
                    true => distance.abs() + LOG_UNITS * sum.ln().abs() + 2.0 * value,
                    false => value * (exp_units(distance) + distance.abs() + 6.0),
                };
                (units * UNIT + FLUSHED) as f32
            })
        })
    }
}

/// Shapes to try for the op that `of` makes over dimensions.
pub(super) fn cases<O: Op>(of: impl Fn(Dims) -> O) -> Vec<Case> {
    let over = |dim, shape| case(of(dim), [shape]);
    vec![
        over(Dims::CHANNELS, [1, 21, 3, 7]),
        over(Dims::CHANNELS, [3, 2, 5, 13]),
        over(Dims::CHANNELS, [2, 7, 3, 5]),
        over(Dims::PIXELS, [2, 5, 3, 7]),
        over(Dims::PIXELS, [1, 6, 17, 19]),
        over(Dims::PIXELS, [3, 3, 1, 1]),
        // Many images of few pixels: small bindings show a part of the statistics.
        over(Dims::PIXELS, [9, 20, 1, 3]),
    ]
}

/// Implements [`Op`] for a type by the [`Scores`] that its method `scores` gives. Over the channels, the output is
/// `probabilities`.
macro_rules! scores {
    ($op:ident, $probabilities:expr) => {
        impl Default for $op {
            fn default() -> Self {
                Self {
                    dim: $crate::ops::scores::channels(),
                }
            }
        }

        impl $crate::ops::Op for $op {
            fn name(&self) -> &'static str {
                self.scores().name
            }

            fn output_shape(
                &self,
                inputs: &[$crate::tensor::Shape],
            ) -> $crate::error::Result<$crate::tensor::Shape> {
                self.scores().output_shape(inputs)
            }

            fn reference(
                &self,
                inputs: &[&$crate::tensor::Tensor],
            ) -> $crate::error::Result<$crate::tensor::Tensor> {
                self.scores().reference(inputs)
            }

            fn candidates(
                &self,
                inputs: &[$crate::tensor::Shape],
                _target: &$crate::target::Target,
            ) -> $crate::error::Result<Vec<$crate::ops::candidate::Candidate>> {
                self.scores().candidates(inputs)
            }

            fn probabilities(&self) -> $crate::ops::Probabilities {
                match self.dim == $crate::ops::reduce::Dims::CHANNELS {
                    true => $probabilities,
                    false => $crate::ops::Probabilities::No,
                }
            }

            fn numerics(
                &self,
                inputs: &[$crate::tensor::Shape],
            ) -> $crate::ops::numerics::Numerics<'_> {
                self.scores().numerics(inputs)
            }

            fn noise(&self, inputs: &[&$crate::tensor::Tensor]) -> f64 {
                self.scores().noise(inputs)
            }
        }
    };
}
pub(super) use scores;

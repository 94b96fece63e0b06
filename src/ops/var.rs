//! Variance over dimensions, whose sizes become 1: `out = Σ (input − mean)² / (count − correction)`. The mean is a stage of
//! its own.
//!
//! Source: `torch.var` with `keepdim`.

use super::broadcast::strides;
use super::candidate::Candidate;
use super::normalize::Moments;
use super::numerics::{FLUSHED, Numerics, UNIT, sum_units};
use super::reduce::{Dims, Reduce, Reduction};
use super::statistics::statistics;
use super::{Case, Op, Probabilities, Stage, StageInput, case, shapes, take_inputs};
use crate::error::{Result, bail};
use crate::ops::kernel::{Binding, Format, Kernel, Rows, shader, sizes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;
use std::sync::Arc;

/// The attributes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Var {
    /// The dimensions whose sizes become 1.
    pub dim: Dims,
    /// Subtracted from the count: 1 for the variance of a sample, 0 for that of a population.
    #[serde(default = "correction")]
    pub correction: usize,
}

fn correction() -> usize {
    1
}

impl Var {
    fn reduce(&self, reduction: Reduction) -> Reduce {
        Reduce {
            name: "var",
            reduction,
            dims: self.dim,
        }
    }

    fn mean(&self) -> Reduce {
        self.reduce(Reduction::Mean)
    }

    /// The divisor of the sum of squares; an error if it is not positive.
    fn divisor(&self, input: Shape) -> Result<usize> {
        let count = self.mean().count(input);
        match count.checked_sub(self.correction) {
            Some(divisor) if divisor > 0 => Ok(divisor),
            _ => bail!(
                Shape,
                "{} of {input}: {count} values are not more than the correction {}",
                self.name(),
                self.correction
            ),
        }
    }

    /// The moments of the values of each element of the output.
    fn moments(&self, input: &Tensor, output: Shape) -> Vec<Moments> {
        let at = |i: usize| {
            let (w, h, c) = (output.w, output.h, output.c);
            let at = [i / (w * h * c), i / (w * h) % c, i / w % h, i % w];
            let values: Vec<_> = self.mean().values(input, at).collect();
            Moments::of(values.into_iter())
        };
        (0..output.elements()).map(at).collect()
    }
}

impl Op for Var {
    fn name(&self) -> &'static str {
        self.mean().name
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let output = self.mean().output_shape(inputs)?;
        self.divisor(inputs[0])?;
        Ok(output)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let input = inputs[0].shape();
        let factor = self.mean().count(input) as f64 / self.divisor(input)? as f64;
        let moments = self.moments(inputs[0], output);
        let variances = moments.iter().map(|m| (m.variance * factor) as f32);
        Tensor::new(output, variances.collect())
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::Changed
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        let count = self.mean().count(inputs[0]);
        // The sum of squares errs as any sum, each square by three more units; the reference adds one. The error of the
        // mean adds its square, since the distances from the true mean add up to zero.
        Numerics::elements(count, move |inputs, expected| {
            let divisor = self.divisor(inputs[0].shape())?;
            let units = sum_units(count) * UNIT;
            let bounds = self
                .moments(inputs[0], expected.shape())
                .into_iter()
                .zip(expected.data());
            let bound = |(moments, value): (Moments, &f32)| {
                let of_mean = (units * moments.magnitude).powi(2) * count as f64 / divisor as f64;
                ((units + 4.0 * UNIT) * f64::from(*value) + of_mean + FLUSHED) as f32
            };
            Tensor::new(expected.shape(), bounds.map(bound).collect())
        })
    }

    /// An error of a value counts twice its distance from the mean, over the count.
    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let output = self.mean().output_shape(&shapes(inputs));
        let moments = output.map_or(Vec::new(), |output| self.moments(inputs[0], output));
        let variances = moments.iter().map(|m| m.variance).sum::<f64>();
        let variance = variances / moments.len().max(1) as f64;
        let count = self.mean().count(inputs[0].shape()) as f64;
        2.0 * (variance / count).sqrt() * inputs[0].root_mean_square()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        self.output_shape(inputs)?;
        let divisor = self.divisor(inputs[0])?;
        let mut stages = Vec::new();
        let mut then = |op: Arc<dyn Op>, inputs: Vec<StageInput>| {
            stages.push(Stage { op, inputs });
            StageInput::Stage(stages.len() - 1)
        };
        let passes = self.mean().stages_of(inputs[0]);
        let mut mean = StageInput::Op(0);
        for dims in &passes {
            mean = then(Arc::new(self.mean().over(*dims)), vec![mean]);
        }
        let mut sum = then(Arc::new(Squares {}), vec![StageInput::Op(0), mean]);
        for (i, dims) in passes.iter().enumerate() {
            let reduction = match i + 1 == passes.len() {
                true => Reduction::Share(divisor),
                false => Reduction::Sum,
            };
            let reduce = self.reduce(reduction).over(*dims);
            sum = then(Arc::new(reduce), vec![sum]);
        }
        Ok(vec![Candidate::stages(stages)])
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        inputs
            .first()
            .map_or(0, |input| 4 * input.elements() as u64)
    }
}

/// Squares of the distances from a value: inputs `[n, c, h, w]` and values, of which dimensions of size 1 broadcast.
#[derive(Clone, Debug)]
struct Squares {}

impl Op for Squares {
    fn name(&self) -> &'static str {
        "squares_of_distances"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input, shift] = take_inputs(self.name(), inputs)?;
        if super::broadcast::together(input, shift) != Some(input) {
            bail!(Shape, "values of shape {shift} do not fit {input}");
        }
        Ok(input)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let [input, shift] = take_inputs(self.name(), inputs)?;
        Tensor::from_fn(output, |n, c, y, x| {
            let shift = super::broadcast::at(shift, [n, c, y, x]);
            (f64::from(input.at(n, c, y, x)) - f64::from(shift)).powi(2) as f32
        })
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let shape = self.output_shape(inputs)?;
        let shift = inputs[1];
        let mut extra = sizes([
            ("height", shape.h),
            ("channels", shape.c),
            ("c4", shape.c4()),
        ])
        .to_vec();
        extra.extend(strides(shift, ["image", "row", "pixel", "group"]));
        let rows = match shift.h {
            1 => Rows::all(1),
            _ => Rows::shifted(0),
        };
        let splat = shift.c == 1 && shape.c > 1;
        Ok(vec![Candidate::kernel(Kernel {
            constants: vec![("SPLAT", f64::from(u8::from(splat)))],
            bindings: vec![
                Binding::Activation {
                    input: 0,
                    format: Format::Nhwc4,
                    rows: Rows::shifted(0),
                },
                statistics(1, rows),
            ],
            ..Kernel::elementwise(
                shader!("squares"),
                &["input_start", "shift_start"],
                &extra,
                shape,
            )
        })])
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        // Of the stage alone; the op's own numerics count the stages before.
        Numerics::sum(2)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let over = |channels, height, width, correction, shape| {
        let dim = Dims {
            channels,
            height,
            width,
        };
        case(Var { dim, correction }, [shape])
    };
    vec![
        over(true, false, false, 1, [2, 7, 3, 5]),
        over(false, true, false, 0, [3, 6, 5, 4]),
        over(false, true, true, 1, [2, 5, 17, 19]),
        over(true, true, true, 0, [2, 13, 6, 7]),
        over(true, false, true, 1, [3, 6, 4, 5]),
        over(false, true, true, 1, [3, 66, 3, 4]),
        over(true, false, false, 1, [2, 8, 3, 5]),
    ]
}

//! Normalization by an image's own statistics: the common part of group and instance normalization, and the error bound
//! of all three. Mean and variance are computed first, stage by stage, the variance from the distances to the mean.
//!
//! `out = (input − mean) / √(variance + eps) · weight[c] + bias[c]`, with the mean and the variance (of the population)
//! of a group of channels of an image.

use super::candidate::Candidate;
use super::numerics::{FLUSHED, Numerics, UNIT};
use super::reduce::{Dims, Reduce, Reduction};
use super::statistics::{GroupMean, ShiftedSum, statistics};
use super::{Op, Stage, StageInput, shapes};
use crate::error::{Result, bail};
use crate::ops::kernel::{Binding, Format, Kernel, Packing, Rows, floats, shader, sizes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;

/// The input, or an error if weight and bias, both optional, do not have a value for each of its channels, or if `eps`
/// is no number to add to a variance.
pub(super) fn output_shape(name: &str, inputs: &[Shape], eps: f32) -> Result<Shape> {
    let [input, vectors @ ..] = inputs else {
        bail!(
            Shape,
            "{name} takes an input, and perhaps a weight and a bias"
        );
    };
    if vectors.len() > 2 {
        bail!(
            Shape,
            "{name} takes an input, a weight and a bias, not {} inputs",
            inputs.len()
        );
    }
    if let Some(other) = vectors.iter().find(|v| **v != Shape::vector(input.c)) {
        bail!(
            Shape,
            "a parameter of shape {other} does not have one value for each channel of {input}"
        );
    }
    if input.elements() == 0 {
        bail!(Shape, "{name} of {input}, which has no values");
    }
    if !eps.is_finite() || eps < 0.0 {
        bail!(Shape, "eps is {eps}, not 0 or a positive number");
    }
    Ok(*input)
}

/// Mean and variance of some values.
#[derive(Clone, Copy)]
pub(super) struct Moments {
    pub mean: f64,
    pub variance: f64,
    /// The mean of the magnitudes.
    pub magnitude: f64,
}

impl Moments {
    /// Of all `values`.
    pub(super) fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count() as f64;
        let mean = values.clone().sum::<f64>() / count;
        let squares = values.clone().map(|x| (x - mean) * (x - mean));
        Self {
            mean,
            variance: squares.sum::<f64>() / count,
            magnitude: values.map(f64::abs).sum::<f64>() / count,
        }
    }

    /// 1 / √(variance + eps).
    pub(super) fn factor(self, eps: f32) -> f64 {
        1.0 / (self.variance + f64::from(eps)).sqrt()
    }

    /// The error bound of the normalized value of `x`, which is `value`, with a sum over `terms` values.
    ///
    /// The mean errs by `terms` + 16 units of the mean magnitude: an addition for each term, and a division in each
    /// stage. The variance is a sum of squares of distances, each of which errs by three units; the error of the mean
    /// adds its square, since the distances from the true mean add up to zero. The root halves the relative error of
    /// its argument and adds a unit for the sum with eps, and four of its own. The distance errs by the error of the
    /// mean and a unit, the products with root and weight by one each, the sum with the bias by a unit of the result,
    /// and the reference by another.
    pub(super) fn bound(self, terms: usize, eps: f32, x: f64, weight: f64, value: f64) -> f64 {
        let units = (terms + 16) as f64 * UNIT;
        let of_mean = units * self.magnitude;
        let squares = (units + 3.0 * UNIT) * self.variance + of_mean * of_mean + FLUSHED;
        let of_root = 0.5 * squares / (self.variance + f64::from(eps)).max(FLUSHED) + 5.0 * UNIT;
        let distance = (x - self.mean).abs();
        let scaled = weight.abs() * self.factor(eps);
        // The products of errors, which the sum above leaves out, are less than this factor.
        let second_order = 1.0 + of_root;
        scaled * second_order * (of_mean + distance * (of_root + 3.0 * UNIT))
            + 2.0 * UNIT * value.abs()
            + FLUSHED
    }
}

/// The value of channel `c` in input number `input`, a vector; `absent` if there is no such input.
pub(super) fn vector(inputs: &[&Tensor], input: usize, c: usize, absent: f64) -> f64 {
    inputs
        .get(input)
        .map_or(absent, |vector| f64::from(vector.data()[c]))
}

/// The bindings of weight and bias, at positions `first` and `first` + 1 of a kernel's inputs; zeros where they are
/// absent.
pub(super) fn vectors(inputs: &[Shape], first: usize) -> [Binding; 2] {
    [first, first + 1].map(|input| match inputs.get(input) {
        Some(_) => Binding::Parameter {
            input,
            packing: Packing::Vector,
        },
        None => Binding::Zeros {
            channels: inputs[0].c,
        },
    })
}

/// Normalization of groups of channels of an image.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    pub name: &'static str,
    /// The number of groups.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
}

impl Groups {
    pub(super) fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let input = output_shape(self.name, inputs, self.eps)?;
        if self.groups == 0 || !input.c.is_multiple_of(self.groups) {
            bail!(
                Shape,
                "the channels of {input} are not {} groups of equal size",
                self.groups
            );
        }
        Ok(input)
    }

    /// Channels of a group.
    fn size(&self, input: Shape) -> usize {
        input.c / self.groups.max(1)
    }

    /// The moments of each group of each image, a value a channel.
    fn moments(&self, input: &Tensor) -> Vec<Moments> {
        let shape = input.shape();
        let group = self.size(shape) * shape.h * shape.w;
        let groups = input.data().chunks(group.max(1));
        groups
            .map(|values| Moments::of(values.iter().map(|x| f64::from(*x))))
            .collect()
    }

    pub(super) fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let (moments, size) = (self.moments(inputs[0]), self.size(output));
        Tensor::from_planes(output, |n, c, plane| {
            let moments = moments[(n * output.c + c) / size];
            let factor = moments.factor(self.eps) * vector(inputs, 1, c, 1.0);
            let bias = vector(inputs, 2, c, 0.0);
            for (out, x) in plane.iter_mut().zip(inputs[0].plane(n, c)) {
                *out = ((f64::from(*x) - moments.mean) * factor + bias) as f32;
            }
        })
    }

    /// The terms of the longest sums: over a row, over rows, and over the channels of a group.
    fn terms(&self, input: Shape) -> usize {
        match self.mean().stages_of(input).len() {
            1 => input.h * input.w + self.size(input),
            _ => input.h + input.w + self.size(input),
        }
    }

    pub(super) fn numerics(&self, inputs: &[Shape]) -> Numerics<'static> {
        let (norm, terms) = (self.clone(), self.terms(inputs[0]));
        Numerics::elements(terms, move |inputs, expected| {
            let (moments, shape) = (norm.moments(inputs[0]), expected.shape());
            Tensor::from_fn(shape, |n, c, y, x| {
                let moments = moments[(n * shape.c + c) / norm.size(shape)];
                let weight = vector(inputs, 1, c, 1.0);
                let [x, value] = [inputs[0], expected].map(|t| f64::from(t.at(n, c, y, x)));
                moments.bound(terms, norm.eps, x, weight, value) as f32
            })
        })
    }

    pub(super) fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let shape = inputs[0].shape();
        let (moments, size) = (self.moments(inputs[0]), self.size(shape));
        let planes = (0..shape.n * shape.c).map(|i| {
            let factor = moments[i / size].factor(self.eps);
            (factor * vector(inputs, 1, i % shape.c, 1.0)).powi(2)
        });
        let mean = planes.sum::<f64>() / (shape.n * shape.c).max(1) as f64;
        inputs[0].root_mean_square() * mean.sqrt()
    }

    /// The mean over height and width.
    fn mean(&self) -> Reduce {
        Reduce {
            name: "mean_of_channels",
            reduction: Reduction::Mean,
            dims: Dims::PIXELS,
        }
    }

    /// The stages.
    pub(super) fn candidates(&self, inputs: &[Shape]) -> Result<Vec<Candidate>> {
        let input = self.output_shape(inputs)?;
        let mut stages = Vec::new();
        let mut then = |op: Arc<dyn Op>, inputs: Vec<StageInput>| {
            stages.push(Stage { op, inputs });
            StageInput::Stage(stages.len() - 1)
        };
        let size = self.size(input);
        let passes = self.mean().stages_of(input);
        let mut mean = StageInput::Op(0);
        for dims in &passes {
            mean = then(Arc::new(self.mean().over(*dims)), vec![mean]);
        }
        if size > 1 {
            mean = then(Arc::new(GroupMean { size }), vec![mean]);
        }
        let squares = ShiftedSum {
            exponential: false,
            mean: true,
            dims: passes[0],
        };
        let mut variance = then(Arc::new(squares), vec![StageInput::Op(0), mean]);
        for dims in &passes[1..] {
            variance = then(Arc::new(self.mean().over(*dims)), vec![variance]);
        }
        if size > 1 {
            variance = then(Arc::new(GroupMean { size }), vec![variance]);
        }
        let mut of_last = vec![StageInput::Op(0), mean, variance];
        of_last.extend((1..inputs.len()).map(StageInput::Op));
        then(Arc::new(Normalize { eps: self.eps }), of_last);
        Ok(vec![Candidate::stages(stages)])
    }
}

/// The last stage. Inputs: `[n, c, h, w]`, mean and variance `[n, c, 1, 1]`, and perhaps weight and bias.
#[derive(Clone, Debug)]
struct Normalize {
    eps: f32,
}

impl Op for Normalize {
    fn name(&self) -> &'static str {
        "normalize"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        match inputs {
            [input, mean, variance, ..]
                if [mean, variance].map(|s| *s) == [input.with_size(1, 1); 2] =>
            {
                Ok(*input)
            }
            _ => bail!(Shape, "{inputs:?} are not an input and its statistics"),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let [input, mean, variance] = [inputs[0], inputs[1], inputs[2]];
        Tensor::from_planes(output, |n, c, plane| {
            let [mean, variance] = [mean, variance].map(|t| f64::from(t.at(n, c, 0, 0)));
            let factor = vector(inputs, 3, c, 1.0) / (variance + f64::from(self.eps)).sqrt();
            let bias = vector(inputs, 4, c, 0.0);
            for (out, x) in plane.iter_mut().zip(input.plane(n, c)) {
                *out = ((f64::from(*x) - mean) * factor + bias) as f32;
            }
        })
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let shape = self.output_shape(inputs)?;
        let mut extra = sizes([
            ("height", shape.h),
            ("channels", shape.c),
            ("c4", shape.c4()),
        ])
        .to_vec();
        extra.extend(floats([("eps", self.eps)]));
        let starts = ["input_start", "mean_start", "variance_start"];
        let mut bindings = vec![
            Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: Rows::shifted(0),
            },
            statistics(1, Rows::all(1)),
            statistics(2, Rows::all(1)),
        ];
        bindings.extend(vectors(inputs, 3));
        Ok(vec![Candidate::kernel(Kernel {
            constants: vec![("WEIGHTED", f64::from(u8::from(inputs.len() > 3)))],
            bindings,
            ..Kernel::elementwise(shader!("normalize"), &starts, &extra, shape)
        })])
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        // Of the stage alone; the op's own numerics count the stages before.
        Numerics::sum(2)
    }
}

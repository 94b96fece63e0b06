//! Batch normalization with the running statistics:
//! `out = (input − running_mean[c]) / √(running_var[c] + eps) · weight[c] + bias[c]`.
//!
//! Inputs: `[n, c, h, w]`, then weight, bias, running_mean and running_var, each `[c, 1, 1, 1]`.
//! Source: `torch.nn.BatchNorm2d` in evaluation mode.

use super::numerics::{Numerics, UNIT};
use super::{Case, Op, case, shapes, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Binding, Kernel, Packing, floats, shader, sizes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// Batch normalization has one attribute.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchNorm2d {
    /// Added to the variance.
    pub eps: f32,
}

impl Default for BatchNorm2d {
    fn default() -> Self {
        Self { eps: 1e-5 }
    }
}

impl BatchNorm2d {
    /// weight / √(running_var + eps) of channel `c`.
    fn factor(&self, inputs: &[&Tensor], c: usize) -> f64 {
        let of = |input: usize| f64::from(inputs[input].data()[c]);
        of(1) / (of(4) + f64::from(self.eps)).sqrt()
    }
}

impl Op for BatchNorm2d {
    fn name(&self) -> &'static str {
        "batch_norm2d"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input, vectors @ ..] = take_inputs::<_, 5>(self.name(), inputs)?;
        if let Some(other) = vectors.iter().find(|v| **v != Shape::vector(input.c)) {
            bail!(
                Shape,
                "a parameter of shape {other} does not have one value for each channel of {input}"
            );
        }
        Ok(input)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let [input, _, bias, mean, _] = take_inputs(self.name(), inputs)?;
        Tensor::from_planes(output, |n, c, plane| {
            let factor = self.factor(inputs, c);
            let (mean, bias) = (f64::from(mean.data()[c]), f64::from(bias.data()[c]));
            for (out, x) in plane.iter_mut().zip(input.plane(n, c)) {
                *out = ((f64::from(*x) - mean) * factor + bias) as f32;
            }
        })
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        // Units of the product: the difference from the mean 1, variance + eps ½ (the root halves its error), the root
        // 4, the factor 1, the product 1. The sum with the bias adds a unit of the result, the reference another.
        Numerics::elements(2, |inputs, expected| {
            let bias = inputs[2].data();
            Tensor::from_fn(expected.shape(), |n, c, y, x| {
                let value = f64::from(expected.at(n, c, y, x));
                let product = value - f64::from(bias[c]);
                ((8.0 * product.abs() + 2.0 * value.abs()) * UNIT) as f32
            })
        })
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let channels = inputs[0].shape().c;
        let squares = (0..channels).map(|c| self.factor(inputs, c).powi(2));
        let mean = squares.sum::<f64>() / channels.max(1) as f64;
        inputs[0].root_mean_square() * mean.sqrt()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let shape = self.output_shape(inputs)?;
        let mut extra = sizes([("channels", shape.c), ("c4", shape.c4())]).to_vec();
        extra.extend(floats([("eps", self.eps)]));
        let mut kernel =
            Kernel::elementwise(shader!("batch_norm2d"), &["input_start"], &extra, shape);
        kernel
            .bindings
            .extend((1..5).map(|input| Binding::Parameter {
                input,
                packing: Packing::Vector,
            }));
        Ok(vec![Candidate::kernel(kernel)])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let of = |[n, c, h, w]: [usize; 4]| {
        let vector = [c, 1, 1, 1];
        // The variances of test inputs are any numbers; this eps keeps the sum far from 0.
        let op = BatchNorm2d { eps: 1.5 };
        case(op, [[n, c, h, w], vector, vector, vector, vector])
    };
    vec![
        of([1, 5, 3, 7]),
        of([3, 8, 2, 5]),
        of([2, 13, 4, 3]),
        of([1, 6, 3, 5]),
        of([2, 7, 5, 2]),
    ]
}

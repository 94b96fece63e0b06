//! Layer normalization over the channels of each pixel: `out = (input − mean) / √(variance + eps) · weight[c] + bias[c]`.
//!
//! Inputs: `[n, c, h, w]`, and perhaps weight and bias, each `[c, 1, 1, 1]`. Source: `torch.nn.functional.layer_norm` of
//! the channels, as in Swin, SegFormer and ConvNeXt.

use super::candidate::Candidate;
use super::normalize::{self, Moments, vector, vectors};
use super::numerics::Numerics;
use super::{Case, Op, case};
use crate::error::Result;
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, floats, shader, sizes, words};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The attribute.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
}

impl Default for LayerNorm {
    fn default() -> Self {
        Self { eps: 1e-5 }
    }
}

/// The moments of the channels of each pixel of `input`, image by image.
fn moments(input: &Tensor) -> Vec<Moments> {
    let shape = input.shape();
    let plane = shape.h * shape.w;
    let of_pixel = |pixel: usize| {
        let image = &input.data()[pixel / plane * shape.c * plane..];
        let channels = image
            .iter()
            .skip(pixel % plane)
            .step_by(plane)
            .take(shape.c);
        Moments::of(channels.map(|x| f64::from(*x)))
    };
    (0..shape.n * plane).map(of_pixel).collect()
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        normalize::output_shape(self.name(), inputs, self.eps)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let (moments, plane) = (moments(inputs[0]), output.h * output.w);
        Tensor::from_fn(output, |n, c, y, x| {
            let moments = moments[n * plane + y * output.w + x];
            let distance = f64::from(inputs[0].at(n, c, y, x)) - moments.mean;
            let factor = moments.factor(self.eps) * vector(inputs, 1, c, 1.0);
            (distance * factor + vector(inputs, 2, c, 0.0)) as f32
        })
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        let terms = inputs[0].c;
        Numerics::elements(terms, move |inputs, expected| {
            let (moments, shape) = (moments(inputs[0]), expected.shape());
            Tensor::from_fn(shape, |n, c, y, x| {
                let moments = moments[(n * shape.h + y) * shape.w + x];
                let weight = vector(inputs, 1, c, 1.0);
                let [x, value] = [inputs[0], expected].map(|t| f64::from(t.at(n, c, y, x)));
                moments.bound(terms, self.eps, x, weight, value) as f32
            })
        })
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let channels = inputs[0].shape().c;
        let moments = moments(inputs[0]);
        let factors = moments.iter().map(|m| m.factor(self.eps).powi(2));
        let factors = factors.sum::<f64>() / moments.len().max(1) as f64;
        let weights = (0..channels).map(|c| vector(inputs, 1, c, 1.0).powi(2));
        let weights = weights.sum::<f64>() / channels.max(1) as f64;
        inputs[0].root_mean_square() * (factors * weights).sqrt()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let shape = self.output_shape(inputs)?;
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
        params.extend(floats([("eps", self.eps)]));
        let mut bindings = vec![Binding::Activation {
            input: 0,
            format: Format::Nhwc4,
            rows: Rows::shifted(0),
        }];
        bindings.extend(vectors(inputs, 1));
        Ok(vec![Candidate::kernel(Kernel {
            shader: shader!("layer_norm"),
            constants: vec![("WEIGHTED", f64::from(u8::from(inputs.len() > 1)))],
            bindings,
            output: Format::Nhwc4,
            params,
            grid: Grid::Tiles {
                pixels: 64,
                channels: 4 * shape.c4(),
            },
            terms: None,
            steps_per_term: 3 * shape.c4() as u64,
            fixed_steps: 0,
        })])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let op = || LayerNorm { eps: 1e-3 };
    let vector = |c| [c, 1, 1, 1];
    vec![
        case(op(), [[1, 6, 3, 7], vector(6), vector(6)]),
        case(op(), [[3, 32, 5, 3], vector(32), vector(32)]),
        case(op(), [[2, 21, 4, 5]]),
        case(op(), [[1, 7, 3, 4], vector(7), vector(7)]),
        case(LayerNorm::default(), [[2, 5, 3, 3], vector(5)]),
    ]
}

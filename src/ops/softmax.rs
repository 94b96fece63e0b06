//! Softmax over the channels of each pixel: `out_c = exp(in_c − max) / Σ exp(in_k − max)`.
//!
//! Source: `torch.nn.functional.softmax(dim=1)`.

use super::numerics::{FLUSHED, Numerics, UNIT, exp_units};
use super::{Activation, Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, shader, sizes, words};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// Softmax is over dimension 1, the classes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        if input.c == 0 {
            bail!(Shape, "softmax of {input}, which has no channels");
        }
        Ok(input)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let shape = self.output_shape(&super::shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        let mut output = Tensor::zeros(shape)?;
        let plane = shape.h * shape.w;
        for n in 0..shape.n {
            for pixel in 0..plane {
                let at = |c: usize| (n * shape.c + c) * plane + pixel;
                let score = |c: usize| f64::from(input.data()[at(c)]);
                let max = (0..shape.c).map(score).fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = (0..shape.c).map(|c| (score(c) - max).exp()).sum();
                for c in 0..shape.c {
                    output.data_mut()[at(c)] = ((score(c) - max).exp() / sum) as f32;
                }
            }
        }
        Ok(output)
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
        Ok(vec![Candidate::kernel(Kernel {
            shader: shader!("softmax"),
            constants: Vec::new(),
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
        })])
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::Of(Activation::Softmax)
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        Numerics::elements(inputs[0].c, |inputs, expected| {
            Ok(bounds(inputs[0], expected))
        })
    }

    /// A share p_i of the output changes by p_i · (Δ_i − Σ p_k Δ_k) if the scores change by Δ.
    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let Ok(shares) = self.reference(inputs) else {
            return 0.0;
        };
        let shape = shares.shape();
        let of_pixel = |n: usize, y: usize, x: usize| {
            let share = |c| f64::from(shares.at(n, c, y, x));
            let squares: f64 = (0..shape.c).map(|c| share(c).powi(2)).sum();
            let of_share = |p: f64| p * p * (1.0 - 2.0 * p + squares);
            (0..shape.c).map(|c| of_share(share(c))).sum::<f64>()
        };
        let pixels = (0..shape.n)
            .flat_map(|n| (0..shape.h).flat_map(move |y| (0..shape.w).map(move |x| (n, y, x))));
        let sum: f64 = pixels.map(|(n, y, x)| of_pixel(n, y, x)).sum();
        inputs[0].root_mean_square() * (sum / shape.elements() as f64).sqrt()
    }
}

/// The error bound of each element of the softmax of `input`. WGSL allows `exp(d)` 6 + 4·|d| units; the rounding of d,
/// the distance from the largest score, adds |d|. The sum of exponentials has the weighted errors of its terms, and a
/// rounding for every term.
fn bounds(input: &Tensor, expected: &Tensor) -> Tensor {
    let shape = input.shape();
    let mut bounds = expected.clone();
    for (n, y, x) in (0..shape.n)
        .flat_map(|n| (0..shape.h).flat_map(move |y| (0..shape.w).map(move |x| (n, y, x))))
    {
        let score = |c| f64::from(input.at(n, c, y, x));
        let top = (0..shape.c).map(score).fold(f64::NEG_INFINITY, f64::max);
        let units_of = |c| exp_units(top - score(c)) + top - score(c);
        let share = |c| f64::from(expected.at(n, c, y, x));
        let of_sum: f64 = (0..shape.c).map(|c| share(c) * units_of(c)).sum();
        for c in 0..shape.c {
            let units = units_of(c) + of_sum + (shape.c + 16) as f64;
            let at = ((n * shape.c + c) * shape.h + y) * shape.w + x;
            bounds.data_mut()[at] = (share(c) * units * UNIT + FLUSHED) as f32;
        }
    }
    bounds
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Softmax {}, [[1, 21, 3, 7]]),
        case(Softmax {}, [[3, 2, 5, 13]]),
    ]
}

//! Products of the channels of two tensors, summed over all pixels: `out[n, j, i, 0] = Σ_p a[n, i, p] · b[n, j, p]`, from
//! a `[n, i, h, w]` and b `[n, j, h, w]` to `[n, j, i, 1]`. An input of batch size 1 serves all images.
//!
//! Source: `torch.matmul` of channels × pixels with pixels × channels: attention between channels (DANet), features of
//! object regions (OCR), non-local blocks without softmax.

use super::candidate::Candidate;
use super::numerics::Numerics;
use super::{Case, Op, Probabilities, Stage, StageInput, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::grid::{Count, Grid};
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, counts, shader, sizes, words};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;
use std::sync::Arc;

/// The sum of a part is at least this long.
const PART: usize = 256;
/// The most parts.
const MOST_PARTS: usize = 1024;
/// The most numbers of all parts together.
const MOST_IN_PARTS: usize = 1 << 22;

/// The sum has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gram {}

impl Op for Gram {
    fn name(&self) -> &'static str {
        "gram"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [a, b] = take_inputs(self.name(), inputs)?;
        if [a.h, a.w] != [b.h, b.w] || a.h * a.w == 0 || a.c == 0 || b.c == 0 {
            bail!(
                Shape,
                "{a} and {b} are not of one size with channels and pixels"
            );
        }
        if a.n != b.n && a.n != 1 && b.n != 1 {
            bail!(Shape, "{a} and {b} have different batch sizes");
        }
        Ok(Shape::new(a.n.max(b.n), b.c, a.c, 1))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let pixels = inputs[0].shape().h * inputs[0].shape().w;
        sums(inputs, output, output.c, pixels)
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let pixels = inputs[0].h * inputs[0].w;
        let most = MOST_IN_PARTS / (output.n * output.h * 4 * output.c4()).max(1);
        let parts = (pixels / PART).min(MOST_PARTS).min(most).max(1);
        let kernel = Candidate::kernel(kernel(inputs, output, 1));
        if parts == 1 {
            return Ok(vec![kernel]);
        }
        let stages = vec![
            Stage {
                op: Arc::new(GramParts { parts }),
                inputs: vec![StageInput::Op(0), StageInput::Op(1)],
            },
            Stage {
                op: Arc::new(GramSum {
                    parts,
                    channels: output.c,
                }),
                inputs: vec![StageInput::Stage(0)],
            },
        ];
        Ok(vec![Candidate::stages(stages), kernel])
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::Changed
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        Numerics::sum(inputs[0].h * inputs[0].w)
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let Shape { h, w, .. } = inputs[0].shape();
        inputs[0].root_mean_square() * inputs[1].root_mean_square() * ((h * w) as f64).sqrt()
    }
}

/// The sums of parts of the pixels, side by side in the channels: `[n, parts · j, i, 1]`, with j padded to a multiple
/// of 4.
#[derive(Clone, Debug)]
struct GramParts {
    parts: usize,
}

impl Op for GramParts {
    fn name(&self) -> &'static str {
        "gram_parts"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let whole = Gram {}.output_shape(inputs)?;
        Ok(whole.with_channels(self.parts * 4 * whole.c4()))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let pixels = inputs[0].shape().h * inputs[0].shape().w;
        sums(
            inputs,
            output,
            output.c / self.parts,
            pixels.div_ceil(self.parts),
        )
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        Ok(vec![Candidate::kernel(kernel(inputs, output, self.parts))])
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        Numerics::sum((inputs[0].h * inputs[0].w).div_ceil(self.parts))
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        Gram {}.flops(inputs)
    }
}

/// The sum of the parts: `[n, j, i, 1]`.
#[derive(Clone, Debug)]
struct GramSum {
    parts: usize,
    channels: usize,
}

impl Op for GramSum {
    fn name(&self) -> &'static str {
        "gram_sum"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        Ok(input.with_channels(self.channels))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        Tensor::from_fn(output, |n, c, y, x| {
            let part = |p: usize| f64::from(input.at(n, p * 4 * output.c4() + c, y, x));
            (0..self.parts).map(part).sum::<f64>() as f32
        })
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let extra = sizes([("c4", output.c4())]);
        Ok(vec![Candidate::kernel(Kernel {
            constants: vec![("PARTS", self.parts as f64), ("RELU", 0.0), ("MOST", 0.0)],
            steps_per_term: self.parts as u64,
            ..Kernel::elementwise(shader!("sum_parts"), &["input_start"], &extra, output)
        })])
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::sum(self.parts)
    }
}

/// The reference of an output whose channels are parts of `channels` channels, each the sum of `terms` pixels.
fn sums(inputs: &[&Tensor], output: Shape, channels: usize, terms: usize) -> Result<Tensor> {
    let [a, b] = [inputs[0], inputs[1]];
    let image = |n: usize, tensor: &Tensor| n.min(tensor.shape().n - 1);
    Tensor::from_planes(output, |n, c, plane| {
        if c % channels >= b.shape().c {
            return;
        }
        let right = b.plane(image(n, b), c % channels);
        let first = (c / channels * terms).min(right.len());
        let own = first..(first + terms).min(right.len());
        for (i, sum) in plane.iter_mut().enumerate() {
            let left = a.plane(image(n, a), i)[own.clone()].iter();
            let products = left.zip(&right[own.clone()]);
            *sum = products
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum::<f64>() as f32;
        }
    })
}

/// The kernel that leaves `parts` sums of each element.
fn kernel(inputs: &[Shape], output: Shape, parts: usize) -> Kernel {
    let (a, b) = (inputs[0], inputs[1]);
    let pixels = a.h * a.w;
    let image = |shape: Shape| if shape.n == 1 { 0 } else { pixels };
    let terms = pixels.div_ceil(parts);
    let mut params = sizes([
        ("a_channels", output.h),
        ("a_c4", a.c4()),
        ("b_c4", b.c4()),
        ("pixels", pixels),
        ("a_image", image(a)),
        ("b_image", image(b)),
    ])
    .to_vec();
    params.extend(words([
        Word::RowBegin,
        Word::RowEnd,
        Word::TermBegin,
        Word::TermEnd,
    ]));
    params.extend(sizes([("terms", terms)]));
    params.extend([
        ("a_start", Word::InputStart(0)),
        ("b_start", Word::InputStart(1)),
    ]);
    params.extend(words([Word::OutputStart]));
    params.extend(counts(Count::OF_BLOCKS));
    Kernel {
        shader: shader!("gram"),
        constants: vec![("PARTS", parts as f64)],
        bindings: [a, b]
            .iter()
            .enumerate()
            .map(|(input, shape)| Binding::Activation {
                input,
                format: Format::Nhwc4,
                rows: Rows::all(shape.h),
            })
            .collect(),
        output: Format::Nhwc4,
        params,
        grid: Grid::Blocks {
            rows: 32,
            columns: 1,
            channels: 32,
            parts,
        },
        terms: Some(terms),
        steps_per_term: 1,
        fixed_steps: 0,
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let gram = |a, b| case(Gram {}, [a, b]);
    vec![
        gram([1, 5, 3, 7], [1, 6, 3, 7]),
        gram([2, 37, 5, 4], [2, 41, 5, 4]),
        // In parts.
        gram([1, 9, 23, 24], [1, 35, 23, 24]),
        gram([1, 3, 19, 30], [3, 7, 19, 30]),
    ]
}

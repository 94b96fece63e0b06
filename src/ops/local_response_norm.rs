//! Local response normalisation across channels:
//! `out_c = in_c / (k + alpha / size · Σ in_j²)^beta` over the channels j from c − ⌊size / 2⌋ to
//! c + ⌊(size − 1) / 2⌋, as far as they exist.
//!
//! Source: `torch.nn.functional.local_response_norm`. Caffe's `LRN` layer across channels is the same with an odd
//! `local_size`. Both divide alpha by the size, also where fewer channels exist.

use super::numerics::{Numerics, UNIT};
use super::{Case, Op, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, floats, shader, sizes, words};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;
use std::ops::Range;

/// The attributes, with PyTorch's defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalResponseNorm {
    /// Channels whose squares are added up.
    pub size: usize,
    /// Factor of the squares' mean.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// Exponent.
    #[serde(default = "beta")]
    pub beta: f64,
    /// Added to the scaled mean.
    #[serde(default = "k")]
    pub k: f64,
}

fn alpha() -> f64 {
    1e-4
}

fn beta() -> f64 {
    0.75
}

fn k() -> f64 {
    1.0
}

impl LocalResponseNorm {
    /// Over `size` channels, with PyTorch's defaults for the rest.
    pub fn over(size: usize) -> Self {
        Self {
            size,
            alpha: alpha(),
            beta: beta(),
            k: k(),
        }
    }

    /// The window of channel `c`, out of `channels`.
    fn window(&self, c: usize, channels: usize) -> Range<usize> {
        let end = c.saturating_add(self.size.div_ceil(2));
        c.saturating_sub(self.size / 2)..end.min(channels)
    }
}

impl Op for LocalResponseNorm {
    fn name(&self) -> &'static str {
        "local_response_norm"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        super::check_attributes(&[[self.size; 2]])?;
        if self.size == 0 {
            bail!(Shape, "size is at least 1");
        }
        if ![self.alpha, self.beta, self.k]
            .iter()
            .all(|x| (*x as f32).is_finite())
        {
            bail!(Shape, "alpha, beta and k are numbers that f32 holds");
        }
        Ok(input)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let shape = self.output_shape(&super::shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        let share = self.alpha / self.size as f64;
        Tensor::from_planes(shape, |n, c, plane| {
            for (pixel, out) in plane.iter_mut().enumerate() {
                let value = |c: usize| f64::from(input.plane(n, c)[pixel]);
                let squares = self.window(c, shape.c).map(|c| value(c) * value(c));
                let base = self.k + share * squares.sum::<f64>();
                *out = (value(c) / base.powf(self.beta)) as f32;
            }
        })
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let shape = self.output_shape(inputs)?;
        let mut params = sizes([
            ("width", shape.w),
            ("channels", shape.c),
            ("c4", shape.c4()),
            ("before", self.size / 2),
            ("after", self.size.div_ceil(2)),
        ])
        .to_vec();
        params.extend(floats([
            ("share", (self.alpha / self.size as f64) as f32),
            ("beta", self.beta as f32),
            ("k", self.k as f32),
        ]));
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]));
        Ok(vec![Candidate::kernel(Kernel {
            shader: shader!("local_response_norm"),
            constants: Vec::new(),
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: Rows::shifted(0),
            }],
            output: Format::Nhwc4,
            params,
            grid: Grid::Elements(64),
            terms: None,
            steps_per_term: shape.c4().min(self.size / 4 + 3) as u64,
            fixed_steps: 0,
        })])
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        let length = self.size.min(inputs[0].c);
        Numerics::elements(length, move |inputs, expected| {
            Ok(self.bounds(length, inputs[0], expected))
        })
    }

    /// A relative change r of the inputs changes the output by up to (1 + 2 · beta) · r.
    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let output = self
            .reference(inputs)
            .map_or(0.0, |out| out.root_mean_square());
        (1.0 + 2.0 * self.beta.abs()) * output
    }
}

impl LocalResponseNorm {
    /// The base of the power is a sum of magnitudes: a rounding for each square and each term, for alpha, its product,
    /// and k, so K + 8, times beta. WGSL allows a power the error of `exp2(beta · log2(base))`: the logarithm errs by
    /// 2⁻²¹ or 3 ULP, the exponential by 3 + 2·|x| ULP, two roundings per ULP. The exponent x is a product of two
    /// rounded numbers. The division adds 5.
    fn bounds(&self, length: usize, input: &Tensor, expected: &Tensor) -> Tensor {
        let ln2 = std::f64::consts::LN_2;
        let mut bounds = expected.clone();
        for (bound, input) in bounds.data_mut().iter_mut().zip(input.data()) {
            let exponent = match *bound {
                0.0 => 0.0,
                output => (f64::from(*input) / f64::from(output)).log2(),
            };
            let of_base = self.beta.abs() * (length + 8) as f64;
            let of_logarithm = (8.0 * self.beta.abs()).max(6.0 * exponent.abs());
            let units = of_base
                + ln2 * (of_logarithm + 2.0 * exponent.abs())
                + 2.0 * (3.0 + 2.0 * exponent.abs())
                + 6.0;
            *bound = (f64::from(bound.abs()) * units * UNIT) as f32;
        }
        bounds
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let strong = |size, beta, k| LocalResponseNorm {
        alpha: 2.0,
        beta,
        k,
        ..LocalResponseNorm::over(size)
    };
    vec![
        case(LocalResponseNorm::over(5), [[1, 13, 3, 5]]),
        case(strong(5, 0.75, 1.0), [[3, 6, 4, 3]]),
        case(strong(4, 0.75, 2.0), [[2, 9, 3, 3]]),
        case(strong(1, 1.5, 0.5), [[1, 5, 2, 7]]),
        case(strong(9, 0.5, 1.0), [[1, 3, 5, 4]]),
        case(strong(3, -0.5, 1.0), [[1, 7, 4, 3]]),
        case(strong(2, 0.0, 1.0), [[2, 4, 3, 3]]),
        // Padding channels are 0 / 0.
        case(strong(1, 0.75, 0.0), [[1, 5, 3, 2]]),
    ]
}

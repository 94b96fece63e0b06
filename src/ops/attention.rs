//! Attention over pixels: `out = softmax(scale · query · keyᵀ) · value` for each head, where the rows of each matrix are
//! pixels. Query `[n, heads·d, h, w]`, key `[n, heads·d, kh, kw]`, value `[n, heads·dv, kh, kw]`, output
//! `[n, heads·dv, h, w]`; a head is a run of channels. An input of batch size 1 serves all images. The softmax covers the
//! keys of each query, or all pairs of query and key (position attention of MA-Net).
//!
//! Source: `torch.nn.functional.scaled_dot_product_attention` on `[n, heads, pixels, channels]`. The kernels go through
//! the keys in tiles (Milakov and Gimelshein, *Online normalizer calculation for softmax*, 2018; Dao et al.,
//! *FlashAttention*, 2022): no matrix of scores is written.

mod heads;
mod pairs;
mod stages;

use super::numerics::{FLUSHED, Numerics, UNIT, sum_units};
use super::reduce::Dims;
use super::{Case, Op, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use heads::Heads;
use serde::Deserialize;

/// The attributes, with PyTorch's defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attention {
    /// Heads, equal runs of channels.
    #[serde(default = "one")]
    pub num_heads: usize,
    /// Factor of the scores; 1 / √d if absent, with the d query channels of a head.
    #[serde(default)]
    pub scale: Option<f64>,
    /// The dimensions of the scores `[n, heads, queries, keys]` that the softmax covers: [`Attention::KEYS`], or
    /// [`Dims::PIXELS`], all pairs of query and key, with one head.
    #[serde(default = "keys")]
    pub dim: Dims,
}

fn one() -> usize {
    1
}

fn keys() -> Dims {
    Attention::KEYS
}

impl Attention {
    /// The keys of each query: dimension 3 of the scores.
    pub const KEYS: Dims = Dims {
        channels: false,
        height: false,
        width: true,
    };

    /// With `num_heads` heads and PyTorch's scale, over the keys.
    pub fn of(num_heads: usize) -> Self {
        Self {
            num_heads,
            scale: None,
            dim: Self::KEYS,
        }
    }

    fn over_pairs(&self) -> bool {
        self.dim == Dims::PIXELS
    }

    fn heads(&self, inputs: &[Shape]) -> Result<Heads> {
        if !self.over_pairs() && self.dim != Self::KEYS {
            bail!(
                Shape,
                "{}'s dim is 3, the keys, or [2, 3], all pairs of query and key",
                self.name()
            );
        }
        if self.over_pairs() && self.num_heads != 1 {
            bail!(
                Shape,
                "{} over all pairs has one head, not {}",
                self.name(),
                self.num_heads
            );
        }
        Heads::new(
            self.num_heads,
            self.scale,
            take_inputs(self.name(), inputs)?,
        )
    }
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        Ok(self.heads(inputs)?.output())
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let heads = self.heads(&super::shapes(inputs))?;
        let inputs = take_inputs(self.name(), inputs)?;
        if self.over_pairs() {
            return pairs::reference(&heads, inputs);
        }
        heads.map(inputs, heads.value_channels(), |query, numbers| {
            let shares = query.shares();
            for (c, number) in numbers.iter_mut().enumerate() {
                *number = query.weighed(c, &shares);
            }
        })
    }

    fn candidates(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Candidate>> {
        let heads = self.heads(inputs)?;
        Ok(match self.over_pairs() {
            true => vec![Candidate::stages(pairs::stages(&heads))],
            false => stages::candidates(&heads, target),
        })
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        let length = self.heads(inputs).map_or(1, |heads| {
            let queries = if self.over_pairs() {
                heads.output().pixels()
            } else {
                0
            };
            heads.query_channels() + heads.keys() + queries
        });
        Numerics::elements(length, |inputs, _expected| self.bounds(inputs))
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        self.noise_of(inputs).unwrap_or(0.0)
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        let products = self.heads(inputs).map_or(0, |heads| heads.products());
        products.saturating_mul(2)
    }
}

impl Attention {
    /// The error bound of each element.
    ///
    /// With shares p_j of the keys, an error ε_j of the exponent of each weight gives
    /// Σ p_j (e^ε_j − 1) (v_j − out) / Σ p_j e^ε_j: whatever all exponents have in common cancels. See
    /// `Query::exponent_errors`. The sum of the weighted values and the sum of the weights have a rounding for every key, and
    /// products, division and flushed weights come on top.
    fn bounds(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let heads = self.heads(&super::shapes(inputs))?;
        let inputs = take_inputs(self.name(), inputs)?;
        if self.over_pairs() {
            return pairs::bounds(&heads, inputs);
        }
        heads.map(inputs, heads.value_channels(), |query, bounds| {
            let shares = query.shares();
            let errors = query.exponent_errors(heads.scale);
            let grown = shares.iter().zip(&errors);
            let least: f64 = grown.clone().map(|(p, e)| p * (-e).exp()).sum();
            let moved: Vec<_> = grown.clone().map(|(p, e)| p * e.exp_m1() / least).collect();
            let grown: Vec<_> = grown.map(|(p, e)| p * e.exp() / least).collect();
            let of_sums = 2.0 * sum_units(heads.keys()) * UNIT;
            for (c, bound) in bounds.iter_mut().enumerate() {
                let out = query.weighed(c, &shares);
                *bound = FLUSHED;
                for (j, v) in query.values[c].iter().enumerate() {
                    let v = f64::from(*v);
                    *bound += moved[j] * (v - out).abs();
                    *bound += grown[j] * v.abs() * of_sums + FLUSHED * v.abs();
                }
            }
        })
    }

    /// The root mean square of the change of the output if every input changes by independent numbers of its own size:
    /// of the values, √(Σ p_j²) of their size; of query and key, at most Σ p_j |Δs_j| |v_j − out|, where a score s_j
    /// changes by the query's size times the norm of the key and the reverse.
    fn noise_of(&self, inputs: &[&Tensor]) -> Result<f64> {
        let heads = self.heads(&super::shapes(inputs))?;
        let inputs = take_inputs(self.name(), inputs)?;
        if self.over_pairs() {
            return pairs::noise(&heads, inputs);
        }
        let sizes = inputs.map(Tensor::root_mean_square);
        let noise = heads.map(inputs, heads.value_channels(), |query, numbers| {
            let shares = query.shares();
            let changes = query.score_changes(heads.scale, sizes);
            let moved: Vec<_> = shares.iter().zip(changes).map(|(p, d)| p * d).collect();
            let of_values = sizes[2] * shares.iter().map(|p| p * p).sum::<f64>().sqrt();
            for (c, number) in numbers.iter_mut().enumerate() {
                let out = query.weighed(c, &shares);
                let terms = moved.iter().zip(query.values[c]);
                let of_scores: f64 = terms.map(|(m, v)| m * (f64::from(*v) - out).abs()).sum();
                *number = of_values.hypot(of_scores);
            }
        })?;
        Ok(noise.root_mean_square())
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let of = |num_heads, [n, h, w]: [usize; 3], [kh, kw]: [usize; 2], [d, dv]: [usize; 2]| {
        let inputs = [
            [n, num_heads * d, h, w],
            [n, num_heads * d, kh, kw],
            [n, num_heads * dv, kh, kw],
        ];
        case(Attention::of(num_heads), inputs)
    };
    let scaled = |scale| Attention {
        scale: Some(scale),
        ..Attention::of(2)
    };
    let over_pairs = |scale| Attention {
        scale: Some(scale),
        dim: Dims::PIXELS,
        ..Attention::of(1)
    };
    vec![
        of(1, [1, 5, 7], [5, 7], [6, 9]),
        of(1, [2, 9, 18], [3, 4], [1, 1]),
        of(2, [2, 6, 5], [6, 5], [8, 12]),
        // More value channels than one invocation sums: two full chunks, or three of which the last is not full.
        of(2, [1, 3, 4], [5, 5], [4, 72]),
        of(1, [1, 3, 19], [2, 5], [13, 150]),
        // Heads that begin within a group of four channels.
        of(3, [2, 4, 5], [3, 3], [5, 3]),
        of(4, [1, 5, 17], [5, 3], [1, 2]),
        of(1, [1, 4, 4], [1, 1], [4, 4]),
        case(scaled(3.0), [[1, 16, 6, 6], [1, 16, 9, 2], [1, 8, 9, 2]]),
        case(over_pairs(1.0), [[2, 6, 5, 7], [2, 6, 3, 7], [2, 9, 3, 7]]),
        case(
            over_pairs(0.3),
            [[1, 5, 17, 19], [1, 5, 2, 3], [1, 70, 2, 3]],
        ),
        // One image of keys serves all.
        case(Attention::of(1), [[3, 5, 4, 6], [1, 5, 3, 3], [1, 7, 3, 3]]),
    ]
}

//! The sizes of an attention, and its reference: the softmax of each query in `f64`.

use crate::error::{Result, bail};
use crate::ops::kernel::Rows;
use crate::ops::numerics::{UNIT, exp_units, sum_units};
use crate::parallel;
use crate::tensor::{Shape, Tensor};

/// Heads and the shapes of query, key and value.
#[derive(Clone, Debug)]
pub(super) struct Heads {
    pub count: usize,
    /// Factor of the scores.
    pub scale: f64,
    pub query: Shape,
    pub key: Shape,
    pub value: Shape,
}

/// One query pixel of one head, with its scores.
pub(super) struct Query<'a> {
    /// Its image.
    pub image: usize,
    /// The pixel's channels of this head.
    pub query: Vec<f64>,
    /// The planes of the head's keys, a channel each.
    pub keys: &'a [&'a [f32]],
    /// The planes of the head's values, a channel each.
    pub values: &'a [&'a [f32]],
    /// The score of each key.
    pub scores: Vec<f64>,
    /// The largest score.
    pub top: f64,
}

impl Query<'_> {
    /// `exp(score − largest score)` of each key.
    pub fn weights(&self) -> Vec<f64> {
        self.scores.iter().map(|s| (s - self.top).exp()).collect()
    }

    /// The softmax of the scores.
    pub fn shares(&self) -> Vec<f64> {
        let weights = self.weights();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    /// The sum of the values of channel `c`, weighed by `weights`.
    pub fn weighed(&self, c: usize, weights: &[f64]) -> f64 {
        let terms = weights.iter().zip(self.values[c]);
        terms.map(|(weight, v)| weight * f64::from(*v)).sum()
    }

    /// The change of each score, at most, if query and key change by numbers of the size of their own: the query's size
    /// times the norm of the key and the reverse. Sizes are those of query, key and value.
    pub fn score_changes(&self, scale: f64, [of_query, of_key, _]: [f64; 3]) -> Vec<f64> {
        let own = of_key * self.query.iter().map(|q| q * q).sum::<f64>().sqrt();
        let change = |j: usize| {
            let squares = self.keys.iter().map(|plane| f64::from(plane[j]).powi(2));
            (of_query * squares.sum::<f64>().sqrt() + own) * scale.abs()
        };
        (0..self.scores.len()).map(change).collect()
    }

    /// The bound of the error of each weight's exponent, as a natural logarithm.
    ///
    /// A score is a sum of d products, scaled. The exponent is its distance to the largest score: one rounding of the
    /// distance, and the error of `exp`. In online softmax, that distance is covered in steps, to the largest score so far
    /// and from there to larger ones: the parts that are proportional to the distance add up to the same, and each step has
    /// the constant error of `exp` and the rounding of a product. There are at most as many steps as scores that may exceed
    /// all before them.
    pub fn exponent_errors(&self, scale: f64) -> Vec<f64> {
        let mut magnitudes = vec![0.0; self.scores.len()];
        for (part, plane) in self.query.iter().zip(self.keys) {
            for (magnitude, key) in magnitudes.iter_mut().zip(*plane) {
                *magnitude += (part * f64::from(*key)).abs();
            }
        }
        let units = sum_units(self.query.len()) * UNIT * scale.abs();
        let of_score: Vec<_> = magnitudes.iter().map(|m| m * units).collect();
        let (mut steps, mut least) = (0, f64::NEG_INFINITY);
        for (score, error) in self.scores.iter().zip(&of_score) {
            steps += usize::from(score + error >= least);
            least = least.max(score - error);
        }
        let of_steps = steps as f64 * (exp_units(0.0) + 1.0);
        let errors = self.scores.iter().zip(of_score);
        errors
            .map(|(score, of_score)| {
                let distance = self.top - score;
                of_score + (exp_units(distance) + distance + of_steps) * UNIT
            })
            .collect()
    }
}

impl Heads {
    /// # Errors
    /// `Shape` if the shapes do not fit each other.
    pub fn new(count: usize, scale: Option<f64>, [query, key, value]: [Shape; 3]) -> Result<Self> {
        if count == 0 || !query.c.is_multiple_of(count) || !value.c.is_multiple_of(count) {
            bail!(
                Shape,
                "num_heads {count} does not divide the channels of query {query} and value {value}"
            );
        }
        if query.c != key.c {
            bail!(
                Shape,
                "query {query} and key {key} differ in their number of channels"
            );
        }
        if query.c == 0 || value.c == 0 {
            bail!(Shape, "query {query} and value {value} need channels");
        }
        if [key.h, key.w] != [value.h, value.w] || key.h * key.w == 0 {
            bail!(
                Shape,
                "key {key} and value {value} are not of one size, at least one pixel"
            );
        }
        let most = query.n.max(key.n).max(value.n);
        if [query.n, key.n, value.n]
            .iter()
            .any(|n| ![1, most].contains(n))
        {
            bail!(
                Shape,
                "query {query}, key {key} and value {value} have neither one batch size nor batch size 1"
            );
        }
        let scale = scale.unwrap_or_else(|| 1.0 / ((query.c / count) as f64).sqrt());
        if !(scale as f32).is_finite() {
            bail!(Shape, "scale is a number that f32 holds");
        }
        Ok(Self {
            count,
            scale,
            query,
            key,
            value,
        })
    }

    /// The output's shape.
    pub fn output(&self) -> Shape {
        let n = self.query.n.max(self.key.n).max(self.value.n);
        self.query.with_batch(n).with_channels(self.value.c)
    }

    pub fn keys(&self) -> usize {
        self.key.h * self.key.w
    }

    /// Query and key channels of a head.
    pub fn query_channels(&self) -> usize {
        self.query.c / self.count
    }

    /// Value channels of a head.
    pub fn value_channels(&self) -> usize {
        self.value.c / self.count
    }

    /// The rows of keys and values that an output row needs: all.
    pub fn key_rows(&self) -> Rows {
        Rows::all(self.key.h)
    }

    /// Whether every head begins at a group of four channels.
    pub fn are_aligned(&self) -> bool {
        let aligned = |channels: usize| channels.is_multiple_of(4);
        self.count == 1 || aligned(self.query_channels()) && aligned(self.value_channels())
    }

    /// The same heads, each padded with zeros to a multiple of four channels.
    pub fn aligned(&self) -> Self {
        let pad = |shape: Shape| {
            let channels = (shape.c / self.count).next_multiple_of(4);
            shape.with_channels(self.count * channels)
        };
        Self {
            query: pad(self.query),
            key: pad(self.key),
            value: pad(self.value),
            ..self.clone()
        }
    }

    /// Products of all scores and of all weighted values.
    pub fn products(&self) -> u64 {
        let channels = (self.query.c + self.value.c) as u64;
        (self.output().pixels() as u64)
            .saturating_mul(self.keys() as u64)
            .saturating_mul(channels)
    }

    /// A tensor of `channels` numbers for each head of each query pixel, which `work` writes.
    ///
    /// # Errors
    /// `Limit` if the host has no memory for it.
    pub fn map(
        &self,
        inputs: [&Tensor; 3],
        channels: usize,
        work: impl Fn(&Query, &mut [f64]) + Sync + Send,
    ) -> Result<Tensor> {
        let output = self.output().with_channels(self.count * channels);
        let mut result = Tensor::zeros(output)?;
        let pixels = output.h * output.w;
        let planes = result.data_mut().chunks_mut((channels * pixels).max(1));
        for (planes, numbers) in planes.zip(self.each(inputs, channels, work)) {
            for (i, number) in numbers.iter().enumerate() {
                planes[i % channels * pixels + i / channels] = *number as f32;
            }
        }
        Ok(result)
    }

    /// For each head of each image, `channels` numbers for each query pixel, which `work` writes.
    pub fn each(
        &self,
        [query, key, value]: [&Tensor; 3],
        channels: usize,
        work: impl Fn(&Query, &mut [f64]) + Sync + Send,
    ) -> impl Iterator<Item = Vec<f64>> {
        let output = self.output();
        let heads = move |n| (0..self.count).map(move |head| (n, head));
        let image = |n: usize, tensor: &Tensor| n.min(tensor.shape().n - 1);
        (0..output.n).flat_map(heads).map(move |(n, head)| {
            let planes = |tensor, of: usize| -> Vec<&[f32]> {
                let all = head * of..(head + 1) * of;
                all.map(|c| Tensor::plane(tensor, image(n, tensor), c))
                    .collect()
            };
            let queries = planes(query, self.query_channels());
            let keys = planes(key, self.query_channels());
            let values = planes(value, self.value_channels());
            let rows: Vec<usize> = (0..output.h).collect();
            let done = parallel::map(&rows, |y| {
                let mut numbers = vec![0.0; output.w * channels];
                for (x, own) in numbers.chunks_mut(channels).enumerate() {
                    let at = y * output.w + x;
                    let part = queries.iter().map(|plane| f64::from(plane[at]));
                    work(&self.query(n, part.collect(), &keys, &values), own);
                }
                numbers
            });
            done.concat()
        })
    }

    fn query<'a>(
        &self,
        image: usize,
        query: Vec<f64>,
        keys: &'a [&'a [f32]],
        values: &'a [&'a [f32]],
    ) -> Query<'a> {
        let mut scores = vec![0.0; self.keys()];
        for (part, plane) in query.iter().zip(keys) {
            for (score, key) in scores.iter_mut().zip(*plane) {
                *score += part * f64::from(*key);
            }
        }
        scores.iter_mut().for_each(|score| *score *= self.scale);
        let larger = |top: f64, s: &f64| if *s > top || s.is_nan() { *s } else { top };
        Query {
            image,
            top: scores.iter().fold(f64::NEG_INFINITY, larger),
            query,
            keys,
            values,
            scores,
        }
    }
}

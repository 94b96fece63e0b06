//! Attention whose softmax covers all pairs of query and key. It is the attention of each query, times the query's share
//! of the weights of all pairs.

use super::heads::{Heads, Query};
use super::stages::{self, Chunks};
use crate::error::Result;
use crate::ops::numerics::{FLUSHED, UNIT, exp_units, sum_units};
use crate::ops::reduce::{Dims, Reduce, Reduction};
use crate::ops::{Div, Exp, Mul, Op, Slice, Stage, StageInput, Sub};
use crate::tensor::Tensor;
use std::sync::Arc;

/// Units of two products and two divisions, each of which errs by less than six.
const LAST_UNITS: f64 = 24.0;

/// Of the weights of all pairs of an image.
#[derive(Clone, Copy)]
struct Total {
    /// The largest score.
    top: f64,
    /// The sum of `exp(score − largest score)`.
    sum: f64,
    /// The relative error of the sum.
    error: f64,
}

impl Total {
    /// `exp(largest score of the query − largest score)` over the sum: the factor of the query's weights.
    fn factor(&self, query: &Query) -> f64 {
        (query.top - self.top).exp() / self.sum
    }
}

/// The total of each image.
fn totals(heads: &Heads, inputs: [&Tensor; 3]) -> Vec<Total> {
    let states = heads.each(inputs, 3, |query, state| {
        let weights = query.weights();
        let errors = query.exponent_errors(heads.scale);
        let moved = weights.iter().zip(errors).map(|(w, e)| w * e.exp_m1());
        state.copy_from_slice(&[query.top, weights.iter().sum(), moved.sum()]);
    });
    states.map(|states| total(heads, &states)).collect()
}

/// The total of the states of all queries: largest score, sum of the weights, and its error from those of exponents.
fn total(heads: &Heads, states: &[f64]) -> Total {
    let larger = |top: f64, s: &f64| if *s > top || s.is_nan() { *s } else { top };
    let tops = states.iter().step_by(3);
    let top = tops.fold(f64::NEG_INFINITY, larger);
    let (mut sum, mut error) = (0.0, 0.0);
    for state in states.chunks(3) {
        let weight = (state[0] - top).exp() * state[1];
        sum += weight;
        error += (state[0] - top).exp() * state[2] + weight * of_factor(top - state[0]);
    }
    let units = sum_units(heads.keys()) + sum_units(states.len() / 3);
    let relative = error / sum + units * UNIT;
    let error = match relative < 1.0 {
        true => relative / (1.0 - relative),
        false => f64::INFINITY,
    };
    Total { top, sum, error }
}

/// The relative error of `exp(−distance)`, and of the product with it.
fn of_factor(distance: f64) -> f64 {
    (exp_units(distance) + distance + 1.0) * UNIT
}

pub(super) fn reference(heads: &Heads, inputs: [&Tensor; 3]) -> Result<Tensor> {
    let totals = totals(heads, inputs);
    heads.map(inputs, heads.value_channels(), |query, numbers| {
        let (weights, factor) = (query.weights(), totals[query.image].factor(query));
        for (c, number) in numbers.iter_mut().enumerate() {
            *number = factor * query.weighed(c, &weights);
        }
    })
}

/// The error bound of each element. The weight of each pair has the error of its exponent (`Query::exponent_errors`) and
/// of the query's factor, the total has the weighted errors of all of them, and each sum has a rounding for every term.
pub(super) fn bounds(heads: &Heads, inputs: [&Tensor; 3]) -> Result<Tensor> {
    let totals = totals(heads, inputs);
    heads.map(inputs, heads.value_channels(), |query, bounds| {
        let total = totals[query.image];
        let units = 2.0 * sum_units(heads.keys()) + LAST_UNITS;
        let common = total.error + of_factor(total.top - query.top) + units * UNIT;
        let weights = query.weights().into_iter();
        let errors = query.exponent_errors(heads.scale);
        let factor = total.factor(query);
        let moved: Vec<_> = weights
            .zip(errors)
            .map(|(w, e)| factor * w * (e.exp_m1() + e.exp() * common) + FLUSHED)
            .collect();
        for (c, bound) in bounds.iter_mut().enumerate() {
            let values = query.values[c].iter().map(|v| f64::from(v.abs()));
            *bound = FLUSHED + moved.iter().zip(values).map(|(m, v)| m * v).sum::<f64>();
        }
    })
}

/// The root mean square of the change of the output if every input changes by independent numbers of its own size: of the
/// values, √(Σ p_j²) of their size; of query and key, at most Σ p_j |Δs_j| |v_j|, and as much of the total as
/// Σ p |Δs| over all pairs.
pub(super) fn noise(heads: &Heads, inputs: [&Tensor; 3]) -> Result<f64> {
    let totals = totals(heads, inputs);
    let sizes = inputs.map(Tensor::root_mean_square);
    let moved = |query: &Query| -> Vec<f64> {
        let factor = totals[query.image].factor(query);
        let weights = query.weights().into_iter();
        let changes = query.score_changes(heads.scale, sizes);
        weights.zip(changes).map(|(w, d)| factor * w * d).collect()
    };
    let of_queries = heads.each(inputs, 1, |query, sum| sum[0] = moved(query).iter().sum());
    let of_totals: Vec<f64> = of_queries.map(|sums| sums.iter().sum()).collect();
    let noise = heads.map(inputs, heads.value_channels(), |query, numbers| {
        let (weights, factor) = (query.weights(), totals[query.image].factor(query));
        let moved = moved(query);
        let squares: f64 = weights.iter().map(|w| (factor * w).powi(2)).sum();
        for (c, number) in numbers.iter_mut().enumerate() {
            let out = (factor * query.weighed(c, &weights)).abs();
            let of_scores: f64 = query.weighed(c, &moved).abs() + out * of_totals[query.image];
            *number = (sizes[2] * squares.sqrt()).hypot(of_scores);
        }
    })?;
    Ok(noise.root_mean_square())
}

/// The stages of an attention, and those of each query's share of all weights.
pub(super) fn stages(heads: &Heads) -> Vec<Stage> {
    let mut stages = stages::stages(heads);
    let pixels = heads.output().with_channels(1);
    let of_keys = StageInput::Stage(stages.len() - 1);
    let state = StageInput::Stage(stages.len() - 2);
    let mut then = |op: Arc<dyn Op>, inputs: Vec<StageInput>| {
        stages.push(Stage { op, inputs });
        StageInput::Stage(stages.len() - 1)
    };
    let first = 4 * Chunks::of(&heads.aligned()).quads as i64;
    let [best, sum] = [first, first + 1].map(|channel| {
        let slice = Slice {
            dim: 1,
            start: Some(channel),
            end: Some(channel + 1),
            step: 1,
        };
        then(Arc::new(slice), vec![state])
    });
    let reduce = |name, reduction| Reduce {
        name,
        reduction,
        dims: Dims::PIXELS,
    };
    let largest = reduce("largest_score", Reduction::Largest);
    let passes = largest.stages_of(pixels);
    let mut top = best;
    for dims in &passes {
        top = then(Arc::new(largest.over(*dims)), vec![top]);
    }
    let distance = then(Arc::new(Sub {}), vec![best, top]);
    let factor = then(Arc::new(Exp {}), vec![distance]);
    let weight = then(Arc::new(Mul {}), vec![sum, factor]);
    let mut total = weight;
    for dims in &passes {
        let sum = reduce("sum_of_weights", Reduction::Sum);
        total = then(Arc::new(sum.over(*dims)), vec![total]);
    }
    let share = then(Arc::new(Div {}), vec![weight, total]);
    then(Arc::new(Mul {}), vec![of_keys, share]);
    stages
}

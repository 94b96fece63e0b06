//! Finds the fastest kernels on this device: every candidate is compared with the reference implementation, and the
//! candidates that pass are timed.
//!
//! A candidate runs its layer alone, on the network's weights and a random input, through the same planner and executor
//! as a network. A candidate that differs from the reference by more than the error bound is dropped before timing.

use super::executor::POISON;
use super::executor::{Executor, Network};
use super::layout;
use super::random::Random;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::graph::{Graph, NodeId, NodeKind};
use crate::ops::kernel::Format;
use crate::ops::numerics::{UNIT, sum_units};
use crate::ops::{Element, Op, narrow};
use crate::parameters::Parameters;
use crate::plan::{Choice, Choices, Lowering, Plan, Tunable, tunable};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use std::time::{Duration, Instant};

/// Elements of a layer's output that are compared with the reference.
const SAMPLES: usize = 1024;
/// A candidate replaces the default, the candidate of a plan without choices, if it takes at most this share of the
/// default's time.
const WORTH_IT: f64 = 0.97;
/// A candidate is timed again only while its time is below this multiple of the best so far.
const BEHIND: f64 = 1.5;
/// A candidate is not run at full size if its rehearsal predicts more than this multiple of the best time so far …
const FAR_BEHIND: f64 = 8.0;
/// … and more than this, in milliseconds.
const LONG: f64 = 500.0;
/// A layer of more than twice this work is first rehearsed at a smaller size, of at most this work.
const REHEARSAL_FLOPS: u64 = 200_000_000;
/// Each candidate is timed for this many milliseconds in total, with this least and this largest number of runs.
const TIMING: (f64, [usize; 2]) = (20.0, [3, 20]);

/// The measurements of one layer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TunedLayer {
    /// The names of the layer's nodes, joined by `+`.
    pub name: String,
    /// The candidates; the first is the one of a plan without choices.
    pub candidates: Vec<Measured>,
    /// The position of the chosen candidate; `None` if no candidate passed, or the first one was skipped.
    pub chosen: Option<usize>,
}

/// The measurement of one candidate.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Measured {
    /// The candidate's kernels.
    pub kernel: String,
    /// The result.
    pub outcome: Outcome,
}

/// The result of measuring a candidate.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// The candidate agrees with the reference; its fastest run took this many milliseconds.
    Milliseconds(f64),
    /// The candidate differs from the reference or failed to run, for this reason. It was not timed.
    Dropped(String),
    /// The candidate was not run at full size: it would take too long, or the time was over.
    Skipped,
}

impl Outcome {
    /// The time in milliseconds, if it was measured.
    pub fn milliseconds(&self) -> Option<f64> {
        match self {
            Self::Milliseconds(ms) => Some(*ms),
            _ => None,
        }
    }
}

/// Measures the candidates of each layer of `graph` for an input of shape `input`, until `time` is over. `target` is
/// [`Gpu::target`](super::Gpu::target) or [`Gpu::half_target`](super::Gpu::half_target). Layers without a choice come
/// first, then by work, the most first. The fastest candidates are added to [`Gpu::choices`](super::Gpu::choices),
/// which later plans use.
///
/// # Errors
/// `Shape` if the graph does not fit the input; `ModelFile` if a weight is unusable; `DeviceLost` if the device is
/// lost.
pub async fn tune(
    network: &Network,
    target: &Target,
    graph: &Graph,
    input: Shape,
    outputs: &[NodeId],
    parameters: &Parameters,
    time: Duration,
) -> Result<Vec<TunedLayer>> {
    let gpu = network.gpu();
    let mut layers = tunable(graph, input, outputs, target)?;
    let known = gpu.choices();
    layers.sort_by_key(|layer| {
        known
            .get(layer.op.as_ref(), &layer.inputs, target)
            .is_some()
    });
    let end = Instant::now() + time;
    let mut choices = Choices::default();
    let mut tuned = Vec::with_capacity(layers.len());
    for layer in layers.iter().take_while(|_| Instant::now() < end) {
        let bench = Bench::new(Network::new(gpu), target, layer, parameters)?;
        let found = bench.measure(end).await?;
        if let Some(chosen) = found.chosen
            && let Some(milliseconds) = found.candidates[chosen].outcome.milliseconds()
        {
            let choice = Choice {
                kernel: found.candidates[chosen].kernel.clone(),
                fingerprint: layer.candidates[chosen].fingerprint(),
                microseconds: (1e3 * milliseconds) as u64,
            };
            choices.insert(layer.op.as_ref(), &layer.inputs, target, choice);
        }
        tuned.push(found);
    }
    gpu.choose(choices);
    gpu.keep_pipelines();
    Ok(tuned)
}

/// A layer alone, with the data to run and check any of its candidates.
struct Bench<'a> {
    network: Network,
    /// The target of its plans.
    target: &'a Target,
    layer: &'a Tunable,
    parameters: &'a Parameters,
    full: Sample,
    /// The smaller size, only for a layer of much work.
    rehearsal: Option<Sample>,
}

impl<'a> Bench<'a> {
    fn new(
        network: Network,
        target: &'a Target,
        layer: &'a Tunable,
        parameters: &'a Parameters,
    ) -> Result<Self> {
        let mut weights = Vec::new();
        for node in layer.graph.nodes() {
            if let NodeKind::Parameter(shape) = node.kind {
                weights.push(parameters.get(&node.name, shape)?.tensor()?);
            }
        }
        // The device holds these weights in f16, for every candidate.
        let in_half = layer
            .candidates
            .first()
            .map_or(Vec::new(), Lowering::weights);
        for input in in_half
            .into_iter()
            .filter(|input| target.options.half && *input > 0)
        {
            weights[input - 1] = in_f16(&weights[input - 1]);
        }
        let op = layer.op.as_ref();
        let sample = |shape| Sample::new(op, shape, &weights, target.options.half);
        Ok(Self {
            full: sample(layer.inputs[0])?,
            rehearsal: smaller(op, &layer.inputs).map(sample).transpose()?,
            network,
            target,
            layer,
            parameters,
        })
    }

    /// Measures the candidates one after the other.
    async fn measure(&self, end: Instant) -> Result<TunedLayer> {
        self.compile().await;
        let mut candidates = Vec::with_capacity(self.layer.candidates.len());
        let mut best = f64::INFINITY;
        for candidate in &self.layer.candidates {
            let outcome = match self.try_candidate(candidate, best, end).await {
                Ok(outcome) => outcome,
                Err(error) => {
                    self.network.gpu().check_lost()?;
                    Outcome::Dropped(error.to_string())
                }
            };
            let kernel = candidate.description();
            match &outcome {
                Outcome::Dropped(why) => tracing::warn!(
                    "{}: {kernel} is dropped on {}: {why}",
                    self.layer.name,
                    self.network.gpu()
                ),
                _ => tracing::info!("{}: {kernel}: {outcome:?}", self.layer.name),
            }
            best = best.min(outcome.milliseconds().unwrap_or(f64::INFINITY));
            candidates.push(Measured { kernel, outcome });
        }
        Ok(TunedLayer {
            name: self.layer.name.clone(),
            chosen: chosen(&candidates),
            candidates,
        })
    }

    /// Compiles the shaders of all candidates, on all cores. Errors are reported when the candidate runs.
    async fn compile(&self) {
        let pipelines = |candidate: &Lowering| {
            let plan = self.plan(candidate, &self.full);
            plan.ok()
                .flatten()
                .map_or(Vec::new(), |plan| plan.pipelines)
        };
        let candidates = self.layer.candidates.iter();
        let pipelines: Vec<_> = candidates.flat_map(pipelines).collect();
        self.network.compile_ahead(&pipelines).await;
    }

    async fn try_candidate(
        &self,
        candidate: &Lowering,
        best: f64,
        end: Instant,
    ) -> Result<Outcome> {
        if Instant::now() >= end {
            return Ok(Outcome::Skipped);
        }
        if let Some(rehearsal) = &self.rehearsal
            && let Some(mut executor) = self.executor(candidate, rehearsal).await?
        {
            rehearsal.check(&mut executor).await?;
            let expected = time(&mut executor).await? * self.full.flops / rehearsal.flops;
            let left = end.saturating_duration_since(Instant::now());
            let is_long = expected > LONG && expected > FAR_BEHIND * best;
            // At full size, a candidate runs at least twice.
            if is_long || 2.0 * expected > left.as_secs_f64() * 1e3 && expected > LONG {
                return Ok(Outcome::Skipped);
            }
        }
        let Some(mut executor) = self.executor(candidate, &self.full).await? else {
            bail!(
                Unsupported,
                "the planner has no such candidate at this size"
            );
        };
        self.full.check(&mut executor).await?;
        let mut fastest = time(&mut executor).await?;
        let (enough, [least, most]) = TIMING;
        let (mut spent, mut runs) = (fastest, 1);
        while fastest < BEHIND * best
            && runs < most
            && (runs < least || spent < enough)
            && Instant::now() < end
        {
            let again = time(&mut executor).await?;
            fastest = fastest.min(again);
            spent += again;
            runs += 1;
        }
        Ok(Outcome::Milliseconds(fastest))
    }

    /// The plan of `candidate` for `sample`; `None` if the op has no such candidate at that size.
    fn plan(&self, candidate: &Lowering, sample: &Sample) -> Result<Option<Plan>> {
        let shape = sample.input.shape();
        self.layer.plan(candidate, shape, self.target)
    }

    /// An executor of that plan, with poisoned buffers.
    async fn executor(&self, candidate: &Lowering, sample: &Sample) -> Result<Option<Executor>> {
        let Some(plan) = self.plan(candidate, sample)? else {
            return Ok(None);
        };
        let mut executor =
            Executor::new(&self.network, plan, &self.layer.graph, self.parameters).await?;
        executor.poison();
        Ok(Some(executor))
    }
}

/// The position of the chosen candidate: the fastest, or the first if the fastest is not faster by enough (`WORTH_IT`).
fn chosen(candidates: &[Measured]) -> Option<usize> {
    let times = candidates
        .iter()
        .map(|c| c.outcome.milliseconds())
        .enumerate();
    let timed = times.filter_map(|(i, ms)| Some((i, ms?)));
    let (fastest, ms) = timed.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    match candidates.first().map(|first| &first.outcome) {
        Some(Outcome::Milliseconds(first)) if ms > WORTH_IT * first => Some(0),
        // Without the first candidate's time, a gain is unknown.
        Some(Outcome::Skipped) => None,
        _ => Some(fastest),
    }
}

/// The time of one run on the device, in milliseconds.
async fn time(executor: &mut Executor) -> Result<f64> {
    Ok(executor.time_layers().await?.milliseconds.iter().sum())
}

/// A smaller input for the rehearsal of a layer; `None` if the layer has little work.
fn smaller(op: &dyn Op, inputs: &[Shape]) -> Option<Shape> {
    let mut inputs = inputs.to_vec();
    if op.flops(&inputs) <= 2 * REHEARSAL_FLOPS {
        return None;
    }
    inputs[0].n = 1;
    while op.flops(&inputs) > REHEARSAL_FLOPS {
        let before = inputs[0];
        let (h, w) = match before.h > before.w {
            true => (before.h / 2, before.w),
            false => (before.h, before.w / 2),
        };
        inputs[0] = before.with_size(h, w);
        if inputs[0].elements() == 0 || op.output_shape(&inputs).is_err() {
            inputs[0] = before;
            break;
        }
    }
    Some(inputs[0])
}

/// `tensor` with every element rounded to f16.
fn in_f16(tensor: &Tensor) -> Tensor {
    tensor.map(narrow::rounded)
}

/// A layer's input at one size, and the reference's values at some positions of the output.
struct Sample {
    input: Tensor,
    encoded: (Format, Vec<u8>),
    flops: f64,
    at: Vec<[usize; 4]>,
    expected: Vec<Element>,
    /// The largest error of a sum, relative to its magnitude.
    bound: f64,
    /// Activations are f16: a sum is rounded once more.
    half: bool,
}

impl Sample {
    fn new(op: &dyn Op, input: Shape, weights: &[Tensor], half: bool) -> Result<Self> {
        let mut shapes = vec![input];
        shapes.extend(weights.iter().map(Tensor::shape));
        let output = op.output_shape(&shapes)?;
        let mut random = Random(input.elements() as u64);
        let mut input = Tensor::from_fn(input, |_, _, _, _| random.float())?;
        if half {
            input = in_f16(&input);
        }
        let format = match half {
            true => Format::Nhwc4Half,
            false => Format::Nhwc4,
        };
        let at = positions(output, &mut random);
        let inputs: Vec<_> = std::iter::once(&input).chain(weights).collect();
        Ok(Self {
            expected: op.elements(&inputs, &at)?,
            bound: sum_units(op.reduction_length(&shapes)) * UNIT,
            flops: op.flops(&shapes).max(1) as f64,
            encoded: (format, layout::encode(&input, format)?),
            input,
            at,
            half,
        })
    }

    /// An error unless the executor's output is within the bound of the reference and has no unwritten element.
    async fn check(&self, executor: &mut Executor) -> Result<()> {
        let place = &executor.plan().input;
        let bytes = match self.encoded.0 == place.format {
            true => executor.run_bytes(&self.encoded.1).await?,
            false => {
                let encoded = layout::encode(&self.input, place.format)?;
                executor.run_bytes(&encoded).await?
            }
        };
        let (Some(bytes), [(_, place)]) = (bytes.first(), &executor.plan().outputs[..]) else {
            bail!(Device, "the candidate's plan has no output");
        };
        if bytes
            .chunks_exact(4)
            .any(|word| word == POISON.to_ne_bytes())
        {
            bail!(Device, "a part of the output is unwritten");
        }
        let found = layout::decode_at(bytes, place.shape, place.format, &self.at)?;
        let found = found.into_iter().zip(&self.expected);
        for ((found, expected), at) in found.zip(&self.at) {
            let mut bound = self.bound * expected.magnitude;
            if self.half {
                bound +=
                    (f64::from(expected.value).abs() + bound) * narrow::UNIT + narrow::LEAST_STEP;
            }
            let off = (f64::from(found) - f64::from(expected.value)).abs();
            // NaN also fails.
            if off.is_nan() || off > bound {
                let message = format!(
                    "at {at:?} the output is {found:e}, the reference {:e}; the error bound is {bound:.1e}",
                    expected.value
                );
                return Err(Error::new(ErrorKind::Device, message));
            }
        }
        Ok(())
    }
}

/// The positions to compare: all of a small output, else random ones, with more at the edges.
fn positions(shape: Shape, random: &mut Random) -> Vec<[usize; 4]> {
    let Shape { n, c, h, w } = shape;
    if shape.elements() <= SAMPLES {
        let position = |i: usize| [i / w / h / c, i / w / h % c, i / w % h, i % w];
        return (0..shape.elements()).map(position).collect();
    }
    let mut somewhere = |i: usize, every: usize, size: usize| match i % every {
        0 => 0,
        1 => size - 1,
        _ => random.below(size),
    };
    // The periods have no common divisors, so every combination of edges occurs.
    let position = |i: usize| {
        let (y, x) = (somewhere(i, 5, h), somewhere(i, 7, w));
        [somewhere(i, 3, n), somewhere(i, 11, c), y, x]
    };
    (0..SAMPLES).map(position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(outcomes: Vec<Outcome>) -> Vec<Measured> {
        let kernel = String::new();
        let of = |outcome| Measured {
            kernel: kernel.clone(),
            outcome,
        };
        outcomes.into_iter().map(of).collect()
    }

    #[test]
    fn the_first_stays_unless_another_is_clearly_faster_or_it_is_wrong() {
        let ms = Outcome::Milliseconds;
        let wrong = || Outcome::Dropped("wrong".into());
        for (outcomes, expected) in [
            (vec![ms(1.0), ms(0.99)], Some(0)),
            (vec![ms(1.0), ms(2.0), ms(0.5)], Some(2)),
            (vec![wrong(), ms(2.0)], Some(1)),
            (vec![wrong(), wrong()], None),
            (vec![ms(1.0), wrong(), Outcome::Skipped], Some(0)),
            (vec![Outcome::Skipped, ms(0.1)], None),
        ] {
            assert_eq!(chosen(&measured(outcomes)), expected);
        }
    }

    #[test]
    fn every_edge_and_corner_is_looked_at() {
        let shape = Shape::new(2, 70, 40, 30);
        let at = positions(shape, &mut Random(1));
        assert_eq!(at.len(), SAMPLES);
        for y in [0, 39] {
            for x in [0, 29] {
                assert!(at.iter().any(|p| p[2..] == [y, x]), "{y} {x}");
            }
        }
        for c in 0..70 {
            assert!(at.iter().any(|p| p[1] == c), "{c}");
        }
        let few = positions(Shape::new(1, 3, 2, 2), &mut Random(1));
        assert_eq!((few.len(), few[5]), (12, [0, 1, 0, 1]));
    }
}

//! Which kernels are the fastest on the device at hand: every candidate is held to the reference implementation,
//! and those that pass are timed.
//!
//! Candidates run one layer alone, on the network's own weights and random numbers, through the planner and
//! the executor that run networks. A candidate that does not give the reference's numbers is out before it is timed.

use super::executor::POISON;
use super::{Executor, Network, layout};
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

/// Elements of a layer's output that are held to the reference.
const SAMPLES: usize = 1024;
/// A candidate is chosen over that of a plan without choices if it takes less than this share of its time.
const WORTH_IT: f64 = 0.97;
/// One that took longer than this many times the best so far is not timed again.
const BEHIND: f64 = 1.5;
/// One that seems to take longer than this many times the best so far is not run at full size …
const FAR_BEHIND: f64 = 8.0;
/// … if that would take longer than this, in milliseconds.
const LONG: f64 = 500.0;
/// Layers of more work than this are rehearsed at a smaller size, of so much.
const REHEARSAL_FLOPS: u64 = 200_000_000;
/// Each candidate is timed until this many milliseconds are spent, but this many times at least and at most.
const TIMING: (f64, [usize; 2]) = (20.0, [3, 20]);

/// What was found out about one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct TunedLayer {
    /// The names of the nodes it computes, joined by `+`.
    pub name: String,
    /// The candidates, that of a plan without choices first.
    pub candidates: Vec<Measured>,
    /// The position of the one that is chosen; `None` if none passed, or time ran out.
    pub chosen: Option<usize>,
}

/// What was found out about a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Its kernels.
    pub kernel: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is right and takes so many milliseconds.
    Milliseconds(f64),
    /// Its numbers are not the reference's, or it could not be run: why. It was not timed.
    Dropped(String),
    /// It was not run at full size: it would have taken too long.
    Skipped,
}

impl Outcome {
    /// The time, if it was measured.
    pub fn milliseconds(&self) -> Option<f64> {
        match self {
            Self::Milliseconds(ms) => Some(*ms),
            _ => None,
        }
    }
}

/// Measures the candidates of each layer of `graph` for an input of shape `input` in plans for `target`, which is
/// [`Gpu::target`](super::Gpu::target) or [`Gpu::half_target`](super::Gpu::half_target): those with the most
/// work first, until `time` is over; layers for which nothing was chosen before come first. What is found is added
/// to [`Gpu::choices`](super::Gpu::choices): plans made from then on have it.
///
/// # Errors
/// `Shape` if the graph does not fit the input; `ModelFile` if a weight cannot be used; `Device` if the device
/// is lost.
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

/// A layer on its own, ready to be computed by any of its candidates.
struct Bench<'a> {
    network: Network,
    /// What plans are made for.
    target: &'a Target,
    layer: &'a Tunable,
    parameters: &'a Parameters,
    full: Sample,
    /// For a layer of much work.
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
        // As the device has them: not one candidate reads them as anything else.
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

    /// Measures one candidate after the other.
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
                    "{} is not computed by {kernel} on {}: {why}",
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

    /// Compiles the shaders of all candidates on all cores. What does not compile shows when it is tried.
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
            // It runs at least twice.
            if is_long || 2.0 * expected > left.as_secs_f64() * 1e3 && expected > LONG {
                return Ok(Outcome::Skipped);
            }
        }
        let Some(mut executor) = self.executor(candidate, &self.full).await? else {
            bail!(Unsupported, "the planner does not take it");
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

    /// The plan for a sample by the candidate; `None` if it is none of those at that size.
    fn plan(&self, candidate: &Lowering, sample: &Sample) -> Result<Option<Plan>> {
        let shape = sample.input.shape();
        self.layer.plan(candidate, shape, self.target)
    }

    /// An executor of that plan.
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

/// The position of the fastest: of the first, unless another is faster by enough to matter.
fn chosen(candidates: &[Measured]) -> Option<usize> {
    let times = candidates
        .iter()
        .map(|c| c.outcome.milliseconds())
        .enumerate();
    let timed = times.filter_map(|(i, ms)| Some((i, ms?)));
    let (fastest, ms) = timed.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    match candidates.first().map(|first| &first.outcome) {
        Some(Outcome::Milliseconds(first)) if ms > WORTH_IT * first => Some(0),
        // Nothing is known of what it would replace.
        Some(Outcome::Skipped) => None,
        _ => Some(fastest),
    }
}

/// Milliseconds of a run on the device.
async fn time(executor: &mut Executor) -> Result<f64> {
    Ok(executor.time_layers().await?.milliseconds.iter().sum())
}

/// A smaller size at which a layer of much work is rehearsed.
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

/// What f16 holds of a tensor.
fn in_f16(tensor: &Tensor) -> Tensor {
    tensor.map(narrow::rounded)
}

/// A layer's input at one size, and what the reference says of a part of its output.
struct Sample {
    input: Tensor,
    encoded: (Format, Vec<u8>),
    flops: f64,
    at: Vec<[usize; 4]>,
    expected: Vec<Element>,
    /// What a sum may be off by, for each unit of its magnitude.
    bound: f64,
    /// Values are kept in f16: a sum is rounded once more.
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

    /// An error unless the executor gives the reference's numbers, and writes every element.
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
            bail!(Device, "it has no output");
        };
        if bytes
            .chunks_exact(4)
            .any(|word| word == POISON.to_ne_bytes())
        {
            bail!(Device, "it leaves some of its output unwritten");
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
            // Also where it is NaN.
            if off.is_nan() || off > bound {
                let message = format!(
                    "at {at:?} it gives {found:e}, the reference {:e}, and it may be off by {bound:.1e}",
                    expected.value
                );
                return Err(Error::new(ErrorKind::Device, message));
            }
        }
        Ok(())
    }
}

/// Where an output of this shape is looked at: everywhere, or at random, at the edges more than elsewhere.
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
    // Periods without common divisors: every edge meets every other.
    let position = |i: usize| {
        let (y, x) = (somewhere(i, 5, h), somewhere(i, 7, w));
        [somewhere(i, 3, n), somewhere(i, 11, c), y, x]
    };
    (0..SAMPLES).map(position).collect()
}

/// Numbers without a pattern, the same in every run: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between −1 and 1.
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    fn below(&mut self, size: usize) -> usize {
        (self.next() % size as u64) as usize
    }
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

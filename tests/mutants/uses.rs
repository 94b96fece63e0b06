//! The uses of a shader: plans of single ops that run it, with what each has to write.

use crate::common::emulation::emulated_plan;
use crate::common::functions;
use crate::common::samples::{Inputs, Sample};
use crate::common::sizes::{at_size, of_fixed_sizes};
use crate::common::ways::{Setup, Way, single_kernels};
use crate::common::writes::region;
use crate::common::{OneOp, Random};
use crate::mutate::ending;
use crate::special::specials;
use fullconv::low_level::gpu::{Executor, Network};
use fullconv::low_level::ops::Case;
use fullconv::low_level::ops::grid::Region;
use fullconv::low_level::ops::kernel::{Format, Kernel, Shader};
use fullconv::low_level::ops::numerics::ErrorBound;
use fullconv::low_level::plan::{Bound, Pipeline, Plan, ReadBack, Step, lowered};
use fullconv::{Shape, Tensor};
use half::f16;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The bytes after an output that a kernel might write by mistake: some workgroups' elements.
pub const BEYOND: u64 = 16 << 10;
/// Fills buffers before a run.
pub const POISON: u32 = 0x7fed_7fed;

/// A place where a shader is used.
pub struct Place {
    /// Its index.
    pub setup: usize,
    pub case: Case,
    pub way: Way,
    /// Whether the way computes a stage of an op.
    is_stage: bool,
    /// The only inputs, if they are special.
    inputs: Option<Arc<Vec<Tensor>>>,
}

/// The size of an output that takes several workgroups.
const LARGE: [usize; 2] = [9, 38];
/// The most work of a large case.
const MOST_FLOPS: u64 = 20_000_000;

/// All cases, cases that take several workgroups, and those of [`functions`].
fn cases() -> [Vec<Case>; 3] {
    let all = lowered::cases();
    let larger = all.iter().filter_map(|case| at_size(case, 2, LARGE, true));
    let larger = larger.filter(|case| case.op.flops(&case.inputs) < MOST_FLOPS);
    let hard = functions::functions().into_iter().map(|op| Case {
        op,
        inputs: vec![Shape::new(1, 3, 1, functions::numbers().len())],
        diagonal: false,
    });
    let larger = larger.chain(of_fixed_sizes()).collect();
    [all, larger, hard.collect()]
}

/// The places of each shader.
pub fn places(setups: &[Setup]) -> BTreeMap<&'static str, Vec<Place>> {
    let [cases, larger, hard] = cases();
    let specials = specials(&mut Random::new(67));
    let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (setup, Setup { target, cut, .. }) in setups.iter().enumerate() {
        // Of a large case, small parts would be many.
        let larger = larger.iter().filter(|_| !cut);
        // f16 does not hold all numbers.
        let hard = hard.iter().filter(|_| !cut && !target.options.half);
        let specials = specials.iter().filter(|_| !cut && !target.options.half);
        let specials = specials.map(|special| (&special.case, Some(&special.inputs)));
        let all = cases.iter().chain(larger).chain(hard);
        for (case, inputs) in all.map(|case| (case, None)).chain(specials) {
            for way in single_kernels(&case.op, &case.inputs, target) {
                // Statistics are f32 only between the stages of an operation.
                let mut read = way.kernels[0].bindings.iter();
                let exact = read.any(|binding| {
                    let format = binding.activation().map(|(_, format, _)| format);
                    format == Some(Format::Nhwc4Exact)
                });
                if target.options.half && exact && way.op.name() != "max_unpool2d" {
                    continue;
                }
                let name = way.kernels[0].shader.name;
                let is_stage = !Arc::ptr_eq(&way.op, &case.op);
                let case = Case {
                    op: way.op.clone(),
                    inputs: way.inputs.clone(),
                    diagonal: case.diagonal,
                };
                places.entry(name).or_default().push(Place {
                    setup,
                    case,
                    way,
                    is_stage,
                    inputs: inputs.cloned(),
                });
            }
        }
    }
    places
}

/// A run of a shader whose outcome is known.
pub trait Run {
    /// What it computes, in words.
    fn what(&self) -> &str;
    /// The texts of the shader.
    fn texts(&self) -> Vec<&str>;
    /// The text and the constants of its pipeline.
    fn variant(&self) -> String;
    /// Runs it with the shader's text changed.
    fn run(&self, change: &dyn Fn(&str) -> Option<String>) -> Outcome;
}

/// A plan that runs a shader.
struct Use {
    what: String,
    one: Arc<OneOp>,
    sample: Arc<Sample>,
    plan: Plan,
    /// The pipelines of the shader.
    pipelines: Vec<usize>,
    network: Network,
    /// Whether padding channels are zero. They are not if NaN or infinity meets a weight's padding, and sums of parts
    /// have the parts' padding, which a graph of one stage does not fill with zeros.
    is_padded: bool,
    /// The part of the output that the plan writes, and how many parts lie side by side in the channels; `None`: all
    /// of it.
    part: Option<(Region, usize)>,
}

/// The outcome of a run.
#[derive(Debug)]
pub enum Outcome {
    Right,
    /// What is wrong.
    Wrong(String),
    /// The device cannot run it: it does not compile.
    Invalid(String),
}

impl Run for Use {
    fn what(&self) -> &str {
        &self.what
    }
    fn texts(&self) -> Vec<&str> {
        let text = |i: &usize| self.plan.pipelines[*i].shader.source.as_ref();
        self.pipelines.iter().map(text).collect()
    }
    fn variant(&self) -> String {
        let pipeline = &self.plan.pipelines[self.pipelines[0]];
        format!("{:?} {}", pipeline.constants, pipeline.shader.source)
    }
    fn run(&self, change: &dyn Fn(&str) -> Option<String>) -> Outcome {
        let mut plan = self.plan.clone();
        for i in &self.pipelines {
            let shader = &mut plan.pipelines[*i].shader;
            if let Some(text) = change(&shader.source) {
                *shader = Shader::new(shader.name, ending(&text));
            }
        }
        let run = || self.run_plan(plan);
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            Outcome::Wrong(text.unwrap_or_else(|| "a panic".to_owned()))
        })
    }
}

impl Use {
    fn run_plan(&self, plan: Plan) -> Outcome {
        let plan = emulated_plan(plan);
        if let Some(why) = plan
            .pipelines
            .iter()
            .find_map(|p| invalid(&p.shader.source))
        {
            return Outcome::Invalid(why);
        }
        let (graph, parameters) = (&self.one.graph, &self.one.parameters);
        pollster::block_on(async {
            let executor = Executor::new(&self.network, plan, graph, parameters).await;
            let mut executor = match executor {
                Ok(executor) => executor,
                Err(e) => return Outcome::Invalid(e.to_string()),
            };
            let run = async { executor.submit_tensor(&self.one.input).await?.await };
            match run.await {
                Ok(bytes) => match self.fault(&bytes[0]) {
                    None => Outcome::Right,
                    Some(fault) => Outcome::Wrong(fault),
                },
                Err(e) => Outcome::Wrong(e.to_string()),
            }
        })
    }

    /// What is wrong with the output's memory, and with the memory after it.
    fn fault(&self, bytes: &[u8]) -> Option<String> {
        let place = &self.plan.outputs[0].1;
        let (shape, format) = (place.shape, place.format);
        let (own, beyond) = bytes.split_at(place.bytes() as usize);
        if words(beyond).any(|word| word != POISON) {
            return Some("writes beyond the output".to_owned());
        }
        let element = format.element_bytes() as usize;
        if let Some((region, parts)) = &self.part {
            let inside: HashSet<_> = elements(region, *parts).collect();
            for (i, bytes) in own.chunks_exact(element).enumerate() {
                let written = words(bytes).any(|word| word != POISON);
                if written != inside.contains(&i) {
                    return Some(format!("element {i} is written: {written}"));
                }
            }
            return None;
        }
        if words(own).any(|word| word == POISON) {
            return Some("leaves a part unwritten".to_owned());
        }
        if self.is_padded && padding(own, shape, format).any(|number| number != 0.0) {
            return Some("padding channels are not zero".to_owned());
        }
        self.sample.difference(&decoded(own, shape, format))
    }
}

pub fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let words = bytes.chunks_exact(4);
    words.map(|word| u32::from_le_bytes(word.try_into().unwrap()))
}

/// The elements of a region, by their index in memory; the channels have `parts` side by side.
fn elements(region: &Region, parts: usize) -> impl Iterator<Item = usize> {
    let Region { shape, rows, .. } = region.clone();
    let per = region.pixels_per_element;
    let (c4, quads) = (shape.c4(), region.quads.clone());
    let pixels = rows.start * shape.w..rows.end * shape.w;
    pixels.flat_map(move |pixel| {
        let of_part = move |part: usize| quads_of(part, c4 / parts, pixel * c4);
        let quads = quads.clone();
        (0..parts)
            .flat_map(move |part| quads.clone().map(of_part(part)))
            .map(move |element| if per > 1 { pixel / per } else { element })
            .collect::<Vec<_>>()
    })
}

fn quads_of(part: usize, in_part: usize, first: usize) -> impl Fn(usize) -> usize {
    move |quad| first + part * in_part + quad
}

/// The numbers in memory.
fn numbers(bytes: &[u8], format: Format) -> Vec<f32> {
    match format {
        Format::Nhwc4Half => {
            let halves = bytes.chunks_exact(2);
            let number = |half: &[u8]| f16::from_le_bytes(half.try_into().unwrap()).to_f32();
            halves.map(number).collect()
        }
        Format::Labels8 => bytes.iter().map(|label| f32::from(*label)).collect(),
        _ => words(bytes).map(f32::from_bits).collect(),
    }
}

/// The numbers in channels beyond the last, or the labels after the last in its word.
fn padding(bytes: &[u8], shape: Shape, format: Format) -> impl Iterator<Item = f32> {
    let (width, own) = match format {
        Format::Labels8 => (bytes.len(), shape.pixels()),
        _ => (4 * shape.c4(), shape.c),
    };
    let all = numbers(bytes, format).into_iter().enumerate();
    all.filter(move |(i, _)| i % width >= own)
        .map(|(_, number)| number)
}

fn decoded(bytes: &[u8], shape: Shape, format: Format) -> Tensor {
    let numbers = numbers(bytes, format);
    let width = match format {
        Format::Labels8 => 1,
        _ => 4 * shape.c4(),
    };
    let number = |n: usize, c, y, x| numbers[((n * shape.h + y) * shape.w + x) * width + c];
    Tensor::from_fn(shape, number).unwrap()
}

/// The output in a buffer of its own, which goes on after the output; each dispatch sees what follows its part. `None`
/// if no buffer holds the whole output.
fn apart(mut plan: Plan) -> Option<Plan> {
    let (slot, last) = (plan.slots.len(), plan.layers.len() - 1);
    let place = &mut plan.outputs[0].1;
    if plan.slots[place.slot] < place.bytes() {
        return None;
    }
    let bytes = place.bytes() + BEYOND;
    place.slot = slot;
    plan.slots.push(bytes);
    for step in plan.steps.iter_mut().filter(|step| step.layer == last) {
        match step.bindings.last_mut() {
            Some(Bound::Slot {
                slot: of,
                bytes: seen,
                ..
            }) => {
                *of = slot;
                seen.end = (seen.end + BEYOND).min(bytes);
            }
            other => panic!("{other:?}"),
        }
    }
    plan.read_backs = vec![ReadBack {
        output: 0,
        after: plan.steps.len(),
        bytes: 0..bytes,
    }];
    Some(plan)
}

/// A number that tells plans of one graph apart.
fn identity(plan: &Plan) -> u64 {
    let mut hasher = DefaultHasher::new();
    for Pipeline { shader, constants } in &plan.pipelines {
        shader.source.hash(&mut hasher);
        for (name, value) in constants {
            (name, value.to_bits()).hash(&mut hasher);
        }
    }
    for step in &plan.steps {
        (step.pipeline, &step.params, step.workgroups).hash(&mut hasher);
    }
    hasher.finish()
}

/// Whether the op computes each element from one element of an input.
fn is_function(case: &Case) -> bool {
    let numerics = case.op.numerics(&case.inputs);
    numerics.reduction_length == 1 && !matches!(numerics.error, ErrorBound::Elements(_))
}

/// Workgroups in two dimensions, as those of large dispatches are: a `wide` dispatch has more along the first, and more
/// than one past the last, so that numbers off by one or of the wrong sign show; a tall one has more along the second.
pub fn folded(groups: u32, wide: bool) -> [u32; 2] {
    let first = match wide {
        true => (2..groups).find(|x| *x > groups.div_ceil(*x) && groups % x > 1),
        false => (1..).find(|x| groups < 5 || *x == 2),
    };
    let first = first.unwrap_or(groups);
    [first, groups.div_ceil(first)]
}

/// Folds the last layer's workgroups.
fn fold(plan: &mut Plan, wide: bool) {
    let last = plan.layers.len() - 1;
    for step in plan.steps.iter_mut().filter(|step| step.layer == last) {
        let [x, y] = step.workgroups;
        step.workgroups = folded(x * y, wide);
    }
}

/// Of the parts that the last layer is cut into, only one in the middle; `None` if there is one part.
fn one_part(mut plan: Plan, kernel: &Kernel) -> Option<(Plan, Region)> {
    let last = plan.layers.len() - 1;
    if plan.groups.iter().any(|group| group.layers.contains(&last)) {
        return None;
    }
    let shape = plan.layers[last].shape;
    let of = |step: &Step| region(kernel, step, shape);
    let own = plan.steps.iter().filter(|step| step.layer == last);
    let mut regions: Vec<_> = own.map(of).collect();
    regions.dedup();
    if regions.len() < 2 {
        return None;
    }
    let chosen = regions.swap_remove(regions.len() / 2);
    let mut mirror = None;
    let mut steps = Vec::new();
    for mut step in std::mem::take(&mut plan.steps) {
        if step.layer == last {
            mirror = step.mirror.take().or(mirror);
            if of(&step) != chosen {
                continue;
            }
            // The texture may hold these bytes since a step that is left out.
            step.mirror.clone_from(&mirror);
        }
        steps.push(step);
    }
    plan.steps = steps;
    plan.read_backs[0].after = plan.steps.len();
    Some((plan, chosen))
}

/// The uses of the shader `name`, one of each plan and kind of inputs. Plans with other text or constants come first,
/// in turns.
pub fn uses(name: &str, setups: &[Setup], places: &[Place]) -> Vec<Box<dyn Run>> {
    let mut random = Random::new(61);
    let mut samples: BTreeMap<String, Arc<Sample>> = BTreeMap::new();
    let mut seen = HashSet::new();
    let mut by_variant: Vec<(String, Vec<Use>)> = Vec::new();
    for place in places {
        let Place {
            setup, case, way, ..
        } = place;
        let setup = &setups[*setup];
        let half = setup.target.options.half;
        for inputs in [Inputs::Random, Inputs::Quarters, Inputs::Wild, Inputs::Hard] {
            // f16 reports NaN.
            if inputs != Inputs::Random && (half || setup.cut) {
                continue;
            }
            // Between these stages, NaN may be infinity.
            if inputs == Inputs::Wild && case.op.name() == "attention_sums" {
                continue;
            }
            if inputs == Inputs::Hard && !is_function(case) {
                continue;
            }
            if inputs != Inputs::Random && place.inputs.is_some() {
                continue;
            }
            // A part's padding channels are real ones to the reference; NaN times padding is NaN.
            if inputs == Inputs::Wild && case.op.name() == "gram_parts" {
                continue;
            }
            let key = format!("{half} {inputs:?} {:?} {:?}", case.op, case.inputs);
            let new = || {
                let sample = match &place.inputs {
                    Some(inputs) => Sample::of(OneOp::new(case.op.clone(), inputs.to_vec())),
                    None => Sample::new(case.clone(), half, inputs, &mut random),
                };
                let sample = match case.op.name() {
                    "sum_parts" => sample.of_dropped(),
                    _ => sample,
                };
                Arc::new(match place.is_stage {
                    true => sample.of_stage(),
                    false => sample,
                })
            };
            let sample = samples.entry(key.clone()).or_insert_with(new).clone();
            if matches!(inputs, Inputs::Wild | Inputs::Hard) && !sample.is_bounded() {
                continue;
            }
            let in_parts = ["sum_parts", "gram_sum"].contains(&case.op.name());
            let Some((one, plan)) = sample.by(setup, way) else {
                continue;
            };
            let Some(mut plan) = apart(plan) else {
                continue;
            };
            fold(&mut plan, inputs == Inputs::Random);
            if !seen.insert((key, identity(&plan))) {
                continue;
            }
            let has = |pipeline: &(usize, &Pipeline)| pipeline.1.shader.name == name;
            let found = plan.pipelines.iter().enumerate().filter(has);
            let pipelines: Vec<_> = found.map(|(i, _)| i).collect();
            if pipelines.is_empty() {
                continue;
            }
            let kernel = way.kernels.last().unwrap();
            let part = one_part(plan.clone(), kernel).filter(|_| inputs == Inputs::Random);
            let parts = part.map(|(plan, region)| (plan, Some((region, kernel.grid.parts()))));
            for (plan, part) in [(plan, None)].into_iter().chain(parts) {
                let new = Use {
                    what: format!(
                        "{}, {inputs:?}, a part: {}, {:?} on {:?}",
                        setup.name,
                        part.is_some(),
                        case.op,
                        case.inputs
                    ),
                    one: one.clone(),
                    sample: sample.clone(),
                    plan,
                    pipelines: pipelines.clone(),
                    network: Network::new(&setup.gpu),
                    is_padded: matches!(inputs, Inputs::Random | Inputs::Quarters) && !in_parts,
                    part,
                };
                let variant = new.variant();
                match by_variant.iter_mut().find(|(other, _)| *other == variant) {
                    Some((_, uses)) => uses.push(new),
                    None => by_variant.push((variant, vec![new])),
                }
            }
        }
    }
    let mut turns: Vec<_> = by_variant
        .into_iter()
        .map(|(_, uses)| uses.into_iter())
        .collect();
    let mut all: Vec<Box<dyn Run>> = Vec::new();
    loop {
        let before = all.len();
        for turn in &mut turns {
            all.extend(turn.next().map(|one| Box::new(one) as Box<dyn Run>));
        }
        if all.len() == before {
            return all;
        }
    }
}

/// Why a text is no shader, or not one with all of its bindings.
pub fn invalid(text: &str) -> Option<String> {
    let module = match naga::front::wgsl::parse_str(text) {
        Ok(module) => module,
        Err(e) => return Some(e.to_string()),
    };
    let validated = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module);
    let info = match validated {
        Ok(info) => info,
        Err(e) => return Some(e.as_inner().to_string()),
    };
    let entry = info.get_entry_point(0);
    let mut bound = module.global_variables.iter();
    let unused =
        bound.find(|(handle, global)| global.binding.is_some() && entry[*handle].is_empty());
    unused.map(|(_, global)| format!("{:?} is not used", global.name))
}

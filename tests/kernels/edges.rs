//! Every kernel against the reference at the edges of its tiles, on each kind of device. The kernel's grid gives the
//! edges: sizes of k tiles, one more and one less, in either direction. Each way is tried at some edges, drawn at
//! random, and at one random size.

use crate::common::emulation::emulated_plan;
use crate::common::ways::{Setup, Way, assert_all_kernels, setups, ways};
use crate::common::{OneOp, Random, assert_labels, assert_within};
use fullconv::low_level::gpu::Network;
use fullconv::low_level::ops::grid::Grid;
use fullconv::low_level::ops::{Case, Conv2d, Crop, Interpolate, MaxPool2d, Mean, Op, Preprocess};
use fullconv::low_level::plan::lowered::{
    self, Activation, Convolution, FusedArgmax, Paste, PasteAxis, Scores, TransposedConvolution,
    Zeros,
};
use fullconv::{Shape, Tensor};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The number of edges at which each way is tried, besides one random size.
const SIZES_OF_A_WAY: usize = 3;
/// The largest side of an output.
const LARGEST: usize = 140;
/// The most work of one case: the reference takes a tenth of a second for it.
const MOST_FLOPS: u64 = 300_000_000;
/// Of the ways that compile slowly, one in this many is tried.
const SLOW_WAYS: usize = 24;

/// The sizes of a kernel's tile along the output's rows and along its columns.
fn tiles(grid: &Grid) -> [Vec<usize>; 2] {
    match *grid {
        Grid::Elements(elements) => [vec![], vec![elements]],
        Grid::Tiles { pixels, .. } => [vec![], vec![pixels]],
        Grid::Items { items, run, .. } => {
            let of_run = run.apart * run.elements;
            [vec![], vec![of_run, items, items * run.elements]]
        }
        Grid::Planes { items, .. } => [vec![], vec![items]],
        Grid::Blocks { rows, columns, .. } => [vec![rows], vec![columns]],
    }
}

/// Sizes around the first multiples of `tile`.
fn around(tile: usize) -> impl Iterator<Item = usize> {
    (1..=3).flat_map(move |k| [k * tile - 1, k * tile, k * tile + 1])
}

/// Output sizes `[h, w]` at which a grid's tiles end just before the output, with it, or just after it.
fn edges(grid: &Grid, c4: usize, random: &mut Random) -> Vec<[usize; 2]> {
    let mut pick = |sizes: &[usize]| sizes[random.below(sizes.len())];
    let small = [1, 2, 3, 5, 8];
    let [rows, columns] = tiles(grid);
    let mut columns: Vec<usize> = columns.into_iter().flat_map(around).collect();
    if matches!(grid, Grid::Elements(_)) {
        columns = columns
            .iter()
            .map(|elements| elements.div_ceil(c4))
            .collect();
    }
    columns.retain(|w| (1..=LARGEST).contains(w));
    if columns.is_empty() {
        columns = small.to_vec();
    }
    let rows: Vec<usize> = rows
        .into_iter()
        .flat_map(around)
        .filter(|h| (1..=LARGEST).contains(h))
        .collect();
    let mut sizes: Vec<_> = columns.iter().map(|w| [pick(&small), *w]).collect();
    sizes.extend(rows.iter().map(|h| [*h, pick(&columns)]));
    sizes
}

/// The op and its inputs for a batch of `n` and an output of `[h, w]`; `None` if the op has no output of that size. If
/// two input sizes give that output, `larger` chooses the larger one.
fn at_size(case: &Case, n: usize, [h, w]: [usize; 2], larger: bool) -> Option<Case> {
    let any: &dyn Any = case.op.as_ref();
    let (mut op, mut inputs) = (case.op.clone(), case.inputs.clone());
    let cropped = any.is::<Crop>()
        || any
            .downcast_ref::<TransposedConvolution>()
            .is_some_and(|op| op.crop.is_some())
        || any
            .downcast_ref::<FusedArgmax>()
            .is_some_and(|op| matches!(&op.scores, Scores::Upsampled(up) if up.crop.is_some()));
    if let Some(FusedArgmax {
        scores: Scores::Resized(_),
        binary,
    }) = any.downcast_ref()
    {
        op = Arc::new(FusedArgmax {
            scores: Scores::Resized(Interpolate::bilinear([h, w], false)),
            binary: binary.clone(),
        });
    } else if let Some(resize) = any.downcast_ref::<Interpolate>() {
        op = Arc::new(Interpolate {
            size: Some([h, w]),
            scale_factor: None,
            ..resize.clone()
        });
        inputs.truncate(1);
    } else if let Some(preprocess) = any.downcast_ref::<Preprocess>() {
        op = Arc::new(Preprocess {
            size: [h, w],
            ..preprocess.clone()
        });
    }
    let first = inputs[0];
    let with = |size: [usize; 2]| -> Vec<Shape> {
        let last = inputs.len() - 1;
        let like_first = |shape: &Shape| [shape.n, shape.h, shape.w] == [first.n, first.h, first.w];
        let one = |(i, shape): (usize, &Shape)| match (i, cropped) {
            (i, true) if i == last => Shape {
                n,
                ..shape.with_size(h, w)
            },
            _ if i == 0 || like_first(shape) => Shape {
                n,
                ..shape.with_size(size[0], size[1])
            },
            _ => *shape,
        };
        inputs.iter().enumerate().map(one).collect()
    };
    // Each side of the output grows with the same side of the input.
    let output = |size: [usize; 2]| op.output_shape(&with(size)).ok();
    let fits = |size: [usize; 2], axis: usize| {
        output(size).is_some_and(|o| if axis == 0 { o.h == h } else { o.w == w })
    };
    let side = |axis: usize| {
        let at = |i: usize| if axis == 0 { [i, 60] } else { [60, i] };
        let least = (1..=2 * LARGEST + 8).find(|i| fits(at(*i), axis))?;
        let more = larger && fits(at(least + 1), axis);
        Some(least + usize::from(more))
    };
    let inputs = with([side(0)?, side(1)?]);
    let made = op.output_shape(&inputs).ok()?;
    ([made.h, made.w] == [h, w]).then_some(Case {
        op,
        inputs,
        diagonal: case.diagonal,
    })
}

fn case(op: impl Op + 'static, inputs: &[[usize; 4]]) -> Case {
    Case {
        op: Arc::new(op),
        inputs: inputs
            .iter()
            .map(|[n, c, h, w]| Shape::new(*n, *c, *h, *w))
            .collect(),
        diagonal: false,
    }
}

/// Convolutions with pooling in both modes, and dilated ones, with channels for each family of kernels.
fn convolutions() -> Vec<Case> {
    let relu = |conv: Conv2d| Convolution {
        activation: Activation::Relu,
        ..conv.into()
    };
    let pooled = |ceil_mode| Convolution {
        pool: Some(MaxPool2d::square(2, 2, ceil_mode)),
        ..relu(Conv2d::padded(1))
    };
    let dilated = |dilation| {
        relu(Conv2d {
            dilation: [dilation; 2],
            padding: [dilation; 2],
            ..Conv2d::default()
        })
    };
    let wide = [[1, 64, 9, 9], [128, 64, 3, 3], [128, 1, 1, 1]];
    let narrow = [[1, 12, 9, 9], [24, 12, 3, 3], [24, 1, 1, 1]];
    let in_both_modes = [false, true].into_iter();
    let all =
        in_both_modes.flat_map(|ceil| [case(pooled(ceil), &wide), case(pooled(ceil), &narrow)]);
    all.chain([1, 2, 4].map(|dilation| case(dilated(dilation), &wide)))
        .collect()
}

/// Ops whose output size is an attribute or 1×1, with outputs at the edges of 64 elements.
fn of_fixed_sizes() -> Vec<Case> {
    let paste = |h, w| {
        let axis = |size, near, far| PasteAxis {
            size,
            begin: 0,
            end: size,
            shift: 0,
            near,
            far,
        };
        let axes = [axis(h, 0, 0), axis(w, 1, 1)];
        case(Paste { axes }, &[[2, 4, h, w], [2, 4, h, w]])
    };
    let mean = |c| case(Mean::default(), &[[1, c, 3, 5]]);
    let zeros = |w| case(Zeros { size: [1, w] }, &[[1, 4, 1, 1]]);
    let sizes = [(4, 8), (3, 21), (5, 13), (8, 8)]
        .map(|(h, w)| paste(h, w))
        .into_iter();
    let means = [250, 256, 257, 508, 513].map(mean);
    sizes
        .chain(means)
        .chain([63, 64, 65, 129].map(zeros))
        .collect()
}

/// A case with random inputs and the reference's output, for f32 or for f16.
struct Sample {
    one: OneOp,
    expected: Tensor,
    /// The error bounds of elements; for labels, their scores and the scores' bounds.
    bounds: Bounds,
}

enum Bounds {
    Elements(Tensor),
    Labels { scores: Tensor, bounds: Tensor },
}

impl Sample {
    fn new(case: Case, half: bool, random: &mut Random) -> Self {
        let one = OneOp::of_case(case, random);
        let one = if half { one.in_half() } else { one };
        let bounds = match one.scores_of_labels() {
            Some((scores, bounds)) => Bounds::Labels { scores, bounds },
            None if half => Bounds::Elements(one.half_bounds()),
            None => Bounds::Elements(one.bounds()),
        };
        Self {
            expected: one.expected(),
            one,
            bounds,
        }
    }

    /// Whether `way` can compute this on `target`; panics if its output differs from the reference.
    fn check(&self, setup: &Setup, way: &Way) -> bool {
        let op = way.alone(&self.one.op, &setup.target);
        let other =
            (!Arc::ptr_eq(&op, &self.one.op)).then(|| OneOp::new(op, self.one.inputs.clone()));
        let one = other.as_ref().unwrap_or(&self.one);
        let Some(plan) = setup.plan(one).filter(|plan| way.is_of(plan)) else {
            return false;
        };
        let plan = emulated_plan(plan);
        let found = &one.run_plan(&setup.gpu, plan);
        let shapes: Vec<_> = one.inputs.iter().map(Tensor::shape).collect();
        let what = format!(
            "{}, {:?}: {:?} on {shapes:?}",
            setup.name, way.how, self.one.op
        );
        match &self.bounds {
            Bounds::Elements(bounds) => assert_within(&self.expected, found, bounds, &what),
            Bounds::Labels { scores, bounds } => {
                assert_labels(&self.expected, found, scores, bounds, &what);
            }
        }
        true
    }
}

/// The kernels that ran, by name, and the number of runs by name and grid.
#[derive(Default)]
struct Reached {
    kernels: BTreeSet<&'static str>,
    tiles: BTreeMap<String, usize>,
}

impl Reached {
    fn add(&mut self, way: &Way) {
        for kernel in &way.kernels {
            self.kernels.insert(kernel.shader.name);
            let grid = match kernel.grid {
                // The run depends on the picture, so it is no part of the tile.
                Grid::Items {
                    items, channels, ..
                } => format!("{items} items, {channels} channels"),
                grid => format!("{grid:?}"),
            };
            *self
                .tiles
                .entry(format!("{} {grid}", kernel.shader.name))
                .or_default() += 1;
        }
    }
}

/// Checks a case's op at the edges of its kernels' tiles.
fn check_case(case: &Case, setups: &[Setup], random: &mut Random, reached: &mut Reached) {
    // A grid is tried at the same sizes on all devices, which then share references.
    let mut drawn: BTreeMap<String, Vec<Drawn>> = BTreeMap::new();
    let mut samples: BTreeMap<String, Sample> = BTreeMap::new();
    for setup in setups {
        for way in ways(&case.op, &case.inputs, &setup.target) {
            if is_slow(&way) && random.below(SLOW_WAYS) > 0 {
                continue;
            }
            let grids: Vec<_> = way.kernels.iter().map(|kernel| kernel.grid).collect();
            let c4 = case.op.output_shape(&case.inputs).unwrap().c4();
            let sizes = drawn
                .entry(format!("{grids:?}"))
                .or_insert_with(|| draw(&grids, c4, random));
            for Drawn { n, size, larger } in sizes.iter() {
                // An op of fixed size is tried at its own size.
                let sized = at_size(case, *n, *size, *larger).unwrap_or_else(|| case.clone());
                if sized.op.flops(&sized.inputs) > MOST_FLOPS {
                    continue;
                }
                let half = setup.target.options.half;
                let key = format!("{half} {:?} {:?}", sized.op, sized.inputs);
                let sample = samples
                    .entry(key)
                    .or_insert_with(|| Sample::new(sized, half, random));
                if sample.check(setup, &way) {
                    reached.add(&way);
                }
            }
        }
    }
}

/// A batch size, an output size, and the choice between two input sizes that give that output.
struct Drawn {
    n: usize,
    size: [usize; 2],
    larger: bool,
}

fn draw(grids: &[Grid], c4: usize, random: &mut Random) -> Vec<Drawn> {
    let mut sizes: Vec<_> = grids
        .iter()
        .flat_map(|grid| edges(grid, c4, random))
        .collect();
    let mut drawn = Vec::new();
    for i in 0..=SIZES_OF_A_WAY {
        let size = match i < SIZES_OF_A_WAY && !sizes.is_empty() {
            true => sizes.swap_remove(random.below(sizes.len())),
            false => [1 + random.below(40), 1 + random.below(40)],
        };
        drawn.push(Drawn {
            n: 1 + random.below(3),
            size,
            larger: random.below(2) > 0,
        });
    }
    drawn
}

/// Each kernel with emulated matrices takes seconds to compile.
fn is_slow(way: &Way) -> bool {
    way.kernels
        .iter()
        .any(|kernel| kernel.shader.name == "conv2d_coop")
}

#[test]
fn every_kernel_agrees_with_the_reference_at_the_edges_of_its_tiles() {
    let setups = setups();
    if setups.is_empty() {
        return;
    }
    // The networks of a device share pipelines for as long as one network exists.
    let _kept: Vec<_> = setups
        .iter()
        .map(|setup| Network::new(&setup.gpu))
        .collect();
    let mut random = Random::new(51);
    let mut reached = Reached::default();
    for case in lowered::cases()
        .into_iter()
        .chain(convolutions())
        .chain(of_fixed_sizes())
    {
        check_case(&case, &setups, &mut random, &mut reached);
    }
    for (tile, runs) in &reached.tiles {
        eprintln!("{tile}: {runs} runs");
    }
    assert_all_kernels(&reached.kernels);
}

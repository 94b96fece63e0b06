//! Every kernel against the reference at the edges of its tiles, on each kind of device. The kernel's grid gives the
//! edges: sizes of k tiles, one more and one less, in either direction. Each way is tried at some edges, drawn at
//! random, and at one random size.

use crate::common::Random;
use crate::common::samples::{Inputs, Sample};
use crate::common::sizes::{LARGEST, at_size, case, of_fixed_sizes};
use crate::common::ways::{Setup, Way, assert_all_kernels, is_slow, setups, ways};
use fullconv::low_level::gpu::Network;
use fullconv::low_level::ops::grid::Grid;
use fullconv::low_level::ops::{Case, Conv2d, MaxPool2d};
use fullconv::low_level::plan::lowered::{self, Activation, Convolution};
use std::collections::{BTreeMap, BTreeSet};

/// The number of edges at which each way is tried, besides one random size.
const SIZES_OF_A_WAY: usize = 3;
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

/// The kernels that ran, by name, and the number of runs by name and grid.
#[derive(Default)]
struct Reached {
    kernels: BTreeSet<&'static str>,
    tiles: BTreeMap<String, usize>,
}

impl Reached {
    /// Whether all kernels of a way ran.
    fn has(&self, way: &Way) -> bool {
        let mut names = way.kernels.iter().map(|kernel| kernel.shader.name);
        names.all(|name| self.kernels.contains(name))
    }

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
            if is_slow(&way) && reached.has(&way) && random.below(SLOW_WAYS) > 0 {
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
                    .or_insert_with(|| Sample::new(sized, half, Inputs::Random, random));
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

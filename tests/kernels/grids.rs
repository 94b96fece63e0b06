//! Grids: on the device, each workgroup writes the elements that its kernel's grid gives it. A plan is refused unless
//! its workgroups write every element once.

use crate::common::emulation::emulated_plan;
use crate::common::ways::{Setup, Way, assert_all_kernels, is_slow, setups, single_kernels};
use crate::common::writes::{region, told, written};
use crate::common::{OneOp, Random};
use fullconv::low_level::gpu::Network;
use fullconv::low_level::ops::Op;
use fullconv::low_level::ops::candidate::Candidate;
use fullconv::low_level::ops::grid::{Count, Counts, Grid, Line, PixelRun, Region};
use fullconv::low_level::ops::kernel::{Binding, Format, Kernel, Word};
use fullconv::low_level::ops::numerics::Numerics;
use fullconv::low_level::plan::lowered;
use fullconv::low_level::plan::{Bound, Plan};
use fullconv::low_level::target::Target;
use fullconv::{ErrorKind, Shape, Tensor};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

const COUNTS: [Count; 6] = [
    Count::PixelGroups,
    Count::ChannelGroups,
    Count::BlocksX,
    Count::BlocksY,
    Count::LineItems,
    Count::LinePixels,
];

fn grids() -> impl Strategy<Value = Grid> {
    let channels = || (1usize..=4).prop_map(|quads| 4 * quads);
    let line = prop_oneof![Just(Line::Row), Just(Line::Band)];
    prop_oneof![
        (1usize..=9).prop_map(Grid::Elements),
        (1usize..=9, channels()).prop_map(|(pixels, channels)| Grid::Tiles { pixels, channels }),
        (1usize..=7, 1usize..=5, 1usize..=4, line, channels()).prop_map(
            |(items, elements, apart, line, channels)| Grid::Items {
                items,
                run: PixelRun {
                    elements,
                    apart,
                    quads: 1,
                    line
                },
                channels,
            }
        ),
        (1usize..=3, 1usize..=6, channels()).prop_map(|(planes, items, channels)| Grid::Planes {
            planes,
            items,
            channels
        }),
        (1usize..=4, 1usize..=4, channels(), 1usize..=3).prop_map(
            |(rows, columns, channels, parts)| Grid::Blocks {
                rows,
                columns,
                channels,
                parts
            }
        ),
    ]
}

/// A grid and a region that a planner might or might not give it.
fn pairs() -> impl Strategy<Value = (Grid, Region)> {
    let shape = (1usize..=3, 1usize..=24, 1usize..=9, 1usize..=9);
    let cut = (
        any::<bool>(),
        0usize..27,
        1usize..=27,
        0usize..6,
        1usize..=6,
    );
    (grids(), shape, cut, any::<bool>(), any::<bool>()).prop_map(
        |(mut grid, (n, c, h, w), (all, row, rows, quad, quads), labels, each)| {
            let mut shape = Shape::new(n, c, h, w);
            if let Grid::Planes { planes, .. } = grid {
                shape.w *= planes;
            }
            if let Grid::Blocks { parts, .. } = grid {
                shape.c = 4 * shape.c4() * parts;
            }
            let is_labels = labels && matches!(grid, Grid::Tiles { .. } | Grid::Items { .. });
            if is_labels {
                shape.c = 1;
                match &mut grid {
                    Grid::Tiles { pixels, .. } => *pixels *= 4,
                    Grid::Items { run, .. } if w % 4 > 0 => run.line = Line::Band,
                    _ => {}
                }
            }
            let (all_rows, all_quads) = (n * h, shape.c4() / grid.parts());
            let (mut rows, mut quads) = match all {
                true => (0..all_rows, 0..all_quads),
                false => {
                    let (row, quad) = (row % all_rows, quad % all_quads);
                    (
                        row..(row + rows).min(all_rows),
                        quad..(quad + quads).min(all_quads),
                    )
                }
            };
            if let Grid::Blocks { rows: high, .. } = grid
                && rows != (0..all_rows)
            {
                rows.end = rows.end.min(end_of_band(rows.start, high, h));
            }
            if matches!(grid, Grid::Elements(_)) || is_labels {
                quads = 0..all_quads;
            }
            if is_labels {
                // A band of labels begins at a whole u32.
                rows.start = rows.start / 4 * 4;
            }
            if let Grid::Items { run, channels, .. } = &mut grid
                && each
                && !is_labels
            {
                (run.quads, *channels, quads) = (all_quads, 4 * all_quads, 0..all_quads);
            }
            let pixels_per_element = if is_labels { 4 } else { 1 };
            (
                grid,
                Region {
                    shape,
                    pixels_per_element,
                    rows,
                    quads,
                },
            )
        },
    )
}

/// The last possible end of a band that begins at `row`, with blocks of `high` rows: the end of the image, or the end
/// of the block if the band begins within a block.
fn end_of_band(row: usize, high: usize, height: usize) -> usize {
    let y = row % height;
    match y % high {
        0 => row - y + height,
        within => row + (high - within).min(height - y),
    }
}

#[test]
fn a_band_of_blocks_is_part_of_one_image_or_whole_images() {
    let grid = Grid::Blocks {
        rows: 4,
        columns: 4,
        channels: 4,
        parts: 1,
    };
    let passes = |rows: Range<usize>| {
        let region = Region {
            shape: Shape::new(3, 4, 10, 9),
            pixels_per_element: 1,
            rows,
            quads: 0..1,
        };
        let counts = grid.counts(&region);
        let told = |count: Count| Some(counts.get(count)).filter(|number| *number > 0);
        grid.check(&region, told, [counts.workgroups() as u32, 1])
            .is_ok()
    };
    for rows in [
        0..30,
        0..10,
        10..30,
        4..10,
        4..8,
        14..20,
        13..14,
        5..7,
        28..30,
    ] {
        assert!(passes(rows.clone()), "{rows:?}");
    }
    for rows in [0..11, 8..12, 0..19, 5..15, 13..16, 2..6] {
        assert!(!passes(rows.clone()), "{rows:?}");
    }
}

/// Whether the workgroups write every element of the region once and nothing else, found by listing their writes.
fn writes_all_once(grid: &Grid, region: &Region, counts: &Counts, workgroups: usize) -> bool {
    let c4 = region.shape.c4();
    let in_part = c4 / grid.parts();
    let mut wanted = Vec::new();
    for pixel in region.rows.start * region.shape.w..region.rows.end * region.shape.w {
        match region.pixels_per_element {
            1 => {
                let quads = |part: usize| region.quads.clone().map(move |q| part * in_part + q);
                let all = (0..grid.parts()).flat_map(quads);
                wanted.extend(all.map(|quad| pixel * c4 + quad));
            }
            per if pixel % per == 0 => wanted.push(pixel / per),
            _ => {}
        }
    }
    let mut found: Vec<_> = (0..workgroups)
        .flat_map(|group| written(grid, region, counts, group))
        .collect();
    found.sort_unstable();
    found == wanted
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(10),
        ..ProptestConfig::default()
    })]

    /// With the right counts, and with one count or the number of workgroups changed.
    #[test]
    fn a_valid_grid_writes_every_element_once(
        (grid, region) in pairs(),
        which in 0usize..9,
        off in -2isize..=2,
    ) {
        let counts = grid.counts(&region);
        let (mut told, mut workgroups) = (counts, counts.workgroups());
        match COUNTS.get(which) {
            Some(count) if counts.get(*count) > 0 => {
                told = counts.with(*count, counts.get(*count).saturating_add_signed(off));
            }
            Some(_) => {}
            None => workgroups = workgroups.saturating_add_signed(off),
        }
        let is_told = |count: Count| (counts.get(count) > 0).then(|| told.get(count));
        let passes = grid.check(&region, is_told, [workgroups as u32, 1]);
        // A shader does not divide by 0.
        let divides = COUNTS.iter().all(|count| (counts.get(*count) > 0) == (told.get(*count) > 0));
        let fits = divides && writes_all_once(&grid, &region, &told, workgroups);
        if (told, workgroups) == (counts, counts.workgroups()) {
            prop_assert_eq!(passes.is_ok(), fits, "{:?} {:?} {:?}", grid, region, passes);
        } else {
            prop_assert!(fits || passes.is_err(), "{:?} {:?} {:?}", grid, region, told);
        }
    }
}

/// The op's own step of a plan: the last step, if its layer has no other.
fn only_step(plan: &Plan) -> Option<usize> {
    let last = plan.steps.len() - 1;
    let layer = plan.steps[last].layer;
    (plan.steps.iter().filter(|step| step.layer == layer).count() == 1).then_some(last)
}

/// The elements of `tensor` that were written, by their index in the device's memory.
fn found(tensor: &Tensor, labels: bool) -> BTreeSet<usize> {
    let Shape { n, c, h, w } = tensor.shape();
    let c4 = tensor.shape().c4();
    let mut all = BTreeSet::new();
    for (n, y, x) in (0..n).flat_map(|n| (0..h).flat_map(move |y| (0..w).map(move |x| (n, y, x)))) {
        let pixel = (n * h + y) * w + x;
        match labels {
            // Labels are written as whole u32s, and are less than 100; the bytes of the poison are 127 and 237.
            true if tensor.at(n, 0, y, x) < 100.0 => drop(all.insert(pixel / 4)),
            true => {}
            false => {
                let is_written = |quad: &usize| {
                    (4 * quad..(4 * quad + 4).min(c)).all(|c| !tensor.at(n, c, y, x).is_nan())
                };
                all.extend((0..c4).filter(is_written).map(|quad| pixel * c4 + quad));
            }
        }
    }
    all
}

/// Gives the step's output a buffer of its own, which holds only poison.
fn apart(plan: &mut Plan, step: usize) {
    let slot = plan.slots.len();
    let place = &mut plan.outputs[0].1;
    plan.slots.push(place.bytes());
    place.slot = slot;
    match plan.steps[step].bindings.last_mut() {
        Some(Bound::Slot { slot: of_step, .. }) => *of_step = slot,
        other => panic!("{other:?}"),
    }
}

/// Panics unless the first workgroups of a way, for several numbers of workgroups, write exactly the elements that the
/// grid gives them. Returns whether the way could be checked.
fn check_workgroups(setup: &Setup, way: &Way, random: &mut Random) -> bool {
    // Statistics are f32 only between the stages of an operation; a graph of one stage would hold them in f16.
    let reads_f32 = |kernel: &Kernel| {
        let mut read = kernel.bindings.iter().filter_map(Binding::activation);
        read.any(|(_, format, _)| format == Format::Nhwc4Exact)
    };
    let makes_indices = way.op.name() == "max_unpool2d";
    if setup.target.options.half && reads_f32(&way.kernels[0]) && !makes_indices {
        return false;
    }
    let op = way.alone(&way.op, &setup.target);
    let one = OneOp::random(op, &way.inputs, random);
    let one = if setup.target.options.half {
        one.in_half()
    } else {
        one
    };
    let Some(plan) = setup.plan(&one) else {
        return false;
    };
    let Some(last) = only_step(&plan).filter(|_| plan.groups.is_empty() && way.is_of(&plan)) else {
        return false;
    };
    let mut plan = emulated_plan(plan);
    apart(&mut plan, last);
    let (kernel, step) = (&way.kernels[0], &plan.steps[last]);
    let output = plan.layers[step.layer].shape;
    let region = region(kernel, step, output);
    let counts = COUNTS
        .iter()
        .fold(kernel.grid.counts(&region), |counts, count| {
            let told = told(kernel, step, Word::Count(*count));
            told.map_or(counts, |number| counts.with(*count, number))
        });
    let [x, y] = step.workgroups.map(|n| n as usize);
    let mut expected = BTreeSet::new();
    let mut done = 0;
    for first in prefixes(x * y) {
        for group in done..first {
            expected.extend(written(&kernel.grid, &region, &counts, group));
        }
        done = first;
        let mut part = plan.clone();
        part.steps[last].workgroups = [first as u32, 1];
        let output = one.run_plan(&setup.gpu, part);
        let found = found(&output, kernel.output == Format::Labels8);
        assert!(
            found == expected,
            "{}: the first {first} of {} workgroups of {} for {:?} on {:?} do not write what {:?} says",
            setup.name,
            x * y,
            kernel.shader.name,
            way.op,
            way.inputs,
            kernel.grid
        );
    }
    let pixels = output.n * output.h * output.w;
    let all = match region.pixels_per_element {
        1 => pixels * output.c4(),
        per => pixels.div_ceil(per),
    };
    assert_eq!(
        expected.len(),
        all,
        "{}: {} leaves some of {output}",
        setup.name,
        kernel.shader.name
    );
    true
}

/// Numbers of workgroups to run: 1, 2, half of them, all but one, and all.
fn prefixes(all: usize) -> Vec<usize> {
    let some = [1, 2, all / 2, all.saturating_sub(1), all];
    let some: BTreeSet<_> = some.into_iter().filter(|n| (1..=all).contains(n)).collect();
    some.into_iter().collect()
}

#[test]
fn each_workgroup_writes_the_elements_of_its_grid() {
    let mut random = Random::new(41);
    let (mut checked, mut slow) = (BTreeSet::new(), BTreeMap::new());
    for (i, setup) in setups().into_iter().enumerate() {
        // The networks of a device share pipelines for as long as one network exists.
        let _kept = Network::new(&setup.gpu);
        // Each target runs every second case: grids depend only on the kernel, and a kernel runs on several targets.
        for case in lowered::cases().into_iter().skip(i % 2).step_by(2) {
            for way in single_kernels(&case.op, &case.inputs, &setup.target) {
                if is_slow(&way) {
                    let seen = slow.entry(way.kernels[0].shader.name).or_insert(0);
                    *seen += 1;
                    if *seen % 24 != 1 {
                        continue;
                    }
                }
                if check_workgroups(&setup, &way, &mut random) {
                    checked.insert(way.kernels[0].shader.name);
                }
            }
        }
    }
    if !checked.is_empty() {
        eprintln!("{} kernels: {checked:?}", checked.len());
        assert_all_kernels(&checked);
    }
}

/// An op whose kernels are changed by a function.
#[derive(Debug)]
struct Changed(Arc<dyn Op>, fn(&mut Kernel));

impl Op for Changed {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn output_shape(&self, inputs: &[Shape]) -> fullconv::Result<Shape> {
        self.0.output_shape(inputs)
    }
    fn reference(&self, inputs: &[&Tensor]) -> fullconv::Result<Tensor> {
        self.0.reference(inputs)
    }
    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        self.0.numerics(inputs)
    }
    fn candidates(&self, inputs: &[Shape], device: &Target) -> fullconv::Result<Vec<Candidate>> {
        let mut kernels = self.0.kernels(inputs, device)?;
        kernels.iter_mut().for_each(self.1);
        Ok(kernels.into_iter().map(Candidate::kernel).collect())
    }
}

/// A kernel could compute its counts wrongly, so a plan is refused if a count is missing from its `Params`.
#[test]
fn a_kernel_without_counts_in_its_params_is_refused() {
    let mut refused = BTreeSet::new();
    for case in lowered::cases() {
        for target in crate::common::preferences(&Target::WEBGPU_DEFAULTS) {
            for way in single_kernels(&case.op, &case.inputs, &target) {
                let count = |kernel: &mut Kernel| {
                    for (_, word) in &mut kernel.params {
                        if let Word::Count(Count::BlocksX | Count::PixelGroups | Count::LineItems) =
                            word
                        {
                            *word = Word::Value(1);
                        }
                    }
                };
                let op = Arc::new(Changed(way.alone(&way.op, &target), count));
                let told = way.kernels[0]
                    .params
                    .iter()
                    .any(|(_, word)| matches!(word, Word::Count(_)));
                let shares = way.kernels[0].grid.channels().is_some_and(|channels| {
                    let output = way.op.output_shape(&way.inputs).unwrap();
                    channels < 4 * output.c4() / way.kernels[0].grid.parts()
                });
                let needs = told && (shares || !matches!(way.kernels[0].grid, Grid::Tiles { .. }));
                let one = OneOp::random(op, &way.inputs, &mut Random::new(1));
                match one.plan(&target) {
                    Ok(_) => assert!(!needs, "{}", way.kernels[0].shader.name),
                    Err(e) if e.kind() == ErrorKind::Internal => {
                        assert!(needs, "{}: {e}", way.kernels[0].shader.name);
                        assert!(e.to_string().contains("is not told"), "{e}");
                        refused.insert(way.kernels[0].shader.name);
                    }
                    Err(e) => panic!("{e}"),
                }
            }
        }
    }
    assert!(refused.len() > 8, "{refused:?}");
}

/// A shader reads every count in its `Params`.
#[test]
fn shaders_read_every_count_in_their_params() {
    for setup in setups() {
        for case in lowered::cases() {
            for way in single_kernels(&case.op, &case.inputs, &setup.target) {
                let Kernel { shader, params, .. } = &way.kernels[0];
                for (_, word) in params {
                    if let Word::Count(count) = word {
                        let read = format!("params.{}", count.name());
                        assert!(shader.source.contains(&read), "{}: {read}", shader.name);
                    }
                }
            }
        }
    }
}

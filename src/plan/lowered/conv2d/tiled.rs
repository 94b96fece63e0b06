//! The kernel for GPUs: implicit matrix multiplication. A workgroup loads a halo of input pixels and the weights into
//! workgroup memory once, and reads the halo for all taps at shifted offsets.
//!
//! With 8 pixels × 8 channels an invocation, 16 `vec4` reads of workgroup memory feed 512 operations: 2 flop a byte of
//! this memory, and for 3×3 windows 49 flop a byte of the caches behind it. 64 registers of sums, 8 · 4 of pixels and 8
//! of weights stay under 128. On chips where these are too many (`DeviceProfile::sums_in_registers`), an invocation
//! computes 4 pixels × 8 channels. Sums are in registers only if the tile is unrolled, so [`source`] generates the
//! text.

use super::sum_parts::SumParts;
use super::template::{fill, multiply_adds, staging};
use super::{Activation, Convolution, KernelParts};
use crate::ops::grid::{Count, Grid};
use crate::ops::kernel::{Format, Kernel, MAX_LOOP_STEPS, Packing, Shader, counts};
use crate::ops::{Stage, StageInput};
use crate::target::Target;
use crate::tensor::Shape;
use std::sync::Arc;

/// The most workgroup memory of a kernel, even if the device has more: more workgroups then share a multiprocessor,
/// and one computes while another waits for memory.
const MOST_BYTES: usize = 16 << 10;
/// The most groups of four input channels staged at once.
const MOST_GROUPS: usize = 4;
/// The fewest products of a part of a sum.
const LEAST_TERMS: usize = 512;
/// The most parts of a sum.
const MOST_PARTS: usize = 16;
/// Numbers of parts offered to the tuner, beside the one that the cost model prefers.
const OTHER_PARTS: [usize; 4] = [2, 4, 8, 16];
/// The most tiles offered with each of them.
const TILES_IN_PARTS: usize = 2;
/// The most bytes of the tensor of all parts.
const MOST_PART_BYTES: u64 = 256 << 20;
/// Bytes that are moved to write and read an element of a part.
const PART_BYTES: u64 = 8;
/// The cost of loading an element into workgroup memory, with its address, in reads of workgroup memory.
pub(super) const STAGING_COST: f64 = 4.0;
/// Multiply-adds of four channels for each read of workgroup memory, at which the cost of traffic is compared with that of
/// products: [`Staging::speed`] of 3×3 windows in large layers.
const USUAL_SPEED: f64 = 3.5;
/// Reads of a stage that are under way at a time: each takes four registers beside the sums.
const READS_AT_ONCE: usize = 8;

/// The fewest pixels of an invocation: a square that is pooled.
const LEAST_PIXELS: usize = 4;

/// What a workgroup computes and how its invocations share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    /// Output rows.
    rows: usize,
    /// Output columns, a multiple of `pixels`.
    columns: usize,
    /// Groups of four output channels, a multiple of `own_quads`.
    quads: usize,
    /// Pixels an invocation.
    pixels: usize,
    /// Groups of four output channels an invocation.
    own_quads: usize,
    /// Side of the squares that are pooled, 1 without pooling. The pixels of an invocation are whole squares.
    pool: usize,
}

/// The tiles: for large layers, for maps that the first covers badly, for few output channels,
/// and for layers too small for the others. All have 8 lanes over the channels.
const TILES: [Tile; 4] = [
    Tile::new([8, 16], 16, 8, 2),
    Tile::new([8, 8], 16, 8, 2),
    Tile::new([8, 16], 8, 8, 1),
    Tile::new([4, 8], 8, 4, 1),
];

impl Tile {
    const fn new(size: [usize; 2], quads: usize, pixels: usize, own_quads: usize) -> Self {
        Self {
            rows: size[0],
            columns: size[1],
            quads,
            pixels,
            own_quads,
            pool: 1,
        }
    }

    /// The same block, of more invocations if one has more than so many sums, of four channels each.
    fn with_sums(self, most: u32) -> Self {
        let mut tile = self;
        while tile.pixels * tile.own_quads > most as usize && tile.pixels > LEAST_PIXELS {
            tile.pixels /= 2;
        }
        tile
    }

    /// The distance between squares of an invocation, in squares: the number of invocations side by side.
    const fn step(self) -> usize {
        self.columns * self.pool / self.pixels
    }

    /// The squares of an invocation.
    const fn squares(self) -> usize {
        self.pixels / (self.pool * self.pool)
    }

    /// Rows and columns from an invocation's first pixel to its pixel `p`.
    const fn offset(self, p: usize) -> [usize; 2] {
        let (square, in_square) = (p / (self.pool * self.pool), p % (self.pool * self.pool));
        let column = square * self.step() * self.pool + in_square % self.pool;
        [in_square / self.pool, column]
    }

    const fn invocations(self) -> usize {
        self.rows * self.columns * self.quads / (self.pixels * self.own_quads)
    }

    /// Workgroups for an output, in one part.
    fn workgroups(self, output: Shape) -> usize {
        let blocks = output.h.div_ceil(self.rows) * output.w.div_ceil(self.columns);
        output.n * blocks * output.c4().div_ceil(self.quads)
    }
}

/// What the choice of a tile depends on.
struct LayerWork {
    /// The output with whole sums.
    output: Shape,
    /// Products added up for one element of the output.
    terms: usize,
    /// Groups of four input channels.
    groups: usize,
    /// Invocations that keep the device busy.
    busy: f64,
    /// The cost of writing and reading an element of a part, in products.
    part_cost: f64,
}

impl LayerWork {
    fn new(inputs: &[Shape], output: Shape, target: &Target) -> Self {
        let weight = inputs[1];
        Self {
            output: output.with_channels(weight.n),
            terms: weight.c * weight.h * weight.w,
            groups: weight.c4(),
            busy: f64::from(target.device.invocations_at_once),
            part_cost: products_of_traffic(PART_BYTES, target),
        }
    }

    /// The share of the device that the layer in one part keeps busy with this tile; above 1, all of it. Dispatches that
    /// the layer is cut into may overlap, so they do not count.
    fn share(&self, tile: Tile) -> f64 {
        (tile.workgroups(self.output) * tile.invocations()) as f64 / self.busy
    }

    /// As many parts as keep the device busy, of at least [`LEAST_TERMS`] products each.
    fn parts(&self, tile: Tile, target: &Target) -> usize {
        let wanted = (1.0 / self.share(tile)).round() as usize;
        let parts = wanted.clamp(1, self.most_parts(target));
        // No part is left without terms.
        self.groups.div_ceil(self.groups.div_ceil(parts))
    }

    /// Into how many parts the sum may be cut.
    fn most_parts(&self, target: &Target) -> usize {
        let bytes = Format::Nhwc4.bytes(self.output).max(1);
        let room = MOST_PART_BYTES.min(target.device.max_buffer_bytes) / bytes;
        let most = MOST_PARTS.min(self.terms / LEAST_TERMS).min(room as usize);
        most.max(1)
    }

    /// The cost of the output with this tile in `parts` parts: all products, discarded ones too, divided by the tile's
    /// speed and by the share of the device that is busy.
    fn cost(&self, tile: Tile, stage: &Staging, parts: usize) -> f64 {
        let size = tile.rows * tile.columns * 4 * tile.quads;
        let computed = (tile.workgroups(self.output) * size) as f64;
        let between = match parts {
            1 => 0.0,
            _ => parts as f64 * self.part_cost,
        };
        let busy = (self.share(tile) * parts as f64).min(1.0);
        computed * (self.terms as f64 + between) / (stage.speed(tile) * busy)
    }
}

/// The input and the weights in workgroup memory at once, for one tile of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Staging {
    /// Rows of the window: all of them, or one.
    rows: usize,
    /// Groups of four input channels.
    groups: usize,
    /// Input rows from one row of the halo to the next, and columns likewise: the stride if only one row of the
    /// window is staged, so that only pixels under windows are loaded.
    source_step: [usize; 2],
    /// Rows and columns of the halo between neighbouring outputs.
    halo_step: [usize; 2],
    /// Rows and columns of the halo.
    halo: [usize; 2],
    /// Elements from one row of the halo to the next.
    pitch: usize,
    /// Elements of the halo.
    halo_size: usize,
    /// Elements of the weights.
    taps_size: usize,
}

impl Staging {
    fn new(op: &Convolution, kernel: [usize; 2], tile: Tile, rows: usize, groups: usize) -> Self {
        let taps = [rows, kernel[1]];
        let outputs = [tile.rows, tile.columns];
        let step = |i: usize| match taps[i] {
            1 => [op.conv.stride[i], 1],
            _ => [1, op.conv.stride[i]],
        };
        let [(source_h, halo_h), (source_w, halo_w)] = [0, 1].map(|i| step(i).into());
        let halo_step = [halo_h, halo_w];
        let halo = [0, 1]
            .map(|i| (outputs[i] - 1) * halo_step[i] + (taps[i] - 1) * op.conv.dilation[i] + 1);
        let pitch = pitch(halo[1], halo_step.map(|step| step * tile.pool), tile.step());
        Self {
            rows,
            groups,
            source_step: [source_h, source_w],
            halo_step,
            halo,
            pitch,
            halo_size: pitch.saturating_mul(groups * halo[0]),
            taps_size: kernel[1].saturating_mul(rows * groups * 4 * tile.quads),
        }
    }

    /// The stage with the most work between two barriers that fits into `bytes`.
    fn best(op: &Convolution, inputs: &[Shape], tile: Tile, bytes: usize) -> Option<Self> {
        let weight = inputs[1];
        let groups = (0..)
            .map(|i| 1 << i)
            .take_while(|g| *g <= MOST_GROUPS.min(weight.c4()));
        groups
            .flat_map(|groups| [(1, groups), (weight.h, groups)])
            .map(|(rows, groups)| Self::new(op, [weight.h, weight.w], tile, rows, groups))
            .filter(|stage| stage.halo_size.saturating_add(stage.taps_size) <= bytes / 16)
            .max_by_key(|stage| stage.rows * stage.groups)
    }

    /// Multiply-adds of four channels for each read of workgroup memory, other costs counted as reads.
    fn speed(&self, tile: Tile) -> f64 {
        let staged = (self.halo_size + self.taps_size) as f64 / tile.invocations() as f64;
        let steps = (self.taps_size / (4 * tile.quads)) as f64;
        let reads = (tile.pixels + 4 * tile.own_quads) as f64 + STAGING_COST * staged / steps;
        (4 * tile.pixels * tile.own_quads) as f64 / reads
    }

    /// Elements of the halo that are read.
    const fn halo_count(&self) -> usize {
        self.groups * self.halo[0] * self.halo[1]
    }

    /// Loop steps of an invocation for one stage's groups of channels, over all rows of the window.
    fn steps(&self, kernel: [usize; 2]) -> u64 {
        let once = 1 + self.rows * (1 + kernel[1] * (1 + self.groups));
        (1 + kernel[0].div_ceil(self.rows) * once) as u64
    }
}

/// The least pitch, at least `columns`, that puts the four pixels that 32 neighbouring invocations read into different
/// banks. `across` of these pixels are in one row; `halo_step` is the distance of pixels in rows and columns.
fn pitch(columns: usize, halo_step: [usize; 2], across: usize) -> usize {
    let apart = |pitch: &usize| {
        let bank = |i: usize| (i / across * halo_step[0] * pitch + i % across * halo_step[1]) % 8;
        (0..4).all(|i| (0..i).all(|j| bank(i) != bank(j)))
    };
    (columns..columns + 8).find(apart).unwrap_or(columns)
}

/// Every tile that fits the device, with its staging and number of parts, the cheapest first. `parts` fixes the
/// number.
fn choices(
    op: &Convolution,
    inputs: &[Shape],
    map: Shape,
    target: &Target,
    parts: Option<usize>,
) -> Vec<(Tile, Staging, usize)> {
    let bytes = MOST_BYTES.min(target.device.max_workgroup_bytes as usize);
    let work = LayerWork::new(inputs, map, target);
    let pool = op.pool_side();
    let mut choices: Vec<_> = TILES
        .into_iter()
        .map(|tile| Tile {
            pool,
            ..tile.with_sums(target.device.sums_in_registers)
        })
        .filter(|tile| op.conv.groups == 1 || op.group_quads(inputs[1]).is_multiple_of(tile.quads))
        .filter(|tile| tile.invocations() <= target.device.max_invocations_per_workgroup as usize)
        .filter_map(|tile| Some((tile, Staging::best(op, inputs, tile, bytes)?)))
        .map(|(tile, stage)| {
            (
                tile,
                stage,
                parts.unwrap_or_else(|| work.parts(tile, target)),
            )
        })
        .collect();
    choices.sort_by(|(a, s, i), (b, t, j)| work.cost(*a, s, *i).total_cmp(&work.cost(*b, t, *j)));
    choices
}

/// The least cost of the convolution; `None` if no tile fits.
pub(super) fn least_cost(
    op: &Convolution,
    inputs: &[Shape],
    map: Shape,
    target: &Target,
) -> Option<f64> {
    let (tile, stage, parts) = *choices(op, inputs, map, target, None).first()?;
    Some(LayerWork::new(inputs, map, target).cost(tile, &stage, parts))
}

/// The cost of moving `bytes`, beside that of products.
pub(super) fn cost_of_traffic(bytes: u64, target: &Target) -> f64 {
    products_of_traffic(bytes, target) / USUAL_SPEED
}

/// The products that a device computes while it moves `bytes`.
fn products_of_traffic(bytes: u64, target: &Target) -> f64 {
    bytes as f64 * f64::from(target.device.flops_per_byte) / 2.0
}

/// In how many parts the sum is best left, if in more than one.
pub(super) fn parts(
    op: &Convolution,
    inputs: &[Shape],
    map: Shape,
    target: &Target,
) -> Option<usize> {
    if target.device.is_cpu || op.conv.groups > 1 || op.parts > 1 {
        return None;
    }
    let (_, _, parts) = *choices(op, inputs, map, target, None).first()?;
    (parts > 1).then_some(parts)
}

/// The convolution with its sums left in parts, and their sum, if that keeps more of the device busy.
pub(super) fn stages(op: &Convolution, inputs: &[Shape], target: &Target) -> Option<Vec<Stage>> {
    let parts = parts(op, inputs, op.map_shape(inputs).ok()?, target)?;
    in_parts(op, inputs, target, parts)
}

/// The same stages with other numbers of parts, if one part leaves some of the device idle.
pub(super) fn other_stages(op: &Convolution, inputs: &[Shape], target: &Target) -> Vec<Vec<Stage>> {
    let Ok(map) = op.map_shape(inputs) else {
        return Vec::new();
    };
    if target.device.is_cpu || op.conv.groups > 1 || op.parts > 1 {
        return Vec::new();
    }
    let work = LayerWork::new(inputs, map, target);
    let is_idle =
        |tile: Tile| ((tile.workgroups(work.output) * tile.invocations()) as f64) < work.busy;
    let sums = target.device.sums_in_registers;
    if !TILES.into_iter().any(|tile| is_idle(tile.with_sums(sums))) {
        return Vec::new();
    }
    let parts = OTHER_PARTS
        .into_iter()
        .filter(|parts| *parts <= work.most_parts(target));
    let even = parts.map(|parts| work.groups.div_ceil(work.groups.div_ceil(parts)));
    even.filter_map(|parts| in_parts(op, inputs, target, parts))
        .collect()
}

/// The convolution with its sums left in `parts` parts, and their sum.
fn in_parts(
    op: &Convolution,
    inputs: &[Shape],
    target: &Target,
    parts: usize,
) -> Option<Vec<Stage>> {
    let leaving = Convolution {
        activation: Activation::None,
        parts,
        ..op.unpooled()
    };
    kernels(&leaving, inputs, leaving.map_shape(inputs).ok()?, target).first()?;
    let adding = SumParts {
        parts,
        channels: inputs[1].n,
        activation: op.activation,
        pool: op.pool.clone(),
    };
    Some(vec![
        Stage {
            op: Arc::new(leaving),
            inputs: (0..inputs.len()).map(StageInput::Op).collect(),
        },
        Stage {
            op: Arc::new(adding),
            inputs: vec![StageInput::Stage(0)],
        },
    ])
}

/// A kernel for each tile, the cheapest first.
///
/// Empty if no tile fits, or the window is too large for the loops of one dispatch. Also empty on a CPU device, whose
/// workgroup memory is no faster than other memory, except for sums in parts, which no other static kernel leaves.
pub(super) fn kernels(
    op: &Convolution,
    inputs: &[Shape],
    map: Shape,
    target: &Target,
) -> Vec<Kernel> {
    if target.device.is_cpu && op.parts == 1 {
        return Vec::new();
    }
    let mut choices = choices(op, inputs, map, target, Some(op.parts));
    if op.parts > 1 {
        choices.truncate(TILES_IN_PARTS);
    }
    let kernel = |(tile, stage, _)| kernel(op, inputs, map, tile, stage);
    choices.into_iter().filter_map(kernel).collect()
}

fn kernel(
    op: &Convolution,
    inputs: &[Shape],
    map: Shape,
    tile: Tile,
    stage: Staging,
) -> Option<Kernel> {
    let parts = op.parts;
    let mut kernel = op
        .kernel(
            inputs,
            map,
            KernelParts {
                shader: Shader::own("conv2d_tiled", source(tile, stage)),
                packing: Packing::Conv {
                    tile: 4 * tile.quads,
                    pad_input: true,
                },
                grid: Grid::Blocks {
                    rows: tile.rows / tile.pool,
                    columns: tile.columns / tile.pool,
                    channels: 4 * tile.quads,
                    parts,
                },
                terms: Some(inputs[1].c4().div_ceil(parts)),
                extra: [
                    &counts(Count::OF_BLOCKS)[..],
                    &op.sizes_of_groups(map, inputs[1]),
                ]
                .concat(),
            },
        )
        .ok()?;
    kernel.constants.push(("PARTS", parts as f64));
    let steps = stage.steps([inputs[1].h, inputs[1].w]);
    kernel.steps_per_term = steps.div_ceil(stage.groups as u64);
    if kernel.terms.is_none() {
        kernel.steps_per_term *= inputs[1].c4() as u64;
    }
    // A run of terms may end within a stage.
    kernel.fixed_steps = steps;
    (kernel.steps_per_term + kernel.fixed_steps <= MAX_LOOP_STEPS).then_some(kernel)
}

/// `shaders/conv2d_tiled.wgsl` for a tile and what it stages.
///
/// The file is the kernel of the first tile for 3×3 windows of stride 1, complete and valid. The parts between the
/// marks `// tile: NAME` and `// end` are generated for other tiles.
fn source(tile: Tile, stage: Staging) -> String {
    let file = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/shaders/conv2d_tiled.wgsl"
    ));
    fill(file, |name| part(name, tile, stage))
}

/// The lines of the part called `name`.
fn part(name: &str, tile: Tile, stage: Staging) -> Vec<String> {
    let sums = || (0..tile.pixels).flat_map(|p| (0..tile.own_quads).map(move |q| (p, q)));
    match name {
        "size" => sizes(tile, stage)
            .map(|(name, value)| format!("const {name} = {value}u;"))
            .to_vec(),
        "workgroup" => vec![format!("@compute @workgroup_size({})", tile.invocations())],
        "begin" => sums()
            .map(|(p, q)| (p, q, p / (tile.pool * tile.pool)))
            .map(|(p, q, square)| format!("var sum{p}_{q} = begin_sum(own, {square}u, {q}u);"))
            .collect(),
        "stage" => {
            let each = |size: usize| size.div_ceil(tile.invocations());
            let reads = [each(stage.halo_count()), each(stage.taps_size)];
            staging(reads, tile.invocations(), READS_AT_ONCE)
        }
        "sums" => products(tile, stage),
        "stores" => (0..tile.squares())
            .flat_map(|s| (0..tile.own_quads).map(move |q| (s, q)))
            .map(|(s, q)| format!("store(own, {s}u, {q}u, {});", value(tile, s, q)))
            .collect(),
        _ => vec![format!("unknown tile part {name}")],
    }
}

/// The constants of the shader.
fn sizes(tile: Tile, stage: Staging) -> [(&'static str, usize); 19] {
    [
        ("ROWS", tile.rows),
        ("COLUMNS", tile.columns),
        ("QUADS", tile.quads),
        ("PIXELS", tile.pixels),
        ("OWN_QUADS", tile.own_quads),
        ("POOL", tile.pool),
        ("STEP", tile.step()),
        ("QUAD_STEP", tile.quads / tile.own_quads),
        ("INVOCATIONS", tile.invocations()),
        ("STAGE_ROWS", stage.rows),
        ("STAGE_GROUPS", stage.groups),
        ("SOURCE_STEP_H", stage.source_step[0]),
        ("SOURCE_STEP_W", stage.source_step[1]),
        ("HALO_STEP_H", stage.halo_step[0]),
        ("HALO_STEP_W", stage.halo_step[1]),
        ("HALO_ROWS", stage.halo[0]),
        ("HALO_COLUMNS", stage.halo[1]),
        ("HALO_PITCH", stage.pitch),
        ("TAPS_SIZE", stage.taps_size),
    ]
}

/// The value that is written for square `s` of an invocation.
fn value(tile: Tile, s: usize, q: usize) -> String {
    if tile.pool == 1 {
        return format!("sum{s}_{q}");
    }
    let sums: Vec<_> = (4 * s..4 * s + 4).map(|p| format!("sum{p}_{q}")).collect();
    format!("largest(own, {s}u, {})", sums.join(", "))
}

/// The multiply-adds of one tap and four input channels.
fn products(tile: Tile, stage: Staging) -> Vec<String> {
    let quad_step = tile.quads / tile.own_quads;
    let mut lines: Vec<_> = (0..tile.pixels)
        .map(|p| (p, tile.offset(p)))
        .map(|(p, [y, x])| {
            (
                p,
                y * stage.halo_step[0] * stage.pitch + x * stage.halo_step[1],
            )
        })
        .map(|(p, offset)| format!("let v{p} = halo[p + {offset}u];"))
        .collect();
    lines.extend(multiply_adds(tile.pixels, tile.own_quads, |i, q| {
        let at = i * tile.quads + q * quad_step;
        format!("let w{i}_{q} = taps[w + {at}u];")
    }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Conv2d, Op};

    fn stage(conv: Conv2d, weight: [usize; 4], tile: Tile) -> Option<Staging> {
        let [out, c, h, w] = weight;
        let shapes = [Shape::new(1, c, 50, 50), Shape::new(out, c, h, w)];
        Staging::best(&conv.into(), &shapes, tile, MOST_BYTES)
    }

    #[test]
    fn the_file_is_what_the_generator_writes_for_3x3_windows() {
        let file = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/shaders/conv2d_tiled.wgsl"
        ));
        let stage = stage(Conv2d::padded(1), [64, 64, 3, 3], TILES[0]).unwrap();
        assert!(source(TILES[0], stage) == file);
    }

    #[test]
    fn an_invocation_has_no_more_sums_than_the_device_keeps_in_registers() {
        for (most, sums) in [(16, [16, 16, 8, 4]), (8, [8, 8, 8, 4]), (1, [8, 8, 4, 4])] {
            let tiles = TILES.map(|tile| tile.with_sums(most));
            assert_eq!(tiles.map(|tile| tile.pixels * tile.own_quads), sums);
            for (tile, whole) in tiles.iter().zip(TILES) {
                let block = |tile: Tile| [tile.rows, tile.columns, tile.quads];
                assert_eq!(block(*tile), block(whole));
                assert!(tile.invocations() <= 256, "{tile:?}");
            }
        }
    }

    #[test]
    fn every_window_of_the_published_networks_fits_every_tile() {
        let few = TILES.map(|tile| tile.with_sums(8));
        for tile in TILES.into_iter().chain(few) {
            assert_eq!(tile.quads / tile.own_quads, 8, "{tile:?}");
            for (kernel, stride, dilation) in [
                (3, 1, 1),
                (3, 1, 2),
                (3, 1, 4),
                (3, 2, 1),
                (1, 1, 1),
                (1, 2, 1),
                (7, 1, 1),
                (7, 2, 1),
            ] {
                let op = Conv2d {
                    stride: [stride; 2],
                    dilation: [dilation; 2],
                    ..Conv2d::default()
                };
                let stage = stage(op.clone(), [64, 64, kernel, kernel], tile);
                assert!(stage.is_some(), "{tile:?} {op:?} {kernel}");
            }
        }
    }

    /// Pixels and channels of the tile, and the parts, for a layer of FCN-8s at 500×500.
    fn choice(channels: usize, side: usize, out: usize, kernel: usize) -> ([usize; 3], usize) {
        let op = Convolution::from(Conv2d::padded(if kernel == 3 { 1 } else { 0 }));
        let inputs = [[1, channels, side, side], [out, channels, kernel, kernel]]
            .map(|[n, c, h, w]| Shape::new(n, c, h, w));
        let output = op.output_shape(&inputs).unwrap();
        let target = Target::WEBGPU_DEFAULTS;
        let (tile, _, parts) = choices(&op, &inputs, output, &target, None)[0];
        ([tile.rows, tile.columns, 4 * tile.quads], parts)
    }

    #[test]
    fn large_layers_have_large_tiles_and_small_ones_parts() {
        for (channels, side, out) in [(64, 698, 64), (128, 349, 128), (128, 175, 256)] {
            assert_eq!(choice(channels, side, out, 3), ([8, 16, 64], 1), "{side}");
        }
        let (tile, parts) = choice(512, 22, 4096, 7);
        assert!(tile == [8, 16, 64] && parts >= 4, "fc6: {tile:?} {parts}");
        let (tile, parts) = choice(4096, 16, 4096, 1);
        assert!(tile == [8, 16, 64] && parts >= 4, "fc7: {tile:?} {parts}");
        let (tile, parts) = choice(4096, 16, 21, 1);
        assert!(
            tile == [4, 8, 32] && parts >= 4,
            "score_fr: {tile:?} {parts}"
        );
    }

    #[test]
    fn no_part_is_left_without_terms() {
        let op = Convolution::from(Conv2d::default());
        for channels in (1024..9000).step_by(404) {
            let inputs = [Shape::new(1, channels, 4, 4), Shape::new(8, channels, 1, 1)];
            let output = op.output_shape(&inputs).unwrap();
            let parts = parts(&op, &inputs, output, &Target::WEBGPU_DEFAULTS).unwrap();
            let groups = channels.div_ceil(4);
            assert!(
                (parts - 1) * groups.div_ceil(parts) < groups,
                "{channels} {parts}"
            );
        }
    }

    #[test]
    fn a_window_that_does_not_fit_has_no_stage() {
        assert_eq!(stage(Conv2d::default(), [4, 4, 1, 100], TILES[3]), None);
    }

    #[test]
    fn pixels_read_together_lie_in_different_banks() {
        assert_eq!(pitch(18, [1, 1], 2), 18);
        assert_eq!(pitch(16, [1, 1], 2), 18);
        assert_eq!(pitch(10, [1, 1], 1), 10);
        assert_eq!(pitch(8, [1, 1], 1), 9);
    }
}

//! The kernel for GPUs with cooperative matrices: the halo tile of `conv2d_tiled` in f16, computed as products of small
//! matrices, each by a whole subgroup; sums are f32.
//!
//! The rows of a product's left side are neighbouring pixels of an output row, read in the halo one pixel apart, so
//! each tap is a shifted load. A subgroup keeps up to 4 × 4 sums and loads 8 matrices for 16 products. Both sides have
//! the terms of a product side by side, as the hardware reads them: compilers load rows of 16 bytes then, not single
//! numbers. Matrices are values of the shader, so [`source`] unrolls its text.

use super::template::{fill, staging};
use super::tiled::parts;
use super::{Convolution, KernelParts};
use crate::device_profile::CooperativeMatrix;
use crate::ops::candidate::{Candidate, Trust};
use crate::ops::grid::{Count, Grid};
use crate::ops::kernel::{Format, Kernel, MAX_LOOP_STEPS, Packing, Shader, counts, sizes};
use crate::target::Target;
use crate::tensor::Shape;

/// The most workgroup memory of a kernel, even if the device has more: more workgroups then share a multiprocessor,
/// and one computes while another waits for memory. The second limit is for stages that do not fit the first.
pub(super) const MOST_BYTES: [usize; 2] = [32 << 10, 48 << 10];
/// The most groups of four input channels staged at once.
const MOST_GROUPS: usize = 8;
/// Padding after each pixel of the halo and each output channel of the weights, in groups of four f16: it puts the rows
/// of a matrix into different banks. Matrices begin at multiples of 16 bytes.
pub(super) const APART: usize = 2;
/// Bytes of a group of four f16.
pub(super) const QUAD_BYTES: usize = 8;
/// The most tiles offered for sums in parts.
const TILES_IN_PARTS: usize = 1;
/// Reads of a stage that are under way at a time: each takes two registers beside the sums.
pub(super) const READS_AT_ONCE: usize = 16;
/// The cost of reading a group of four f16 and of storing it in workgroup memory, in products or loads of a matrix.
pub(super) const STAGING_COST: f64 = 2.0;
/// The cost of a product with the loads for it, at which the cost of traffic is compared with that of products: of 3×3
/// windows in large layers.
const USUAL_COST: f64 = 2.0;

/// What a workgroup computes and how its subgroups share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    /// Rows and columns of a matrix, and terms of a product.
    size: usize,
    /// Output rows.
    rows: usize,
    /// Output columns, a multiple of `size`.
    columns: usize,
    /// Groups of four output channels.
    quads: usize,
    /// Tiles of `size` pixels a subgroup, whole rows of the block.
    pixel_tiles: usize,
    /// Tiles of `size` output channels a subgroup.
    channel_tiles: usize,
    /// The smallest subgroup whose registers hold the sums.
    least_subgroup: u32,
    /// Side of the squares that are pooled, 1 without pooling. A subgroup has whole squares.
    pool: usize,
}

/// The tiles for each size of matrices: for large layers, for fewer channels, and for small layers.
const TILES: [Tile; 7] = [
    Tile {
        least_subgroup: 64,
        ..Tile::new(16, [8, 16], 32, [4, 4])
    },
    Tile::new(16, [8, 16], 32, [4, 2]),
    Tile::new(16, [8, 16], 16, [4, 2]),
    Tile::new(16, [4, 16], 8, [2, 2]),
    Tile::new(8, [8, 16], 16, [4, 4]),
    Tile::new(8, [8, 8], 16, [4, 4]),
    Tile::new(8, [4, 8], 8, [4, 2]),
];

impl Tile {
    const fn new(size: usize, block: [usize; 2], quads: usize, own: [usize; 2]) -> Self {
        Self {
            size,
            rows: block[0],
            columns: block[1],
            quads,
            pixel_tiles: own[0],
            channel_tiles: own[1],
            least_subgroup: 0,
            pool: 1,
        }
    }

    const fn subgroups(self) -> usize {
        let tiles = self.rows * self.columns * 4 * self.quads / (self.size * self.size);
        tiles / (self.pixel_tiles * self.channel_tiles)
    }

    /// Rows of the tiles of a subgroup, and tiles in each.
    const fn own_rows(self) -> [usize; 2] {
        let across = self.columns / self.size;
        [self.pixel_tiles / across, across]
    }

    /// The squares, times groups of four channels, that an invocation of a subgroup pools in two rows of tiles.
    fn squares(self, subgroup: usize) -> usize {
        (self.size * self.size / 8).div_ceil(subgroup)
    }

    /// Workgroups for an output of `channels4` groups of four channels in each part, whose map has this shape.
    fn workgroups(self, map: Shape, channels4: usize) -> usize {
        let blocks = map.h.div_ceil(self.rows) * map.w.div_ceil(self.columns);
        map.n * blocks * channels4.div_ceil(self.quads)
    }

    /// Whether `channels4` groups of four output channels fill more than half of the tile, or it is the narrowest.
    fn suits(self, channels4: usize) -> bool {
        self.quads <= channels4.next_power_of_two().max(8)
    }
}

/// The input and the weights in workgroup memory at once, for one tile of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Staging {
    /// Rows of the window: all of them, or one.
    rows: usize,
    /// Groups of four input channels, whole products.
    groups: usize,
    /// Input rows from one row of the halo to the next, and columns likewise: the stride if only one row of the
    /// window is staged, so that only pixels under windows are loaded.
    source_step: [usize; 2],
    /// Rows and columns of the halo between neighbouring outputs.
    halo_step: [usize; 2],
    /// Rows and columns of the halo.
    halo: [usize; 2],
    /// Output channels of all taps.
    taps_rows: usize,
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
        Self {
            rows,
            groups,
            source_step: [source_h, source_w],
            halo_step,
            halo: [0, 1]
                .map(|i| (outputs[i] - 1) * halo_step[i] + (taps[i] - 1) * op.conv.dilation[i] + 1),
            taps_rows: kernel[1].saturating_mul(rows * 4 * tile.quads),
        }
    }

    /// The stage with the most work between two barriers that fits the device.
    fn best(op: &Convolution, inputs: &[Shape], tile: Tile, target: &Target) -> Option<Self> {
        let most = MOST_BYTES.map(|bytes| bytes.min(target.device.max_workgroup_bytes as usize));
        most.into_iter()
            .find_map(|bytes| Self::best_within(op, inputs, tile, bytes))
    }

    fn best_within(op: &Convolution, inputs: &[Shape], tile: Tile, bytes: usize) -> Option<Self> {
        let (input, weight) = (inputs[0], inputs[1]);
        let least = tile.size / 4;
        let most = MOST_GROUPS.min(input.c4().next_multiple_of(least));
        let groups = (0..)
            .map(|i| least << i)
            .take_while(|groups| *groups <= most);
        groups
            .flat_map(|groups| [(1, groups), (weight.h, groups)])
            .map(|(rows, groups)| Self::new(op, [weight.h, weight.w], tile, rows, groups))
            .filter(|stage| stage.bytes(tile) <= bytes)
            .max_by_key(|stage| stage.rows * stage.groups)
    }

    /// Bytes of workgroup memory, with the scratch where sums end.
    fn bytes(&self, tile: Tile) -> usize {
        let pixels = self.halo[0].saturating_mul(self.halo[1]);
        let halo = pixels.saturating_mul(QUAD_BYTES * (self.groups + APART));
        let taps = self
            .taps_rows
            .saturating_mul(QUAD_BYTES * (self.groups + APART));
        let scratch = 4 * tile.subgroups() * tile.size * tile.size;
        halo.saturating_add(taps).saturating_add(scratch)
    }

    /// Groups of four input channels in the halo and of the weights, for an invocation.
    fn reads(&self, invocations: usize) -> [usize; 2] {
        let pixels = self.halo[0] * self.halo[1];
        [pixels, self.taps_rows].map(|runs| (runs * self.groups).div_ceil(invocations))
    }

    /// Loop steps of an invocation for one stage's groups of channels, over all rows of the window.
    fn steps(&self, kernel: [usize; 2], tile: Tile) -> u64 {
        let sums = self.rows * (1 + kernel[1] * (1 + 4 * self.groups / tile.size));
        (1 + kernel[0].div_ceil(self.rows) * (1 + sums)) as u64
    }
}

/// A kernel for each tile that fits, the cheapest first, for devices that keep numbers in f16. A plan takes them
/// unmeasured if the device was found to compute right with the matrices.
pub(super) fn candidates(
    op: &Convolution,
    inputs: &[Shape],
    map: Shape,
    target: &Target,
) -> Vec<Candidate> {
    if !target.options.half || target.device.is_cpu || op.conv.groups > 1 {
        return Vec::new();
    }
    let mut variants = all_variants(op, inputs, map, target);
    if op.parts > 1 {
        variants.truncate(TILES_IN_PARTS);
    }
    let candidate = |variant: &Variant| {
        let kernel = kernel(op, inputs, map, variant)?;
        Some(Candidate::kernel(kernel).trusted(variant.trust(inputs)))
    };
    variants.iter().filter_map(candidate).collect()
}

/// The tiles that fit the device, the cheapest first.
fn all_variants(op: &Convolution, inputs: &[Shape], map: Shape, target: &Target) -> Vec<Variant> {
    let matrices = target.device.cooperative.iter();
    let mut all: Vec<_> = matrices
        .flat_map(|matrix| variants(op, inputs, map, target, *matrix))
        .collect();
    let cost = |variant: &Variant| variant.cost(op, map, target);
    all.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    all
}

/// The least cost of the convolution, in as many parts as a plan leaves its sums in; `None` if no tile fits.
pub(super) fn least_cost(
    op: &Convolution,
    inputs: &[Shape],
    map: Shape,
    target: &Target,
) -> Option<f64> {
    let weight = inputs[1];
    let terms = 4 * weight.c4() * weight.h * weight.w;
    let of = |op: &Convolution, map| {
        let all = all_variants(op, inputs, map, target);
        let cost = all.first()?.cost(op, map, target);
        Some(cost * (4 * terms) as f64)
    };
    let Some(parts) = parts(op, inputs, map, target) else {
        return of(op, map);
    };
    let in_parts = Convolution {
        parts,
        ..op.conv.clone().into()
    };
    let map = in_parts.map_shape(inputs).ok()?;
    // Parts are written and read.
    let traffic = 2 * Format::Nhwc4.bytes(map);
    Some(of(&in_parts, map)? + cost_of_traffic(traffic, target))
}

/// The cost of moving `bytes`, beside that of products.
pub(super) fn cost_of_traffic(bytes: u64, target: &Target) -> f64 {
    let sizes = target.device.cooperative.iter().map(|matrix| matrix.size);
    let product = sizes.map(|[rows, columns, terms]| rows * columns * terms);
    let multiply_adds = bytes as f64 * f64::from(target.device.matrix_flops_per_byte) / 2.0;
    USUAL_COST * multiply_adds / f64::from(product.max().unwrap_or(1))
}

/// The tiles that fit the device, with these matrices.
fn variants(
    op: &Convolution,
    inputs: &[Shape],
    map: Shape,
    target: &Target,
    matrix: CooperativeMatrix,
) -> Vec<Variant> {
    let most = target.device.max_invocations_per_workgroup as usize;
    let channels4 = map.c4() / op.parts;
    let fits = |tile: &Tile| {
        let invocations = tile.subgroups() * matrix.subgroup as usize;
        let is_right_size = matrix.size == [tile.size as u32; 3] && invocations <= most;
        is_right_size && matrix.subgroup >= tile.least_subgroup && tile.suits(channels4)
    };
    let of_tile = |tile: Tile| {
        let pool = op.pool_side();
        Some(Variant {
            tile: Tile { pool, ..tile },
            stage: Staging::best(op, inputs, tile, target)?,
            matrix,
        })
    };
    TILES.into_iter().filter(fits).filter_map(of_tile).collect()
}

/// What the text of a kernel depends on.
#[derive(Clone, Copy, Debug)]
struct Variant {
    tile: Tile,
    stage: Staging,
    matrix: CooperativeMatrix,
}

impl Variant {
    fn invocations(&self) -> usize {
        self.tile.subgroups() * self.matrix.subgroup as usize
    }

    /// When a plan takes the kernel. Of few input channels, most of a product is zeros: whether it is faster then has
    /// to be measured.
    fn trust(&self, inputs: &[Shape]) -> Trust {
        match self.matrix.checked {
            true if 8 * inputs[0].c4() >= self.tile.size => Trust::Static,
            true => Trust::Measured,
            false => Trust::Experimental,
        }
    }

    /// The cost of the output: all products, discarded ones too, with the loads for them, divided by the share of the
    /// device that is busy; for each term and group of four output channels.
    fn cost(&self, op: &Convolution, map: Shape, target: &Target) -> f64 {
        let Self { tile, stage, .. } = self;
        let workgroups = tile.workgroups(map, map.c4() / op.parts);
        let at_once = (workgroups * op.parts * self.invocations()) as f64;
        let busy = (at_once / f64::from(target.device.invocations_at_once)).min(1.0);
        let [pixels, channels] = [tile.pixel_tiles, tile.channel_tiles];
        let steps = (stage.taps_rows * stage.groups) as f64 / (tile.quads * tile.size) as f64;
        let staged = STAGING_COST * stage.reads(self.invocations()).iter().sum::<usize>() as f64;
        let once = (pixels * channels + pixels + channels) as f64 * steps + staged;
        let of_product = once / (steps * (pixels * channels) as f64 * tile.size.pow(3) as f64);
        let size = (workgroups * tile.rows * tile.columns * tile.quads) as f64;
        size * of_product / busy
    }
}

fn kernel(op: &Convolution, inputs: &[Shape], map: Shape, variant: &Variant) -> Option<Kernel> {
    let Variant { tile, stage, .. } = *variant;
    let parts = op.parts;
    let mut kernel = op
        .kernel(
            inputs,
            map,
            KernelParts {
                shader: Shader::own("conv2d_coop", source(variant)),
                packing: Packing::ConvTerms {
                    tile: 4 * tile.quads,
                },
                grid: Grid::Blocks {
                    rows: tile.rows / tile.pool,
                    columns: tile.columns / tile.pool,
                    channels: 4 * tile.quads,
                    parts,
                },
                terms: Some(inputs[0].c4().div_ceil(parts)),
                extra: [
                    &counts(Count::OF_BLOCKS)[..],
                    &sizes([("map_height", map.h), ("map_width", map.w)]),
                ]
                .concat(),
            },
        )
        .ok()?;
    kernel.constants.push(("PARTS", parts as f64));
    let steps = stage.steps([inputs[1].h, inputs[1].w], tile);
    kernel.steps_per_term = steps.div_ceil(stage.groups as u64);
    if kernel.terms.is_none() {
        kernel.steps_per_term *= inputs[0].c4() as u64;
    }
    // A run of terms may end within a stage. Invocations of a subgroup take the numbers of a tile in turn.
    let turns = |numbers: usize| numbers.div_ceil(variant.matrix.subgroup as usize);
    let area = tile.size * tile.size;
    let ends = turns(area) + tile.pixel_tiles * tile.channel_tiles * turns(area / 4);
    kernel.fixed_steps = steps + ends as u64;
    (kernel.steps_per_term + kernel.fixed_steps <= MAX_LOOP_STEPS).then_some(kernel)
}

/// `shaders/conv2d_coop.wgsl` for a tile, what it stages, and the device's matrices.
///
/// The file is the kernel of the first tile for 3×3 windows of stride 1, complete and valid. The parts between the
/// marks `// tile: NAME` and `// end` are generated for other tiles.
fn source(variant: &Variant) -> String {
    let file = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/shaders/conv2d_coop.wgsl"
    ));
    fill(file, |name| part(name, variant))
}

/// The lines of the part called `name`.
fn part(name: &str, variant: &Variant) -> Vec<String> {
    match name {
        "size" => constants(variant)
            .map(|(name, value)| format!("const {name} = {value}u;"))
            .to_vec(),
        "matrices" => matrix_aliases(variant.matrix),
        "cells" => ["halo", "taps"]
            .into_iter()
            .flat_map(|to| put(to, variant.matrix.vectors))
            .collect(),
        "workgroup" => vec![format!(
            "@compute @workgroup_size({})",
            variant.invocations()
        )],
        "begin" => (0..variant.tile.pixel_tiles)
            .flat_map(|p| (0..variant.tile.channel_tiles).map(move |q| (p, q)))
            .map(|(p, q)| format!("var sum{p}_{q} = zero;"))
            .collect(),
        "stage" => {
            let reads = variant.stage.reads(variant.invocations());
            staging(reads, variant.invocations(), READS_AT_ONCE)
        }
        "products" => products(variant),
        "stores" => stores(variant),
        _ => vec![format!("unknown tile part {name}")],
    }
}

/// The constants of the shader.
fn constants(variant: &Variant) -> [(&'static str, usize); 21] {
    let Variant {
        tile,
        stage,
        matrix,
    } = variant;
    [
        ("SIZE", tile.size),
        ("ROWS", tile.rows),
        ("COLUMNS", tile.columns),
        ("QUADS", tile.quads),
        ("POOL", tile.pool),
        ("PIXEL_TILES", tile.pixel_tiles),
        ("CHANNEL_TILES", tile.channel_tiles),
        ("SUBGROUP", matrix.subgroup as usize),
        ("SUBGROUPS", tile.subgroups()),
        ("INVOCATIONS", variant.invocations()),
        ("STAGE_ROWS", stage.rows),
        ("STAGE_GROUPS", stage.groups),
        ("SOURCE_STEP_H", stage.source_step[0]),
        ("SOURCE_STEP_W", stage.source_step[1]),
        ("HALO_STEP_H", stage.halo_step[0]),
        ("HALO_ROWS", stage.halo[0]),
        ("HALO_COLUMNS", stage.halo[1]),
        ("HALO_PITCH", stage.groups + APART),
        ("TAPS_ROWS", stage.taps_rows),
        ("TAPS_PITCH", stage.groups + APART),
        ("CELLS", if matrix.vectors { 1 } else { 4 }),
    ]
}

/// The types of the matrices of a product, and of the cells that they are loaded from.
pub(super) fn matrix_aliases(matrix: CooperativeMatrix) -> Vec<String> {
    let size = matrix.size[0];
    let cell = match matrix.vectors {
        true => "alias Cell = vec4<f16>;",
        false => "alias Cell = f16;",
    };
    [
        ("Left", "f16", "A"),
        ("Right", "f16", "B"),
        ("Sum", "f32", "C"),
    ]
    .map(|(name, kind, role)| format!("alias {name} = coop_mat{size}x{size}<{kind}, {role}>;"))
    .into_iter()
    .chain([cell.into()])
    .collect()
}

/// The function that puts four numbers into an array of the workgroup, from vectors or numbers.
pub(super) fn put(to: &str, vectors: bool) -> Vec<String> {
    let stores = match vectors {
        true => vec![format!("    {to}[at] = value;")],
        false => (0..4)
            .map(|i| format!("    {to}[4u * at + {i}u] = value[{i}];"))
            .collect(),
    };
    let head = format!("fn put_{to}(at: u32, value: vec4<f16>) {{");
    [head]
        .into_iter()
        .chain(stores)
        .chain(["}".into()])
        .collect()
}

/// The sums, one tile after the other through the subgroup's scratch, to the output.
fn stores(variant: &Variant) -> Vec<String> {
    let tile = variant.tile;
    let [rows, across] = tile.own_rows();
    let to_scratch = |p: usize, q: usize| {
        [
            format!("coopStoreT(sum{p}_{q}, &scratch[own.scratch], SIZE);"),
            "workgroupBarrier();".into(),
        ]
    };
    let mut lines = Vec::new();
    for y in (0..rows).step_by(tile.pool) {
        for (x, q) in (0..across).flat_map(|x| (0..tile.channel_tiles).map(move |q| (x, q))) {
            let (p, column) = (y * across + x, x * tile.size);
            let at = format!("own, {y}u, {column}u, {}u", q * tile.size / 4);
            lines.extend(to_scratch(p, q));
            if tile.pool == 1 {
                lines.push(format!("finish({at});"));
            } else {
                let squares = 0..tile.squares(variant.matrix.subgroup as usize);
                let number =
                    |i: usize| format!("own.lane + {}u", i * variant.matrix.subgroup as usize);
                lines.extend(squares.clone().map(|i| {
                    let from = format!("own, {column}u, {}", number(i));
                    format!("let above{p}_{q}_{i} = largest_of_row({from});")
                }));
                lines.push("workgroupBarrier();".into());
                lines.extend(to_scratch(p + across, q));
                lines.extend(
                    squares
                        .map(|i| format!("finish_square({at}, {}, above{p}_{q}_{i});", number(i))),
                );
            }
            lines.push("workgroupBarrier();".into());
        }
    }
    lines
}

/// The products of one tap and `size` input channels.
fn products(variant: &Variant) -> Vec<String> {
    let Variant { tile, stage, .. } = *variant;
    let across = tile.columns / tile.size;
    let mut lines: Vec<_> = (0..tile.channel_tiles)
        .map(|q| {
            let at = q * tile.size * (stage.groups + APART);
            format!("let w{q} = coopLoad<Right>(&taps[CELLS * (w + {at}u)], CELLS * TAPS_PITCH);")
        })
        .collect();
    let apart = match stage.halo_step[1] {
        1 => "CELLS * HALO_PITCH".to_owned(),
        step => format!("{step}u * CELLS * HALO_PITCH"),
    };
    for p in 0..tile.pixel_tiles {
        let row = p / across * stage.halo_step[0];
        let column = p % across * tile.size * stage.halo_step[1];
        let at = (row * stage.halo[1] + column) * (stage.groups + APART);
        lines.push(format!(
            "let v{p} = coopLoadT<Left>(&halo[CELLS * (p + {at}u)], {apart});"
        ));
        lines.extend(
            (0..tile.channel_tiles)
                .map(|q| format!("sum{p}_{q} = coopMultiplyAdd(v{p}, w{q}, sum{p}_{q});")),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_profile::DeviceProfile;
    use crate::ops::Conv2d;

    fn variant(conv: Conv2d, weight: [usize; 4], tile: Tile) -> Option<Variant> {
        let [out, c, h, w] = weight;
        let shapes = [Shape::new(1, c, 50, 50), Shape::new(out, c, h, w)];
        let target = Target {
            device: DeviceProfile {
                max_workgroup_bytes: 48 << 10,
                ..DeviceProfile::WEBGPU_DEFAULTS
            },
            ..Target::WEBGPU_DEFAULTS
        };
        Some(Variant {
            tile,
            stage: Staging::best(&conv.into(), &shapes, tile, &target)?,
            matrix: CooperativeMatrix {
                size: [tile.size as u32; 3],
                subgroup: 64,
                vectors: true,
                checked: true,
            },
        })
    }

    #[test]
    fn the_file_is_what_the_generator_writes_for_3x3_windows() {
        let file = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/shaders/conv2d_coop.wgsl"
        ));
        let variant = variant(Conv2d::padded(1), [128, 64, 3, 3], TILES[0]).unwrap();
        assert!(source(&variant) == file);
    }

    /// Windows of 7×7 fit all tiles but the widest.
    #[test]
    fn windows_of_the_published_networks_fit_the_tiles() {
        for tile in TILES {
            assert_eq!(tile.own_rows()[0] % 2, 0, "no whole squares: {tile:?}");
            let whole_rows = tile.pixel_tiles * tile.size % tile.columns == 0;
            assert!(whole_rows && tile.rows * tile.columns % (tile.pixel_tiles * tile.size) == 0);
            assert_eq!(
                4 * tile.quads % (tile.channel_tiles * tile.size),
                0,
                "{tile:?}"
            );
            for (kernel, stride, dilation) in [
                (3, 1, 1),
                (3, 1, 2),
                (3, 1, 4),
                (3, 2, 1),
                (1, 1, 1),
                (1, 2, 1),
                (7, 1, 1),
            ] {
                let op = Conv2d {
                    stride: [stride; 2],
                    dilation: [dilation; 2],
                    ..Conv2d::default()
                };
                let variant = variant(op.clone(), [64, 64, kernel, kernel], tile);
                let is_large = kernel == 7 && tile.quads == 32;
                assert_eq!(variant.is_none(), is_large, "{tile:?} {op:?} {kernel}");
            }
        }
    }

    /// Rows of matrices begin at multiples of 16 bytes, or of their own length if they are shorter.
    #[test]
    fn matrices_are_aligned() {
        for tile in TILES {
            let variant = variant(Conv2d::padded(1), [128, 64, 3, 3], tile).unwrap();
            for pitch in [variant.stage.groups + APART, tile.size / 4] {
                assert_eq!(pitch * QUAD_BYTES % 16, 0, "{tile:?}");
            }
        }
    }
}

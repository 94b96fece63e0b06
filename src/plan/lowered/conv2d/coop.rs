//! The kernel for GPUs with cooperative matrices: the halo tile of `conv2d_tiled` in f16, computed as products of small
//! matrices, each by a whole subgroup; sums are f32.
//!
//! The rows of a product's left side are neighbouring pixels of an output row, read in the halo one pixel apart, so
//! each tap is a shifted load. A subgroup keeps up to 4 × 4 sums and loads 8 matrices for 16 products. Matrices are
//! values of the shader, so [`source`] unrolls its text.

use super::template::fill;
use super::{Convolution, KernelParts};
use crate::device_profile::CooperativeMatrix;
use crate::ops::grid::{Count, Grid};
use crate::ops::kernel::{Kernel, MAX_LOOP_STEPS, Packing, Shader, counts};
use crate::target::Target;
use crate::tensor::Shape;

/// The most workgroup memory of a kernel, even if the device has more: more workgroups then share a multiprocessor,
/// and one computes while another waits for memory. The second limit is for stages that do not fit the first.
const MOST_BYTES: [usize; 2] = [32 << 10, 48 << 10];
/// The most groups of four input channels staged at once.
const MOST_GROUPS: usize = 8;
/// Padding after each pixel of the halo and each row of the weights, in groups of four f16: it puts the rows of a
/// matrix into different banks. Matrices begin at multiples of 16 bytes.
const APART: usize = 2;
/// Bytes of a group of four f16.
const QUAD_BYTES: usize = 8;
/// The most tiles offered for sums in parts.
const TILES_IN_PARTS: usize = 1;

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
}

/// The tiles for each size of matrices: for large layers, for fewer channels, and for small layers.
const TILES: [Tile; 6] = [
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
        }
    }

    const fn subgroups(self) -> usize {
        let tiles = self.rows * self.columns * 4 * self.quads / (self.size * self.size);
        tiles / (self.pixel_tiles * self.channel_tiles)
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
    /// Input channels of all taps.
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
            taps_rows: kernel[1].saturating_mul(rows * groups * 4),
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

    /// Bytes of workgroup memory, with the scratch where sums begin and end.
    fn bytes(&self, tile: Tile) -> usize {
        let pixels = self.halo[0].saturating_mul(self.halo[1]);
        let halo = pixels.saturating_mul(QUAD_BYTES * (self.groups + APART));
        let taps = self
            .taps_rows
            .saturating_mul(QUAD_BYTES * (tile.quads + APART));
        let scratch = 4 * tile.subgroups() * tile.size * tile.size;
        halo.saturating_add(taps).saturating_add(scratch)
    }

    /// Loop steps of an invocation for one stage's groups of channels, over all rows of the window.
    fn steps(&self, kernel: [usize; 2], tile: Tile, invocations: usize) -> u64 {
        let bring = |size: usize| size.div_ceil(invocations);
        let sums = self.rows * (1 + kernel[1] * (1 + 4 * self.groups / tile.size));
        let halo = self.groups * self.halo[0] * self.halo[1];
        let once = 1 + bring(halo) + bring(self.taps_rows * tile.quads) + sums;
        (1 + kernel[0].div_ceil(self.rows) * once) as u64
    }
}

/// A kernel for each tile that fits, the largest first: experimental kernels, for devices that keep numbers in
/// f16.
pub(super) fn kernels(
    op: &Convolution,
    inputs: &[Shape],
    output: Shape,
    target: &Target,
) -> Vec<Kernel> {
    if !target.options.half || target.device.is_cpu || op.conv.groups > 1 || op.pool.is_some() {
        return Vec::new();
    }
    let most = target.device.max_invocations_per_workgroup as usize;
    let channels4 = output.c4() / op.parts.max(1);
    let mut kernels = Vec::new();
    for matrix in &target.device.cooperative {
        let fits = |tile: &Tile| {
            let invocations = tile.subgroups() * matrix.subgroup as usize;
            matrix.size == [tile.size as u32; 3] && invocations <= most && tile.suits(channels4)
        };
        let of_tile = |tile: Tile| {
            let stage = Staging::best(op, inputs, tile, target)?;
            kernel(
                op,
                inputs,
                output,
                &Variant {
                    tile,
                    stage,
                    matrix: *matrix,
                },
            )
        };
        let found = TILES.into_iter().filter(fits).filter_map(of_tile);
        let most = if op.parts > 1 {
            TILES_IN_PARTS
        } else {
            TILES.len()
        };
        kernels.extend(found.take(most));
    }
    kernels
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
}

fn kernel(op: &Convolution, inputs: &[Shape], output: Shape, variant: &Variant) -> Option<Kernel> {
    let Variant { tile, stage, .. } = *variant;
    let parts = op.parts;
    let mut kernel = op
        .kernel(
            inputs,
            output,
            KernelParts {
                shader: Shader::own("conv2d_coop", source(variant)),
                packing: Packing::Conv {
                    tile: 4 * tile.quads,
                    pad_input: true,
                },
                grid: Grid::Blocks {
                    rows: tile.rows,
                    columns: tile.columns,
                    channels: 4 * tile.quads,
                    parts,
                },
                terms: Some(inputs[0].c4().div_ceil(parts)),
                extra: counts(Count::OF_BLOCKS).to_vec(),
            },
        )
        .ok()?;
    kernel.constants.push(("PARTS", parts as f64));
    let steps = stage.steps([inputs[1].h, inputs[1].w], tile, variant.invocations());
    kernel.steps_per_term = steps.div_ceil(stage.groups as u64);
    // A run of terms may end within a stage. For each group of four numbers, sums begin in 1 + 4 steps and end in one.
    let numbers = (tile.size * tile.size / 4).div_ceil(variant.matrix.subgroup as usize);
    let ends = tile.pixel_tiles * tile.channel_tiles * numbers * 6;
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
    let size = variant.tile.size;
    match name {
        "size" => sizes(variant)
            .map(|(name, value)| format!("const {name} = {value}u;"))
            .to_vec(),
        "matrices" => [
            ("Left", "f16", "A"),
            ("Right", "f16", "B"),
            ("Sum", "f32", "C"),
        ]
        .map(|(name, kind, role)| format!("alias {name} = coop_mat{size}x{size}<{kind}, {role}>;"))
        .into_iter()
        .chain([match variant.matrix.vectors {
            true => "alias Cell = vec4<f16>;".into(),
            false => "alias Cell = f16;".into(),
        }])
        .collect(),
        "cells" => ["halo", "taps"]
            .into_iter()
            .flat_map(|to| put(to, variant))
            .collect(),
        "workgroup" => vec![format!(
            "@compute @workgroup_size({})",
            variant.invocations()
        )],
        "begin" => each_sum(variant, |name, place| {
            vec![
                format!("begin({place});"),
                "workgroupBarrier();".into(),
                format!("var {name} = coopLoadT<Sum>(&scratch[own.scratch], SIZE);"),
                "workgroupBarrier();".into(),
            ]
        }),
        "products" => products(variant),
        "stores" => each_sum(variant, |name, place| {
            vec![
                format!("coopStoreT({name}, &scratch[own.scratch], SIZE);"),
                "workgroupBarrier();".into(),
                format!("finish({place});"),
                "workgroupBarrier();".into(),
            ]
        }),
        _ => vec![format!("unknown tile part {name}")],
    }
}

/// The constants of the shader.
fn sizes(variant: &Variant) -> [(&'static str, usize); 20] {
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
        ("TAPS_PITCH", tile.quads + APART),
        ("CELLS", if matrix.vectors { 1 } else { 4 }),
    ]
}

/// The function that puts four numbers into the workgroup's `halo` or `taps`.
fn put(to: &str, variant: &Variant) -> Vec<String> {
    let stores = match variant.matrix.vectors {
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

/// The lines that `lines` gives for each sum, from the sum's name and the arguments that place its tile.
fn each_sum(variant: &Variant, lines: impl Fn(String, String) -> Vec<String>) -> Vec<String> {
    let tile = variant.tile;
    let across = tile.columns / tile.size;
    let sums = (0..tile.pixel_tiles).flat_map(|p| (0..tile.channel_tiles).map(move |q| (p, q)));
    sums.flat_map(|(p, q)| {
        let (y, x, quad) = (p / across, p % across * tile.size, q * tile.size / 4);
        lines(format!("sum{p}_{q}"), format!("own, {y}u, {x}u, {quad}u"))
    })
    .collect()
}

/// The products of one tap and `size` input channels.
fn products(variant: &Variant) -> Vec<String> {
    let Variant { tile, stage, .. } = *variant;
    let across = tile.columns / tile.size;
    let mut lines: Vec<_> = (0..tile.channel_tiles)
        .map(|q| {
            let at = q * tile.size / 4;
            format!("let w{q} = coopLoadT<Right>(&taps[CELLS * (w + {at}u)], CELLS * TAPS_PITCH);")
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
                subgroup: 32,
                vectors: true,
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

    #[test]
    fn every_window_of_the_published_networks_fits_every_tile() {
        for tile in TILES {
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
                assert!(variant.is_some(), "{tile:?} {op:?} {kernel}");
            }
        }
    }

    /// Rows of matrices begin at multiples of 16 bytes, or of their own length if they are shorter.
    #[test]
    fn matrices_are_aligned() {
        for tile in TILES {
            let variant = variant(Conv2d::padded(1), [128, 64, 3, 3], tile).unwrap();
            for pitch in [
                variant.stage.groups + APART,
                tile.quads + APART,
                tile.size / 4,
            ] {
                assert_eq!(pitch * QUAD_BYTES % 16, 0, "{tile:?}");
            }
        }
    }
}

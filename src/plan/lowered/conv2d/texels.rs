//! The kernel for CPU devices (lavapipe, SwiftShader): input and weight are read as texels.
//!
//! A CPU device runs a subgroup as one vector instruction after another. Reads of a storage buffer go lane by lane and
//! cost the most; reads of a storage texture are three times cheaper; a broadcast and a multiply-add cost next to
//! nothing. So the planner mirrors the input into a texture, and a workgroup keeps a tile of sums in registers: the
//! tile is unrolled in the text.
//!
//! With subgroups, all lanes take different channels of the same pixels, load their share of the pixels
//! and broadcast them. For few output channels, lanes take different pixels, load their share of the weights and broadcast
//! these. Without subgroups, a lane loads the pixels and the weights that it needs.
//! The text of Winograd's products is generated too.

use super::template::fill;
use super::{Convolution, KernelParts};
use crate::device_profile::TEXELS_PER_ROW;
use crate::ops::grid::{Count, Grid};
use crate::ops::kernel::{Kernel, MAX_LOOP_STEPS, Packing, Param, Shader, counts, sizes};
use crate::ops::packing::winograd::Transform;
use crate::ops::{Conv2d, Op};
use crate::target::Target;
use crate::tensor::Shape;

/// The widest subgroup that is used as one: Mesa 22.3 with `LP_NATIVE_VECTOR_WIDTH=1024` broadcasts zeros from lanes 16
/// to 31.
const MOST_LANES: usize = 16;

/// The pixels whose sums take an invocation as long as its loads of weights.
const LOADS_AS_PIXELS: usize = 8;

/// Groups of four channels that an invocation computes at most, where invocations share weights.
const MOST_BLOCKS: usize = 8;

/// Floating-point operations of a few milliseconds on a CPU.
const LITTLE_WORK: u64 = 1 << 26;

/// How a workgroup divides a tile of pixels and output channels among its invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Invocations a workgroup.
    invocations: usize,
    /// Neighbouring invocations that take neighbouring groups of four channels of the same pixels.
    lanes: usize,
    /// Groups of four channels an invocation.
    blocks: usize,
    /// Pixels an invocation.
    pixels: usize,
    shared: Shared,
}

/// What the invocations of a workgroup load for each other, if they are one subgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shared {
    Nothing,
    Pixels,
    Weights,
}

impl Tile {
    /// The tile for `channels4` groups of four output channels.
    pub(super) fn choose(channels4: usize, target: &Target) -> Self {
        let subgroup = target.device.subgroup_size.map_or(0, |size| size as usize);
        let shares = (4..=MOST_LANES).contains(&subgroup) && subgroup.is_power_of_two();
        if shares && channels4 >= subgroup {
            let blocks = if subgroup <= 8 && channels4 >= 2 * subgroup {
                2
            } else {
                1
            };
            return Self {
                invocations: subgroup,
                lanes: subgroup,
                blocks,
                pixels: 32,
                shared: Shared::Pixels,
            };
        }
        if shares {
            let tiles = channels4.div_ceil(MOST_BLOCKS);
            return Self::sharing_weights(subgroup, channels4.div_ceil(tiles));
        }
        let (lanes, blocks) = match channels4 {
            1 => (1, 1),
            2 => (2, 1),
            3 => (1, 3),
            4 => (4, 1),
            5 | 6 => (2, 3),
            7 | 8 => (4, 2),
            9..=12 => (4, 3),
            _ => (4, 4),
        };
        Self {
            invocations: 32,
            lanes,
            blocks,
            pixels: 8,
            shared: Shared::Nothing,
        }
    }

    fn sharing_weights(subgroup: usize, blocks: usize) -> Self {
        Self {
            invocations: subgroup,
            lanes: 1,
            blocks,
            // About 32 sums.
            pixels: match blocks {
                1 | 2 => 16,
                3 | 4 => 8,
                _ => 4,
            },
            shared: Shared::Weights,
        }
    }

    /// The tile for a convolution with this weight: all its channels are of one group.
    fn of_groups(op: &Convolution, weight: Shape, target: &Target) -> Self {
        let quads = op.group_quads(weight);
        let tile = Self::choose(quads, target);
        if op.conv.groups == 1 || quads.is_multiple_of(tile.lanes * tile.blocks) {
            return tile;
        }
        let largest = |of: usize, most: usize| {
            let sizes = (1..=most).rev();
            sizes
                .into_iter()
                .find(|i| of.is_multiple_of(*i))
                .unwrap_or(1)
        };
        match tile.shared {
            Shared::Pixels if quads.is_multiple_of(tile.lanes) => {
                return Self { blocks: 1, ..tile };
            }
            Shared::Weights => {
                return Self::sharing_weights(tile.invocations, largest(quads, MOST_BLOCKS));
            }
            _ => {}
        }
        let lanes = if quads.is_multiple_of(4) {
            4
        } else {
            2 - quads % 2
        };
        Self {
            invocations: 32,
            lanes,
            blocks: largest(quads / lanes, 4),
            pixels: 8,
            shared: Shared::Nothing,
        }
    }

    /// The same tile with fewer pixels, if a map of `pixels` pixels then takes at most three quarters of the time. Small
    /// gains are not worth another shader. A tile of any size reads all weights of its channels.
    pub(super) fn fitting(self, pixels: usize) -> Self {
        if self.shared != Shared::Pixels {
            return self;
        }
        let of = |own: usize| Self {
            pixels: own,
            ..self
        };
        let smaller = (self.lanes..self.pixels).step_by(self.lanes).map(of);
        let least = smaller.min_by_key(|tile| tile.work(pixels));
        let gains = |tile: &Self| 4 * tile.work(pixels) <= 3 * self.work(pixels);
        least.filter(gains).unwrap_or(self)
    }

    /// The time for `pixels` pixels of a workgroup's channels, in that for the sums of one pixel.
    pub(super) fn work(self, pixels: usize) -> usize {
        let shares = self.invocations / self.lanes;
        pixels.div_ceil(self.all_pixels()) * shares * (self.pixels + LOADS_AS_PIXELS)
    }

    /// Output channels a workgroup.
    pub(super) fn channels(self) -> usize {
        4 * self.lanes * self.blocks
    }

    /// Pixels a workgroup.
    pub(super) fn all_pixels(self) -> usize {
        self.pixels * self.invocations / self.lanes
    }
}

/// The kernels, best first.
///
/// Scores of classes that take little work have the tile of the widest layers, which the network is likely to have: most
/// of the tile is for channels that do not exist, and computing them takes less time than compiling another tile. Scores
/// are told by their number, no multiple of four: of other small layers a network may have many.
pub(super) fn kernels(
    op: &Convolution,
    inputs: &[Shape],
    map: Shape,
    target: &Target,
) -> Vec<Kernel> {
    let own = Tile::of_groups(op, inputs[1], target);
    let widest = Tile::choose(usize::MAX, target);
    let channels = inputs[1].n;
    let share = widest.channels().div_ceil(channels) as u64;
    let is_small = op.flops(inputs).saturating_mul(share) < LITTLE_WORK;
    let takes_widest = is_small && op.conv.groups == 1 && !channels.is_multiple_of(4);
    let tiles = (takes_widest && widest != own).then_some(widest);
    tiles
        .into_iter()
        .chain([own])
        .filter_map(|tile| kernel(op, inputs, map, tile, target))
        .collect()
}

fn kernel(
    op: &Convolution,
    inputs: &[Shape],
    map: Shape,
    tile: Tile,
    target: &Target,
) -> Option<Kernel> {
    // Pixels are counted square by square.
    let side = op.pool_side();
    let tile = if side == 1 {
        tile.fitting(map.n * map.pixels())
    } else {
        tile
    };
    let packing = Packing::Conv {
        tile: tile.channels(),
        pad_input: true,
    };
    // Pixels outside the input are read from one row of zeros.
    let outside_fits = inputs[0].c4() <= TEXELS_PER_ROW as usize;
    let weight_fits = packing.tile_bytes(inputs[1]) <= target.max_texel_bytes();
    let steps = inputs[1]
        .h
        .saturating_mul(inputs[1].w)
        .saturating_mul(inputs[1].c4() + 2);
    let runs = (steps as u64) < MAX_LOOP_STEPS;
    if !target.device.is_cpu || !outside_fits || !weight_fits || !runs {
        return None;
    }
    let parts = KernelParts {
        shader: Shader::own("conv2d_texels", fill(CONV, |name| unrolled(name, tile))),
        packing,
        grid: Grid::Tiles {
            pixels: tile.all_pixels() / (side * side),
            channels: tile.channels(),
        },
        terms: None,
        extra: [
            &counts([Count::PixelGroups])[..],
            &op.sizes_of_groups(map, inputs[1]),
            &of_model(op, inputs[1]),
        ]
        .concat(),
    };
    let mut kernel = op.kernel(inputs, map, parts).ok()?;
    kernel.constants.clear();
    Some(kernel.reading_texels())
}

/// The model's values, in place of overrides: a CPU device compiles a tile for a quarter of a second, so layers of one
/// tile share a pipeline.
fn of_model(op: &Convolution, weight: Shape) -> [Param; 9] {
    let Conv2d {
        stride, dilation, ..
    } = &op.conv;
    sizes([
        ("kernel_h", weight.h),
        ("kernel_w", weight.w),
        ("stride_h", stride[0]),
        ("stride_w", stride[1]),
        ("dilation_h", dilation[0]),
        ("dilation_w", dilation[1]),
        ("has_relu", usize::from(op.activation.has_relu())),
        ("most", op.activation.most().to_bits() as usize),
        ("pool", op.pool_side()),
    ])
}

/// The kernel for the tile of the test below, complete and valid. The parts between the marks `// tile: NAME` and
/// `// end` depend on the tile.
const CONV: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/shaders/conv2d_texels.wgsl"
));
/// As [`CONV`]. The part `points` depends on Winograd's transform, here F(4×4, 3×3).
const PRODUCT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/shaders/winograd_product.wgsl"
));

/// `shaders/winograd_product.wgsl` for `tile` and `transform`.
pub(super) fn product_source(tile: Tile, transform: Transform) -> String {
    fill(PRODUCT, |name| match name {
        "points" => vec![format!("const POINTS = {}u;", transform.points())],
        _ => unrolled(name, tile),
    })
}

/// The lines of the part called `name`.
fn unrolled(name: &str, tile: Tile) -> Vec<String> {
    let Tile {
        invocations,
        lanes,
        blocks,
        pixels,
        shared,
    } = tile;
    // The pixels that an invocation loads.
    let loaded: Vec<String> = match shared {
        Shared::Pixels => (0..pixels / lanes)
            .map(|i| format!("first + {}u + lane", i * lanes))
            .collect(),
        Shared::Nothing | Shared::Weights => (0..pixels).map(|p| format!("own + {p}u")).collect(),
    };
    let sums = (0..pixels).flat_map(|p| (0..blocks).map(move |q| (p, q)));
    match name {
        "size" => vec![
            format!("const LANES = {lanes}u;"),
            format!("const BLOCKS = {blocks}u;"),
            format!("const OWN = {pixels}u;"),
            format!("const PIXELS = {}u;", tile.all_pixels()),
        ],
        "workgroup" => vec![format!("@compute @workgroup_size({invocations})")],
        "lane" => vec![match shared {
            Shared::Nothing => "    @builtin(local_invocation_index) index: u32,".into(),
            Shared::Pixels | Shared::Weights => {
                "    @builtin(subgroup_invocation_id) index: u32,".into()
            }
        }],
        "windows" => (0..loaded.len())
            .map(|i| format!("let w{i} = window(existing({}, end));", loaded[i]))
            .collect(),
        "begin" => (0..blocks)
            .map(|q| format!("let bias{q} = bias_of(channel + {q}u * LANES);"))
            .chain(sums.map(|(p, q)| format!("var s{p}_{q} = bias{q};")))
            .collect(),
        "taps" => (0..loaded.len())
            .map(|i| format!("let t{i} = tap(w{i}, ky, kx);"))
            .collect(),
        "loads" => loads(tile, loaded.len()),
        "sums" => (0..pixels).flat_map(|p| add(p, tile)).collect(),
        "stores" => stores(blocks, 0..pixels, |p, q| store(p, q, &format!("s{p}_{q}"))),
        "pooled_stores" => stores(blocks, (0..pixels).step_by(4), |p, q| {
            store(p, q, &largest(p, q))
        }),
        "texels" => (0..loaded.len())
            .map(|i| format!("let t{i} = texel(min({}, end - 1u), point);", loaded[i]))
            .collect(),
        "zeros" => sums
            .map(|(p, q)| format!("var s{p}_{q} = vec4<f32>();"))
            .collect(),
        "elements" => (1..pixels).flat_map(next_element).collect(),
        "store_points" => stores(blocks, 0..pixels, |p, q| {
            format!("output[e{p} * params.out_c4 + offset + {q}u * LANES] = s{p}_{q};")
        }),
        _ => vec![format!("unknown part {name}")],
    }
}

/// Stores the sums of the groups of channels that exist.
fn stores(
    blocks: usize,
    pixels: impl Iterator<Item = usize> + Clone,
    store: impl Fn(usize, usize) -> String,
) -> Vec<String> {
    let mut lines = Vec::new();
    for q in 0..blocks {
        lines.push(format!("if channel + {q}u * LANES < params.channel_end {{"));
        lines.extend(pixels.clone().map(|p| format!("    {}", store(p, q))));
        lines.push("}".into());
    }
    lines
}

/// Stores the `value` of pixel `p` or of its square.
fn store(p: usize, q: usize, value: &str) -> String {
    format!("output[place(own + {p}u, end, channel + {q}u * LANES)] = finish({value});")
}

/// The largest of the sums of the four pixels from `p` on.
fn largest(p: usize, q: usize) -> String {
    let sum = |i: usize| format!("s{}_{q}", p + i);
    format!(
        "larger(larger({}, {}), larger({}, {}))",
        sum(0),
        sum(1),
        sum(2),
        sum(3)
    )
}

/// The position of tile `p` of an invocation, from the tile before it.
fn next_element(p: usize) -> [String; 3] {
    let before = p - 1;
    [
        format!("let wraps{p} = x{before} + 1u == params.tile_columns;"),
        format!("let x{p} = select(x{before} + 1u, 0u, wraps{p});"),
        format!(
            "let e{p} = select(e{before}, e{before} + 1u + select(0u, jump, wraps{p}), own + {p}u < end);"
        ),
    ]
}

/// Loads the weights of four input channels and the pixels.
fn loads(tile: Tile, pixels: usize) -> Vec<String> {
    let Tile {
        invocations,
        blocks,
        ..
    } = tile;
    let shares = tile.shared == Shared::Weights;
    let all = 4 * blocks;
    // Each invocation loads some of the weights. The last ones may have none to load.
    let loaded = (0..all).step_by(invocations).filter(|_| shares);
    let loaded = loaded.map(|first| {
        let own = match first + invocations > all {
            true => format!("min({first}u + share, {}u)", all - 1),
            false => format!("{first}u + share"),
        };
        let i = first / invocations;
        format!("let u{i} = textureLoad(weight, at(base + {own}));")
    });
    let weights = (0..all).map(|offset| {
        let (i, q) = (offset / blocks, offset % blocks);
        let value = match shares {
            true => {
                let (vector, lane) = (offset / invocations, offset % invocations);
                format!("subgroupBroadcast(u{vector}, {lane}u)")
            }
            false => format!("textureLoad(weight, at(base + {offset}u * LANES))"),
        };
        format!("let k{i}_{q} = {value};")
    });
    let weights = loaded.chain(weights);
    let pixels = (0..pixels).map(|i| format!("let v{i} = textureLoad(input, at(t{i} + c));"));
    weights.chain(pixels).collect()
}

/// Adds four input channels of pixel `p` to its sums. Their products are added up first: a long sum of fours errs by half of
/// one of single products.
fn add(p: usize, tile: Tile) -> Vec<String> {
    let broadcast = tile.shared == Shared::Pixels;
    let pixel = if broadcast {
        format!("b{p}")
    } else {
        format!("v{p}")
    };
    let mut lines = Vec::with_capacity(tile.blocks + 1);
    if broadcast {
        let (vector, lane) = (p / tile.lanes, p % tile.lanes);
        lines.push(format!("let b{p} = subgroupBroadcast(v{vector}, {lane}u);"));
    }
    for q in 0..tile.blocks {
        let product = |i: usize, x: char| format!("k{i}_{q}, vec4<f32>({pixel}.{x})");
        lines.push(format!(
            "s{p}_{q} += fma({}, fma({}, fma({}, k0_{q} * {pixel}.x)));",
            product(3, 'w'),
            product(2, 'z'),
            product(1, 'y'),
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_what_the_generator_writes_for_two_lanes() {
        let tile = Tile {
            invocations: 32,
            lanes: 2,
            blocks: 1,
            pixels: 8,
            shared: Shared::Nothing,
        };
        assert_eq!(fill(CONV, |name| unrolled(name, tile)), CONV);
        assert_eq!(product_source(tile, Transform::F4X3), PRODUCT);
    }
}

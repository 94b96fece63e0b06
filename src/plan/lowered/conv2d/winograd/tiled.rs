//! Winograd's products on GPUs: a matrix product for each point, staged in workgroup memory as `conv2d_tiled` stages a
//! convolution.

use crate::ops::grid::{Count, Grid};
use crate::ops::kernel::{
    Binding, Format, Kernel, MAX_LOOP_STEPS, Packing, Rows, Shader, Word, counts, sizes, words,
};
use crate::ops::packing::winograd::Transform;
use crate::plan::lowered::conv2d::template::{fill, multiply_adds};
use crate::plan::lowered::conv2d::tiled::STAGING_COST;
use crate::target::Target;
use crate::tensor::Shape;

/// Groups of four input channels staged at once.
const GROUPS: usize = 4;

/// What a workgroup computes of a point, and how its invocations share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Tiles of the transform.
    tiles: usize,
    /// Groups of four output channels.
    quads: usize,
    /// Tiles an invocation.
    own: usize,
    /// Groups of four output channels an invocation.
    own_quads: usize,
}

/// For large layers, for few tiles, for few output channels, and for layers too small for the others.
const TILES: [Tile; 4] = [
    Tile::new(128, 16, 8, 2),
    Tile::new(64, 16, 8, 2),
    Tile::new(128, 8, 8, 1),
    Tile::new(32, 8, 4, 1),
];

/// The products of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Products {
    /// The transform.
    pub(super) transform: Transform,
    /// Tiles of the transform, counted through the batch.
    pub(super) tiles: usize,
    /// Input channels.
    pub(super) inputs: usize,
    /// Output channels.
    pub(super) outputs: usize,
}

impl Tile {
    const fn new(tiles: usize, quads: usize, own: usize, own_quads: usize) -> Self {
        Self {
            tiles,
            quads,
            own,
            own_quads,
        }
    }

    /// The same block, of more invocations if one has more than so many sums, of four channels each.
    fn with_sums(self, most: u32) -> Self {
        let halved = Self {
            own: self.own / 2,
            ..self
        };
        let is_large = self.own * self.own_quads > most as usize;
        match is_large && halved.stages_evenly() {
            true => halved,
            false => self,
        }
    }

    /// Whether every invocation stages as much.
    const fn stages_evenly(self) -> bool {
        let invocations = self.invocations();
        (GROUPS * self.tiles).is_multiple_of(invocations)
            && (GROUPS * 4 * self.quads).is_multiple_of(invocations)
            && invocations.is_multiple_of(GROUPS)
    }

    const fn invocations(self) -> usize {
        self.tiles * self.quads / (self.own * self.own_quads)
    }

    /// Invocations side by side over the channels.
    const fn lanes(self) -> usize {
        self.quads / self.own_quads
    }

    /// Elements from one staged group of channels to the next: neighbouring invocations then store into different banks.
    const fn pitch(self) -> usize {
        self.tiles + 2
    }

    /// Output channels a workgroup.
    pub(super) const fn channels(self) -> usize {
        4 * self.quads
    }

    /// Multiply-adds of four channels for each read of workgroup memory, other costs counted as reads.
    fn speed(self) -> f64 {
        let staged = (self.tiles + 4 * self.quads) as f64 / self.invocations() as f64;
        let reads = (self.own + 4 * self.own_quads) as f64 + STAGING_COST * staged;
        (4 * self.own * self.own_quads) as f64 / reads
    }

    /// The tile with the least cost for `products`, and the cost, as `conv2d_tiled` counts it: all products, discarded
    /// ones too, divided by the tile's speed and by the share of the device that is busy.
    pub(super) fn cheapest(products: Products, target: &Target) -> Option<(Self, f64)> {
        let busy = f64::from(target.device.invocations_at_once);
        let most = target.device.max_invocations_per_workgroup as usize;
        let cost = |tile: Self| {
            let channels = products.outputs.div_ceil(tile.channels());
            let workgroups =
                products.transform.points() * products.tiles.div_ceil(tile.tiles) * channels;
            let share = ((workgroups * tile.invocations()) as f64 / busy).min(1.0);
            let all = workgroups * tile.tiles * tile.channels() * products.inputs;
            all as f64 / (tile.speed() * share)
        };
        let tiles = TILES.map(|tile| tile.with_sums(target.device.sums_in_registers));
        let fitting = tiles.into_iter().filter(|tile| tile.invocations() <= most);
        fitting
            .map(|tile| (tile, cost(tile)))
            .min_by(|(_, a), (_, b)| a.total_cmp(b))
    }
}

/// The kernel for a device that is not a CPU; `input` is the tensor of points.
pub(super) fn kernel(products: Products, input: Shape, target: &Target) -> Option<Kernel> {
    let (tile, _) = Tile::cheapest(products, target)?;
    let transform = products.transform;
    let mut params = sizes([
        ("in_c4", input.c4()),
        ("out_c4", products.outputs.div_ceil(4)),
        ("tile_columns", input.w / transform.points()),
    ])
    .to_vec();
    params.extend(counts([Count::PixelGroups, Count::ChannelGroups]));
    params.extend(words([
        Word::RowBegin,
        Word::RowEnd,
        Word::ChannelBegin,
        Word::ChannelEnd,
        Word::InputStart(0),
        Word::OutputStart,
    ]));
    let steps = input.c4().div_ceil(GROUPS) * (GROUPS + 1);
    ((steps as u64) < MAX_LOOP_STEPS).then(|| Kernel {
        shader: Shader::own("winograd_product_tiled", source(tile, transform, input.c)),
        constants: Vec::new(),
        bindings: vec![
            Binding::Activation {
                input: 0,
                format: Format::Nhwc4Between,
                rows: Rows::shifted(0),
            },
            Binding::Parameter {
                input: 1,
                packing: Packing::Winograd {
                    tile: tile.channels(),
                    transform,
                },
            },
        ],
        output: Format::Nhwc4Between,
        params,
        grid: Grid::Planes {
            planes: transform.points(),
            items: tile.tiles,
            channels: tile.channels(),
        },
        terms: None,
        steps_per_term: steps as u64,
        fixed_steps: 0,
    })
}

const FILE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/shaders/winograd_product_tiled.wgsl"
));

/// `shaders/winograd_product_tiled.wgsl` for a tile, a transform and `channels` input channels.
fn source(tile: Tile, transform: Transform, channels: usize) -> String {
    fill(FILE, |name| part(name, tile, transform, channels))
}

/// The lines of the part called `name`.
fn part(name: &str, tile: Tile, transform: Transform, channels: usize) -> Vec<String> {
    let sums = || (0..tile.own).flat_map(|p| (0..tile.own_quads).map(move |q| (p, q)));
    let staged = (tile.tiles * GROUPS).div_ceil(tile.invocations());
    match name {
        "size" => sizes_of(tile, transform)
            .map(|(name, value)| format!("const {name} = {value}u;"))
            .to_vec(),
        "workgroup" => vec![format!("@compute @workgroup_size({})", tile.invocations())],
        "sources" => (0..staged)
            .map(|i| {
                let apart = i * tile.invocations() / GROUPS;
                format!("let a{i} = source(first + in_group + {apart}u, end, point) + staged;")
            })
            .collect(),
        "zeros" => sums()
            .map(|(p, q)| format!("var sum{p}_{q} = vec4<f32>();"))
            .collect(),
        "stage" => stage(tile, staged),
        "sums" => products(tile, transform.sums_in_fours(channels)),
        "stores" => sums()
            .map(|(p, q)| {
                let tile = p * tile.tiles / tile.own;
                format!("store(first + own + {tile}u, end, point, channel, {q}u, sum{p}_{q});")
            })
            .collect(),
        _ => vec![format!("unknown part {name}")],
    }
}

/// The constants of the shader.
fn sizes_of(tile: Tile, transform: Transform) -> [(&'static str, usize); 8] {
    [
        ("POINTS", transform.points()),
        ("TILES", tile.tiles),
        ("QUADS", tile.quads),
        ("OWN", tile.own),
        ("OWN_QUADS", tile.own_quads),
        ("QUAD_STEP", tile.lanes()),
        ("GROUPS", GROUPS),
        ("PITCH", tile.pitch()),
    ]
}

/// The reads and stores of a stage: all reads are under way before the first store, and the barrier between them waits for
/// the sums of the stage before.
fn stage(tile: Tile, staged: usize) -> Vec<String> {
    let factors = (GROUPS * 4 * tile.quads).div_ceil(tile.invocations());
    let at = |i: usize| i * tile.invocations();
    let values = (0..staged).map(|i| format!("let v{i} = value(a{i} + c, inside);"));
    let weights = (0..factors).map(|i| format!("let f{i} = factor(local + {}u, base, c);", at(i)));
    let store_values = (0..staged).map(|i| {
        let apart = at(i) / GROUPS;
        format!("values[staged * PITCH + in_group + {apart}u] = v{i};")
    });
    let store_weights = (0..factors).map(|i| format!("factors[local + {}u] = f{i};", at(i)));
    let barrier = std::iter::once("workgroupBarrier();".into());
    let reads = values.chain(weights).chain(barrier);
    reads.chain(store_values).chain(store_weights).collect()
}

/// The multiply-adds of four input channels, one by one, or `in_fours`: four products are added up first, so that a sum
/// has a quarter of the terms.
fn products(tile: Tile, in_fours: bool) -> Vec<String> {
    let value = |p: usize| {
        let offset = p * tile.tiles / tile.own;
        format!("let v{p} = values[p + {offset}u];")
    };
    let weight = |i: usize, q: usize| {
        let offset = i * tile.quads + q * tile.lanes();
        format!("let w{i}_{q} = factors[w + {offset}u];")
    };
    let mut lines: Vec<_> = (0..tile.own).map(value).collect();
    if in_fours {
        for q in 0..tile.own_quads {
            lines.extend((0..4).map(|i| weight(i, q)));
            lines.extend((0..tile.own).map(|p| {
                let of = |i: usize, channel: &str, rest: &str| {
                    format!("fma(w{i}_{q}, vec4<f32>(v{p}.{channel}), {rest})")
                };
                let pair = of(1, "y", &format!("w0_{q} * v{p}.x"));
                format!("sum{p}_{q} += {};", of(3, "w", &of(2, "z", &pair)))
            }));
        }
        return lines;
    }
    lines.extend(multiply_adds(tile.own, tile.own_quads, weight));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_what_the_generator_writes_for_the_first_tile() {
        assert!(source(TILES[0], Transform::F4X3, 64) == FILE);
    }

    #[test]
    fn every_tile_is_staged_evenly_in_little_workgroup_memory() {
        let few = TILES.map(|tile| tile.with_sums(8));
        assert_eq!(few.map(|tile| tile.own * tile.own_quads), [8, 8, 8, 4]);
        for tile in TILES.into_iter().chain(few) {
            assert!(tile.stages_evenly(), "{tile:?}");
            assert!(tile.invocations() <= 256, "{tile:?}");
            assert_eq!(tile.tiles % tile.own, 0, "{tile:?}");
            let elements = GROUPS * (tile.pitch() + 4 * tile.quads);
            assert!(16 * elements <= 16 << 10, "{tile:?}");
        }
    }
}

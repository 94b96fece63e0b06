//! Winograd's products on GPUs with cooperative matrices: a matrix product for each point, staged in workgroup memory as
//! `conv2d_coop` stages a convolution. Points are f16, sums f32.
//!
//! Tiles of the transform lie side by side, whatever the width of the map, so few of them are padding. Matrices are
//! values of the shader, so [`source`] unrolls its text.

use crate::device_profile::CooperativeMatrix;
use crate::ops::candidate::{Candidate, Trust};
use crate::ops::grid::{Count, Grid};
use crate::ops::kernel::{
    Binding, Format, Kernel, MAX_LOOP_STEPS, Packing, Rows, Shader, Word, counts, sizes, words,
};
use crate::ops::packing::winograd::Transform;
use crate::plan::lowered::conv2d::coop::{
    APART, MOST_BYTES, QUAD_BYTES, READS_AT_ONCE, STAGING_COST, matrix_aliases, put,
};
use crate::plan::lowered::conv2d::template::fill;
use crate::target::Target;
use crate::tensor::Shape;

use super::tiled::Products;

/// Groups of four input channels staged at once: as many as fit.
const GROUPS: [usize; 3] = [8, 4, 2];

/// What a workgroup computes of a point, and how its subgroups share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tile {
    /// Rows and columns of a matrix, and terms of a product.
    size: usize,
    /// Tiles of the transform.
    tiles: usize,
    /// Groups of four output channels.
    quads: usize,
    /// Matrices of `size` tiles a subgroup.
    tile_matrices: usize,
    /// Matrices of `size` output channels a subgroup.
    channel_matrices: usize,
    /// The smallest subgroup whose registers hold the sums.
    least_subgroup: u32,
}

/// The tiles for each size of matrices: for large layers, for few tiles of the transform, and for few output channels.
const TILES: [Tile; 6] = [
    Tile {
        least_subgroup: 64,
        ..Tile::new(16, [128, 32], [4, 4])
    },
    Tile::new(16, [128, 32], [4, 2]),
    Tile::new(16, [64, 32], [4, 2]),
    Tile::new(16, [64, 8], [2, 2]),
    Tile::new(8, [64, 16], [4, 4]),
    Tile::new(8, [32, 8], [4, 2]),
];

impl Tile {
    const fn new(size: usize, [tiles, quads]: [usize; 2], own: [usize; 2]) -> Self {
        Self {
            size,
            tiles,
            quads,
            tile_matrices: own[0],
            channel_matrices: own[1],
            least_subgroup: 0,
        }
    }

    const fn subgroups(self) -> usize {
        let matrices = self.tiles * 4 * self.quads / (self.size * self.size);
        matrices / (self.tile_matrices * self.channel_matrices)
    }

    /// Bytes of workgroup memory if `groups` groups are staged, with the scratch where sums end.
    const fn bytes(self, groups: usize) -> usize {
        let rows = self.tiles + 4 * self.quads;
        rows * (groups + APART) * QUAD_BYTES + 4 * self.subgroups() * self.size * self.size
    }
}

/// What the text of a kernel depends on.
#[derive(Clone, Copy, Debug)]
struct Variant {
    tile: Tile,
    /// Groups of four input channels staged at once, whole products.
    groups: usize,
    matrix: CooperativeMatrix,
}

impl Variant {
    /// The tile with as many groups as fit the device; `None` if it does not fit.
    fn new(tile: Tile, matrix: CooperativeMatrix, target: &Target) -> Option<Self> {
        let of = |groups| Self {
            tile,
            groups,
            matrix,
        };
        let is_right_size = matrix.size == [tile.size as u32; 3];
        let invocations = tile.subgroups() * matrix.subgroup as usize;
        let fits = is_right_size
            && matrix.subgroup >= tile.least_subgroup
            && invocations <= target.device.max_invocations_per_workgroup as usize;
        let bytes = MOST_BYTES[0].min(target.device.max_workgroup_bytes as usize);
        let mut all = GROUPS.into_iter().filter(|groups| 4 * groups >= tile.size);
        let is_staged = |groups: &usize| {
            let runs = [tile.tiles, 4 * tile.quads].map(|rows| rows * groups);
            tile.bytes(*groups) <= bytes
                && invocations.is_multiple_of(*groups)
                && runs.iter().all(|run| run.is_multiple_of(invocations))
                && runs.iter().sum::<usize>() <= READS_AT_ONCE * invocations
        };
        all.find(is_staged).filter(|_| fits).map(of)
    }

    fn invocations(&self) -> usize {
        self.tile.subgroups() * self.matrix.subgroup as usize
    }

    /// Groups of four channels that an invocation stages, of tiles and of weights.
    fn reads(&self) -> [usize; 2] {
        let Tile { tiles, quads, .. } = self.tile;
        [tiles, 4 * quads].map(|rows| rows * self.groups / self.invocations())
    }

    /// The groups of four sums of a matrix that an invocation writes, in turn.
    fn turns(&self) -> usize {
        (self.tile.size * self.tile.size / 4).div_ceil(self.matrix.subgroup as usize)
    }

    /// The cost of `products`, as `conv2d_coop` counts it: all products, discarded ones too, with the loads for them,
    /// divided by the share of the device that is busy.
    fn cost(&self, products: Products, target: &Target) -> f64 {
        let tile = self.tile;
        let channels = products.outputs.div_ceil(4 * tile.quads);
        let workgroups =
            products.transform.points() * products.tiles.div_ceil(tile.tiles) * channels;
        let at_once = (workgroups * self.invocations()) as f64;
        let busy = (at_once / f64::from(target.device.invocations_at_once)).min(1.0);
        let [rows, columns] = [tile.tile_matrices, tile.channel_matrices];
        let steps = (4 * self.groups / tile.size) as f64;
        let staged = STAGING_COST * self.reads().iter().sum::<usize>() as f64;
        let once = (rows * columns + rows + columns) as f64 * steps + staged;
        let of_product = once / (steps * (rows * columns) as f64 * tile.size.pow(3) as f64);
        let all = (workgroups * tile.tiles * 4 * tile.quads * products.inputs) as f64;
        all * of_product / busy
    }

    fn kernel(&self, products: Products, input: Shape) -> Option<Kernel> {
        let (tile, transform) = (self.tile, products.transform);
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
        let zeros = (tile.size * tile.size).div_ceil(self.matrix.subgroup as usize);
        let steps = (input.c4().div_ceil(self.groups) + zeros) as u64;
        (steps < MAX_LOOP_STEPS).then(|| Kernel {
            shader: Shader::own("winograd_product_coop", source(self, transform)),
            constants: Vec::new(),
            bindings: vec![
                Binding::Activation {
                    input: 0,
                    format: Format::Nhwc4Between,
                    rows: Rows::shifted(0),
                },
                Binding::Parameter {
                    input: 1,
                    packing: Packing::WinogradTerms {
                        tile: 4 * tile.quads,
                        transform,
                    },
                },
            ],
            output: Format::Nhwc4Between,
            params,
            grid: Grid::Planes {
                planes: transform.points(),
                items: tile.tiles,
                channels: 4 * tile.quads,
            },
            terms: None,
            steps_per_term: steps,
            fixed_steps: 0,
        })
    }
}

/// The variants that fit the device, the cheapest for `products` first.
fn variants(products: Products, target: &Target) -> Vec<Variant> {
    let matrices = &target.device.cooperative;
    let of_matrix = |matrix: &CooperativeMatrix| {
        let matrix = *matrix;
        let of_tile = move |tile| Variant::new(tile, matrix, target);
        TILES.into_iter().filter_map(of_tile)
    };
    let mut all: Vec<_> = matrices.iter().flat_map(of_matrix).collect();
    let cost = |variant: &Variant| variant.cost(products, target);
    all.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    all
}

/// The least cost of `products`; `None` if no tile fits the device.
pub(super) fn least_cost(products: Products, target: &Target) -> Option<f64> {
    let all = variants(products, target);
    all.first().map(|variant| variant.cost(products, target))
}

/// A kernel for each tile that fits, the cheapest first; `input` is the tensor of points. A plan takes them unmeasured if
/// the device was found to compute right with the matrices.
pub(super) fn candidates(products: Products, input: Shape, target: &Target) -> Vec<Candidate> {
    let candidate = |variant: &Variant| {
        let trust = match variant.matrix.checked {
            true => Trust::Static,
            false => Trust::Experimental,
        };
        Some(Candidate::kernel(variant.kernel(products, input)?).trusted(trust))
    };
    let all = variants(products, target);
    all.iter().filter_map(candidate).collect()
}

const FILE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/shaders/winograd_product_coop.wgsl"
));

/// `shaders/winograd_product_coop.wgsl` for a tile, the device's matrices, and a transform. The file is the kernel of the
/// first tile and of F(2×2, 3×3).
fn source(variant: &Variant, transform: Transform) -> String {
    fill(FILE, |name| part(name, variant, transform))
}

/// The lines of the part called `name`.
fn part(name: &str, variant: &Variant, transform: Transform) -> Vec<String> {
    let Variant {
        tile,
        groups,
        matrix,
    } = *variant;
    let own =
        || (0..tile.tile_matrices).flat_map(|p| (0..tile.channel_matrices).map(move |q| (p, q)));
    match name {
        "size" => constants(variant, transform)
            .map(|(name, value)| format!("const {name} = {value}u;"))
            .to_vec(),
        "matrices" => matrix_aliases(matrix),
        "cells" => ["values", "factors"]
            .into_iter()
            .flat_map(|to| put(to, matrix.vectors))
            .collect(),
        "workgroup" => vec![format!(
            "@compute @workgroup_size({})",
            variant.invocations()
        )],
        "zeros" => own()
            .map(|(p, q)| format!("var sum{p}_{q} = zero;"))
            .collect(),
        "sources" => (0..variant.reads()[0])
            .map(|i| {
                let apart = i * variant.invocations() / groups;
                format!("let a{i} = source(first + in_group + {apart}u, end, point) + staged;")
            })
            .collect(),
        "stage" => stage(variant),
        "products" => products(variant),
        "stores" => stores(variant),
        _ => vec![format!("unknown part {name}")],
    }
}

/// The constants of the shader.
fn constants(variant: &Variant, transform: Transform) -> [(&'static str, usize); 12] {
    let Variant {
        tile,
        groups,
        matrix,
    } = *variant;
    [
        ("POINTS", transform.points()),
        ("SIZE", tile.size),
        ("TILES", tile.tiles),
        ("QUADS", tile.quads),
        ("TILE_MATRICES", tile.tile_matrices),
        ("CHANNEL_MATRICES", tile.channel_matrices),
        ("SUBGROUP", matrix.subgroup as usize),
        ("SUBGROUPS", tile.subgroups()),
        ("INVOCATIONS", variant.invocations()),
        ("GROUPS", groups),
        ("PITCH", groups + APART),
        ("CELLS", if matrix.vectors { 1 } else { 4 }),
    ]
}

/// The reads and stores of a stage: all reads are under way before the first store, and the barrier between them waits for
/// the products of the stage before.
fn stage(variant: &Variant) -> Vec<String> {
    let [of_values, of_factors] = variant.reads();
    let at = |i: usize| i * variant.invocations();
    let values = (0..of_values).map(|i| format!("let v{i} = value(a{i} + c, inside);"));
    let factors =
        (0..of_factors).map(|i| format!("let f{i} = factor(local + {}u, base, c);", at(i)));
    let barrier = std::iter::once("workgroupBarrier();".into());
    let store_values = (0..of_values).map(|i| {
        let apart = at(i) / variant.groups;
        format!("put_values((in_group + {apart}u) * PITCH + staged, v{i});")
    });
    let store_factors = (0..of_factors).map(|i| format!("store_factor(local + {}u, f{i});", at(i)));
    let reads = values.chain(factors).chain(barrier);
    reads.chain(store_values).chain(store_factors).collect()
}

/// The products of the staged channels, `size` at a time.
fn products(variant: &Variant) -> Vec<String> {
    let Variant { tile, groups, .. } = *variant;
    let apart = tile.size * (groups + APART);
    let mut lines = Vec::new();
    for (step, k) in (0..groups).step_by(tile.size / 4).enumerate() {
        lines.extend((0..tile.channel_matrices).map(|q| {
            let at = q * apart + k;
            format!(
                "let r{step}_{q} = coopLoad<Right>(&factors[CELLS * (w + {at}u)], CELLS * PITCH);"
            )
        }));
        for p in 0..tile.tile_matrices {
            let at = p * apart + k;
            lines.push(format!(
                "let l{step}_{p} = coopLoadT<Left>(&values[CELLS * (p + {at}u)], CELLS * PITCH);"
            ));
            lines.extend((0..tile.channel_matrices).map(|q| {
                format!("sum{p}_{q} = coopMultiplyAdd(l{step}_{p}, r{step}_{q}, sum{p}_{q});")
            }));
        }
    }
    lines
}

/// The sums, one matrix after the other through the subgroup's scratch, to the output.
fn stores(variant: &Variant) -> Vec<String> {
    let tile = variant.tile;
    let numbers: Vec<_> = (0..variant.turns())
        .map(|i| format!("own.lane + {}u", i * variant.matrix.subgroup as usize))
        .collect();
    let mut lines = Vec::new();
    for p in 0..tile.tile_matrices {
        let first = p * tile.size;
        let places = numbers.iter().enumerate();
        lines.extend(
            places.map(|(i, number)| format!("let to{p}_{i} = place(own, {first}u, {number});")),
        );
        for q in 0..tile.channel_matrices {
            lines.push(format!(
                "coopStoreT(sum{p}_{q}, &scratch[own.scratch], SIZE);"
            ));
            lines.push("workgroupBarrier();".into());
            let groups = q * tile.size / 4;
            let turns = numbers.iter().enumerate();
            lines.extend(
                turns.map(|(i, number)| format!("finish(own, to{p}_{i}, {groups}u, {number});")),
            );
            lines.push("workgroupBarrier();".into());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(tile: Tile, subgroup: u32) -> Option<Variant> {
        let mut target = Target::WEBGPU_DEFAULTS;
        target.device.max_workgroup_bytes = 32 << 10;
        let matrix = CooperativeMatrix {
            size: [tile.size as u32; 3],
            subgroup,
            vectors: true,
            checked: true,
        };
        Variant::new(tile, matrix, &target)
    }

    #[test]
    fn the_file_is_what_the_generator_writes_for_the_first_tile() {
        let variant = variant(TILES[0], 64).unwrap();
        assert!(source(&variant, Transform::F2X3) == FILE);
    }

    /// Rows of matrices begin at multiples of 16 bytes.
    #[test]
    fn every_tile_is_staged_evenly_and_aligned() {
        for tile in TILES {
            let variant = variant(tile, 32.max(tile.least_subgroup)).unwrap();
            let [of_values, of_factors] = variant.reads();
            let staged = (of_values + of_factors) * variant.invocations();
            assert_eq!(staged, (tile.tiles + 4 * tile.quads) * variant.groups);
            assert_eq!((variant.groups + APART) * QUAD_BYTES % 16, 0, "{tile:?}");
            assert_eq!(tile.tiles % (tile.tile_matrices * tile.size), 0, "{tile:?}");
            let channels = tile.channel_matrices * tile.size;
            assert_eq!(4 * tile.quads % channels, 0, "{tile:?}");
        }
    }
}

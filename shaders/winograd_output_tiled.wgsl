// The output transform of Winograd's algorithm on a GPU: Aᵀ·m·A of every tile's SIDE × SIDE products m gives
// OUTPUTS × OUTPUTS pixels; then the bias. Matrices: src/ops/packing/winograd.rs. `pool` is 2 with fused max pooling: the
// largest of each 2×2 square is written. The parts between marks depend on the transform, here F(4×4, 3×3);
// src/plan/lowered/conv2d/winograd/text.rs writes them for others.
//
// SIDE invocations transform four channels of one tile: first each a row, then the first of them a column each (with
// pooling two), which they read from workgroup memory. A workgroup transforms FOURS such fours of channels: of two tiles
// of a row, or for a dilated convolution of DILATION × DILATION tiles. A dilated tile takes every DILATION-th pixel of
// each axis; DILATION tiles interleave over OUTPUTS · DILATION pixels.
// input [n, tile rows, SIDE², tile columns, c/4], bias [c/4], output [n, h, w, c/4], all vec4.

alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override RELU: bool = false;
override MOST: f32 = 0.0;
override DILATION: u32 = 1u;

// tile: size
const OUTPUTS = 4u;
const SIDE = 6u;
alias Points = array<vec4<f32>, 6>;
// end
// tile: pixels
alias Pixels = array<vec4<f32>, 4>;
// end
const FOURS = 32u;
// Elements, of four channels of a pixel, of four channels of a tile.
const ELEMENTS = OUTPUTS * OUTPUTS;

struct Params {
    out_height: u32,
    out_width: u32,
    out_c4: u32,
    tile_rows: u32,
    tile_columns: u32,
    map_height: u32,
    map_width: u32,
    pool: u32,
    blocks_x: u32,
    blocks_y: u32,
    pixel_groups: u32,
    row_begin: u32,
    row_end: u32,
    input_start: u32,
    output_start: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<Written>;
@group(0) @binding(3) var<uniform> params: Params;

// The transformed rows of all items: [row][column][item].
var<workgroup> rows: array<vec4<f32>, SIDE * OUTPUTS * FOURS>;

// Aᵀ·v.
fn transform(v: Points) -> Pixels {
    // tile: to_pixels
    let even1 = v[1] + v[2];
    let odd1 = v[1] - v[2];
    let even3 = v[3] + v[4];
    let odd3 = v[3] - v[4];
    return Pixels(
        even1 + even3 + v[0],
        fma(vec4<f32>(1.4142135), odd3, 0.70710677 * odd1),
        fma(vec4<f32>(2.0), even3, 0.5 * even1),
        fma(vec4<f32>(2.828427), odd3, fma(vec4<f32>(0.35355338), odd1, v[5])),
    );
    // end
}

// The rows of the image that the dispatch writes, counted through the batch.
struct Band {
    begin: u32,
    end: u32,
}

// ReLU, and at most MOST if that is not 0; NaN propagates.
fn activated(value: vec4<f32>) -> vec4<f32> {
    let negative = vec4<bool>(RELU) & (value < vec4<f32>());
    let large = vec4<bool>(MOST > 0.0) & (value > vec4<f32>(MOST));
    return select(select(value, vec4<f32>(), negative), vec4<f32>(MOST), large);
}

fn store(y: u32, x: u32, band: Band, c: u32, value: vec4<f32>) {
    if y >= band.begin && y < band.end && x < params.out_width {
        let pixel = y * params.out_width + x;
        output[pixel * params.out_c4 + c - params.output_start] = Written(activated(value));
    }
}

// Writes a column of pixels.
fn store_column(y: u32, x: u32, band: Band, c: u32, bias_c: vec4<f32>, v: Pixels) {
    // tile: store_column
    store(y + 0u * DILATION, x, band, c, v[0] + bias_c);
    store(y + 1u * DILATION, x, band, c, v[1] + bias_c);
    store(y + 2u * DILATION, x, band, c, v[2] + bias_c);
    store(y + 3u * DILATION, x, band, c, v[3] + bias_c);
    // end
}

// The first pixel of a tile, along one axis.
fn first_of(tile: u32) -> u32 {
    return tile / DILATION * OUTPUTS * DILATION + tile % DILATION;
}

// Tests the bits: compilers may assume that there is no NaN.
fn is_nan(value: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

// The larger of two, or `best` if `value` is not there; NaN propagates.
fn larger(best: vec4<f32>, value: vec4<f32>, is_there: bool) -> vec4<f32> {
    return select(best, value, vec4<bool>(is_there) & ((value > best) | is_nan(value)));
}

// The largest of a square's pixels a, b, c, d (row by row) that are in the map.
fn largest(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, below: bool, right: bool) -> vec4<f32> {
    return larger(larger(a, b, right), larger(c, d, right), below);
}

// Pools two columns of pixels and writes the result; rows and columns are counted after pooling.
fn store_pooled(y: u32, x: u32, band: Band, c: u32, bias_c: vec4<f32>, v: Pixels, w: Pixels) {
    let right = 2u * x + 1u < params.map_width;
    let row = 2u * (y % params.out_height);
    // tile: store_pooled
    let p0 = largest(v[0], w[0], v[1], w[1], row + 1u < params.map_height, right);
    store(y + 0u, x, band, c, p0 + bias_c);
    let p1 = largest(v[2], w[2], v[3], w[3], row + 3u < params.map_height, right);
    store(y + 1u, x, band, c, p1 + bias_c);
    // end
}

// A column of the transformed rows, transformed.
fn column(i: u32, item: u32) -> Pixels {
    let in_column = i * FOURS + item;
    return transform(Points(
        // tile: column_of_pixels
        rows[in_column + 0u * OUTPUTS * FOURS],
        rows[in_column + 1u * OUTPUTS * FOURS],
        rows[in_column + 2u * OUTPUTS * FOURS],
        rows[in_column + 3u * OUTPUTS * FOURS],
        rows[in_column + 4u * OUTPUTS * FOURS],
        rows[in_column + 5u * OUTPUTS * FOURS],
        // end
    ));
}

@compute @workgroup_size(SIDE * FOURS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    // The rows of one image, or all rows of several.
    let height = min(params.row_end - params.row_begin, params.out_height);
    let tiles_x = select(DILATION, 2u, DILATION == 1u);
    let lanes = FOURS / (tiles_x * DILATION);
    let item = local % FOURS;
    // The row, and then the column, of this invocation.
    let line = local / FOURS;
    let c = group / params.pixel_groups * lanes + item % lanes;
    let block = group % params.pixel_groups;
    let block_row = block / params.blocks_x;
    let tile = item / lanes;
    let tile_column = block % params.blocks_x * tiles_x + tile % tiles_x;
    let n = params.row_begin / params.out_height + block_row / params.blocks_y;
    let first = params.row_begin % params.out_height;
    let tile_row = (first * params.pool / (OUTPUTS * DILATION) + block_row % params.blocks_y) * DILATION + tile / tiles_x;
    let exists = c < params.out_c4 && tile_column < params.tile_columns && tile_row < params.tile_rows;

    let point = params.tile_columns * params.out_c4;
    let first_point = (n * params.tile_rows + tile_row) * SIDE * SIDE * params.tile_columns + tile_column;
    let in_tile = first_point * params.out_c4 + c - params.input_start + line * SIDE * point;
    let at = select(0u, in_tile, exists);
    let step = select(0u, point, exists);
    let row = transform(Points(
        // tile: row_of_products
        vec4<f32>(input[at + 0u * step]),
        vec4<f32>(input[at + 1u * step]),
        vec4<f32>(input[at + 2u * step]),
        vec4<f32>(input[at + 3u * step]),
        vec4<f32>(input[at + 4u * step]),
        vec4<f32>(input[at + 5u * step]),
        // end
    ));
    let in_row = line * OUTPUTS * FOURS + item;
    // tile: store_row_of_pixels
    rows[in_row + 0u * FOURS] = row[0];
    rows[in_row + 1u * FOURS] = row[1];
    rows[in_row + 2u * FOURS] = row[2];
    rows[in_row + 3u * FOURS] = row[3];
    // end
    workgroupBarrier();
    if !exists {
        return;
    }
    let top = n * params.out_height;
    let y = top + first_of(tile_row) / params.pool;
    let x = first_of(tile_column) / params.pool;
    let band = Band(top + first, top + first + height);
    if params.pool > 1u {
        if line < OUTPUTS / params.pool {
            store_pooled(y, x + line, band, c, bias[c], column(2u * line, item), column(2u * line + 1u, item));
        }
        return;
    }
    if line < OUTPUTS {
        store_column(y, x + line * DILATION, band, c, bias[c], column(line, item));
    }
}

// The output transform of Winograd's algorithm: Aᵀ·m·A of every tile's SIDE × SIDE products m gives OUTPUTS × OUTPUTS
// pixels; then the bias. Matrices: src/ops/packing/winograd.rs. `pool` is 2 with fused max pooling: the largest of each
// 2×2 square is written. The parts between marks depend on the transform, here F(4×4, 3×3);
// src/plan/lowered/conv2d/winograd/text.rs writes them for others.
//
// One invocation computes four channels of one tile. A workgroup computes four tiles of a row and 64 channels; for a
// dilated convolution, DILATION × DILATION tiles and 256 / DILATION² channels. A dilated tile takes every DILATION-th
// pixel of each axis; DILATION tiles interleave over OUTPUTS · DILATION pixels. input [n, tile rows, SIDE², tile columns, c/4]
// as texels, ROW in a row of the texture, after one row; bias [c/4], output [n, h, w, c/4], all vec4.

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
// Elements, of four channels of a pixel, that an invocation computes.
const ELEMENTS = OUTPUTS * OUTPUTS;
const ROW = 8192u;

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

@group(0) @binding(0) var input: texture_storage_2d<rgba32float, read>;
@group(0) @binding(1) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

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

fn load(i: u32) -> vec4<f32> {
    return textureLoad(input, vec2<u32>(i % ROW, i / ROW));
}

// A row of the products, transformed along the row.
fn row(at: u32, step: u32) -> Pixels {
    return transform(Points(
        // tile: row_of_points
        load(at + 0u * step),
        load(at + 1u * step),
        load(at + 2u * step),
        load(at + 3u * step),
        load(at + 4u * step),
        load(at + 5u * step),
        // end
    ));
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
        output[pixel * params.out_c4 + c - params.output_start] = activated(value);
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

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    // The rows of one image, or all rows of several.
    let height = min(params.row_end - params.row_begin, params.out_height);
    let tiles_x = select(DILATION, 4u, DILATION == 1u);
    let lanes = 64u / (tiles_x * DILATION);
    let c = group / params.pixel_groups * lanes + local % lanes;
    let block = group % params.pixel_groups;
    let block_row = block / params.blocks_x;
    let tile = local / lanes;
    let column = block % params.blocks_x * tiles_x + tile % tiles_x;
    let n = params.row_begin / params.out_height + block_row / params.blocks_y;
    let first = params.row_begin % params.out_height;
    let tile_row = (first * params.pool / (OUTPUTS * DILATION) + block_row % params.blocks_y) * DILATION + tile / tiles_x;
    if c >= params.out_c4 || column >= params.tile_columns || tile_row >= params.tile_rows {
        return;
    }
    let top = n * params.out_height;
    let y = top + first_of(tile_row) / params.pool;
    let band = Band(top + first, top + first + height);

    let point = params.tile_columns * params.out_c4;
    let first_point = (n * params.tile_rows + tile_row) * SIDE * SIDE * params.tile_columns + column;
    let at = ROW + first_point * params.out_c4 + c - params.input_start;
    // tile: rows_of_points
    let r0 = row(at + 0u * point, point);
    let r1 = row(at + 6u * point, point);
    let r2 = row(at + 12u * point, point);
    let r3 = row(at + 18u * point, point);
    let r4 = row(at + 24u * point, point);
    let r5 = row(at + 30u * point, point);
    // end
    let x = first_of(column) / params.pool;
    let bias_c = bias[c];
    if params.pool > 1u {
        // tile: pooled_columns
        store_pooled(
            y, x + 0u, band, c, bias_c,
            transform(Points(r0[0], r1[0], r2[0], r3[0], r4[0], r5[0])),
            transform(Points(r0[1], r1[1], r2[1], r3[1], r4[1], r5[1])),
        );
        store_pooled(
            y, x + 1u, band, c, bias_c,
            transform(Points(r0[2], r1[2], r2[2], r3[2], r4[2], r5[2])),
            transform(Points(r0[3], r1[3], r2[3], r3[3], r4[3], r5[3])),
        );
        // end
        return;
    }
    // tile: columns_of_pixels
    store_column(y, x + 0u * DILATION, band, c, bias_c, transform(Points(r0[0], r1[0], r2[0], r3[0], r4[0], r5[0])));
    store_column(y, x + 1u * DILATION, band, c, bias_c, transform(Points(r0[1], r1[1], r2[1], r3[1], r4[1], r5[1])));
    store_column(y, x + 2u * DILATION, band, c, bias_c, transform(Points(r0[2], r1[2], r2[2], r3[2], r4[2], r5[2])));
    store_column(y, x + 3u * DILATION, band, c, bias_c, transform(Points(r0[3], r1[3], r2[3], r3[3], r4[3], r5[3])));
    // end
}

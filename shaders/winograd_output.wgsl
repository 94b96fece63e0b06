// The output transform of Winograd's F(4×4, 3×3): Aᵀ·m·A of every tile's 6×6 products m gives 4×4 pixels; then the
// bias. Matrices: src/ops/packing/winograd.rs. POOL is 2 with fused max pooling: the largest of each 2×2 square is
// written.
//
// One invocation computes four channels of one tile. A workgroup computes four tiles of a row and 64 channels; for a
// dilated convolution, DILATION × DILATION tiles and 256 / DILATION² channels. A dilated tile takes every DILATION-th
// pixel of each axis; DILATION tiles interleave over 4 · DILATION pixels. input [n, tile rows, 36, tile columns, c/4]
// as texels, ROW in a row of the texture, after one row; bias [c/4], output [n, h, w, c/4], all vec4.

override RELU: bool = false;
override POOL: u32 = 1u;
override DILATION: u32 = 1u;

// Elements, of four channels of a pixel, that an invocation computes.
const ELEMENTS = 16u;
const ROW = 8192u;
const HALF = 0.7071067811865476;
const TWO = 1.4142135623730951;

struct Params {
    out_height: u32,
    out_width: u32,
    out_c4: u32,
    tile_rows: u32,
    tile_columns: u32,
    map_height: u32,
    map_width: u32,
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

struct Four {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

// Aᵀ·v.
fn transform(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, e: vec4<f32>, f: vec4<f32>) -> Four {
    // Points ±√½, then ±√2: the terms even in the point, and the odd ones.
    let even_half = b + c;
    let odd_half = b - c;
    let even_two = d + e;
    let odd_two = d - e;
    return Four(
        a + even_half + even_two,
        HALF * odd_half + TWO * odd_two,
        0.5 * even_half + 2.0 * even_two,
        0.5 * HALF * odd_half + 2.0 * TWO * odd_two + f,
    );
}

fn load(i: u32) -> vec4<f32> {
    return textureLoad(input, vec2<u32>(i % ROW, i / ROW));
}

// A row of the products, transformed along the row.
fn row(at: u32, step: u32) -> Four {
    return transform(
        load(at),
        load(at + step),
        load(at + 2u * step),
        load(at + 3u * step),
        load(at + 4u * step),
        load(at + 5u * step),
    );
}

// The rows of the image that the dispatch writes, counted through the batch.
struct Band {
    begin: u32,
    end: u32,
}

fn store(y: u32, x: u32, band: Band, c: u32, value: vec4<f32>) {
    if y >= band.begin && y < band.end && x < params.out_width {
        let negative = vec4<bool>(RELU) & (value < vec4<f32>());
        let pixel = y * params.out_width + x;
        output[pixel * params.out_c4 + c - params.output_start] = select(value, vec4<f32>(), negative);
    }
}

// Writes a column of pixels.
fn store_column(y: u32, x: u32, band: Band, c: u32, bias_c: vec4<f32>, v: Four) {
    store(y, x, band, c, v.a + bias_c);
    store(y + DILATION, x, band, c, v.b + bias_c);
    store(y + 2u * DILATION, x, band, c, v.c + bias_c);
    store(y + 3u * DILATION, x, band, c, v.d + bias_c);
}

// The first pixel of a tile, along one axis.
fn first_of(tile: u32) -> u32 {
    return tile / DILATION * 4u * DILATION + tile % DILATION;
}

// The larger of two, or `best` if `value` is not there; NaN propagates.
fn larger(best: vec4<f32>, value: vec4<f32>, is_there: bool) -> vec4<f32> {
    return select(best, value, vec4<bool>(is_there) & ((value > best) | (value != value)));
}

// The largest of a square's pixels a, b, c, d (row by row) that are in the map.
fn largest(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, below: bool, right: bool) -> vec4<f32> {
    return larger(larger(a, b, right), larger(c, d, right), below);
}

// Pools two columns of pixels and writes the result; rows and columns are counted after pooling.
fn store_pooled(y: u32, x: u32, band: Band, c: u32, bias_c: vec4<f32>, v: Four, w: Four) {
    let right = 2u * x + 1u < params.map_width;
    let row = 2u * (y % params.out_height);
    let upper = largest(v.a, w.a, v.b, w.b, row + 1u < params.map_height, right);
    let lower = largest(v.c, w.c, v.d, w.d, row + 3u < params.map_height, right);
    store(y, x, band, c, upper + bias_c);
    store(y + 1u, x, band, c, lower + bias_c);
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
    let tile_row = (first * POOL / (4u * DILATION) + block_row % params.blocks_y) * DILATION + tile / tiles_x;
    if c >= params.out_c4 || column >= params.tile_columns || tile_row >= params.tile_rows {
        return;
    }
    let top = n * params.out_height;
    let y = top + first_of(tile_row) / POOL;
    let band = Band(top + first, top + first + height);

    let point = params.tile_columns * params.out_c4;
    let first_point = (n * params.tile_rows + tile_row) * 36u * params.tile_columns + column;
    let at = ROW + first_point * params.out_c4 + c - params.input_start;
    let r0 = row(at, point);
    let r1 = row(at + 6u * point, point);
    let r2 = row(at + 12u * point, point);
    let r3 = row(at + 18u * point, point);
    let r4 = row(at + 24u * point, point);
    let r5 = row(at + 30u * point, point);
    let x = first_of(column) / POOL;
    let bias_c = bias[c];
    if POOL > 1u {
        store_pooled(
            y, x, band, c, bias_c,
            transform(r0.a, r1.a, r2.a, r3.a, r4.a, r5.a),
            transform(r0.b, r1.b, r2.b, r3.b, r4.b, r5.b),
        );
        store_pooled(
            y, x + 1u, band, c, bias_c,
            transform(r0.c, r1.c, r2.c, r3.c, r4.c, r5.c),
            transform(r0.d, r1.d, r2.d, r3.d, r4.d, r5.d),
        );
        return;
    }
    store_column(y, x, band, c, bias_c, transform(r0.a, r1.a, r2.a, r3.a, r4.a, r5.a));
    store_column(y, x + DILATION, band, c, bias_c, transform(r0.b, r1.b, r2.b, r3.b, r4.b, r5.b));
    store_column(y, x + 2u * DILATION, band, c, bias_c, transform(r0.c, r1.c, r2.c, r3.c, r4.c, r5.c));
    store_column(y, x + 3u * DILATION, band, c, bias_c, transform(r0.d, r1.d, r2.d, r3.d, r4.d, r5.d));
}

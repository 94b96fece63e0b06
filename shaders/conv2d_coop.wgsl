// Ungrouped 2-D convolution by cooperative matrices: operands in f16, sums in f32.
//
// A workgroup computes a block of ROWS × COLUMNS pixels of one image for 4 · QUADS output channels. As in
// conv2d_tiled.wgsl, it stages a halo of input pixels in workgroup memory for STAGE_GROUPS groups of four input
// channels at a time, with their weights for STAGE_ROWS rows of the window; all taps read the same halo at shifted
// offsets. The left matrix holds SIZE neighbouring pixels of a row × SIZE input channels, the right one SIZE input ×
// SIZE output channels of a tap; in both, the input channels lie side by side. A subgroup accumulates PIXEL_TILES ×
// CHANNEL_TILES matrices, and stores them to its part of `scratch`, where invocations access single elements. POOL is
// 2 with fused max pooling: the largest of each 2×2 square is written. src/plan/lowered/conv2d/coop.rs writes the parts
// between marks.
// input [n, h, w, c/4], weight [tile][ky][kx][c/4][out in tile] of four c, bias [out/4], output [n, h, w, PARTS, out/4],
// all vec4.
enable f16;
enable wgpu_cooperative_matrix;

alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override KERNEL_H: u32 = 3u;
override KERNEL_W: u32 = 3u;
override STRIDE_H: u32 = 1u;
override STRIDE_W: u32 = 1u;
override DILATION_H: u32 = 1u;
override DILATION_W: u32 = 1u;
override RELU: bool = false;
override MOST: f32 = 0.0;
// Partial sums of each channel, side by side in the output; each adds up `terms` groups of input channels.
override PARTS: u32 = 1u;

// tile: size
const SIZE = 16u;
const ROWS = 8u;
const COLUMNS = 16u;
const QUADS = 32u;
const POOL = 1u;
const PIXEL_TILES = 4u;
const CHANNEL_TILES = 4u;
const SUBGROUP = 64u;
const SUBGROUPS = 4u;
const INVOCATIONS = 256u;
const STAGE_ROWS = 1u;
const STAGE_GROUPS = 4u;
const SOURCE_STEP_H = 1u;
const SOURCE_STEP_W = 1u;
const HALO_STEP_H = 1u;
const HALO_ROWS = 8u;
const HALO_COLUMNS = 18u;
const HALO_PITCH = 6u;
const TAPS_ROWS = 384u;
const TAPS_PITCH = 6u;
const CELLS = 1u;
// end
// Elements, of four channels of a pixel, that an invocation computes.
const ELEMENTS = ROWS * COLUMNS * QUADS / INVOCATIONS;

// tile: matrices
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;
alias Cell = vec4<f16>;
// end

struct Params {
    in_height: u32,
    in_width: u32,
    in_c4: u32,
    out_height: u32,
    out_width: u32,
    out_c4: u32,
    padding_h: u32,
    padding_w: u32,
    row_begin: u32,
    row_end: u32,
    channel_begin: u32,
    channel_end: u32,
    term_begin: u32,
    term_end: u32,
    terms: u32,
    input_start: u32,
    output_start: u32,
    blocks_x: u32,
    blocks_y: u32,
    pixel_groups: u32,
    map_height: u32,
    map_width: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> weight: array<Stored>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<Written>;
@group(0) @binding(4) var<uniform> params: Params;

// Input channels of pixels: [row][column][STAGE_GROUPS] groups of four; a pixel begins every HALO_PITCH groups.
var<workgroup> halo: array<Cell, CELLS * HALO_ROWS * HALO_COLUMNS * HALO_PITCH>;
// Weights: [row of the window][kx][output channel][STAGE_GROUPS] groups of four input channels; an output channel
// begins every TAPS_PITCH groups.
var<workgroup> taps: array<Cell, CELLS * TAPS_ROWS * TAPS_PITCH>;
// A tile of sums for each subgroup: [pixel][channel].
var<workgroup> scratch: array<f32, SUBGROUPS * SIZE * SIZE>;

// tile: cells
fn put_halo(at: u32, value: vec4<f16>) {
    halo[at] = value;
}
fn put_taps(at: u32, value: vec4<f16>) {
    taps[at] = value;
}
// end

// The image that a block reads: its first row in the batch, and the end of the rows that the band needs. Later rows
// may be unbound.
struct Image {
    first_row: u32,
    end: i32,
}

// Element `i` of the halo, for the input channels from group c on; zeros outside the image and from group c_end on.
// (y, x) is the halo's first pixel in the padded image. Reads never depend on a branch, so that all of a stage's are
// under way at once.
fn halo_value(i: u32, image: Image, y: u32, x: u32, c: u32, c_end: u32) -> vec4<f16> {
    let pixel = i / STAGE_GROUPS;
    let group = i - pixel * STAGE_GROUPS;
    let row = pixel / HALO_COLUMNS;
    let column = pixel - row * HALO_COLUMNS;
    let from_y = i32(y + row * SOURCE_STEP_H) - i32(params.padding_h);
    let from_x = i32(x + column * SOURCE_STEP_W) - i32(params.padding_w);
    let inside_y = row < HALO_ROWS && from_y >= 0 && from_y < image.end;
    let inside = inside_y && from_x >= 0 && from_x < i32(params.in_width) && c + group < c_end;
    let source = (image.first_row + u32(from_y)) * params.in_width + u32(from_x);
    let at = source * params.in_c4 + c + group - params.input_start;
    return select(vec4<f16>(), vec4<f16>(input[select(0u, at, inside)]), inside);
}

fn store_halo(i: u32, value: vec4<f16>) {
    let pixel = i / STAGE_GROUPS;
    if pixel < HALO_ROWS * HALO_COLUMNS {
        put_halo(pixel * HALO_PITCH + i - pixel * STAGE_GROUPS, value);
    }
}

// Element `i` of the weights of the taps from number `first` on, counted through all tiles, for the input channels from
// group c on; zeros from group c_end on.
fn tap_value(i: u32, first: u32, c: u32, c_end: u32) -> vec4<f16> {
    let tap = i / (STAGE_GROUPS * 4u * QUADS);
    let rest = i - tap * STAGE_GROUPS * 4u * QUADS;
    let inside = i < TAPS_ROWS * STAGE_GROUPS && c + rest / (4u * QUADS) < c_end;
    let at = ((first + tap) * params.in_c4 + c) * 4u * QUADS + rest;
    return select(vec4<f16>(), vec4<f16>(weight[select(0u, at, inside)]), inside);
}

fn store_tap(i: u32, value: vec4<f16>) {
    if i < TAPS_ROWS * STAGE_GROUPS {
        let run = i / (4u * QUADS);
        let row = run / STAGE_GROUPS * 4u * QUADS + i - run * 4u * QUADS;
        put_taps(row * TAPS_PITCH + run % STAGE_GROUPS, value);
    }
}

// A subgroup's sums: pixels of the map from (y, x) on, groups of four output channels from `channel` on.
struct Own {
    // The invocation's place in its subgroup.
    lane: u32,
    // Where the subgroup's part of `scratch` begins.
    scratch: u32,
    y: u32,
    // The end of the band's rows.
    y_end: u32,
    x: u32,
    // The image's first row in the batch of outputs.
    first_row: u32,
    channel: u32,
    part: u32,
}

// The output element of four channels of a pixel, and whether they exist.
struct Place {
    exists: bool,
    at: u32,
    channel: u32,
}

// Group i of four sums, in the tile at pixel (y, x) and channel group q, relative to the subgroup's first. With pooling,
// a group is of a square, and i counts the squares of two rows.
fn place(own: Own, y: u32, x: u32, q: u32, i: u32) -> Place {
    let row = own.y + y;
    let column = (own.x + x) / POOL + i / (SIZE / 4u);
    let channel = own.channel + q + i % (SIZE / 4u);
    let exists = row < own.y_end && column < params.out_width && channel < params.channel_end;
    let pixel = (own.first_row + row / POOL) * params.out_width + column;
    let at = (pixel * PARTS + own.part) * params.out_c4 + channel - params.output_start;
    return Place(exists, at, channel);
}

// Four sums in `scratch`.
fn sums(first: u32) -> vec4<f32> {
    return vec4<f32>(scratch[first], scratch[first + 1u], scratch[first + 2u], scratch[first + 3u]);
}

// ReLU, and at most MOST if that is not 0; NaN propagates.
fn activated(value: vec4<f32>) -> vec4<f32> {
    let negative = vec4<bool>(RELU) & (value < vec4<f32>());
    let large = vec4<bool>(MOST > 0.0) & (value > vec4<f32>(MOST));
    return select(select(value, vec4<f32>(), negative), vec4<f32>(MOST), large);
}

// Adds the bias, or an earlier dispatch's partial sums, to four sums and writes them.
fn store(own: Own, to: Place, value: vec4<f32>) {
    var sum = value;
    if params.term_begin > 0u {
        sum += vec4<f32>(output[to.at]);
    } else if own.part == 0u {
        sum += bias[to.channel];
    }
    output[to.at] = Written(select(sum, activated(sum), params.term_end == params.terms));
}

// Writes a tile's sums from scratch to the output.
fn finish(own: Own, y: u32, x: u32, q: u32) {
    for (var i = own.lane; i < SIZE * SIZE / 4u; i += SUBGROUP) {
        let to = place(own, y, x, q, i);
        if to.exists {
            store(own, to, sums(own.scratch + 4u * i));
        }
    }
}

// Tests the bits: compilers may assume that there is no NaN.
fn is_nan(value: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

// The larger of two, or `best` if `value` is not there; NaN propagates.
fn larger(best: vec4<f32>, value: vec4<f32>, is_there: bool) -> vec4<f32> {
    return select(best, value, vec4<bool>(is_there) & ((value > best) | is_nan(value)));
}

// The squares, times groups of four channels, of two rows of tiles.
const SQUARES = SIZE * SIZE / 8u;

// The larger of the two pixels of square number i in the row of the tile in scratch.
fn largest_of_row(own: Own, x: u32, i: u32) -> vec4<f32> {
    let square = min(i, SQUARES - 1u);
    let first = own.scratch + square / (SIZE / 4u) * 2u * SIZE + square % (SIZE / 4u) * 4u;
    let right = own.x + x + square / (SIZE / 4u) * 2u + 1u < params.map_width;
    return larger(sums(first), sums(first + SIZE), right);
}

// Writes the larger of `above` and of the row in scratch, which is the second of two, for square number i.
fn finish_square(own: Own, y: u32, x: u32, q: u32, i: u32, above: vec4<f32>) {
    let to = place(own, y, x, q, i);
    if i < SQUARES && to.exists {
        let below = own.y + y + 1u < params.map_height;
        store(own, to, larger(above, largest_of_row(own, x, i), below));
    }
}

// tile: workgroup
@compute @workgroup_size(256)
// end
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // The band is rows of one image, or all rows of several images.
    let group = workgroup.y * workgroups.x + workgroup.x;
    let height = min(params.row_end - params.row_begin, params.out_height);
    let slice = group / params.pixel_groups;
    let tile = slice / PARTS;
    let part = slice % PARTS;
    if params.channel_begin + tile * QUADS >= params.channel_end {
        return;
    }
    let block_row = (group - slice * params.pixel_groups) / params.blocks_x;
    let n = params.row_begin / params.out_height + block_row / params.blocks_y;
    // first_y and end_y are rows of the map, before pooling, like the block's.
    let first_y = params.row_begin % params.out_height * POOL;
    let end_y = first_y + height * POOL;
    let block_y = first_y + block_row % params.blocks_y * ROWS;
    let block_x = (group - slice * params.pixel_groups) % params.blocks_x * COLUMNS;
    let needed = (end_y - 1u) * STRIDE_H + (KERNEL_H - 1u) * DILATION_H + 1u;
    let image = Image(n * params.in_height, min(i32(params.in_height), i32(needed) - i32(params.padding_h)));

    // Neighbouring subgroups share pixels.
    let subgroup = local / SUBGROUP;
    let across = QUADS * 4u / (CHANNEL_TILES * SIZE);
    let row = subgroup / across * (PIXEL_TILES * SIZE / COLUMNS);
    let quad = subgroup % across * (CHANNEL_TILES * SIZE / 4u);
    let own = Own(
        local % SUBGROUP,
        subgroup * SIZE * SIZE,
        block_y + row,
        end_y,
        block_x,
        n * params.out_height,
        params.channel_begin + tile * QUADS + quad,
        part,
    );
    for (var i = own.lane; i < SIZE * SIZE; i += SUBGROUP) {
        scratch[own.scratch + i] = 0.0;
    }
    workgroupBarrier();
    let zero = coopLoadT<Sum>(&scratch[own.scratch], SIZE);
    // tile: begin
    var sum0_0 = zero;
    var sum0_1 = zero;
    var sum0_2 = zero;
    var sum0_3 = zero;
    var sum1_0 = zero;
    var sum1_1 = zero;
    var sum1_2 = zero;
    var sum1_3 = zero;
    var sum2_0 = zero;
    var sum2_1 = zero;
    var sum2_2 = zero;
    var sum2_3 = zero;
    var sum3_0 = zero;
    var sum3_1 = zero;
    var sum3_2 = zero;
    var sum3_3 = zero;
    // end
    let first_c = part * params.terms;
    let c_end = min(first_c + params.term_end, params.in_c4);
    for (var c = first_c + params.term_begin; c < c_end; c += STAGE_GROUPS) {
        for (var ky = 0u; ky < KERNEL_H; ky += STAGE_ROWS) {
            let from_y = block_y * STRIDE_H + ky * DILATION_H;
            let from_x = block_x * STRIDE_W;
            let tap = (tile * KERNEL_H + ky) * KERNEL_W;
            // tile: stage
            let h0 = halo_value(local + 0u, image, from_y, from_x, c, c_end);
            let h1 = halo_value(local + 256u, image, from_y, from_x, c, c_end);
            let h2 = halo_value(local + 512u, image, from_y, from_x, c, c_end);
            let t0 = tap_value(local + 0u, tap, c, c_end);
            let t1 = tap_value(local + 256u, tap, c, c_end);
            let t2 = tap_value(local + 512u, tap, c, c_end);
            let t3 = tap_value(local + 768u, tap, c, c_end);
            let t4 = tap_value(local + 1024u, tap, c, c_end);
            let t5 = tap_value(local + 1280u, tap, c, c_end);
            workgroupBarrier();
            store_halo(local + 0u, h0);
            store_halo(local + 256u, h1);
            store_halo(local + 512u, h2);
            store_tap(local + 0u, t0);
            store_tap(local + 256u, t1);
            store_tap(local + 512u, t2);
            store_tap(local + 768u, t3);
            store_tap(local + 1024u, t4);
            store_tap(local + 1280u, t5);
            // end
            workgroupBarrier();
            for (var r = 0u; r < STAGE_ROWS; r++) {
                for (var kx = 0u; kx < KERNEL_W; kx++) {
                    for (var k = 0u; k < STAGE_GROUPS * 4u; k += SIZE) {
                        let pixel = (row * HALO_STEP_H + r * DILATION_H) * HALO_COLUMNS + kx * DILATION_W;
                        let p = pixel * HALO_PITCH + k / 4u;
                        let w = ((r * KERNEL_W + kx) * QUADS + quad) * 4u * TAPS_PITCH + k / 4u;
                        // tile: products
                        let w0 = coopLoad<Right>(&taps[CELLS * (w + 0u)], CELLS * TAPS_PITCH);
                        let w1 = coopLoad<Right>(&taps[CELLS * (w + 96u)], CELLS * TAPS_PITCH);
                        let w2 = coopLoad<Right>(&taps[CELLS * (w + 192u)], CELLS * TAPS_PITCH);
                        let w3 = coopLoad<Right>(&taps[CELLS * (w + 288u)], CELLS * TAPS_PITCH);
                        let v0 = coopLoadT<Left>(&halo[CELLS * (p + 0u)], CELLS * HALO_PITCH);
                        sum0_0 = coopMultiplyAdd(v0, w0, sum0_0);
                        sum0_1 = coopMultiplyAdd(v0, w1, sum0_1);
                        sum0_2 = coopMultiplyAdd(v0, w2, sum0_2);
                        sum0_3 = coopMultiplyAdd(v0, w3, sum0_3);
                        let v1 = coopLoadT<Left>(&halo[CELLS * (p + 108u)], CELLS * HALO_PITCH);
                        sum1_0 = coopMultiplyAdd(v1, w0, sum1_0);
                        sum1_1 = coopMultiplyAdd(v1, w1, sum1_1);
                        sum1_2 = coopMultiplyAdd(v1, w2, sum1_2);
                        sum1_3 = coopMultiplyAdd(v1, w3, sum1_3);
                        let v2 = coopLoadT<Left>(&halo[CELLS * (p + 216u)], CELLS * HALO_PITCH);
                        sum2_0 = coopMultiplyAdd(v2, w0, sum2_0);
                        sum2_1 = coopMultiplyAdd(v2, w1, sum2_1);
                        sum2_2 = coopMultiplyAdd(v2, w2, sum2_2);
                        sum2_3 = coopMultiplyAdd(v2, w3, sum2_3);
                        let v3 = coopLoadT<Left>(&halo[CELLS * (p + 324u)], CELLS * HALO_PITCH);
                        sum3_0 = coopMultiplyAdd(v3, w0, sum3_0);
                        sum3_1 = coopMultiplyAdd(v3, w1, sum3_1);
                        sum3_2 = coopMultiplyAdd(v3, w2, sum3_2);
                        sum3_3 = coopMultiplyAdd(v3, w3, sum3_3);
                        // end
                    }
                }
            }
        }
    }
    // tile: stores
    coopStoreT(sum0_0, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 0u, 0u, 0u);
    workgroupBarrier();
    coopStoreT(sum0_1, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 0u, 0u, 4u);
    workgroupBarrier();
    coopStoreT(sum0_2, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 0u, 0u, 8u);
    workgroupBarrier();
    coopStoreT(sum0_3, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 0u, 0u, 12u);
    workgroupBarrier();
    coopStoreT(sum1_0, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 1u, 0u, 0u);
    workgroupBarrier();
    coopStoreT(sum1_1, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 1u, 0u, 4u);
    workgroupBarrier();
    coopStoreT(sum1_2, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 1u, 0u, 8u);
    workgroupBarrier();
    coopStoreT(sum1_3, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 1u, 0u, 12u);
    workgroupBarrier();
    coopStoreT(sum2_0, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 2u, 0u, 0u);
    workgroupBarrier();
    coopStoreT(sum2_1, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 2u, 0u, 4u);
    workgroupBarrier();
    coopStoreT(sum2_2, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 2u, 0u, 8u);
    workgroupBarrier();
    coopStoreT(sum2_3, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 2u, 0u, 12u);
    workgroupBarrier();
    coopStoreT(sum3_0, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 3u, 0u, 0u);
    workgroupBarrier();
    coopStoreT(sum3_1, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 3u, 0u, 4u);
    workgroupBarrier();
    coopStoreT(sum3_2, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 3u, 0u, 8u);
    workgroupBarrier();
    coopStoreT(sum3_3, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 3u, 0u, 12u);
    workgroupBarrier();
    // end
}

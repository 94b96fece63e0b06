// 2-D convolution on a GPU as an implicit matrix product: the im2col matrix is never stored. Ungrouped, or in groups
// whose channels are multiples of 4.
//
// A workgroup computes a block of ROWS × COLUMNS pixels of one image for 4 · QUADS output channels of a group. It
// stages a halo, the input pixels that the block's windows cover, in workgroup memory for STAGE_GROUPS groups of four
// input channels at a time, with their weights for STAGE_ROWS rows of the window; all taps read the same halo at
// shifted offsets. One invocation sums PIXELS pixels of a row × OWN_QUADS groups of four output channels. POOL is 2
// with fused max pooling: an invocation's pixels form 2×2 squares and the largest of each is written.
// src/plan/lowered/conv2d/tiled.rs writes the parts between marks.
// input [n, h, w, c/4], weight [tile][ky][kx][c/groups][QUADS], bias [out/4], output [n, h, w, PARTS, out/4], all vec4.

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
const ROWS = 8u;
const COLUMNS = 16u;
const QUADS = 16u;
const PIXELS = 8u;
const OWN_QUADS = 2u;
const POOL = 1u;
const STEP = 2u;
const QUAD_STEP = 8u;
const INVOCATIONS = 128u;
const STAGE_ROWS = 3u;
const STAGE_GROUPS = 1u;
const SOURCE_STEP_H = 1u;
const SOURCE_STEP_W = 1u;
const HALO_STEP_H = 1u;
const HALO_STEP_W = 1u;
const HALO_ROWS = 10u;
const HALO_COLUMNS = 18u;
const HALO_PITCH = 18u;
const TAPS_SIZE = 576u;
// end
// Elements, of four channels of a pixel, that an invocation computes.
const ELEMENTS = PIXELS * OWN_QUADS;

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
    group_in_c4: u32,
    group_out_c4: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> weight: array<Stored>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<Written>;
@group(0) @binding(4) var<uniform> params: Params;

// Four input channels of a pixel: [group of channels][row][column]; a row begins every HALO_PITCH.
var<workgroup> halo: array<vec4<f32>, STAGE_GROUPS * HALO_ROWS * HALO_PITCH>;
// Four output channels of a weight: [row of the window][kx][input channel][QUADS].
var<workgroup> taps: array<vec4<f32>, TAPS_SIZE>;

// The image that a block reads: its first row in the batch, the end of the rows that the band needs (later rows may
// be unbound), and the first channel of the block's group.
struct Image {
    first_row: u32,
    end: i32,
    first_c: u32,
}

// Element `i` of the halo, for the input channels from group c on; zeros outside the image and from group c_end on.
// (y, x) is the halo's first pixel in the padded image. Reads never depend on a branch, so that all of a stage's are under
// way at once.
fn halo_value(i: u32, image: Image, y: u32, x: u32, c: u32, c_end: u32) -> vec4<f32> {
    let pixel = i / STAGE_GROUPS;
    let group = i - pixel * STAGE_GROUPS;
    let row = pixel / HALO_COLUMNS;
    let column = pixel - row * HALO_COLUMNS;
    let from_y = i32(y + row * SOURCE_STEP_H) - i32(params.padding_h);
    let from_x = i32(x + column * SOURCE_STEP_W) - i32(params.padding_w);
    let inside_y = row < HALO_ROWS && from_y >= 0 && from_y < image.end;
    let inside = inside_y && from_x >= 0 && from_x < i32(params.in_width) && c + group < c_end;
    let source = (image.first_row + u32(from_y)) * params.in_width + u32(from_x);
    let at = source * params.in_c4 + image.first_c + c + group - params.input_start;
    return select(vec4<f32>(), vec4<f32>(input[select(0u, at, inside)]), inside);
}

fn store_halo(i: u32, value: vec4<f32>) {
    let pixel = i / STAGE_GROUPS;
    let row = pixel / HALO_COLUMNS;
    if row < HALO_ROWS {
        halo[((i - pixel * STAGE_GROUPS) * HALO_ROWS + row) * HALO_PITCH + pixel - row * HALO_COLUMNS] = value;
    }
}

// Element `i` of the weights of the taps from number `first` on, counted through all tiles, for the input channels from
// group c on; zeros from group c_end on.
fn tap_value(i: u32, first: u32, c: u32, c_end: u32) -> vec4<f32> {
    let tap = i / (STAGE_GROUPS * 4u * QUADS);
    let rest = i - tap * STAGE_GROUPS * 4u * QUADS;
    let inside = i < TAPS_SIZE && c + rest / (4u * QUADS) < c_end;
    let at = ((first + tap) * params.group_in_c4 + c) * 4u * QUADS + rest;
    return select(vec4<f32>(), vec4<f32>(weight[select(0u, at, inside)]), inside);
}

fn store_tap(i: u32, value: vec4<f32>) {
    if i < TAPS_SIZE {
        taps[i] = value;
    }
}

// An invocation's outputs: pixels (y, x), (y, x + STEP) … of the groups of four channels `channel`,
// channel + QUAD_STEP … With pooling, an output pixel is the largest of a square of the map.
struct Own {
    in_rows: bool,
    x: u32,
    // Whether the squares' second row is in the map.
    below: bool,
    channel: u32,
    // The output element of the first pixel and group.
    at: u32,
    part: u32,
}

// Whether pixel p and channel group q of an invocation exist.
fn is_inside(own: Own, p: u32, q: u32) -> bool {
    let in_columns = own.x + p * STEP < params.out_width;
    return own.in_rows && in_columns && own.channel + q * QUAD_STEP < params.channel_end;
}

fn place(own: Own, p: u32, q: u32) -> u32 {
    return own.at + p * STEP * PARTS * params.out_c4 + q * QUAD_STEP;
}

// The initial sum: the bias, or an earlier dispatch's partial sum.
fn begin_sum(own: Own, p: u32, q: u32) -> vec4<f32> {
    if !is_inside(own, p, q) {
        return vec4<f32>();
    }
    if params.term_begin > 0u {
        return vec4<f32>(output[place(own, p, q)]);
    }
    if own.part > 0u {
        return vec4<f32>();
    }
    return vec4<f32>(bias[own.channel + q * QUAD_STEP]);
}

// Tests the bits: compilers may assume that there is no NaN.
fn is_nan(value: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

// The larger of two, or `best` if `value` is not there; NaN propagates.
fn larger(best: vec4<f32>, value: vec4<f32>, is_there: bool) -> vec4<f32> {
    return select(best, value, vec4<bool>(is_there) & ((value > best) | is_nan(value)));
}

// The largest of square p's pixels a, b, c, d (row by row) that are in the map.
fn largest(own: Own, p: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    let right = (own.x + p * STEP) * POOL + 1u < params.map_width;
    let above = larger(a, b, right);
    return larger(above, larger(c, d, right), own.below);
}

// ReLU, and at most MOST if that is not 0; NaN propagates.
fn activated(value: vec4<f32>) -> vec4<f32> {
    let negative = vec4<bool>(RELU) & (value < vec4<f32>());
    let large = vec4<bool>(MOST > 0.0) & (value > vec4<f32>(MOST));
    return select(select(value, vec4<f32>(), negative), vec4<f32>(MOST), large);
}

fn store(own: Own, p: u32, q: u32, value: vec4<f32>) {
    if is_inside(own, p, q) {
        output[place(own, p, q)] = Written(select(value, activated(value), params.term_end == params.terms));
    }
}

// tile: workgroup
@compute @workgroup_size(128)
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
    let group_of_channels = (params.channel_begin + tile * QUADS) / params.group_out_c4;
    let image = Image(
        n * params.in_height,
        min(i32(params.in_height), i32(needed) - i32(params.padding_h)),
        group_of_channels * params.group_in_c4,
    );

    let lane = local % QUAD_STEP;
    let row = local / QUAD_STEP / STEP * POOL;
    let column = local / QUAD_STEP % STEP * POOL;
    let y = block_y + row;
    let x = (block_x + column) / POOL;
    let channel = params.channel_begin + tile * QUADS + lane;
    let pixel = (n * params.out_height + y / POOL) * params.out_width + x;
    let at = (pixel * PARTS + part) * params.out_c4 + channel - params.output_start;
    let own = Own(y < end_y, x, y + 1u < params.map_height, channel, at, part);
    // tile: begin
    var sum0_0 = begin_sum(own, 0u, 0u);
    var sum0_1 = begin_sum(own, 0u, 1u);
    var sum1_0 = begin_sum(own, 1u, 0u);
    var sum1_1 = begin_sum(own, 1u, 1u);
    var sum2_0 = begin_sum(own, 2u, 0u);
    var sum2_1 = begin_sum(own, 2u, 1u);
    var sum3_0 = begin_sum(own, 3u, 0u);
    var sum3_1 = begin_sum(own, 3u, 1u);
    var sum4_0 = begin_sum(own, 4u, 0u);
    var sum4_1 = begin_sum(own, 4u, 1u);
    var sum5_0 = begin_sum(own, 5u, 0u);
    var sum5_1 = begin_sum(own, 5u, 1u);
    var sum6_0 = begin_sum(own, 6u, 0u);
    var sum6_1 = begin_sum(own, 6u, 1u);
    var sum7_0 = begin_sum(own, 7u, 0u);
    var sum7_1 = begin_sum(own, 7u, 1u);
    // end
    let first_c = part * params.terms;
    let c_end = min(first_c + params.term_end, params.group_in_c4);
    for (var c = first_c + params.term_begin; c < c_end; c += STAGE_GROUPS) {
        for (var ky = 0u; ky < KERNEL_H; ky += STAGE_ROWS) {
            let from_y = block_y * STRIDE_H + ky * DILATION_H;
            let from_x = block_x * STRIDE_W;
            let tap = (tile * KERNEL_H + ky) * KERNEL_W;
            // tile: stage
            let h0 = halo_value(local + 0u, image, from_y, from_x, c, c_end);
            let h1 = halo_value(local + 128u, image, from_y, from_x, c, c_end);
            let t0 = tap_value(local + 0u, tap, c, c_end);
            let t1 = tap_value(local + 128u, tap, c, c_end);
            let t2 = tap_value(local + 256u, tap, c, c_end);
            let t3 = tap_value(local + 384u, tap, c, c_end);
            let t4 = tap_value(local + 512u, tap, c, c_end);
            workgroupBarrier();
            store_halo(local + 0u, h0);
            store_halo(local + 128u, h1);
            store_tap(local + 0u, t0);
            store_tap(local + 128u, t1);
            store_tap(local + 256u, t2);
            store_tap(local + 384u, t3);
            store_tap(local + 512u, t4);
            // end
            workgroupBarrier();
            for (var r = 0u; r < STAGE_ROWS; r++) {
                for (var kx = 0u; kx < KERNEL_W; kx++) {
                    for (var g = 0u; g < STAGE_GROUPS; g++) {
                        let p = (g * HALO_ROWS + row * HALO_STEP_H + r * DILATION_H) * HALO_PITCH
                            + column * HALO_STEP_W + kx * DILATION_W;
                        let w = ((r * KERNEL_W + kx) * STAGE_GROUPS + g) * 4u * QUADS + lane;
                        // tile: sums
                        let v0 = halo[p + 0u];
                        let v1 = halo[p + 2u];
                        let v2 = halo[p + 4u];
                        let v3 = halo[p + 6u];
                        let v4 = halo[p + 8u];
                        let v5 = halo[p + 10u];
                        let v6 = halo[p + 12u];
                        let v7 = halo[p + 14u];
                        let w0_0 = taps[w + 0u];
                        let w0_1 = taps[w + 8u];
                        sum0_0 = fma(w0_0, vec4<f32>(v0.x), sum0_0);
                        sum0_1 = fma(w0_1, vec4<f32>(v0.x), sum0_1);
                        sum1_0 = fma(w0_0, vec4<f32>(v1.x), sum1_0);
                        sum1_1 = fma(w0_1, vec4<f32>(v1.x), sum1_1);
                        sum2_0 = fma(w0_0, vec4<f32>(v2.x), sum2_0);
                        sum2_1 = fma(w0_1, vec4<f32>(v2.x), sum2_1);
                        sum3_0 = fma(w0_0, vec4<f32>(v3.x), sum3_0);
                        sum3_1 = fma(w0_1, vec4<f32>(v3.x), sum3_1);
                        sum4_0 = fma(w0_0, vec4<f32>(v4.x), sum4_0);
                        sum4_1 = fma(w0_1, vec4<f32>(v4.x), sum4_1);
                        sum5_0 = fma(w0_0, vec4<f32>(v5.x), sum5_0);
                        sum5_1 = fma(w0_1, vec4<f32>(v5.x), sum5_1);
                        sum6_0 = fma(w0_0, vec4<f32>(v6.x), sum6_0);
                        sum6_1 = fma(w0_1, vec4<f32>(v6.x), sum6_1);
                        sum7_0 = fma(w0_0, vec4<f32>(v7.x), sum7_0);
                        sum7_1 = fma(w0_1, vec4<f32>(v7.x), sum7_1);
                        let w1_0 = taps[w + 16u];
                        let w1_1 = taps[w + 24u];
                        sum0_0 = fma(w1_0, vec4<f32>(v0.y), sum0_0);
                        sum0_1 = fma(w1_1, vec4<f32>(v0.y), sum0_1);
                        sum1_0 = fma(w1_0, vec4<f32>(v1.y), sum1_0);
                        sum1_1 = fma(w1_1, vec4<f32>(v1.y), sum1_1);
                        sum2_0 = fma(w1_0, vec4<f32>(v2.y), sum2_0);
                        sum2_1 = fma(w1_1, vec4<f32>(v2.y), sum2_1);
                        sum3_0 = fma(w1_0, vec4<f32>(v3.y), sum3_0);
                        sum3_1 = fma(w1_1, vec4<f32>(v3.y), sum3_1);
                        sum4_0 = fma(w1_0, vec4<f32>(v4.y), sum4_0);
                        sum4_1 = fma(w1_1, vec4<f32>(v4.y), sum4_1);
                        sum5_0 = fma(w1_0, vec4<f32>(v5.y), sum5_0);
                        sum5_1 = fma(w1_1, vec4<f32>(v5.y), sum5_1);
                        sum6_0 = fma(w1_0, vec4<f32>(v6.y), sum6_0);
                        sum6_1 = fma(w1_1, vec4<f32>(v6.y), sum6_1);
                        sum7_0 = fma(w1_0, vec4<f32>(v7.y), sum7_0);
                        sum7_1 = fma(w1_1, vec4<f32>(v7.y), sum7_1);
                        let w2_0 = taps[w + 32u];
                        let w2_1 = taps[w + 40u];
                        sum0_0 = fma(w2_0, vec4<f32>(v0.z), sum0_0);
                        sum0_1 = fma(w2_1, vec4<f32>(v0.z), sum0_1);
                        sum1_0 = fma(w2_0, vec4<f32>(v1.z), sum1_0);
                        sum1_1 = fma(w2_1, vec4<f32>(v1.z), sum1_1);
                        sum2_0 = fma(w2_0, vec4<f32>(v2.z), sum2_0);
                        sum2_1 = fma(w2_1, vec4<f32>(v2.z), sum2_1);
                        sum3_0 = fma(w2_0, vec4<f32>(v3.z), sum3_0);
                        sum3_1 = fma(w2_1, vec4<f32>(v3.z), sum3_1);
                        sum4_0 = fma(w2_0, vec4<f32>(v4.z), sum4_0);
                        sum4_1 = fma(w2_1, vec4<f32>(v4.z), sum4_1);
                        sum5_0 = fma(w2_0, vec4<f32>(v5.z), sum5_0);
                        sum5_1 = fma(w2_1, vec4<f32>(v5.z), sum5_1);
                        sum6_0 = fma(w2_0, vec4<f32>(v6.z), sum6_0);
                        sum6_1 = fma(w2_1, vec4<f32>(v6.z), sum6_1);
                        sum7_0 = fma(w2_0, vec4<f32>(v7.z), sum7_0);
                        sum7_1 = fma(w2_1, vec4<f32>(v7.z), sum7_1);
                        let w3_0 = taps[w + 48u];
                        let w3_1 = taps[w + 56u];
                        sum0_0 = fma(w3_0, vec4<f32>(v0.w), sum0_0);
                        sum0_1 = fma(w3_1, vec4<f32>(v0.w), sum0_1);
                        sum1_0 = fma(w3_0, vec4<f32>(v1.w), sum1_0);
                        sum1_1 = fma(w3_1, vec4<f32>(v1.w), sum1_1);
                        sum2_0 = fma(w3_0, vec4<f32>(v2.w), sum2_0);
                        sum2_1 = fma(w3_1, vec4<f32>(v2.w), sum2_1);
                        sum3_0 = fma(w3_0, vec4<f32>(v3.w), sum3_0);
                        sum3_1 = fma(w3_1, vec4<f32>(v3.w), sum3_1);
                        sum4_0 = fma(w3_0, vec4<f32>(v4.w), sum4_0);
                        sum4_1 = fma(w3_1, vec4<f32>(v4.w), sum4_1);
                        sum5_0 = fma(w3_0, vec4<f32>(v5.w), sum5_0);
                        sum5_1 = fma(w3_1, vec4<f32>(v5.w), sum5_1);
                        sum6_0 = fma(w3_0, vec4<f32>(v6.w), sum6_0);
                        sum6_1 = fma(w3_1, vec4<f32>(v6.w), sum6_1);
                        sum7_0 = fma(w3_0, vec4<f32>(v7.w), sum7_0);
                        sum7_1 = fma(w3_1, vec4<f32>(v7.w), sum7_1);
                        // end
                    }
                }
            }
        }
    }
    // tile: stores
    store(own, 0u, 0u, sum0_0);
    store(own, 0u, 1u, sum0_1);
    store(own, 1u, 0u, sum1_0);
    store(own, 1u, 1u, sum1_1);
    store(own, 2u, 0u, sum2_0);
    store(own, 2u, 1u, sum2_1);
    store(own, 3u, 0u, sum3_0);
    store(own, 3u, 1u, sum3_1);
    store(own, 4u, 0u, sum4_0);
    store(own, 4u, 1u, sum4_1);
    store(own, 5u, 0u, sum5_0);
    store(own, 5u, 1u, sum5_1);
    store(own, 6u, 0u, sum6_0);
    store(own, 6u, 1u, sum6_1);
    store(own, 7u, 0u, sum7_0);
    store(own, 7u, 1u, sum7_1);
    // end
}

// Ungrouped 2-D convolution by cooperative matrices: operands in f16, sums in f32.
//
// A workgroup computes a block of ROWS × COLUMNS pixels of one image for 4 · QUADS output channels. As in
// conv2d_tiled.wgsl, it stages a halo of input pixels in workgroup memory for STAGE_GROUPS groups of four input
// channels at a time, with their weights for STAGE_ROWS rows of the window; all taps read the same halo at shifted
// offsets. The left matrix holds SIZE neighbouring pixels of a row × SIZE input channels, the right one SIZE input ×
// SIZE output channels of a tap. A subgroup accumulates PIXEL_TILES × CHANNEL_TILES matrices. It loads them from and
// stores them to its part of `scratch`, where invocations access single elements. src/plan/lowered/conv2d/coop.rs writes
// the parts between marks.
// input [n, h, w, c/4], weight [tile][ky][kx][c][QUADS], bias [out/4], output [n, h, w, PARTS, out/4], all vec4.
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
const PIXEL_TILES = 4u;
const CHANNEL_TILES = 2u;
const SUBGROUP = 32u;
const SUBGROUPS = 8u;
const INVOCATIONS = 256u;
const STAGE_ROWS = 1u;
const STAGE_GROUPS = 4u;
const SOURCE_STEP_H = 1u;
const SOURCE_STEP_W = 1u;
const HALO_STEP_H = 1u;
const HALO_ROWS = 8u;
const HALO_COLUMNS = 18u;
const HALO_PITCH = 6u;
const TAPS_ROWS = 48u;
const TAPS_PITCH = 34u;
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
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> weight: array<Stored>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<Written>;
@group(0) @binding(4) var<uniform> params: Params;

// Input channels of pixels: [row][column][STAGE_GROUPS] groups of four; a pixel begins every HALO_PITCH groups.
var<workgroup> halo: array<Cell, CELLS * HALO_ROWS * HALO_COLUMNS * HALO_PITCH>;
// Weights: [row of the window][kx][input channel][QUADS] groups of four output channels; an input channel begins
// every TAPS_PITCH groups.
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

// Stages the halo for the input channels from group c on; zeros outside the image and from group c_end on.
// (y, x) is the halo's first pixel in the padded image.
fn stage_halo(local: u32, image: Image, y: u32, x: u32, c: u32, c_end: u32) {
    for (var i = local; i < STAGE_GROUPS * HALO_ROWS * HALO_COLUMNS; i += INVOCATIONS) {
        let pixel = i / STAGE_GROUPS;
        let group = i - pixel * STAGE_GROUPS;
        let row = pixel / HALO_COLUMNS;
        let column = pixel - row * HALO_COLUMNS;
        let from_y = i32(y + row * SOURCE_STEP_H) - i32(params.padding_h);
        let from_x = i32(x + column * SOURCE_STEP_W) - i32(params.padding_w);
        let inside_y = from_y >= 0 && from_y < image.end;
        let inside_x = from_x >= 0 && from_x < i32(params.in_width);
        var value = vec4<f16>();
        if inside_y && inside_x && c + group < c_end {
            let source = (image.first_row + u32(from_y)) * params.in_width + u32(from_x);
            value = vec4<f16>(input[source * params.in_c4 + c + group - params.input_start]);
        }
        put_halo(pixel * HALO_PITCH + group, value);
    }
}

// Stages the weights of the taps from number `first` on, counted through all tiles, for the input channels from
// group c on; zeros from group c_end on.
fn stage_taps(local: u32, first: u32, c: u32, c_end: u32) {
    for (var i = local; i < TAPS_ROWS * QUADS; i += INVOCATIONS) {
        let row = i / QUADS;
        let tap = row / (STAGE_GROUPS * 4u);
        let channel = row - tap * STAGE_GROUPS * 4u;
        var value = vec4<f16>();
        if c + channel / 4u < c_end {
            let source = ((first + tap) * params.in_c4 + c) * 4u + channel;
            value = vec4<f16>(weight[source * QUADS + i - row * QUADS]);
        }
        put_taps(row * TAPS_PITCH + i - row * QUADS, value);
    }
}

// A subgroup's sums: pixels from (y, x) on, groups of four output channels from `channel` on.
struct Own {
    // The invocation's place in its subgroup.
    lane: u32,
    // Where the subgroup's part of `scratch` begins.
    scratch: u32,
    y: u32,
    // The end of the band's rows.
    y_end: u32,
    x: u32,
    // The image's first row in the batch.
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

// Group i of four sums, in the tile at pixel (y, x) and channel group q, relative to the subgroup's first.
fn place(own: Own, y: u32, x: u32, q: u32, i: u32) -> Place {
    let row = own.y + y;
    let column = own.x + x + i / (SIZE / 4u);
    let channel = own.channel + q + i % (SIZE / 4u);
    let exists = row < own.y_end && column < params.out_width && channel < params.channel_end;
    let pixel = (own.first_row + row) * params.out_width + column;
    let at = (pixel * PARTS + own.part) * params.out_c4 + channel - params.output_start;
    return Place(exists, at, channel);
}

// Writes a tile's initial sums to scratch: the bias, or an earlier dispatch's partial sums.
fn begin(own: Own, y: u32, x: u32, q: u32) {
    for (var i = own.lane; i < SIZE * SIZE / 4u; i += SUBGROUP) {
        let to = place(own, y, x, q, i);
        var value = vec4<f32>();
        if to.exists && params.term_begin > 0u {
            value = vec4<f32>(output[to.at]);
        } else if to.exists && own.part == 0u {
            value = bias[to.channel];
        }
        for (var j = 0u; j < 4u; j++) {
            scratch[own.scratch + 4u * i + j] = value[j];
        }
    }
}

// ReLU, and at most MOST if that is not 0; NaN propagates.
fn activated(value: vec4<f32>) -> vec4<f32> {
    let negative = vec4<bool>(RELU) & (value < vec4<f32>());
    let large = vec4<bool>(MOST > 0.0) & (value > vec4<f32>(MOST));
    return select(select(value, vec4<f32>(), negative), vec4<f32>(MOST), large);
}

// Copies a tile's sums from scratch to the output.
fn finish(own: Own, y: u32, x: u32, q: u32) {
    for (var i = own.lane; i < SIZE * SIZE / 4u; i += SUBGROUP) {
        let first = own.scratch + 4u * i;
        let value = vec4<f32>(scratch[first], scratch[first + 1u], scratch[first + 2u], scratch[first + 3u]);
        let to = place(own, y, x, q, i);
        if to.exists {
            output[to.at] = Written(select(value, activated(value), params.term_end == params.terms));
        }
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
    let first_y = params.row_begin % params.out_height;
    let block_y = first_y + block_row % params.blocks_y * ROWS;
    let block_x = (group - slice * params.pixel_groups) % params.blocks_x * COLUMNS;
    let needed = (first_y + height - 1u) * STRIDE_H + (KERNEL_H - 1u) * DILATION_H + 1u;
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
        first_y + height,
        block_x,
        n * params.out_height,
        params.channel_begin + tile * QUADS + quad,
        part,
    );
    // tile: begin
    begin(own, 0u, 0u, 0u);
    workgroupBarrier();
    var sum0_0 = coopLoadT<Sum>(&scratch[own.scratch], SIZE);
    workgroupBarrier();
    begin(own, 0u, 0u, 4u);
    workgroupBarrier();
    var sum0_1 = coopLoadT<Sum>(&scratch[own.scratch], SIZE);
    workgroupBarrier();
    begin(own, 1u, 0u, 0u);
    workgroupBarrier();
    var sum1_0 = coopLoadT<Sum>(&scratch[own.scratch], SIZE);
    workgroupBarrier();
    begin(own, 1u, 0u, 4u);
    workgroupBarrier();
    var sum1_1 = coopLoadT<Sum>(&scratch[own.scratch], SIZE);
    workgroupBarrier();
    begin(own, 2u, 0u, 0u);
    workgroupBarrier();
    var sum2_0 = coopLoadT<Sum>(&scratch[own.scratch], SIZE);
    workgroupBarrier();
    begin(own, 2u, 0u, 4u);
    workgroupBarrier();
    var sum2_1 = coopLoadT<Sum>(&scratch[own.scratch], SIZE);
    workgroupBarrier();
    begin(own, 3u, 0u, 0u);
    workgroupBarrier();
    var sum3_0 = coopLoadT<Sum>(&scratch[own.scratch], SIZE);
    workgroupBarrier();
    begin(own, 3u, 0u, 4u);
    workgroupBarrier();
    var sum3_1 = coopLoadT<Sum>(&scratch[own.scratch], SIZE);
    workgroupBarrier();
    // end
    let first_c = part * params.terms;
    let c_end = min(first_c + params.term_end, params.in_c4);
    for (var c = first_c + params.term_begin; c < c_end; c += STAGE_GROUPS) {
        for (var ky = 0u; ky < KERNEL_H; ky += STAGE_ROWS) {
            workgroupBarrier();
            let from_y = block_y * STRIDE_H + ky * DILATION_H;
            stage_halo(local, image, from_y, block_x * STRIDE_W, c, c_end);
            stage_taps(local, (tile * KERNEL_H + ky) * KERNEL_W, c, c_end);
            workgroupBarrier();
            for (var r = 0u; r < STAGE_ROWS; r++) {
                for (var kx = 0u; kx < KERNEL_W; kx++) {
                    for (var k = 0u; k < STAGE_GROUPS * 4u; k += SIZE) {
                        let pixel = (row * HALO_STEP_H + r * DILATION_H) * HALO_COLUMNS + kx * DILATION_W;
                        let p = pixel * HALO_PITCH + k / 4u;
                        let w = ((r * KERNEL_W + kx) * STAGE_GROUPS * 4u + k) * TAPS_PITCH + quad;
                        // tile: products
                        let w0 = coopLoadT<Right>(&taps[CELLS * (w + 0u)], CELLS * TAPS_PITCH);
                        let w1 = coopLoadT<Right>(&taps[CELLS * (w + 4u)], CELLS * TAPS_PITCH);
                        let v0 = coopLoadT<Left>(&halo[CELLS * (p + 0u)], CELLS * HALO_PITCH);
                        sum0_0 = coopMultiplyAdd(v0, w0, sum0_0);
                        sum0_1 = coopMultiplyAdd(v0, w1, sum0_1);
                        let v1 = coopLoadT<Left>(&halo[CELLS * (p + 108u)], CELLS * HALO_PITCH);
                        sum1_0 = coopMultiplyAdd(v1, w0, sum1_0);
                        sum1_1 = coopMultiplyAdd(v1, w1, sum1_1);
                        let v2 = coopLoadT<Left>(&halo[CELLS * (p + 216u)], CELLS * HALO_PITCH);
                        sum2_0 = coopMultiplyAdd(v2, w0, sum2_0);
                        sum2_1 = coopMultiplyAdd(v2, w1, sum2_1);
                        let v3 = coopLoadT<Left>(&halo[CELLS * (p + 324u)], CELLS * HALO_PITCH);
                        sum3_0 = coopMultiplyAdd(v3, w0, sum3_0);
                        sum3_1 = coopMultiplyAdd(v3, w1, sum3_1);
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
    coopStoreT(sum1_0, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 1u, 0u, 0u);
    workgroupBarrier();
    coopStoreT(sum1_1, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 1u, 0u, 4u);
    workgroupBarrier();
    coopStoreT(sum2_0, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 2u, 0u, 0u);
    workgroupBarrier();
    coopStoreT(sum2_1, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 2u, 0u, 4u);
    workgroupBarrier();
    coopStoreT(sum3_0, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 3u, 0u, 0u);
    workgroupBarrier();
    coopStoreT(sum3_1, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, 3u, 0u, 4u);
    workgroupBarrier();
    // end
}

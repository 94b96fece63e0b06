// 2-D depthwise convolution on a CPU device: each input channel has MULTIPLIER output channels. Input and weight are
// read as texels.
//
// One invocation computes a run of PIXELS neighbouring pixels of a row, of 4 output channels. LANES neighbouring
// invocations take neighbouring channel groups; a workgroup takes ITEMS runs. Each input value is read once for all
// windows of the run. The parts between marks depend on the window; src/plan/lowered/conv2d/depthwise.rs writes them.
// input [n, h, w, c/4] and weight [tile][ky][kx][LANES] as texels, ROW in a row of the texture; the first row of
// input's texture holds zeros. bias [out/4], output [n, h, w, out/4], all vec4.

override KERNEL_H: u32 = 3u;
override STRIDE_H: u32 = 1u;
override DILATION_H: u32 = 1u;
override RELU: bool = false;
override MOST: f32 = 0.0;
override MULTIPLIER: u32 = 1u;

// tile: size
const LANES = 16u;
const ITEMS = 4u;
const PIXELS = 4u;
const KERNEL_W = 3u;
const STRIDE_W = 1u;
// end
const ROW = 8192u;

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
    input_start: u32,
    output_start: u32,
    line_items: u32,
    pixel_groups: u32,
}

@group(0) @binding(0) var input: texture_storage_2d<rgba32float, read>;
@group(0) @binding(1) var weight: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> params: Params;

// Spreads the four input channels `v`: lane i holds the input channel of output channel 4 · `channel` + i.
fn spread(v: vec4<f32>, channel: u32) -> vec4<f32> {
    if MULTIPLIER == 1u {
        return v;
    }
    let first = (channel - channel / MULTIPLIER * MULTIPLIER) * 4u;
    return vec4<f32>(
        v[first / MULTIPLIER],
        v[(first + 1u) / MULTIPLIER],
        v[(first + 2u) / MULTIPLIER],
        v[(first + 3u) / MULTIPLIER],
    );
}

// Where element i of a texture lies.
fn at_texel(i: u32) -> vec2<u32> {
    return vec2<u32>(i % ROW, i / ROW);
}

// The input at column x of the row that begins at `line`, spread to the output channels; zeros outside the row.
fn value(line: u32, x: i32, channel: u32) -> vec4<f32> {
    let inside = x >= 0 && x < i32(params.in_width);
    let texel = ROW + line + u32(x) * params.in_c4 - params.input_start;
    return spread(textureLoad(input, at_texel(select(0u, texel, inside))), channel);
}

// ReLU, and at most MOST if that is not 0; NaN propagates.
fn activated(value: vec4<f32>) -> vec4<f32> {
    let negative = vec4<bool>(RELU) & (value < vec4<f32>());
    let large = vec4<bool>(MOST > 0.0) & (value > vec4<f32>(MOST));
    return select(select(value, vec4<f32>(), negative), vec4<f32>(MOST), large);
}

fn store(x: u32, at: u32, value: vec4<f32>) {
    if x < params.out_width {
        output[at] = activated(value);
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let all_runs = (params.row_end - params.row_begin) * params.line_items;
    let tile = group / params.pixel_groups;
    let lane = local % LANES;
    let channel = params.channel_begin + tile * LANES + lane;
    let run = (group - tile * params.pixel_groups) * ITEMS + local / LANES;
    if channel >= params.channel_end || run >= all_runs {
        return;
    }
    let in_band = run / params.line_items;
    let row = params.row_begin + in_band;
    let first = (run - in_band * params.line_items) * PIXELS;
    let n = row / params.out_height;
    let y0 = i32((row - n * params.out_height) * STRIDE_H) - i32(params.padding_h);
    let x0 = i32(first * STRIDE_W) - i32(params.padding_w);
    // tile: begin
    let begin = bias[channel];
    var s0 = begin;
    var s1 = begin;
    var s2 = begin;
    var s3 = begin;
    // end
    for (var ky = 0u; ky < KERNEL_H; ky++) {
        let y = y0 + i32(ky * DILATION_H);
        if y < 0 || y >= i32(params.in_height) {
            continue;
        }
        let line = (n * params.in_height + u32(y)) * params.in_width * params.in_c4 + channel / MULTIPLIER;
        let at = (tile * KERNEL_H + ky) * KERNEL_W * LANES + lane;
        // tile: row
        let k0 = textureLoad(weight, at_texel(at + 0u * LANES));
        let k1 = textureLoad(weight, at_texel(at + 1u * LANES));
        let k2 = textureLoad(weight, at_texel(at + 2u * LANES));
        let v0 = value(line, x0 + 0, channel);
        s0 = fma(k0, v0, s0);
        let v1 = value(line, x0 + 1, channel);
        s0 = fma(k1, v1, s0);
        s1 = fma(k0, v1, s1);
        let v2 = value(line, x0 + 2, channel);
        s0 = fma(k2, v2, s0);
        s1 = fma(k1, v2, s1);
        s2 = fma(k0, v2, s2);
        let v3 = value(line, x0 + 3, channel);
        s1 = fma(k2, v3, s1);
        s2 = fma(k1, v3, s2);
        s3 = fma(k0, v3, s3);
        let v4 = value(line, x0 + 4, channel);
        s2 = fma(k2, v4, s2);
        s3 = fma(k1, v4, s3);
        let v5 = value(line, x0 + 5, channel);
        s3 = fma(k2, v5, s3);
        // end
    }
    let at = (row * params.out_width + first) * params.out_c4 + channel - params.output_start;
    // tile: stores
    store(first + 0u, at + 0u * params.out_c4, s0);
    store(first + 1u, at + 1u * params.out_c4, s1);
    store(first + 2u, at + 2u * params.out_c4, s2);
    store(first + 3u, at + 3u * params.out_c4, s3);
    // end
}

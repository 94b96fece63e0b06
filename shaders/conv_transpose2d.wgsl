// 2-D transposed convolution of ungrouped channels.
//
// One invocation gathers four pixels of a row, `stride_w` apart, of 4 output channels, from the ⌈kernel /
// stride⌉² taps that reach them: pixels so far apart share their taps, and each tap's weights are loaded
// once for the four. A row is `items` such fours.
// input [n, h, w, c/4], weight [out/4][ky][kx][c], bias [out/4], output [n, h, w, out/4], all vec4.

struct Params {
    in_height: u32,
    in_width: u32,
    in_c4: u32,
    out_height: u32,
    out_width: u32,
    out_c4: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_h: u32,
    stride_w: u32,
    padding_h: u32,
    padding_w: u32,
    row_begin: u32,
    row_end: u32,
    channel_begin: u32,
    channel_end: u32,
    term_begin: u32,
    term_end: u32,
    input_start: u32,
    output_start: u32,
    items: u32,
}

@group(0) @binding(0) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> params: Params;

// The input at a column of the row that begins at `row`; zeros outside it.
fn load(row: u32, column: i32, c: u32) -> vec4<f32> {
    if column < 0 || column >= i32(params.in_width) {
        return vec4<f32>();
    }
    return input[(row + u32(column)) * params.in_c4 + c - params.input_start];
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let item_groups = ((params.row_end - params.row_begin) * params.items + 63u) / 64u;
    let tile = group / item_groups;
    let channel = params.channel_begin + tile;
    let item = (group - tile * item_groups) * 64u + local;
    let row = params.row_begin + item / params.items;
    let four = item % params.items;
    let first = four % params.stride_w + four / params.stride_w * 4u * params.stride_w;
    if channel >= params.channel_end || row >= params.row_end || first >= params.out_width {
        return;
    }
    let n = row / params.out_height;
    // Output row y takes tap ky from input row (y + padding − ky) / stride, where that is whole.
    let y = row - n * params.out_height + params.padding_h;
    let x = first + params.padding_w;
    let pixels = min(4u, (params.out_width - first + params.stride_w - 1u) / params.stride_w);

    let at = (row * params.out_width + first) * params.out_c4 + channel - params.output_start;
    let step = params.stride_w * params.out_c4;
    var sum0 = bias[channel];
    var sum1 = sum0;
    var sum2 = sum0;
    var sum3 = sum0;
    if params.term_begin > 0u {
        sum0 = output[at];
        if pixels > 1u { sum1 = output[at + step]; }
        if pixels > 2u { sum2 = output[at + 2u * step]; }
        if pixels > 3u { sum3 = output[at + 3u * step]; }
    }
    for (var ky = y % params.stride_h; ky < params.kernel_h && ky <= y; ky += params.stride_h) {
        let in_y = (y - ky) / params.stride_h;
        if in_y >= params.in_height {
            continue;
        }
        let in_row = (n * params.in_height + in_y) * params.in_width;
        for (var kx = x % params.stride_w; kx < params.kernel_w; kx += params.stride_w) {
            let column = (i32(x) - i32(kx)) / i32(params.stride_w);
            let taps = ((tile * params.kernel_h + ky) * params.kernel_w + kx) * params.in_c4;
            for (var c = params.term_begin; c < params.term_end; c++) {
                let w = (taps + c) * 4u;
                let a = weight[w];
                let b = weight[w + 1u];
                let d = weight[w + 2u];
                let e = weight[w + 3u];
                let v0 = load(in_row, column, c);
                let v1 = load(in_row, column + 1, c);
                let v2 = load(in_row, column + 2, c);
                let v3 = load(in_row, column + 3, c);
                sum0 += a * v0.x + b * v0.y + d * v0.z + e * v0.w;
                sum1 += a * v1.x + b * v1.y + d * v1.z + e * v1.w;
                sum2 += a * v2.x + b * v2.y + d * v2.z + e * v2.w;
                sum3 += a * v3.x + b * v3.y + d * v3.z + e * v3.w;
            }
        }
    }
    output[at] = sum0;
    if pixels > 1u { output[at + step] = sum1; }
    if pixels > 2u { output[at + 2u * step] = sum2; }
    if pixels > 3u { output[at + 3u * step] = sum3; }
}

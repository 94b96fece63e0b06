// The indices of a 2-D max pooling: y · in_width + x, integers stored as f32, never lowered to f16. One invocation
// computes a run of PIXELS neighbouring pixels of a row, one or four, of 4 channels, as in max_pool2d.wgsl. A tap
// outside the input is replaced by the nearest tap inside. A row is `line_items` invocations.
// input [n, in_height, in_width, c/4], output [n, out_height, out_width, c/4], all vec4.
alias Stored = vec4<f32>;

override KERNEL_H: u32 = 2u;
override KERNEL_W: u32 = 2u;
override STRIDE_H: u32 = 2u;
override STRIDE_W: u32 = 2u;
override DILATION_H: u32 = 1u;
override DILATION_W: u32 = 1u;
override PIXELS: u32 = 4u;

struct Params {
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    c4: u32,
    padding_h: u32,
    padding_w: u32,
    line_items: u32,
    row_begin: u32,
    row_end: u32,
    input_start: u32,
    output_start: u32,
    channels: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> params: Params;

// Tests the bits: compilers may assume that there is no NaN.
fn is_nan(value: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

// The first and last of the taps `begin`, `begin` + `dilation` … inside the input; at least one is.
fn taps(begin: i32, count: u32, dilation: u32, size: u32) -> vec2<i32> {
    let step = i32(dilation);
    let first = begin + (max(-begin, 0) + step - 1) / step * step;
    let last = begin + min(i32(count) - 1, (i32(size) - 1 - begin) / step) * step;
    return vec2<i32>(first, last);
}

// The index of the largest value of the window from row `y` and column `x` on, in the image that begins at `image`:
// the first of equals, or the last NaN. A replaced tap changes neither.
fn place(image: u32, y: i32, x: i32, c: u32) -> vec4<f32> {
    let rows = taps(y, KERNEL_H, DILATION_H, params.in_height);
    let columns = taps(x, KERNEL_W, DILATION_W, params.in_width);
    var best = vec4<f32>();
    var at = vec4<u32>();
    for (var ky = 0u; ky < KERNEL_H; ky++) {
        let row = u32(clamp(y + i32(ky * DILATION_H), rows.x, rows.y)) * params.in_width;
        for (var kx = 0u; kx < KERNEL_W; kx++) {
            let pixel = row + u32(clamp(x + i32(kx * DILATION_W), columns.x, columns.y));
            let value = vec4<f32>(input[(image + pixel) * params.c4 + c - params.input_start]);
            let better = vec4<bool>(ky == 0u && kx == 0u) | (value > best) | is_nan(value);
            best = select(best, value, better);
            at = select(at, vec4<u32>(pixel), better);
        }
    }
    let is_channel = vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.channels);
    return select(vec4<f32>(), vec4<f32>(at), is_channel);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let item = (workgroup.y * workgroups.x + workgroup.x) * 64u + local;
    let in_band = item / params.line_items;
    let row = params.row_begin + in_band;
    if row >= params.row_end {
        return;
    }
    let in_row = item - in_band * params.line_items;
    let run = in_row / params.c4;
    let c = in_row - run * params.c4;
    let first = run * PIXELS;
    let n = row / params.out_height;
    let image = n * params.in_height * params.in_width;
    let y = i32((row - n * params.out_height) * STRIDE_H) - i32(params.padding_h);
    let x = i32(first * STRIDE_W) - i32(params.padding_w);
    let step = i32(STRIDE_W);
    let at = (row * params.out_width + first) * params.c4 + c - params.output_start;
    output[at] = place(image, y, x, c);
    if PIXELS == 4u && first + 1u < params.out_width {
        output[at + params.c4] = place(image, y, x + step, c);
    }
    if PIXELS == 4u && first + 2u < params.out_width {
        output[at + 2u * params.c4] = place(image, y, x + 2 * step, c);
    }
    if PIXELS == 4u && first + 3u < params.out_width {
        output[at + 3u * params.c4] = place(image, y, x + 3 * step, c);
    }
}

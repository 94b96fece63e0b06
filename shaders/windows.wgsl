// The pixels of a window as channels. One invocation computes one vec4.
// input [n, in_height, in_width, in_c/4], output [n, height, w, c/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    in_height: u32,
    in_width: u32,
    in_c4: u32,
    height: u32,
    channels: u32,
    c4: u32,
    kernel_h: u32,
    kernel_w: u32,
    dilation_h: u32,
    dilation_w: u32,
    padding_h: u32,
    padding_w: u32,
    stride_h: u32,
    stride_w: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// Channel `k` of the output, for the window at row `y` and column `x` of the padded input of image `n`; zero outside
// the input and past the last channel.
fn one(n: u32, y: u32, x: u32, k: u32) -> f32 {
    let tap = k / params.kernel_w;
    let column = x + (k - tap * params.kernel_w) * params.dilation_w;
    let row = y + tap % params.kernel_h * params.dilation_h;
    let channel = tap / params.kernel_h;
    let in_y = row - params.padding_h;
    let in_x = column - params.padding_w;
    let above = row < params.padding_h || in_y >= params.in_height;
    let beside = column < params.padding_w || in_x >= params.in_width;
    if above || beside || k >= params.channels {
        return 0.0;
    }
    let pixel = (n * params.in_height + in_y) * params.in_width + in_x;
    let four = vec4<f32>(input[pixel * params.in_c4 + channel / 4u - params.input_start]);
    let pair = select(four.xy, four.zw, channel % 4u >= 2u);
    return select(pair.x, pair.y, channel % 2u == 1u);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let at = params.row_begin * params.row_elements + group * 64u + local;
    if at >= params.row_end * params.row_elements {
        return;
    }
    let row = at / params.row_elements;
    let in_row = at - row * params.row_elements;
    let n = row / params.height;
    let y = (row - n * params.height) * params.stride_h;
    let x = in_row / params.c4;
    let k = (in_row - x * params.c4) * 4u;
    let column = x * params.stride_w;
    let value = vec4<f32>(
        one(n, y, column, k),
        one(n, y, column, k + 1u),
        one(n, y, column, k + 2u),
        one(n, y, column, k + 3u),
    );
    output[at - params.output_start] = Written(value);
}

// 2-D transposed convolution of each channel on its own: the weight is zero off its diagonal.
//
// One invocation gathers four pixels of a row, `stride_w` apart, of 4 channels, from the ⌈kernel /
// stride⌉² taps that reach them. These pixels share their taps. A row is `line_items` runs of four pixels.
// input [n, h, w, c/4], weight [c/4][ky][kx], bias [c/4], output [n, h, w, c/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

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
    input_start: u32,
    output_start: u32,
    pixel_groups: u32,
    line_items: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> weight: array<Stored>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<Written>;
@group(0) @binding(4) var<uniform> params: Params;

// The input at `column` of the row that begins at `row`; zeros outside the row.
fn load(row: u32, column: i32, c: u32) -> vec4<f32> {
    let last = i32(params.in_width) - 1;
    let at = (row + u32(clamp(column, 0, last))) * params.in_c4 + c - params.input_start;
    return select(vec4<f32>(), vec4<f32>(input[at]), column >= 0 && column <= last);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let tile = group / params.pixel_groups;
    let channel = params.channel_begin + tile;
    let item = (group - tile * params.pixel_groups) * 64u + local;
    let row = params.row_begin + item / params.line_items;
    let four = item % params.line_items;
    let first = four % params.stride_w + four / params.stride_w * 4u * params.stride_w;
    if channel >= params.channel_end || row >= params.row_end || first >= params.out_width {
        return;
    }
    let n = row / params.out_height;
    // Output row y takes tap ky from input row (y + padding − ky) / stride, if that is an integer.
    let y = row - n * params.out_height + params.padding_h;
    let x = first + params.padding_w;
    let pixels = (params.out_width - first + params.stride_w - 1u) / params.stride_w;

    var sum0 = vec4<f32>(bias[channel]);
    var sum1 = sum0;
    var sum2 = sum0;
    var sum3 = sum0;
    for (var ky = y % params.stride_h; ky < params.kernel_h && ky <= y; ky += params.stride_h) {
        let in_y = (y - ky) / params.stride_h;
        if in_y >= params.in_height {
            continue;
        }
        let in_row = (n * params.in_height + in_y) * params.in_width;
        for (var kx = x % params.stride_w; kx < params.kernel_w; kx += params.stride_w) {
            let column = (i32(x) - i32(kx)) / i32(params.stride_w);
            let w = vec4<f32>(weight[(tile * params.kernel_h + ky) * params.kernel_w + kx]);
            sum0 += w * load(in_row, column, channel);
            sum1 += w * load(in_row, column + 1, channel);
            sum2 += w * load(in_row, column + 2, channel);
            sum3 += w * load(in_row, column + 3, channel);
        }
    }
    let at = (row * params.out_width + first) * params.out_c4 + channel - params.output_start;
    let step = params.stride_w * params.out_c4;
    output[at] = Written(sum0);
    if pixels > 1u { output[at + step] = Written(sum1); }
    if pixels > 2u { output[at + 2u * step] = Written(sum2); }
    if pixels > 3u { output[at + 3u * step] = Written(sum3); }
}

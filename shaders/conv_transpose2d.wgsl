// 2-D transposed convolution of ungrouped channels.
//
// One invocation gathers four pixels of a row, or eight if WIDE, `stride_w` apart, of 4 · GROUPS output channels, from
// the ⌈kernel / stride⌉² taps that reach them. These pixels share their taps: each tap's weights are loaded once. A
// row is `line_items` runs of pixels.
// input [n, h, w, c/4], weight [out/4][ky][kx][c], bias [out/4], output [n, h, w, out/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override GROUPS: u32 = 3u;
override WIDE: bool = true;

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

fn load_four(row: u32, column: i32, c: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        load(row, column, c),
        load(row, column + 1, c),
        load(row, column + 2, c),
        load(row, column + 3, c),
    );
}

// The weights of four input channels, one column each, for the four output channels of `tile`.
fn load_weights(tile: u32, ky: u32, kx: u32, c: u32) -> mat4x4<f32> {
    let at = (((tile * params.kernel_h + ky) * params.kernel_w + kx) * params.in_c4 + c) * 4u;
    return mat4x4<f32>(
        vec4<f32>(weight[at]),
        vec4<f32>(weight[at + 1u]),
        vec4<f32>(weight[at + 2u]),
        vec4<f32>(weight[at + 3u]),
    );
}

// The initial sum: the bias, or the previous dispatch's partial sum.
fn begin_sum(at: u32, pixels: u32, channel: u32) -> mat4x4<f32> {
    let b = vec4<f32>(bias[channel]);
    var sum = mat4x4<f32>(b, b, b, b);
    if params.term_begin > 0u {
        let step = params.stride_w * params.out_c4;
        if pixels > 0u { sum[0] = vec4<f32>(output[at]); }
        if pixels > 1u { sum[1] = vec4<f32>(output[at + step]); }
        if pixels > 2u { sum[2] = vec4<f32>(output[at + 2u * step]); }
        if pixels > 3u { sum[3] = vec4<f32>(output[at + 3u * step]); }
    }
    return sum;
}

fn store(at: u32, pixels: u32, sum: mat4x4<f32>) {
    let step = params.stride_w * params.out_c4;
    if pixels > 0u { output[at] = Written(sum[0]); }
    if pixels > 1u { output[at + step] = Written(sum[1]); }
    if pixels > 2u { output[at + 2u * step] = Written(sum[2]); }
    if pixels > 3u { output[at + 3u * step] = Written(sum[3]); }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let channel_group = group / params.pixel_groups;
    let item = (group - channel_group * params.pixel_groups) * 64u + local;
    let row = params.row_begin + item / params.line_items;
    let run = item % params.line_items;
    let reach = select(4u, 8u, WIDE);
    let first = run % params.stride_w + run / params.stride_w * reach * params.stride_w;
    let channel0 = params.channel_begin + channel_group * GROUPS;
    if channel0 >= params.channel_end || row >= params.row_end || first >= params.out_width {
        return;
    }
    // Past the last group of channels, the last one repeats: computed, not stored.
    let channel1 = min(channel0 + 1u, params.channel_end - 1u);
    let channel2 = min(channel0 + 2u, params.channel_end - 1u);
    let n = row / params.out_height;
    // Output row y takes tap ky from input row (y + padding − ky) / stride, if that is an integer.
    let y = row - n * params.out_height + params.padding_h;
    let x = first + params.padding_w;
    let pixels = (params.out_width - first + params.stride_w - 1u) / params.stride_w;
    let more = max(pixels, 4u) - 4u;

    let at = (row * params.out_width + first) * params.out_c4 - params.output_start;
    let at_more = at + 4u * params.stride_w * params.out_c4;
    var sum0 = begin_sum(at + channel0, pixels, channel0);
    var sum1 = begin_sum(at + channel1, pixels, channel1);
    var sum2 = begin_sum(at + channel2, pixels, channel2);
    var more0 = begin_sum(at_more + channel0, more, channel0);
    var more1 = begin_sum(at_more + channel1, more, channel1);
    var more2 = begin_sum(at_more + channel2, more, channel2);
    for (var ky = y % params.stride_h; ky < params.kernel_h && ky <= y; ky += params.stride_h) {
        let in_y = (y - ky) / params.stride_h;
        if in_y >= params.in_height {
            continue;
        }
        let in_row = (n * params.in_height + in_y) * params.in_width;
        for (var kx = x % params.stride_w; kx < params.kernel_w; kx += params.stride_w) {
            let column = (i32(x) - i32(kx)) / i32(params.stride_w);
            for (var c = params.term_begin; c < params.term_end; c++) {
                let v = load_four(in_row, column, c);
                var v_more = v;
                if WIDE { v_more = load_four(in_row, column + 4, c); }
                let w0 = load_weights(channel0 - params.channel_begin, ky, kx, c);
                sum0 += w0 * v;
                if WIDE { more0 += w0 * v_more; }
                if GROUPS > 1u {
                    let w1 = load_weights(channel1 - params.channel_begin, ky, kx, c);
                    sum1 += w1 * v;
                    if WIDE { more1 += w1 * v_more; }
                }
                if GROUPS > 2u {
                    let w2 = load_weights(channel2 - params.channel_begin, ky, kx, c);
                    sum2 += w2 * v;
                    if WIDE { more2 += w2 * v_more; }
                }
            }
        }
    }
    store(at + channel0, pixels, sum0);
    if WIDE { store(at_more + channel0, more, more0); }
    if GROUPS > 1u && channel0 + 1u < params.channel_end {
        store(at + channel1, pixels, sum1);
        if WIDE { store(at_more + channel1, more, more1); }
    }
    if GROUPS > 2u && channel0 + 2u < params.channel_end {
        store(at + channel2, pixels, sum2);
        if WIDE { store(at_more + channel2, more, more2); }
    }
}

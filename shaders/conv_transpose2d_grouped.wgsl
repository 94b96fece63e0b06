// 2-D transposed convolution with groups, dilation or both.
//
// One invocation gathers one pixel of 4 output channels, each from its own group's inputs.
// input [n, h, w, c] read as scalars, weight [out/4][ky][kx][c/groups] vec4 of output channels,
// bias [out/4], output [n, h, w, out/4] vec4.
alias Stored = vec4<f32>;
alias StoredScalar = f32;
alias Written = vec4<f32>;

// Taps are `dilation` apart. Any of them may reach a pixel.
override DILATED: bool = false;

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
    group_inputs: u32,
    out_channels: u32,
    group_outputs: u32,
    dilation_h: u32,
    dilation_w: u32,
}

@group(0) @binding(0) var<storage, read> input: array<StoredScalar>;
@group(0) @binding(1) var<storage, read> weight: array<Stored>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<Written>;
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let begin = params.row_begin * params.out_width;
    let end = params.row_end * params.out_width;
    let tile = group / params.pixel_groups;
    let channel = params.channel_begin + tile;
    let pixel = begin + (group - tile * params.pixel_groups) * 64u + local;
    if channel >= params.channel_end || pixel >= end {
        return;
    }
    let row = pixel / params.out_width;
    let n = row / params.out_height;
    // Output row y takes tap ky from input row (y + padding − ky · dilation) / stride, if that is an integer.
    let y = row - n * params.out_height + params.padding_h;
    let x = pixel - row * params.out_width + params.padding_w;

    // The first input channel of each output channel's group; padding channels use the last output channel's.
    let outputs = min(vec4<u32>(channel * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.out_channels - 1u));
    let first = outputs / params.group_outputs * params.group_inputs;

    let at = pixel * params.out_c4 + channel - params.output_start;
    var sum = bias[channel];
    if params.term_begin > 0u {
        sum = vec4<f32>(output[at]);
    }
    var ky = y % params.stride_h;
    var step_h = params.stride_h;
    var first_kx = x % params.stride_w;
    var step_w = params.stride_w;
    if DILATED {
        ky = 0u;
        step_h = 1u;
        first_kx = 0u;
        step_w = 1u;
    }
    for (; ky < params.kernel_h && ky * params.dilation_h <= y; ky += step_h) {
        let below = y - ky * params.dilation_h;
        let from_y = below / params.stride_h;
        if from_y >= params.in_height || from_y * params.stride_h != below {
            continue;
        }
        for (var kx = first_kx; kx < params.kernel_w && kx * params.dilation_w <= x; kx += step_w) {
            let behind = x - kx * params.dilation_w;
            let from_x = behind / params.stride_w;
            if from_x >= params.in_width || from_x * params.stride_w != behind {
                continue;
            }
            let pixel_start = ((n * params.in_height + from_y) * params.in_width + from_x) * params.in_c4 - params.input_start;
            let source = vec4<u32>(pixel_start * 4u) + first;
            let taps = ((tile * params.kernel_h + ky) * params.kernel_w + kx) * params.group_inputs;
            for (var c = params.term_begin; c < params.term_end; c++) {
                let value = vec4<f32>(f32(input[source.x + c]), f32(input[source.y + c]), f32(input[source.z + c]), f32(input[source.w + c]));
                sum += vec4<f32>(weight[taps + c]) * value;
            }
        }
    }
    output[at] = Written(sum);
}

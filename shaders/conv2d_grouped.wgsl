// 2-D convolution with groups of any size.
//
// One invocation computes one pixel of 4 output channels; each channel reads its own group's inputs.
// input [n, h, w, c] read as scalars, weight [out/4][ky][kx][c/groups] vec4 of output channels,
// bias [out/4], output [n, h, w, out/4] vec4.
alias Stored = vec4<f32>;
alias StoredScalar = f32;
alias Written = vec4<f32>;

override KERNEL_H: u32 = 3u;
override KERNEL_W: u32 = 3u;
override STRIDE_H: u32 = 1u;
override STRIDE_W: u32 = 1u;
override DILATION_H: u32 = 1u;
override DILATION_W: u32 = 1u;
override RELU: bool = false;
override MOST: f32 = 0.0;

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
    pixel_groups: u32,
    out_channels: u32,
    group_outputs: u32,
}

@group(0) @binding(0) var<storage, read> input: array<StoredScalar>;
@group(0) @binding(1) var<storage, read> weight: array<Stored>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<Written>;
@group(0) @binding(4) var<uniform> params: Params;

// ReLU, and at most MOST if that is not 0; NaN propagates.
fn activated(value: vec4<f32>) -> vec4<f32> {
    let negative = vec4<bool>(RELU) & (value < vec4<f32>());
    let large = vec4<bool>(MOST > 0.0) & (value > vec4<f32>(MOST));
    return select(select(value, vec4<f32>(), negative), vec4<f32>(MOST), large);
}

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
    let y0 = i32((row - n * params.out_height) * STRIDE_H) - i32(params.padding_h);
    let x0 = i32((pixel - row * params.out_width) * STRIDE_W) - i32(params.padding_w);
    let image = n * params.in_height * params.in_width;

    // The first input channel of each output channel's group; padding channels use the last output channel's.
    let outputs = min(vec4<u32>(channel * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.out_channels - 1u));
    let first = outputs / params.group_outputs * params.terms;

    let at = pixel * params.out_c4 + channel - params.output_start;
    var sum = bias[channel];
    if params.term_begin > 0u {
        sum = vec4<f32>(output[at]);
    }
    for (var ky = 0u; ky < KERNEL_H; ky++) {
        let y = y0 + i32(ky * DILATION_H);
        if y < 0 || y >= i32(params.in_height) {
            continue;
        }
        for (var kx = 0u; kx < KERNEL_W; kx++) {
            let x = x0 + i32(kx * DILATION_W);
            if x < 0 || x >= i32(params.in_width) {
                continue;
            }
            let source = vec4<u32>(((image + u32(y) * params.in_width + u32(x)) * params.in_c4 - params.input_start) * 4u) + first;
            let taps = ((tile * KERNEL_H + ky) * KERNEL_W + kx) * params.terms;
            for (var c = params.term_begin; c < params.term_end; c++) {
                let value = vec4<f32>(f32(input[source.x + c]), f32(input[source.y + c]), f32(input[source.z + c]), f32(input[source.w + c]));
                sum += vec4<f32>(weight[taps + c]) * value;
            }
        }
    }
    output[at] = Written(select(sum, activated(sum), params.term_end == params.terms));
}

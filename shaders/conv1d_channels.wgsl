// Convolution along the channels of every pixel. One invocation computes one vec4: four channels, each a
// channel further along the input.
// input [n, h, w, in_c/4], weight [taps], a vec4 each of which only x is used, output [n, h, w, c/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    in_channels: u32,
    in_c4: u32,
    channels: u32,
    c4: u32,
    taps: u32,
    padding: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<Written>;
@group(0) @binding(3) var<uniform> params: Params;

// The input of the pixel whose channels begin at `first`, at channel `k − padding`; zero outside.
fn padded(first: u32, k: u32) -> f32 {
    let channel = k - params.padding;
    if k < params.padding || channel >= params.in_channels {
        return 0.0;
    }
    let four = vec4<f32>(input[first + channel / 4u]);
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
    let pixel = at / params.c4;
    let k = (at - pixel * params.c4) * 4u;
    let first = pixel * params.in_c4 - params.input_start;
    var values = vec4<f32>(0.0, padded(first, k), padded(first, k + 1u), padded(first, k + 2u));
    var sum = vec4<f32>();
    for (var j = 0u; j < params.taps; j++) {
        values = vec4<f32>(values.yzw, padded(first, k + j + 3u));
        sum += weight[j].x * values;
    }
    let channel = k + vec4<u32>(0u, 1u, 2u, 3u);
    output[at - params.output_start] =
        Written(select(vec4<f32>(), sum, channel < vec4<u32>(params.channels)));
}

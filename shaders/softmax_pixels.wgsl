// Softmax over the pixels of each channel, or its logarithm, from the largest value and the sum of exponentials of a
// channel. One invocation computes one vec4. Padding channels become 0.
// input and output [n, h, w, c/4] vec4; top and sum [n, c/4] vec4, f32.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override LOGARITHM: bool = false;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    top_start: u32,
    sum_start: u32,
    height: u32,
    channels: u32,
    c4: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> top: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> sum: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<Written>;
@group(0) @binding(4) var<uniform> params: Params;

// The natural logarithm of a sum of exponentials, of which the largest is 1; WGSL's may be off by 2^-21. As in unary.wgsl.
fn logarithm(x: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<i32>>(x);
    let e = (bits - vec4<i32>(0x3f3504f3)) >> vec4<u32>(23u);
    let f = bitcast<vec4<f32>>(bits - (e << vec4<u32>(23u))) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    var series = z * (1.0 / 9.0) + (1.0 / 7.0);
    series = z * series + (1.0 / 5.0);
    series = z * series + (1.0 / 3.0);
    let power = vec4<f32>(e);
    let result = power * 0.693359375 + (power * -2.12194440e-4 + 2.0 * (s + s * (z * series)));
    // NaN propagates.
    return select(result, x, (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u));
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
    let c = at % params.c4;
    let statistic = at / params.row_elements / params.height * params.c4 + c;
    let of_channel = sum[statistic - params.sum_start];
    let distance = vec4<f32>(input[at - params.input_start]) - top[statistic - params.top_start];
    var share = vec4<f32>();
    if LOGARITHM {
        share = distance - logarithm(of_channel);
    } else {
        share = exp(distance) / of_channel;
    }
    let channel = c * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    output[at - params.output_start] =
        Written(select(vec4<f32>(), share, channel < vec4<u32>(params.channels)));
}

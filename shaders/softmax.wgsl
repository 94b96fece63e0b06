// Softmax over the channels of a pixel, or its logarithm. One invocation computes one pixel; padding channels become 0.
// input and output [n, h, w, c/4] vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override LOGARITHM: bool = false;

struct Params {
    width: u32,
    channels: u32,
    c4: u32,
    row_begin: u32,
    row_end: u32,
    input_start: u32,
    output_start: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

fn is_channel(c4: u32) -> vec4<bool> {
    return vec4<u32>(c4 * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.channels);
}

// The natural logarithm of a sum of exponentials, of which the largest is 1; WGSL's may be off by 2^-21. As in unary.wgsl.
fn logarithm(x: f32) -> f32 {
    let bits = bitcast<i32>(x);
    let e = (bits - i32(0x3f3504f3)) >> u32(23u);
    let f = bitcast<f32>(bits - (e << u32(23u))) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    var sum = z * (1.0 / 9.0) + (1.0 / 7.0);
    sum = z * sum + (1.0 / 5.0);
    sum = z * sum + (1.0 / 3.0);
    let power = f32(e);
    let result = power * 0.693359375 + (power * -2.12194440e-4 + 2.0 * (s + s * (z * sum)));
    // NaN propagates.
    return select(result, x, (bitcast<u32>(x) & u32(0x7fffffffu)) > u32(0x7f800000u));
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let pixel = params.row_begin * params.width + group * 64u + local;
    if pixel >= params.row_end * params.width {
        return;
    }
    let source = pixel * params.c4 - params.input_start;
    let to = pixel * params.c4 - params.output_start;
    var best = vec4<f32>(vec4<f32>(input[source]).x);
    for (var c = 0u; c < params.c4; c++) {
        best = select(best, max(best, vec4<f32>(input[source + c])), is_channel(c));
    }
    let top = max(max(best.x, best.y), max(best.z, best.w));
    var sums = vec4<f32>();
    for (var c = 0u; c < params.c4; c++) {
        sums += select(vec4<f32>(), exp(vec4<f32>(input[source + c]) - top), is_channel(c));
    }
    let sum = sums.x + sums.y + sums.z + sums.w;
    var log = 0.0;
    if LOGARITHM {
        log = logarithm(sum);
    }
    for (var c = 0u; c < params.c4; c++) {
        let distance = vec4<f32>(input[source + c]) - top;
        var share = distance - log;
        if !LOGARITHM {
            share = exp(distance) / sum;
        }
        output[to + c] = Written(select(vec4<f32>(), share, is_channel(c)));
    }
}

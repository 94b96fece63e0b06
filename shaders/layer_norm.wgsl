// Normalization over the channels of each pixel. One invocation computes one pixel: the mean, then the variance, then
// the output. Padding channels become 0.
// input and output [n, h, w, c/4] vec4; weight and bias [c/4] vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override WEIGHTED: bool = false;

struct Params {
    width: u32,
    channels: u32,
    c4: u32,
    row_begin: u32,
    row_end: u32,
    input_start: u32,
    output_start: u32,
    eps: f32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<Written>;
@group(0) @binding(4) var<uniform> params: Params;

fn is_channel(c4: u32) -> vec4<bool> {
    return vec4<u32>(c4 * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.channels);
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
    var sums = vec4<f32>();
    for (var c = 0u; c < params.c4; c++) {
        sums += vec4<f32>(input[source + c]);
    }
    let mean = (sums.x + sums.y + sums.z + sums.w) / f32(params.channels);
    var squares = vec4<f32>();
    for (var c = 0u; c < params.c4; c++) {
        let distance = vec4<f32>(input[source + c]) - mean;
        squares += select(vec4<f32>(), distance * distance, is_channel(c));
    }
    let variance = (squares.x + squares.y + squares.z + squares.w) / f32(params.channels);
    let root = inverseSqrt(variance + params.eps);
    for (var c = 0u; c < params.c4; c++) {
        var factor = vec4<f32>(root);
        if WEIGHTED {
            factor = weight[c] * root;
        }
        let value = (vec4<f32>(input[source + c]) - mean) * factor + bias[c];
        output[to + c] = Written(select(vec4<f32>(), value, is_channel(c)));
    }
}

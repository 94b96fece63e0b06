// Normalization by an image's own statistics. One invocation computes one vec4. The mean is subtracted first: only
// inputs close to it lose digits. Padding channels become 0.
// input and output [n, h, w, c/4] vec4; mean and variance [n, c/4], weight and bias [c/4] vec4, all f32.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override WEIGHTED: bool = false;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    mean_start: u32,
    variance_start: u32,
    height: u32,
    channels: u32,
    c4: u32,
    eps: f32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> mean: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> variance: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> output: array<Written>;
@group(0) @binding(6) var<uniform> params: Params;

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
    var factor = inverseSqrt(variance[statistic - params.variance_start] + params.eps);
    if WEIGHTED {
        factor = weight[c] * factor;
    }
    let distance = vec4<f32>(input[at - params.input_start]) - mean[statistic - params.mean_start];
    let value = distance * factor + bias[c];
    let channel = c * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    output[at - params.output_start] =
        Written(select(vec4<f32>(), value, channel < vec4<u32>(params.channels)));
}

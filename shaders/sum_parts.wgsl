// Adds partial sums that lie side by side in the channels. One invocation computes one vec4; NaN propagates.
// input [n, h, w, PARTS, c/4], output [n, h, w, c/4], all vec4.

alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override PARTS: u32 = 2u;
override RELU: bool = false;
override MOST: f32 = 0.0;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    c4: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

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
    let at = params.row_begin * params.row_elements + group * 64u + local;
    if at >= params.row_end * params.row_elements {
        return;
    }
    let pixel = at / params.c4;
    let first = pixel * PARTS * params.c4 + at - pixel * params.c4 - params.input_start;
    var sum = vec4<f32>(input[first]);
    for (var part = 1u; part < PARTS; part++) {
        sum += vec4<f32>(input[first + part * params.c4]);
    }
    output[at - params.output_start] = Written(activated(sum));
}

// Rectified linear unit. One invocation computes one vec4; NaN propagates.
// input and output [n, h, w, c/4] vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

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
    let value = vec4<f32>(input[at - params.input_start]);
    output[at - params.output_start] = Written(select(value, vec4<f32>(), value < vec4<f32>()));
}

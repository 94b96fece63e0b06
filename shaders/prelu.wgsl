// ReLU with a learned slope for negative inputs. One invocation computes one vec4; NaN propagates.
// input and output [n, h, w, c/4] vec4; weight [c/4] vec4, or one value for all channels.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override SHARED: bool = false;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    c4: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<Written>;
@group(0) @binding(3) var<uniform> params: Params;

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
    var slope = weight[0];
    if SHARED {
        slope = vec4<f32>(slope.x);
    } else {
        slope = weight[at % params.c4];
    }
    let value = vec4<f32>(input[at - params.input_start]);
    output[at - params.output_start] = Written(select(slope * value, value, value > vec4<f32>()));
}

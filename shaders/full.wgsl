// One number everywhere, and zeros in the padding channels. One invocation writes one vec4. output [n, h, w, c/4] vec4.

alias Written = vec4<f32>;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    channels: u32,
    c4: u32,
    value: f32,
}

@group(0) @binding(0) var<storage, read_write> output: array<Written>;
@group(0) @binding(1) var<uniform> params: Params;

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
    let channel = at % params.c4 * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    let value = select(vec4<f32>(), vec4<f32>(params.value), channel < vec4<u32>(params.channels));
    output[at - params.output_start] = Written(value);
}

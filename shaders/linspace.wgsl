// Numbers that grow evenly along the rows or the columns. One invocation writes one pixel of one channel; the other
// three are padding. output [n, height, w] vec4.

alias Written = vec4<f32>;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    height: u32,
    along_rows: u32,
    last: u32,
    begin: f32,
    end: f32,
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
    let row = at / params.row_elements;
    let position = select(at - row * params.row_elements, row % params.height, params.along_rows != 0u);
    let share = f32(position) / f32(params.last);
    let value = params.begin * (1.0 - share) + params.end * share;
    output[at - params.output_start] = Written(vec4<f32>(value, 0.0, 0.0, 0.0));
}

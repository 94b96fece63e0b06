// Resize by the nearest pixel. One invocation computes one vec4.
//
// The source position of output i is ⌊(i + offset) · scale⌋; the product is rounded to f32.
// input [n, in_height, in_width, c/4], output [n, out_height, out_width, c/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

struct Params {
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    c4: u32,
    row_scale: f32,
    column_scale: f32,
    offset: f32,
    row_begin: u32,
    row_end: u32,
    input_start: u32,
    output_start: u32,
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
    let row_elements = params.out_width * params.c4;
    let at = params.row_begin * row_elements + group * 64u + local;
    if at >= params.row_end * row_elements {
        return;
    }
    let pixel = at / params.c4;
    let c = at - pixel * params.c4;
    let row = pixel / params.out_width;
    let n = row / params.out_height;
    let y = u32(floor((f32(row - n * params.out_height) + params.offset) * params.row_scale));
    let x = u32(floor((f32(pixel - row * params.out_width) + params.offset) * params.column_scale));
    let in_row = n * params.in_height + min(y, params.in_height - 1u);
    let in_pixel = in_row * params.in_width + min(x, params.in_width - 1u);
    output[at - params.output_start] = Written(vec4<f32>(input[in_pixel * params.c4 + c - params.input_start]));
}

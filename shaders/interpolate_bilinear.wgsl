// Bilinear resize. One invocation computes one vec4.
//
// The source position of output i is max(i · mul + add, 0) / div, in integers: exact at any size.
// input [n, in_height, in_width, c/4], output [n, out_height, out_width, c/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

struct Params {
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    c4: u32,
    row_mul: u32,
    row_add: i32,
    row_div: u32,
    column_mul: u32,
    column_add: i32,
    column_div: u32,
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
    let y = u32(max(i32((row - n * params.out_height) * params.row_mul) + params.row_add, 0));
    let x = u32(max(i32((pixel - row * params.out_width) * params.column_mul) + params.column_add, 0));
    let y0 = min(y / params.row_div, params.in_height - 1u);
    let x0 = min(x / params.column_div, params.in_width - 1u);
    let y1 = min(y0 + 1u, params.in_height - 1u);
    let x1 = min(x0 + 1u, params.in_width - 1u);
    let down = f32(y % params.row_div) / f32(params.row_div);
    let right = f32(x % params.column_div) / f32(params.column_div);

    let top_row = (n * params.in_height + y0) * params.in_width;
    let bottom_row = (n * params.in_height + y1) * params.in_width;
    let top = vec4<f32>(input[(top_row + x0) * params.c4 + c - params.input_start]) * (1.0 - right)
        + vec4<f32>(input[(top_row + x1) * params.c4 + c - params.input_start]) * right;
    let bottom = vec4<f32>(input[(bottom_row + x0) * params.c4 + c - params.input_start]) * (1.0 - right)
        + vec4<f32>(input[(bottom_row + x1) * params.c4 + c - params.input_start]) * right;
    output[at - params.output_start] = Written(top * (1.0 - down) + bottom * down);
}

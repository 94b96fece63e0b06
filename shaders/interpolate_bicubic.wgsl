// Bicubic resize. One invocation computes one vec4.
//
// The source position of output i is (i · mul + add) / div, in integers: exact at any size. It is at least −1.
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

// The weights of the four inputs around a position that lies `t` behind the second: Keys' cubic with a = −¾.
fn weights(t: f32) -> vec4<f32> {
    let u = 1.0 - t;
    return vec4<f32>(
        -0.75 * t * u * u,
        (1.25 * t - 2.25) * t * t + 1.0,
        (1.25 * u - 2.25) * u * u + 1.0,
        -0.75 * t * t * u,
    );
}

// The sum of the four inputs of a row around column `x`, weighted.
fn across(row: u32, x: i32, c: u32, w: vec4<f32>) -> vec4<f32> {
    let last = i32(params.in_width) - 1;
    let column = clamp(vec4<i32>(x) + vec4<i32>(-1, 0, 1, 2), vec4<i32>(), vec4<i32>(last));
    let at = (vec4<u32>(row * params.in_width) + vec4<u32>(column)) * params.c4 + c - params.input_start;
    return w.x * vec4<f32>(input[at.x]) + w.y * vec4<f32>(input[at.y])
        + w.z * vec4<f32>(input[at.z]) + w.w * vec4<f32>(input[at.w]);
}

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
    // One pixel on, positions are not negative.
    let down = u32(i32((row - n * params.out_height) * params.row_mul) + params.row_add) + params.row_div;
    let right = u32(i32((pixel - row * params.out_width) * params.column_mul) + params.column_add) + params.column_div;
    let y = i32(down / params.row_div) - 1;
    let x = i32(right / params.column_div) - 1;
    let rows = weights(f32(down % params.row_div) / f32(params.row_div));
    let columns = weights(f32(right % params.column_div) / f32(params.column_div));

    let image = n * params.in_height;
    let last = i32(params.in_height) - 1;
    let lines = vec4<u32>(clamp(vec4<i32>(y) + vec4<i32>(-1, 0, 1, 2), vec4<i32>(), vec4<i32>(last))) + image;
    let value = rows.x * across(lines.x, x, c, columns) + rows.y * across(lines.y, x, c, columns)
        + rows.z * across(lines.z, x, c, columns) + rows.w * across(lines.w, x, c, columns);
    output[at - params.output_start] = Written(value);
}

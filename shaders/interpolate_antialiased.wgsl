// Antialiased resize along the rows or the columns. One invocation computes one vec4: the mean of the inputs under a
// filter, weighted.
//
// Input j lies |(2j + 1) · step_div − (2i + 1) · step_mul| from output i, in units of which
// 2 · max(step_mul, step_div) are 1: integers, exact at any size.
// input [n, in_height, in_width, c/4], output [n, height, w, c/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

// Keys' cubic in place of the triangle.
override CUBIC: bool = false;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    in_height: u32,
    in_width: u32,
    height: u32,
    c4: u32,
    along_rows: u32,
    inputs: u32,
    step_mul: u32,
    step_div: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// The weight at a distance of `units`, of which `one` are 1; the sum is divided by that of the weights.
fn weight(units: i32, one: i32) -> f32 {
    if !CUBIC {
        return f32(max(one - units, 0));
    }
    let x = f32(units) / f32(one);
    if x < 1.0 {
        return (1.5 * x - 2.5) * x * x + 1.0;
    }
    let rest = min(x - 2.0, 0.0);
    return -0.5 * (x - 1.0) * rest * rest;
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
    let row = at / params.row_elements;
    let in_row = at - row * params.row_elements;
    let n = row / params.height;
    let y = row - n * params.height;
    let x = in_row / params.c4;
    let c = in_row - x * params.c4;

    // The inputs of this output are `stride` apart, the first of its row or column is at `first`.
    let along_rows = params.along_rows != 0u;
    let i = select(x, y, along_rows);
    let stride = select(params.c4, params.in_width * params.c4, along_rows);
    let first = select(row * params.in_width, n * params.in_height * params.in_width + x, along_rows) * params.c4 + c;

    let div = i32(params.step_div);
    let one = 2 * max(i32(params.step_mul), div);
    let radius = select(one, 2 * one, CUBIC);
    let centre = (2 * i32(i) + 1) * i32(params.step_mul);
    let begin = max(centre - radius + div, 0) / (2 * div);
    let end = min((centre + radius + div - 1) / (2 * div), i32(params.inputs));
    var sum = vec4<f32>();
    var weights = 0.0;
    for (var j = begin; j < end; j++) {
        let share = weight(abs((2 * j + 1) * div - centre), one);
        sum += share * vec4<f32>(input[first + u32(j) * stride - params.input_start]);
        weights += share;
    }
    output[at - params.output_start] = Written(sum / weights);
}

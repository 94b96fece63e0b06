// Resizes the bands of a picture with an antialiasing triangle filter. One invocation computes one vec4.
//
// Input j has weight max(0, radius − |(2j + 1) · out − (2i + 1) · in|) for output i, radius = 2 · max(in,
// out), with in / out in lowest terms: integers, exact at any size.
// input [n, in_height, in_width, c/4], output [n, out_height, out_width, c/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

struct Params {
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    row_inputs: u32,
    row_outputs: u32,
    column_inputs: u32,
    column_outputs: u32,
    row_begin: u32,
    row_end: u32,
    input_start: u32,
    output_start: u32,
    c4: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// The filter of one output along one axis: the inputs [begin, end) and the terms of their weights.
struct Filter {
    begin: i32,
    end: i32,
    centre: i32,
    radius: i32,
    outputs: i32,
}

fn filter_of(i: u32, in_size: u32, per: u32, by: u32) -> Filter {
    let inputs = i32(per);
    let outputs = i32(by);
    let centre = (2 * i32(i) + 1) * inputs;
    let radius = 2 * max(inputs, outputs);
    let begin = max(centre - radius - outputs, 0) / (2 * outputs);
    let end = min(max(centre + radius - outputs, 0) / (2 * outputs) + 1, i32(in_size));
    return Filter(begin, end, centre, radius, outputs);
}

// A whole number: the sum is divided by that of the weights.
fn weight(f: Filter, j: i32) -> f32 {
    return f32(max(f.radius - abs((2 * j + 1) * f.outputs - f.centre), 0));
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
    let down = filter_of(row - n * params.out_height, params.in_height, params.row_inputs, params.row_outputs);
    let across = filter_of(pixel - row * params.out_width, params.in_width, params.column_inputs, params.column_outputs);

    var sum = vec4<f32>();
    var weights = 0.0;
    for (var y = down.begin; y < down.end; y++) {
        let line = (n * params.in_height + u32(y)) * params.in_width;
        var line_sum = vec4<f32>();
        var line_weights = 0.0;
        for (var x = across.begin; x < across.end; x++) {
            let share = weight(across, x);
            line_sum += share * vec4<f32>(input[(line + u32(x)) * params.c4 + c - params.input_start]);
            line_weights += share;
        }
        let share = weight(down, y);
        sum += share * line_sum;
        weights += share * line_weights;
    }
    output[at - params.output_start] = Written(sum / weights);
}

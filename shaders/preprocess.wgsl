// Turns a picture into a network's input: resizes with an antialiasing triangle filter, orders, scales and centres
// the channels. One invocation computes one pixel; channels beyond the network's are padding, 0.
//
// order: 0 red, green, blue; 1 blue, green, red; 2 grey; 3 grey, alpha; 4 red, green, blue, alpha. Grey is a pixel's luma,
// rounded to a byte before the resize.
//
// Input j has weight max(0, radius − |(2j + 1) · out − (2i + 1) · in|) for output i, radius = 2 · max(in,
// out), with in / out in lowest terms: integers, exact at any size. input: one u32 a pixel, red in the lowest
// byte, alpha in the highest; output [n, out_height, out_width] vec4.
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
    order: u32,
    range: f32,
    mean_0: f32,
    mean_1: f32,
    mean_2: f32,
    mean_3: f32,
    std_0: f32,
    std_1: f32,
    std_2: f32,
    std_3: f32,
    row_begin: u32,
    row_end: u32,
    input_start: u32,
    output_start: u32,
}

@group(0) @binding(0) var<storage, read> input: array<u32>;
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

// The channels of a pixel from 0 to 1, before they are ordered.
fn channels(word: u32) -> vec4<f32> {
    let colour = unpack4x8unorm(word);
    if params.order != 2u && params.order != 3u {
        return colour;
    }
    let sum = 19595u * (word & 255u) + 38470u * ((word >> 8u) & 255u) + 7471u * ((word >> 16u) & 255u);
    return vec4<f32>(f32((sum + 32768u) >> 16u) / 255.0, colour.w, 0.0, 0.0);
}

// The network's channels; those that it does not have are 0.
fn ordered(colour: vec4<f32>) -> vec4<f32> {
    switch params.order {
        case 0u: {
            return vec4<f32>(colour.xyz, 0.0);
        }
        case 1u: {
            return vec4<f32>(colour.zyx, 0.0);
        }
        case 2u: {
            return vec4<f32>(colour.x, 0.0, 0.0, 0.0);
        }
        default: {
            return colour;
        }
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let pixel = params.row_begin * params.out_width + group * 64u + local;
    if pixel >= params.row_end * params.out_width {
        return;
    }
    let row = pixel / params.out_width;
    let n = row / params.out_height;
    let down = filter_of(row - n * params.out_height, params.in_height, params.row_inputs, params.row_outputs);
    let across = filter_of(pixel - row * params.out_width, params.in_width, params.column_inputs, params.column_outputs);

    var sum = vec4<f32>();
    var weights = 0.0;
    for (var y = down.begin; y < down.end; y++) {
        let line = (n * params.in_height + u32(y)) * params.in_width - params.input_start;
        var line_sum = vec4<f32>();
        var line_weights = 0.0;
        for (var x = across.begin; x < across.end; x++) {
            let share = weight(across, x);
            line_sum += share * channels(input[line + u32(x)]);
            line_weights += share;
        }
        let share = weight(down, y);
        sum += share * line_sum;
        weights += share * line_weights;
    }
    let mean = vec4<f32>(params.mean_0, params.mean_1, params.mean_2, params.mean_3);
    let deviation = vec4<f32>(params.std_0, params.std_1, params.std_2, params.std_3);
    output[pixel - params.output_start] = Written((ordered(sum / weights) * params.range - mean) / deviation);
}

// Adds partial sums that lie side by side in the channels, then takes the largest of each 2×2 square, clipped to the
// map; NaN propagates. One invocation computes one vec4.
// input [n, map_height, map_width, PARTS, c/4], output [n, out_height, out_width, c/4], all vec4.

alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override PARTS: u32 = 2u;
override RELU: bool = false;
override MOST: f32 = 0.0;

struct Params {
    map_height: u32,
    map_width: u32,
    out_height: u32,
    out_width: u32,
    c4: u32,
    row_begin: u32,
    row_end: u32,
    input_start: u32,
    output_start: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// The sum at pixel (y, x) of the map that begins at row `top` of the batch; past the map's end, at the nearest pixel.
fn sum_at(top: u32, y: u32, x: u32, c: u32) -> vec4<f32> {
    let row = top + min(y, params.map_height - 1u);
    let pixel = row * params.map_width + min(x, params.map_width - 1u);
    let first = pixel * PARTS * params.c4 + c - params.input_start;
    var sum = vec4<f32>(input[first]);
    for (var part = 1u; part < PARTS; part++) {
        sum += vec4<f32>(input[first + part * params.c4]);
    }
    return sum;
}

// Tests the bits: compilers may assume that there is no NaN.
fn is_nan(value: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

fn larger(best: vec4<f32>, value: vec4<f32>) -> vec4<f32> {
    return select(best, value, (value > best) | is_nan(value));
}

// ReLU, and at most MOST if that is not 0; NaN propagates.
fn activated(value: vec4<f32>) -> vec4<f32> {
    let negative = vec4<bool>(RELU) & (value < vec4<f32>());
    let large = vec4<bool>(MOST > 0.0) & (value > vec4<f32>(MOST));
    return select(select(value, vec4<f32>(), negative), vec4<f32>(MOST), large);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let item = (workgroup.y * workgroups.x + workgroup.x) * 64u + local;
    let per_row = params.out_width * params.c4;
    let in_band = item / per_row;
    let row = params.row_begin + in_band;
    if row >= params.row_end {
        return;
    }
    let in_row = item - in_band * per_row;
    let column = in_row / params.c4;
    let c = in_row - column * params.c4;
    let n = row / params.out_height;
    let top = n * params.map_height;
    let y = 2u * (row - n * params.out_height);
    let x = 2u * column;
    let above = larger(sum_at(top, y, x, c), sum_at(top, y, x + 1u, c));
    let below = larger(sum_at(top, y + 1u, x, c), sum_at(top, y + 1u, x + 1u, c));
    let best = larger(above, below);
    output[row * per_row + in_row - params.output_start] = Written(activated(best));
}

// The class of each pixel of bilinearly resized scores, fused: the resized scores are never stored. One invocation
// labels 4 consecutive pixels and packs them into one u32, the first in the lowest byte. Strict > keeps the lower
// class on a tie.
// The source position of output i is max(i · mul + add, 0) / div, as in interpolate_bilinear.wgsl.
// input [n, in_height, in_width, c/4] vec4, output one byte a pixel.
alias Stored = vec4<f32>;

// One channel of scores, of two classes: class 1 where the score is at least THRESHOLD.
override BINARY: bool = false;
override THRESHOLD: f32 = 0.0;

struct Params {
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    channels: u32,
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
@group(0) @binding(1) var<storage, read_write> output: array<u32>;
@group(0) @binding(2) var<uniform> params: Params;

// The label of a pixel with a non-finite score: no class.
// Pixels that an invocation labels.
const ELEMENTS = 4u;
const NO_CLASS = 255u;

fn is_finite(score: vec4<f32>) -> bool {
    return all((bitcast<vec4<u32>>(score) & vec4<u32>(0x7f800000u)) != vec4<u32>(0x7f800000u));
}

fn label(pixel: u32) -> u32 {
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
    let top_left = (top_row + x0) * params.c4 - params.input_start;
    let top_right = (top_row + x1) * params.c4 - params.input_start;
    let bottom_left = (bottom_row + x0) * params.c4 - params.input_start;
    let bottom_right = (bottom_row + x1) * params.c4 - params.input_start;

    var best = 0u;
    var highest = 0.0;
    for (var c = 0u; c < params.c4; c++) {
        let top = vec4<f32>(input[top_left + c]) * (1.0 - right) + vec4<f32>(input[top_right + c]) * right;
        let bottom = vec4<f32>(input[bottom_left + c]) * (1.0 - right) + vec4<f32>(input[bottom_right + c]) * right;
        let score = top * (1.0 - down) + bottom * down;
        if !is_finite(score) {
            return NO_CLASS;
        }
        if BINARY {
            return select(0u, 1u, score.x >= THRESHOLD);
        }
        let id = c * 4u;
        if score.x > highest || c == 0u { highest = score.x; best = id; }
        if score.y > highest && id + 1u < params.channels { highest = score.y; best = id + 1u; }
        if score.z > highest && id + 2u < params.channels { highest = score.z; best = id + 2u; }
        if score.w > highest && id + 3u < params.channels { highest = score.w; best = id + 3u; }
    }
    return best;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let first = params.row_begin * params.out_width + (group * 64u + local) * 4u;
    let end = params.row_end * params.out_width;
    if first >= end {
        return;
    }
    var labels = 0u;
    for (var i = 0u; i < min(4u, end - first); i++) {
        labels |= label(first + i) << (8u * i);
    }
    output[first / 4u - params.output_start] = labels;
}

// The class of each pixel. One invocation labels 4 consecutive pixels and packs them into one u32, the first in the
// lowest byte. Strict > keeps the lower class on a tie.
// input [n, h, w, c/4] vec4, output one byte a pixel.
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
    let source = pixel * params.c4 - params.input_start;
    var best = 0u;
    var top = vec4<f32>(input[source]).x;
    for (var c = 0u; c < params.c4; c++) {
        let score = vec4<f32>(input[source + c]);
        if !is_finite(score) {
            return NO_CLASS;
        }
        if BINARY {
            return select(0u, 1u, score.x >= THRESHOLD);
        }
        let id = c * 4u;
        if score.x > top { top = score.x; best = id; }
        if score.y > top && id + 1u < params.channels { top = score.y; best = id + 1u; }
        if score.z > top && id + 2u < params.channels { top = score.z; best = id + 2u; }
        if score.w > top && id + 3u < params.channels { top = score.w; best = id + 3u; }
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

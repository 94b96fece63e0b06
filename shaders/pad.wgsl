// Pads a tensor with rows and columns, or cuts them off where the padding is negative. One invocation computes one
// vec4.
// input [n, in_height, in_width, c/4], output [n, height, width, c/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

const REFLECT = 1;
const REPLICATE = 2;
const CIRCULAR = 3;

// How to pad: 0 is a constant.
override MODE: i32 = 0;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    in_height: u32,
    in_width: u32,
    height: u32,
    channels: u32,
    c4: u32,
    top: i32,
    left: i32,
    value: f32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// The input position (of `size`) for output position `at`, after `before` positions of padding. In constant mode a
// position outside the input means the constant.
fn source(at: u32, before: i32, size: u32) -> i32 {
    let inside = i32(at) - before;
    let last = i32(size) - 1;
    if MODE == REFLECT {
        return last - abs(last - abs(inside));
    }
    if MODE == REPLICATE {
        return clamp(inside, 0, last);
    }
    if MODE == CIRCULAR {
        // The padding is at most the size.
        return (inside + i32(size)) % i32(size);
    }
    return inside;
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
    let x = in_row / params.c4;
    let c = in_row - x * params.c4;
    let from_y = source(row - n * params.height, params.top, params.in_height);
    let from_x = source(x, params.left, params.in_width);
    if from_y >= 0 && from_y < i32(params.in_height) && from_x >= 0 && from_x < i32(params.in_width) {
        let pixel = (n * params.in_height + u32(from_y)) * params.in_width + u32(from_x);
        output[at - params.output_start] =
            Written(vec4<f32>(input[pixel * params.c4 + c - params.input_start]));
    } else {
        let channel = c * 4u + vec4<u32>(0u, 1u, 2u, 3u);
        let value = vec4<f32>(params.value);
        output[at - params.output_start] =
            Written(select(vec4<f32>(), value, channel < vec4<u32>(params.channels)));
    }
}

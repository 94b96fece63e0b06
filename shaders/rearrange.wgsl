// Elements of each image in another order. One invocation computes one vec4. Element (c, y, x) of the output is number
// c · step_c + y · step_y + x · step_x of the input's image, counted in the order [c, h, w].
// input [n, in_height, in_width, in_c4], output [n, h, w, c/4], all vec4. Padding channels become 0.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    out_height: u32,
    channels: u32,
    c4: u32,
    in_height: u32,
    in_width: u32,
    in_c4: u32,
    step_c: u32,
    step_y: u32,
    step_x: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// Element number `number` of image n, for output channel `c`; zero past the last channel.
fn element(n: u32, number: u32, c: u32) -> f32 {
    if c >= params.channels {
        return 0.0;
    }
    let row = number / params.in_width;
    let in_c = row / params.in_height;
    let pixel = (n * params.in_height + row % params.in_height) * params.in_width + number % params.in_width;
    let four = vec4<f32>(input[pixel * params.in_c4 + in_c / 4u - params.input_start]);
    let pair = select(four.xy, four.zw, in_c % 4u >= 2u);
    return select(pair.x, pair.y, in_c % 2u == 1u);
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
    let n = row / params.out_height;
    let x = in_row / params.c4;
    let c = (in_row - x * params.c4) * 4u;
    let number = row % params.out_height * params.step_y + x * params.step_x + c * params.step_c;
    let value = vec4<f32>(
        element(n, number, c),
        element(n, number + params.step_c, c + 1u),
        element(n, number + 2u * params.step_c, c + 2u),
        element(n, number + 3u * params.step_c, c + 3u),
    );
    output[at - params.output_start] = Written(value);
}

// Rearranges channels into pixels. One invocation computes one vec4; its channels lie FACTOR² apart in the input.
// input [n, h, w, in_c/4], output [n, h * FACTOR, w * FACTOR, c/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override FACTOR: u32 = 2u;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    in_width: u32,
    in_c4: u32,
    in_channels: u32,
    c4: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// Channel `k` of the pixel whose channels begin at `first`; zero past the last.
fn channel(first: u32, k: u32) -> f32 {
    if k >= params.in_channels {
        return 0.0;
    }
    let four = vec4<f32>(input[first + k / 4u]);
    let pair = select(four.xy, four.zw, k % 4u >= 2u);
    return select(pair.x, pair.y, k % 2u == 1u);
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
    // Rows are counted through the batch, in both input and output.
    let y = at / params.row_elements;
    let in_row = at - y * params.row_elements;
    let x = in_row / params.c4;
    let c = (in_row - x * params.c4) * 4u;
    let first = (y / FACTOR * params.in_width + x / FACTOR) * params.in_c4 - params.input_start;
    let step = FACTOR * FACTOR;
    let k = c * step + y % FACTOR * FACTOR + x % FACTOR;
    let value = vec4<f32>(
        channel(first, k),
        channel(first, k + step),
        channel(first, k + 2u * step),
        channel(first, k + 3u * step),
    );
    output[at - params.output_start] = Written(value);
}

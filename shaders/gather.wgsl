// Elements of a tensor at other positions. One invocation computes one vec4.
//
// Along each dimension, position i of the output is that of begin + i mod period · step + i / period · jump.
// input [n, in_height, in_width, in_c/4], output [n, height, width, c/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

// Four channels of the output are one vec4 of the input.
override IN_FOURS: bool = false;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    in_height: u32,
    in_width: u32,
    in_c4: u32,
    height: u32,
    channels: u32,
    c4: u32,
    channel_begin_at: u32,
    channel_period: u32,
    channel_step: i32,
    channel_jump: u32,
    row_begin_at: u32,
    row_period: u32,
    row_step: i32,
    row_jump: u32,
    column_begin_at: u32,
    column_period: u32,
    column_step: i32,
    column_jump: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

fn position(i: u32, begin: u32, period: u32, step: i32, jump: u32) -> u32 {
    let periods = i / period;
    return u32(i32(begin) + i32(i - periods * period) * step) + periods * jump;
}

fn channel_at(i: u32) -> u32 {
    return position(i, params.channel_begin_at, params.channel_period, params.channel_step, params.channel_jump);
}

// Channel `k` of the output, at the pixel of the input whose channels begin at `first`; zero past the last.
fn one(first: u32, k: u32) -> f32 {
    if k >= params.channels {
        return 0.0;
    }
    let source = channel_at(k);
    let four = vec4<f32>(input[first + source / 4u]);
    let pair = select(four.xy, four.zw, source % 4u >= 2u);
    return select(pair.x, pair.y, source % 2u == 1u);
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
    let k = (in_row - x * params.c4) * 4u;
    let from_y = position(row - n * params.height, params.row_begin_at, params.row_period, params.row_step, params.row_jump);
    let from_x = position(x, params.column_begin_at, params.column_period, params.column_step, params.column_jump);
    let first = ((n * params.in_height + from_y) * params.in_width + from_x) * params.in_c4 - params.input_start;
    if IN_FOURS {
        let channel = k + vec4<u32>(0u, 1u, 2u, 3u);
        let value = vec4<f32>(input[first + channel_at(k) / 4u]);
        output[at - params.output_start] =
            Written(select(vec4<f32>(), value, channel < vec4<u32>(params.channels)));
    } else {
        let value = vec4<f32>(one(first, k), one(first, k + 1u), one(first, k + 2u), one(first, k + 3u));
        output[at - params.output_start] = Written(value);
    }
}

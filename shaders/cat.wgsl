// Concatenates up to five tensors along their channels. One invocation computes one vec4, from one input or several.
// An absent input's end equals the end of the input before it.
// a, b, c, d, e and output [n, h, w, channels/4] vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

// All inputs but the last have a multiple of 4 channels: no output vec4 spans two inputs.
override ALIGNED: bool = false;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    a_start: u32,
    b_start: u32,
    c_start: u32,
    d_start: u32,
    e_start: u32,
    c4: u32,
    // The end of each input, in output channels.
    a_end: u32,
    b_end: u32,
    c_end: u32,
    d_end: u32,
    e_end: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Stored>;
@group(0) @binding(1) var<storage, read> b: array<Stored>;
@group(0) @binding(2) var<storage, read> c: array<Stored>;
@group(0) @binding(3) var<storage, read> d: array<Stored>;
@group(0) @binding(4) var<storage, read> e: array<Stored>;
@group(0) @binding(5) var<storage, read_write> output: array<Written>;
@group(0) @binding(6) var<uniform> params: Params;

// The element of channel group `group` at `pixel`, in an input of `channels` channels.
fn element(pixel: u32, channels: u32, group: u32) -> u32 {
    return pixel * ((channels + 3u) / 4u) + group;
}

// The aligned vec4 of one input that contains output channel `k`; zeros past the last channel.
fn four_around(pixel: u32, k: u32) -> vec4<f32> {
    if k < params.a_end {
        return vec4<f32>(a[element(pixel, params.a_end, k / 4u) - params.a_start]);
    }
    if k < params.b_end {
        let begin = params.a_end;
        return vec4<f32>(b[element(pixel, params.b_end - begin, (k - begin) / 4u) - params.b_start]);
    }
    if k < params.c_end {
        let begin = params.b_end;
        return vec4<f32>(c[element(pixel, params.c_end - begin, (k - begin) / 4u) - params.c_start]);
    }
    if k < params.d_end {
        let begin = params.c_end;
        return vec4<f32>(d[element(pixel, params.d_end - begin, (k - begin) / 4u) - params.d_start]);
    }
    if k < params.e_end {
        let begin = params.d_end;
        return vec4<f32>(e[element(pixel, params.e_end - begin, (k - begin) / 4u) - params.e_start]);
    }
    return vec4<f32>();
}

// The first output channel of the input that contains output channel `k`.
fn input_begin(k: u32) -> u32 {
    var begin = select(0u, params.a_end, k >= params.a_end);
    begin = select(begin, params.b_end, k >= params.b_end);
    begin = select(begin, params.c_end, k >= params.c_end);
    return select(begin, params.d_end, k >= params.d_end);
}

// Channel `k` of the output.
fn one(pixel: u32, k: u32) -> f32 {
    let four = four_around(pixel, k);
    let lane = (k - input_begin(k)) % 4u;
    let pair = select(four.xy, four.zw, lane >= 2u);
    return select(pair.x, pair.y, lane % 2u == 1u);
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
    let pixel = at / params.c4;
    let k = (at - pixel * params.c4) * 4u;
    if ALIGNED {
        output[at - params.output_start] = Written(four_around(pixel, k));
        return;
    }
    let value = vec4<f32>(one(pixel, k), one(pixel, k + 1u), one(pixel, k + 2u), one(pixel, k + 3u));
    output[at - params.output_start] = Written(value);
}

// Local response normalisation across channels. One invocation computes one vec4.
//
// A channel's sum adds the squares of `before` channels before it and of `after` from it on, clipped to the tensor.
// input and output [n, h, w, c/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

struct Params {
    width: u32,
    channels: u32,
    c4: u32,
    before: u32,
    after: u32,
    share: f32,
    beta: f32,
    k: f32,
    row_begin: u32,
    row_end: u32,
    input_start: u32,
    output_start: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// `base` to the power beta; WGSL's power of zero, infinity and NaN may be any number.
fn power(base: vec4<f32>) -> vec4<f32> {
    let exponent = bitcast<vec4<u32>>(base) & vec4<u32>(0x7f800000u);
    let is_special = (exponent == vec4<u32>(0x7f800000u)) | (base == vec4<f32>());
    var special = vec4<f32>(1.0);
    if params.beta > 0.0 {
        special = base;
    } else if params.beta < 0.0 {
        special = 1.0 / base;
    }
    return select(pow(base, vec4<f32>(params.beta)), special, is_special);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let row_elements = params.width * params.c4;
    let at = params.row_begin * row_elements + group * 64u + local;
    if at >= params.row_end * row_elements {
        return;
    }
    let pixel = at / params.c4;
    let group_of_4 = at - pixel * params.c4;
    let first = pixel * params.c4 - params.input_start;
    let channel = vec4<u32>(4u * group_of_4) + vec4<u32>(0u, 1u, 2u, 3u);
    // Channel numbers are shifted by `before`: none is negative.
    let begin = channel;
    let end = channel + vec4<u32>(params.before + params.after);

    let first_group = (max(4u * group_of_4, params.before) - params.before) / 4u;
    let last_group = min((4u * group_of_4 + 2u + params.after) / 4u, params.c4 - 1u);
    var sum = vec4<f32>();
    for (var i = first_group; i <= last_group; i++) {
        let value = vec4<f32>(input[first + i]);
        let square = value * value;
        let j = 4u * i + params.before;
        sum += select(vec4<f32>(), square.xxxx, (begin <= vec4<u32>(j)) & (vec4<u32>(j) < end));
        sum += select(vec4<f32>(), square.yyyy, (begin <= vec4<u32>(j + 1u)) & (vec4<u32>(j + 1u) < end));
        sum += select(vec4<f32>(), square.zzzz, (begin <= vec4<u32>(j + 2u)) & (vec4<u32>(j + 2u) < end));
        sum += select(vec4<f32>(), square.wwww, (begin <= vec4<u32>(j + 3u)) & (vec4<u32>(j + 3u) < end));
    }
    let base = vec4<f32>(params.k) + params.share * sum;
    let normed = vec4<f32>(input[first + group_of_4]) / power(base);
    // With k = 0 a padding channel could be 0 / 0: NaN.
    let value = select(vec4<f32>(), normed, channel < vec4<u32>(params.channels));
    output[at - params.output_start] = Written(value);
}

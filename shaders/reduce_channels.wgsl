// Sum over a divisor, largest or smallest value of the channels of a pixel. One invocation computes one pixel from
// `terms` elements. If term_begin > 0, it goes on from the partial results that the previous dispatch left in the
// output, one in each component; the last dispatch combines them. NaN propagates.
// input [pixels, terms] vec4; output [pixels] vec4: the result, then zeros.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

const SUM = 0u;
const LARGEST = 1u;

override REDUCTION: u32 = 0u;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    channels: u32,
    term_begin: u32,
    term_end: u32,
    terms: u32,
    divisor: f32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// Tests the bits: compilers may assume that there is no NaN.
fn is_nan(value: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

fn combined(result: vec4<f32>, value: vec4<f32>) -> vec4<f32> {
    switch REDUCTION {
        case SUM: {
            return result + value;
        }
        case LARGEST: {
            return select(result, value, (value > result) | is_nan(value));
        }
        default: {
            return select(result, value, (value < result) | is_nan(value));
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
    let at = params.row_begin * params.row_elements + group * 64u + local;
    if at >= params.row_end * params.row_elements {
        return;
    }
    let first = at * params.terms - params.input_start;
    var result = vec4<f32>();
    if params.term_begin > 0u {
        result = vec4<f32>(output[at - params.output_start]);
    } else if REDUCTION != SUM {
        result = vec4<f32>(vec4<f32>(input[first]).x);
    }
    for (var i = params.term_begin; i < params.term_end; i++) {
        let value = vec4<f32>(input[first + i]);
        let is_channel = i * 4u + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.channels);
        result = select(result, combined(result, value), is_channel);
    }
    if params.term_end == params.terms {
        let halves = combined(result, result.zwxy);
        result = combined(halves, halves.yxwz);
        if REDUCTION == SUM {
            result = result / params.divisor;
        }
        result = vec4<f32>(result.x, 0.0, 0.0, 0.0);
    }
    output[at - params.output_start] = Written(result);
}

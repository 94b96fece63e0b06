// Sum over a divisor, largest or smallest value of runs of elements. One invocation computes one vec4 from `terms`
// elements that lie `row_elements` apart. If term_begin > 0, it goes on from the partial result that the previous
// dispatch left in the output. NaN propagates.
// input [output rows, terms, row_elements], output [output rows, row_elements], all vec4.
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
    let row = at / params.row_elements;
    let in_row = at - row * params.row_elements;
    let first = row * params.terms * params.row_elements + in_row - params.input_start;
    var result = vec4<f32>();
    if params.term_begin > 0u {
        result = vec4<f32>(output[at - params.output_start]);
    } else if REDUCTION != SUM {
        result = vec4<f32>(input[first]);
    }
    for (var i = params.term_begin; i < params.term_end; i++) {
        result = combined(result, vec4<f32>(input[first + i * params.row_elements]));
    }
    if REDUCTION == SUM && params.term_end == params.terms {
        result = result / params.divisor;
    }
    output[at - params.output_start] = Written(result);
}

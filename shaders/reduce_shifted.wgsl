// Sums of a function of the distance from a value of each channel, over a divisor: its square, or its exponential.
// One invocation computes one vec4 from `terms` elements that lie `row_elements` apart; `shift_rows` output rows share
// a row of shifts. If term_begin > 0, it goes on from the partial sum that the previous dispatch left in the output.
// input [output rows, terms, row_elements], shift [output rows / shift_rows, row_elements], output [output rows,
// row_elements], all vec4; shifts are f32.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override EXPONENTIAL: bool = false;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    shift_start: u32,
    shift_rows: u32,
    channels: u32,
    c4: u32,
    term_begin: u32,
    term_end: u32,
    terms: u32,
    divisor: f32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> shift: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<Written>;
@group(0) @binding(3) var<uniform> params: Params;

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
    let origin = shift[row / params.shift_rows * params.row_elements + in_row - params.shift_start];
    var sum = vec4<f32>();
    if params.term_begin > 0u {
        sum = vec4<f32>(output[at - params.output_start]);
    }
    for (var i = params.term_begin; i < params.term_end; i++) {
        let distance = vec4<f32>(input[first + i * params.row_elements]) - origin;
        if EXPONENTIAL {
            sum += exp(distance);
        } else {
            sum += distance * distance;
        }
    }
    if params.term_end == params.terms {
        sum = sum / params.divisor;
    }
    // Exponentials are not zero in the padding channels.
    let channel = at % params.c4 * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    sum = select(vec4<f32>(), sum, channel < vec4<u32>(params.channels));
    output[at - params.output_start] = Written(sum);
}

// Means of runs of pixels. One invocation computes one vec4: the mean of `terms` consecutive input pixels. If
// term_begin > 0, it adds the terms from there to the partial sum that the previous dispatch left in the output.
// input [n, h, w, c/4], output [n, rows, 1, c/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

struct Params {
    row_begin: u32,
    row_end: u32,
    c4: u32,
    output_start: u32,
    input_start: u32,
    term_begin: u32,
    term_end: u32,
    terms: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let at = params.row_begin * params.c4 + group * 64u + local;
    if at >= params.row_end * params.c4 {
        return;
    }
    let row = at / params.c4;
    let first = row * params.terms * params.c4 + at - row * params.c4 - params.input_start;
    var sum = vec4<f32>();
    if params.term_begin > 0u {
        sum = vec4<f32>(output[at - params.output_start]);
    }
    for (var i = params.term_begin; i < params.term_end; i++) {
        sum += vec4<f32>(input[first + i * params.c4]);
    }
    if params.term_end == params.terms {
        sum = sum / f32(params.terms);
    }
    output[at - params.output_start] = Written(sum);
}

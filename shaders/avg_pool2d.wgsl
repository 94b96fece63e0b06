// Means over windows, or their largest values, where NaN propagates. One invocation computes one vec4.
//
// Along an axis, window i covers positions (i · mul - before) / div to (i · mul + last) / div, both included, clipped
// to the input. Terms are the positions of the longest window, row by row, `pitch` a row.
// input [n, in_height, in_width, c/4], output [n, out_height, out_width, c/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override LARGEST: bool = false;

struct Params {
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    c4: u32,
    row_mul: u32,
    row_div: u32,
    row_before: u32,
    row_last: u32,
    row_counted: u32,
    column_mul: u32,
    column_div: u32,
    column_before: u32,
    column_last: u32,
    column_counted: u32,
    pitch: u32,
    divisor: f32,
    row_begin: u32,
    row_end: u32,
    term_begin: u32,
    term_end: u32,
    terms: u32,
    input_start: u32,
    output_start: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// Tests the bits: compilers may assume that there is no NaN.
fn is_nan(value: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

// A window's first position, its end, and the number of positions that count.
fn window(first: u32, div: u32, before: u32, last: u32, counted: u32, size: u32) -> vec3<u32> {
    let begin = (max(first, before) - before) / div;
    let past = (first + last) / div + 1u;
    let end = min(past, size);
    let around = min(max(before, first) - first, counted) + min(past - end, counted);
    return vec3<u32>(begin, end, end - begin + around);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let row_elements = params.out_width * params.c4;
    let at = params.row_begin * row_elements + group * 64u + local;
    if at >= params.row_end * row_elements {
        return;
    }
    let pixel = at / params.c4;
    let c = at - pixel * params.c4;
    let row = pixel / params.out_width;
    let n = row / params.out_height;
    let y = row - n * params.out_height;
    let x = pixel - row * params.out_width;
    let rows = window(
        y * params.row_mul, params.row_div, params.row_before, params.row_last, params.row_counted, params.in_height,
    );
    let columns = window(
        x * params.column_mul, params.column_div, params.column_before, params.column_last, params.column_counted,
        params.in_width,
    );

    var result = vec4<f32>();
    if params.term_begin > 0u {
        result = vec4<f32>(output[at - params.output_start]);
    } else if LARGEST {
        let first = (n * params.in_height + rows.x) * params.in_width + columns.x;
        result = vec4<f32>(input[first * params.c4 + c - params.input_start]);
    }
    let first_row = rows.x + params.term_begin / params.pitch;
    let end_row = min(rows.y, rows.x + (params.term_end - 1u) / params.pitch + 1u);
    for (var i = first_row; i < end_row; i++) {
        let row_term = (i - rows.x) * params.pitch;
        let begin = columns.x + max(params.term_begin, row_term) - row_term;
        let end = min(columns.y, columns.x + params.term_end - row_term);
        let image_row = (n * params.in_height + i) * params.in_width;
        for (var j = begin; j < end; j++) {
            let value = vec4<f32>(input[(image_row + j) * params.c4 + c - params.input_start]);
            if LARGEST {
                result = select(result, value, (value > result) | is_nan(value));
            } else {
                result += value;
            }
        }
    }
    if !LARGEST && params.term_end == params.terms {
        let counted = f32(rows.z) * f32(columns.z);
        result /= select(params.divisor, counted, params.divisor == 0.0);
    }
    output[at - params.output_start] = Written(result);
}

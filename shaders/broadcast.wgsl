// Arithmetic or a comparison of two tensors. One invocation computes one vec4. Stride 0 broadcasts an axis of size 1.
// a, b and output [n, h, w, c/4] vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

const ADD = 0u;
const SUB = 1u;
const MUL = 2u;
const DIV = 3u;
const MAXIMUM = 4u;
const MINIMUM = 5u;
const GT = 6u;
const GE = 7u;
const LT = 8u;
const LE = 9u;
const EQ = 10u;

override OPERATION: u32 = 0u;
override SAME_SHAPE: bool = false;
// The operand has one channel, the output several.
override A_SPLAT: bool = false;
override B_SPLAT: bool = false;
// The result's padding channels may be nonzero and are reset to 0.
override MASKED: bool = false;
override RELU: bool = false;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    a_start: u32,
    b_start: u32,
    height: u32,
    width: u32,
    channels: u32,
    c4: u32,
    a_image: u32,
    a_row: u32,
    a_pixel: u32,
    a_group: u32,
    b_image: u32,
    b_row: u32,
    b_pixel: u32,
    b_group: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Stored>;
@group(0) @binding(1) var<storage, read> b: array<Stored>;
@group(0) @binding(2) var<storage, read_write> output: array<Written>;
@group(0) @binding(3) var<uniform> params: Params;

// Tests the bits: compilers may assume that there is no NaN.
fn is_nan(value: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

// 1 where the comparison holds, else 0.
fn number(holds: vec4<bool>) -> vec4<f32> {
    return select(vec4<f32>(), vec4<f32>(1.0), holds);
}

fn combined(x: vec4<f32>, y: vec4<f32>) -> vec4<f32> {
    var result = vec4<f32>();
    let ordered = !(is_nan(x) | is_nan(y));
    switch OPERATION {
        case ADD: {
            result = x + y;
        }
        case SUB: {
            result = x - y;
        }
        case MUL: {
            result = x * y;
        }
        case DIV: {
            result = x / y;
        }
        case MAXIMUM: {
            result = select(x, y, ((y > x) & !is_nan(x)) | is_nan(y));
        }
        case MINIMUM: {
            result = select(x, y, ((y < x) & !is_nan(x)) | is_nan(y));
        }
        case GT: {
            result = number((x > y) & ordered);
        }
        case GE: {
            result = number((x >= y) & ordered);
        }
        case LT: {
            result = number((x < y) & ordered);
        }
        case LE: {
            result = number((x <= y) & ordered);
        }
        case EQ: {
            result = number((x == y) & ordered);
        }
        default: {
            result = number((x != y) | !ordered);
        }
    }
    // NaN propagates.
    return select(result, vec4<f32>(), vec4<bool>(RELU) & (result < vec4<f32>()));
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
    if SAME_SHAPE && !MASKED {
        output[at - params.output_start] =
            Written(combined(vec4<f32>(a[at - params.a_start]), vec4<f32>(b[at - params.b_start])));
        return;
    }
    let row = at / params.row_elements;
    let in_row = at - row * params.row_elements;
    let n = row / params.height;
    let y = row - n * params.height;
    let x = in_row / params.c4;
    let c = in_row - x * params.c4;
    let at_a = n * params.a_image + y * params.a_row + x * params.a_pixel + c * params.a_group;
    let at_b = n * params.b_image + y * params.b_row + x * params.b_pixel + c * params.b_group;
    var of_a = vec4<f32>(a[at_a - params.a_start]);
    var of_b = vec4<f32>(b[at_b - params.b_start]);
    if A_SPLAT {
        of_a = vec4<f32>(of_a.x);
    }
    if B_SPLAT {
        of_b = vec4<f32>(of_b.x);
    }
    var result = combined(of_a, of_b);
    if MASKED {
        let channel = c * 4u + vec4<u32>(0u, 1u, 2u, 3u);
        result = select(vec4<f32>(), result, channel < vec4<u32>(params.channels));
    }
    output[at - params.output_start] = Written(result);
}

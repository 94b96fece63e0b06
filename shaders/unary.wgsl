// An elementwise function. One invocation computes one vec4. NaN propagates: comparisons with NaN are false, and the
// false branches pass it on.
// input and output [n, h, w, c/4] vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

const CLAMP = 0u;
const LEAKY_RELU = 1u;
const ELU = 2u;
const SIGMOID = 3u;
const TANH = 4u;
const SILU = 5u;
const HARDSIGMOID = 6u;
const HARDSWISH = 7u;

override FUNCTION: u32 = 0u;
// The function does not map 0 to 0: padding channels are reset to 0.
override MASKED: bool = false;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    channels: u32,
    c4: u32,
    // The function's parameters.
    p: f32,
    q: f32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// exp(x) - 1 for x <= 0. Near 0, where the difference would cancel, the sum of x^k / k! up to k = 9 replaces it; its
// remainder is less than 2^-30 of the result.
fn expm1(x: vec4<f32>) -> vec4<f32> {
    var sum = 1.0 + x * (1.0 / 9.0);
    sum = 1.0 + x * (1.0 / 8.0) * sum;
    sum = 1.0 + x * (1.0 / 7.0) * sum;
    sum = 1.0 + x * (1.0 / 6.0) * sum;
    sum = 1.0 + x * (1.0 / 5.0) * sum;
    sum = 1.0 + x * (1.0 / 4.0) * sum;
    sum = 1.0 + x * (1.0 / 3.0) * sum;
    sum = 1.0 + x * (1.0 / 2.0) * sum;
    return select(exp(x) - 1.0, x * sum, x > vec4<f32>(-0.5));
}

// exp overflows for large arguments: only exp(-|x|) is computed.
fn sigmoid(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(x));
    return select(vec4<f32>(1.0), e, x < vec4<f32>()) / (1.0 + e);
}

// WGSL's tanh may be off by 1e-5 in absolute terms, even for small results.
fn hyperbolic_tangent(x: vec4<f32>) -> vec4<f32> {
    let e = expm1(-2.0 * abs(x));
    let magnitude = -e / (2.0 + e);
    return select(magnitude, -magnitude, x < vec4<f32>());
}

// WGSL's min and max may drop NaN.
fn clamped(x: vec4<f32>, low: f32, high: f32) -> vec4<f32> {
    let raised = select(x, vec4<f32>(low), x < vec4<f32>(low));
    return select(raised, vec4<f32>(high), raised > vec4<f32>(high));
}

fn hard_sigmoid(x: vec4<f32>) -> vec4<f32> {
    return clamped(x + 3.0, 0.0, 6.0) * (1.0 / 6.0);
}

fn value(x: vec4<f32>) -> vec4<f32> {
    switch FUNCTION {
        case CLAMP: {
            return clamped(x, params.p, params.q);
        }
        case LEAKY_RELU: {
            return select(params.p * x, x, x > vec4<f32>());
        }
        case ELU: {
            return select(params.p * expm1(x), x, x > vec4<f32>());
        }
        case SIGMOID: {
            return sigmoid(x);
        }
        case TANH: {
            return hyperbolic_tangent(x);
        }
        case SILU: {
            return x * sigmoid(x);
        }
        case HARDSIGMOID: {
            return hard_sigmoid(x);
        }
        default: {
            return x * hard_sigmoid(x);
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
    var result = value(vec4<f32>(input[at - params.input_start]));
    if MASKED {
        let channel = at % params.c4 * 4u + vec4<u32>(0u, 1u, 2u, 3u);
        result = select(vec4<f32>(), result, channel < vec4<u32>(params.channels));
    }
    output[at - params.output_start] = Written(result);
}

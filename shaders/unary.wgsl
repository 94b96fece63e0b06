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
const ABS = 8u;
const EXP = 9u;
const LOG = 10u;
const SQRT = 11u;
const RSQRT = 12u;
const RECIPROCAL = 13u;
const POW = 14u;
const ERF = 15u;
const GELU = 16u;
const SOFTPLUS = 17u;
const MISH = 18u;
const SELU = 19u;
const CELU = 20u;
const SOFTSIGN = 21u;
const LOGSIGMOID = 22u;
const HARDSHRINK = 23u;
const THRESHOLD = 24u;
const FLOOR = 25u;

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

// The float of these bits, in every component; WGSL has no literals for infinity and NaN.
fn float_of(bits: u32, x: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>((bitcast<vec4<u32>>(x) & vec4<u32>()) | vec4<u32>(bits));
}

// Tests the bits: compilers may assume that there is no NaN.
fn is_nan(x: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

fn is_infinite(x: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(x) & vec4<u32>(0x7fffffffu)) == vec4<u32>(0x7f800000u);
}

// NaN for negative numbers and minus infinity, else `y`.
fn unless_negative(x: vec4<f32>, y: vec4<f32>) -> vec4<f32> {
    return select(y, float_of(0x7fc00000u, x), x < vec4<f32>());
}

// WGSL's exp may overflow to any number.
fn exponential(x: vec4<f32>) -> vec4<f32> {
    return select(exp(x), float_of(0x7f800000u, x), x >= vec4<f32>(88.72284));
}

// The natural logarithm; WGSL's may be off by 2^-21 near 1. With x = m · 2^e and m from √½ to √2, log(m) is
// 2 · artanh(s) with s = (m - 1) / (m + 1): s + s^3 / 3 + … + s^9 / 9, whose remainder is less than 2^-28 of the sum. The
// first part of log(2) has few digits, so that its product with e is exact.
fn logarithm(x: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<i32>>(x);
    let e = (bits - vec4<i32>(0x3f3504f3)) >> vec4<u32>(23u);
    let f = bitcast<vec4<f32>>(bits - (e << vec4<u32>(23u))) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    var sum = z * (1.0 / 9.0) + (1.0 / 7.0);
    sum = z * sum + (1.0 / 5.0);
    sum = z * sum + (1.0 / 3.0);
    let power = vec4<f32>(e);
    let result = power * 0.693359375 + (power * -2.12194440e-4 + 2.0 * (s + s * (z * sum)));
    let or_zero = select(result, float_of(0xff800000u, x), x == vec4<f32>());
    return unless_negative(x, select(or_zero, x, is_nan(x) | is_infinite(x)));
}

// log(1 + x) for x from 0 to 1: 2 · artanh(s) with s = x / (2 + x) up to 1/3, as s + s^3 / 3 + … + s^17 / 17, whose
// remainder is less than 2^-32 of the sum.
fn log1p(x: vec4<f32>) -> vec4<f32> {
    let s = x / (2.0 + x);
    let z = s * s;
    var sum = z * (1.0 / 17.0) + (1.0 / 15.0);
    sum = z * sum + (1.0 / 13.0);
    sum = z * sum + (1.0 / 11.0);
    sum = z * sum + (1.0 / 9.0);
    sum = z * sum + (1.0 / 7.0);
    sum = z * sum + (1.0 / 5.0);
    sum = z * sum + (1.0 / 3.0);
    return 2.0 * (s + s * (z * sum));
}

fn square_root(x: vec4<f32>) -> vec4<f32> {
    let passes = (x == vec4<f32>()) | is_infinite(x);
    return unless_negative(x, select(sqrt(x), x, passes));
}

// The root of zero has the sign of zero.
fn inverse_root(x: vec4<f32>) -> vec4<f32> {
    let finite = select(inverseSqrt(x), vec4<f32>(), is_infinite(x));
    let of_zero = bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) | vec4<u32>(0x7f800000u));
    return unless_negative(x, select(finite, of_zero, x == vec4<f32>()));
}

fn inverse(x: vec4<f32>) -> vec4<f32> {
    let sign = bitcast<vec4<u32>>(x) & vec4<u32>(0x80000000u);
    let finite = select(1.0 / x, bitcast<vec4<f32>>(sign), is_infinite(x));
    let of_zero = bitcast<vec4<f32>>(sign | vec4<u32>(0x7f800000u));
    return select(finite, of_zero, x == vec4<f32>());
}

// x to the power p. q says how: 1 by multiplications, 2 and 3 by the root and its inverse, else by the logarithm, where
// 4 and 5 are even and odd exponents.
fn power(x: vec4<f32>) -> vec4<f32> {
    if params.q == 2.0 {
        return square_root(x);
    }
    if params.q == 3.0 {
        return inverse_root(x);
    }
    if params.q == 1.0 {
        var base = x;
        if params.p < 0.0 {
            base = inverse(x);
        }
        var result = vec4<f32>(1.0);
        var exponent = u32(abs(params.p));
        for (var i = 0u; i < 7u; i++) {
            if (exponent & 1u) == 1u {
                result *= base;
            }
            base *= base;
            exponent >>= 1u;
        }
        return result;
    }
    let magnitude = exponential(params.p * logarithm(abs(x)));
    let negative = x < vec4<f32>();
    if params.q == 5.0 {
        // The sign of zero too.
        return bitcast<vec4<f32>>(bitcast<vec4<u32>>(magnitude) | (bitcast<vec4<u32>>(x) & vec4<u32>(0x80000000u)));
    }
    if params.q == 4.0 {
        return magnitude;
    }
    return select(magnitude, float_of(0x7fc00000u, x), negative & !is_infinite(x));
}

// erf(x) for |x| <= 1: x times a polynomial in x^2, off by less than 2^-34.
fn erf_near_zero(x: vec4<f32>) -> vec4<f32> {
    let z = x * x;
    var sum = vec4<f32>(-9.66704457e-6);
    sum = sum * z + 0.00011265959;
    sum = sum * z - 0.000848408041;
    sum = sum * z + 0.00522103181;
    sum = sum * z - 0.0268654307;
    sum = sum * z + 0.112837825;
    sum = sum * z - 0.376126385;
    sum = sum * z + 1.12837917;
    return x * sum;
}

// 1 - erf(x) for x > 1, where exponential is exp(-x^2): its product with t = 1 / (1 + x / 2) and a polynomial in t, off by
// less than 2^-28 for x up to 11; beyond, the exponential is 0.
fn erfc_far(x: vec4<f32>, exponential: vec4<f32>) -> vec4<f32> {
    let t = 1.0 / (1.0 + 0.5 * x);
    var sum = vec4<f32>(-0.0394149171);
    sum = sum * t + 0.223233056;
    sum = sum * t - 0.40806185;
    sum = sum * t + 0.22378153;
    sum = sum * t - 0.00550431687;
    sum = sum * t + 0.198143129;
    sum = sum * t + 0.24356445;
    sum = sum * t + 0.282368184;
    sum = sum * t + 0.282085026;
    return exponential * (t * sum);
}

fn erf(x: vec4<f32>) -> vec4<f32> {
    let far = 1.0 - erfc_far(abs(x), exp(-x * x));
    let signed = select(far, -far, x < vec4<f32>());
    let or_near = select(signed, erf_near_zero(x), abs(x) <= vec4<f32>(1.0));
    return select(or_near, x, is_nan(x));
}

// x · Φ(x) with the normal distribution's Φ(x) = (1 + erf(x · √½)) / 2. The tail is not the difference of 1 and
// nearly 1.
fn gelu(x: vec4<f32>) -> vec4<f32> {
    if params.p == 1.0 {
        return x * sigmoid(x * (1.59576912 + 0.0713548163 * (x * x)));
    }
    let z = 0.707106781 * x;
    let tail = 0.5 * erfc_far(abs(z), exp(-0.5 * (x * x)));
    let far = select(1.0 - tail, tail, x < vec4<f32>());
    let near = 0.5 + 0.5 * erf_near_zero(z);
    return x * select(far, near, abs(z) <= vec4<f32>(1.0));
}

// log(1 + exp(x)): only exp(-|x|) is computed.
fn softplus(x: vec4<f32>) -> vec4<f32> {
    return select(x, vec4<f32>(), x < vec4<f32>()) + log1p(exp(-abs(x)));
}

// tanh(softplus(x)), as a fraction of polynomials in e = exp(-|x|).
fn mish_gate(x: vec4<f32>) -> vec4<f32> {
    let e = exp(-abs(x));
    let of_negative = e * (e + 2.0);
    let of_positive = 1.0 + 2.0 * e;
    let numerator = select(of_positive, of_negative, x < vec4<f32>());
    let rest = select(2.0 * e * e, vec4<f32>(2.0), x < vec4<f32>());
    return numerator / (numerator + rest);
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
        case HARDSWISH: {
            return x * hard_sigmoid(x);
        }
        case ABS: {
            return abs(x);
        }
        case EXP: {
            return exponential(x);
        }
        case LOG: {
            return logarithm(x);
        }
        case SQRT: {
            return square_root(x);
        }
        case RSQRT: {
            return inverse_root(x);
        }
        case RECIPROCAL: {
            return inverse(x);
        }
        case POW: {
            return power(x);
        }
        case ERF: {
            return erf(x);
        }
        case GELU: {
            return gelu(x);
        }
        case SOFTPLUS: {
            let scaled = params.p * x;
            return select(softplus(scaled) / params.p, x, scaled > vec4<f32>(params.q));
        }
        case MISH: {
            return x * mish_gate(x);
        }
        case SELU: {
            return select(1.75809934 * expm1(x), 1.05070099 * x, x > vec4<f32>());
        }
        case CELU: {
            return select(params.p * expm1(x / params.p), x, x > vec4<f32>());
        }
        case SOFTSIGN: {
            return x / (1.0 + abs(x));
        }
        case LOGSIGMOID: {
            return -softplus(-x);
        }
        case HARDSHRINK: {
            return select(x, vec4<f32>(), abs(x) <= vec4<f32>(params.p));
        }
        case THRESHOLD: {
            return select(x, vec4<f32>(params.q), x <= vec4<f32>(params.p));
        }
        case FLOOR: {
            return floor(x);
        }
        default: {
            return select(vec4<f32>(), sign(x), abs(x) > vec4<f32>());
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

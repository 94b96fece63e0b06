// Sine or cosine of any number; WGSL's are off by 2^-11, and by any amount far from 0. One invocation computes one vec4.
// input and output [n, h, w, c/4] vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override COSINE: bool = false;
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
    // Not used.
    p: f32,
    q: f32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// A word of zeros, then the binary digits of 2 / pi.
const DIGITS = array<u32, 8>(
    0u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu,
);

// The product of two numbers: its low and its high word.
fn product(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let first = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let second = (a & 0xffffu) * (b >> 16u) + (first & 0xffffu);
    return vec2<u32>((second << 16u) | (low & 0xffffu), (a >> 16u) * (b >> 16u) + (first >> 16u) + (second >> 16u));
}

// 32 of the digits, from number `at` on.
fn digits(at: u32) -> u32 {
    var all = DIGITS;
    let word = at >> 5u;
    let shift = at & 31u;
    if shift == 0u {
        return all[word];
    }
    return (all[word] << shift) | (all[min(word + 1u, 7u)] >> (32u - shift));
}

// Sine or cosine of a finite x. Its magnitude is m · 2^e with a whole m of 24 bits. The product with 2 / pi, modulo 4, is m
// times 96 of the digits: a quarter turn, and a fraction of a quarter turn of at least 30 significant bits, which is
// rounded to the nearest quarter.
fn sine(x: f32) -> f32 {
    let bits = bitcast<u32>(x) & 0x7fffffffu;
    var quarter = 0u;
    var angle = bitcast<f32>(bits);
    if bits > 0x3f490fdau {
        let m = (bits & 0x7fffffu) | 0x800000u;
        let at = (bits >> 23u) - 120u;
        let low = product(m, digits(at + 64u));
        let middle = product(m, digits(at + 32u));
        let high = m * digits(at);
        let second = middle.x + low.y;
        let carry = select(0u, 1u, second < low.y);
        let first = high + middle.y + carry;
        quarter = first >> 30u;
        var fraction = vec2<u32>((first << 2u) | (second >> 30u), (second << 2u) | (low.x >> 30u));
        var sign = 1.0;
        if fraction.x >= 0x80000000u {
            quarter += 1u;
            sign = -1.0;
            fraction = vec2<u32>(~fraction.x, ~fraction.y);
        }
        // The first digit is 0.
        let zeros = min(countLeadingZeros(fraction.x), 31u);
        let word = (fraction.x << zeros) | (fraction.y >> (32u - zeros));
        let scale = bitcast<f32>((103u - zeros) << 23u);
        angle = sign * (f32(word >> 8u) * scale * 1.57079633);
    }
    if COSINE {
        quarter += 1u;
    } else if (bitcast<u32>(x) >> 31u) == 1u {
        // sin(-x) = -sin(x), half a turn away.
        quarter += 2u;
    }
    // Taylor's sums up to x^11 and x^10, for angles up to pi / 4.
    let z = angle * angle;
    var result = 0.0;
    if (quarter & 1u) == 0u {
        var sum = z * (-1.0 / 39916800.0) + (1.0 / 362880.0);
        sum = z * sum - (1.0 / 5040.0);
        sum = z * sum + (1.0 / 120.0);
        sum = z * sum - (1.0 / 6.0);
        result = angle + angle * (z * sum);
    } else {
        var sum = z * (-1.0 / 3628800.0) + (1.0 / 40320.0);
        sum = z * sum - (1.0 / 720.0);
        sum = z * sum + (1.0 / 24.0);
        result = 1.0 + z * (z * sum - 0.5);
    }
    return select(result, -result, (quarter & 2u) != 0u);
}

fn value(x: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(x);
    let finite = vec4<f32>(sine(x.x), sine(x.y), sine(x.z), sine(x.w));
    let nan = bitcast<vec4<f32>>(bits | vec4<u32>(0x7fc00000u));
    return select(finite, nan, (bits & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u));
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

// Direct 2-D convolution from global memory, ungrouped or in groups whose channels are multiples of 4.
//
// One invocation computes 4 consecutive pixels of 4 output channels. `lanes` neighbouring invocations share the
// pixels and take neighbouring channels. POOL is 2 with fused max pooling: the 4 pixels are a 2×2 square and their
// largest value is written.
// input [n, h, w, c/4], weight [tile][ky][kx][c/groups][lanes], bias [out/4], output [n, h, w, out/4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override KERNEL_H: u32 = 3u;
override KERNEL_W: u32 = 3u;
override STRIDE_H: u32 = 1u;
override STRIDE_W: u32 = 1u;
override DILATION_H: u32 = 1u;
override DILATION_W: u32 = 1u;
override RELU: bool = false;
override MOST: f32 = 0.0;
override POOL: u32 = 1u;
// Elements, of four channels of a pixel, that an invocation computes.
const ELEMENTS = 4u;

struct Params {
    in_height: u32,
    in_width: u32,
    in_c4: u32,
    out_height: u32,
    out_width: u32,
    out_c4: u32,
    padding_h: u32,
    padding_w: u32,
    row_begin: u32,
    row_end: u32,
    channel_begin: u32,
    channel_end: u32,
    term_begin: u32,
    term_end: u32,
    terms: u32,
    input_start: u32,
    output_start: u32,
    pixel_groups: u32,
    lanes: u32,
    map_height: u32,
    map_width: u32,
    group_in_c4: u32,
    group_out_c4: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> weight: array<Stored>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<Written>;
@group(0) @binding(4) var<uniform> params: Params;

// Where a pixel's window begins: the image's first pixel, and the row and column of the first tap.
struct Window {
    image: u32,
    y: i32,
    x: i32,
}

// With pooling, pixels are counted square by square. A pixel past the map's end repeats its last row or column, which
// does not change the maximum.
fn window(pixel: u32) -> Window {
    let place = pixel / (POOL * POOL);
    let in_square = pixel - place * POOL * POOL;
    let row = place / params.out_width;
    let n = row / params.out_height;
    let y = min((row - n * params.out_height) * POOL + in_square / POOL, params.map_height - 1u);
    let x = min((place - row * params.out_width) * POOL + in_square % POOL, params.map_width - 1u);
    return Window(
        n * params.in_height * params.in_width,
        i32(y * STRIDE_H) - i32(params.padding_h),
        i32(x * STRIDE_W) - i32(params.padding_w),
    );
}

// The first element of the window's tap (y, x), relative to the binding; -1 outside the input.
fn tap(w: Window, ky: u32, kx: u32) -> i32 {
    let y = w.y + i32(ky * DILATION_H);
    let x = w.x + i32(kx * DILATION_W);
    if y < 0 || x < 0 || y >= i32(params.in_height) || x >= i32(params.in_width) {
        return -1;
    }
    return i32((w.image + u32(y) * params.in_width + u32(x)) * params.in_c4 - params.input_start);
}

fn load(first: i32, c: u32) -> vec4<f32> {
    if first < 0 {
        return vec4<f32>();
    }
    return vec4<f32>(input[u32(first) + c]);
}

// ReLU, and at most MOST if that is not 0; NaN propagates.
fn activated(value: vec4<f32>) -> vec4<f32> {
    let negative = vec4<bool>(RELU) & (value < vec4<f32>());
    let large = vec4<bool>(MOST > 0.0) & (value > vec4<f32>(MOST));
    return select(select(value, vec4<f32>(), negative), vec4<f32>(MOST), large);
}

fn store(at: u32, value: vec4<f32>) {
    output[at] = Written(select(value, activated(value), params.term_end == params.terms));
}

// Tests the bits: compilers may assume that there is no NaN.
fn is_nan(value: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

// The larger of two; NaN propagates.
fn larger(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return select(a, b, (b > a) | is_nan(b));
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let begin = params.row_begin * params.out_width * POOL * POOL;
    let end = params.row_end * params.out_width * POOL * POOL;
    let pixels = 64u / params.lanes * 4u;
    let tile = group / params.pixel_groups;
    let lane = local % params.lanes;
    let channel = params.channel_begin + tile * params.lanes + lane;
    let first = begin + (group - tile * params.pixel_groups) * pixels + local / params.lanes * 4u;
    if channel >= params.channel_end || first >= end {
        return;
    }
    let last = end - 1u;
    let first_c = channel / params.group_out_c4 * params.group_in_c4;
    let p1 = min(first + 1u, last);
    let p2 = min(first + 2u, last);
    let p3 = min(first + 3u, last);
    let at0 = first / (POOL * POOL) * params.out_c4 + channel - params.output_start;
    let at1 = p1 * params.out_c4 + channel - params.output_start;
    let at2 = p2 * params.out_c4 + channel - params.output_start;
    let at3 = p3 * params.out_c4 + channel - params.output_start;

    var sum0 = bias[channel];
    var sum1 = sum0;
    var sum2 = sum0;
    var sum3 = sum0;
    if params.term_begin > 0u {
        sum0 = vec4<f32>(output[at0]);
        sum1 = vec4<f32>(output[at1]);
        sum2 = vec4<f32>(output[at2]);
        sum3 = vec4<f32>(output[at3]);
    }
    let w0 = window(first);
    let w1 = window(p1);
    let w2 = window(p2);
    let w3 = window(p3);
    for (var ky = 0u; ky < KERNEL_H; ky++) {
        for (var kx = 0u; kx < KERNEL_W; kx++) {
            let t0 = tap(w0, ky, kx);
            let t1 = tap(w1, ky, kx);
            let t2 = tap(w2, ky, kx);
            let t3 = tap(w3, ky, kx);
            var at = (((tile * KERNEL_H + ky) * KERNEL_W + kx) * params.group_in_c4 + params.term_begin) * 4u * params.lanes + lane;
            for (var c = params.term_begin; c < params.term_end; c++) {
                let a = vec4<f32>(weight[at]);
                let b = vec4<f32>(weight[at + params.lanes]);
                let d = vec4<f32>(weight[at + 2u * params.lanes]);
                let e = vec4<f32>(weight[at + 3u * params.lanes]);
                let v0 = load(t0, first_c + c);
                let v1 = load(t1, first_c + c);
                let v2 = load(t2, first_c + c);
                let v3 = load(t3, first_c + c);
                sum0 += a * v0.x + b * v0.y + d * v0.z + e * v0.w;
                sum1 += a * v1.x + b * v1.y + d * v1.z + e * v1.w;
                sum2 += a * v2.x + b * v2.y + d * v2.z + e * v2.w;
                sum3 += a * v3.x + b * v3.y + d * v3.z + e * v3.w;
                at += 4u * params.lanes;
            }
        }
    }
    if POOL > 1u {
        store(at0, larger(larger(sum0, sum1), larger(sum2, sum3)));
        return;
    }
    store(at0, sum0);
    if first + 1u < end {
        store(at1, sum1);
    }
    if first + 2u < end {
        store(at2, sum2);
    }
    if first + 3u < end {
        store(at3, sum3);
    }
}

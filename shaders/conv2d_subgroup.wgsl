// 2-D convolution of ungrouped channels on a CPU device with subgroups.
//
// A workgroup is one subgroup. It computes PIXELS pixels, one after the other in memory, of 4 · LANES
// output channels: lane l owns channels 4l … 4l+3, loads pixels l, l + LANES …, and every lane
// broadcasts them to the others. The parts between marks are unrolled by src/ops/conv2d/subgroup.rs.
// input [n, h, w, c/4], weight [tile][ky][kx][c][LANES], bias [out/4], output [n, h, w, out/4], all vec4.

override KERNEL_H: u32 = 3u;
override KERNEL_W: u32 = 3u;
override STRIDE_H: u32 = 1u;
override STRIDE_W: u32 = 1u;
override DILATION_H: u32 = 1u;
override DILATION_W: u32 = 1u;
override RELU: bool = false;

// tile: size
const LANES = 8u;
const PIXELS = 16u;
// end

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
}

@group(0) @binding(0) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> params: Params;

// Where a pixel's window begins: its image's first pixel, row and column of the first tap.
struct Window {
    image: u32,
    y: i32,
    x: i32,
}

fn window(pixel: u32) -> Window {
    let row = pixel / params.out_width;
    let n = row / params.out_height;
    let y = row - n * params.out_height;
    let x = pixel - row * params.out_width;
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
    let inside = y >= 0 && x >= 0 && y < i32(params.in_height) && x < i32(params.in_width);
    let at = i32((w.image + u32(y) * params.in_width + u32(x)) * params.in_c4 - params.input_start);
    return select(-1, at, inside);
}

fn load(first: i32, c: u32) -> vec4<f32> {
    let outside = first < 0;
    return select(input[select(u32(first) + c, 0u, outside)], vec4<f32>(), outside);
}

// The sum that a pixel starts from: the bias, or what an earlier dispatch has added up.
fn begin_sum(pixel: u32, end: u32, channel: u32) -> vec4<f32> {
    let at = min(channel, params.out_c4 - 1u);
    if params.term_begin > 0u {
        return output[min(pixel, end - 1u) * params.out_c4 + at - params.output_start];
    }
    return bias[at];
}

fn store(pixel: u32, end: u32, channel: u32, value: vec4<f32>) {
    if pixel < end && channel < params.channel_end {
        let negative = vec4<bool>(RELU && params.term_end == params.terms) & (value < vec4<f32>());
        output[pixel * params.out_c4 + channel - params.output_start] = select(value, vec4<f32>(), negative);
    }
}

// tile: workgroup
@compute @workgroup_size(8)
// end
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let begin = params.row_begin * params.out_width;
    let end = params.row_end * params.out_width;
    let pixel_groups = (end - begin + PIXELS - 1u) / PIXELS;
    let tile = group / pixel_groups;
    let channel = params.channel_begin + tile * LANES + lane;
    let first = begin + (group - tile * pixel_groups) * PIXELS;
    if params.channel_begin + tile * LANES >= params.channel_end {
        return;
    }
    // tile: windows
    let w0 = window(min(first + 0u + lane, end - 1u));
    let w1 = window(min(first + 8u + lane, end - 1u));
    // end
    // tile: begin
    var sum0 = begin_sum(first + 0u, end, channel);
    var sum1 = begin_sum(first + 1u, end, channel);
    var sum2 = begin_sum(first + 2u, end, channel);
    var sum3 = begin_sum(first + 3u, end, channel);
    var sum4 = begin_sum(first + 4u, end, channel);
    var sum5 = begin_sum(first + 5u, end, channel);
    var sum6 = begin_sum(first + 6u, end, channel);
    var sum7 = begin_sum(first + 7u, end, channel);
    var sum8 = begin_sum(first + 8u, end, channel);
    var sum9 = begin_sum(first + 9u, end, channel);
    var sum10 = begin_sum(first + 10u, end, channel);
    var sum11 = begin_sum(first + 11u, end, channel);
    var sum12 = begin_sum(first + 12u, end, channel);
    var sum13 = begin_sum(first + 13u, end, channel);
    var sum14 = begin_sum(first + 14u, end, channel);
    var sum15 = begin_sum(first + 15u, end, channel);
    // end
    for (var ky = 0u; ky < KERNEL_H; ky++) {
        for (var kx = 0u; kx < KERNEL_W; kx++) {
            // tile: taps
            let t0 = tap(w0, ky, kx);
            let t1 = tap(w1, ky, kx);
            // end
            var at = (((tile * KERNEL_H + ky) * KERNEL_W + kx) * params.in_c4 + params.term_begin) * 4u * LANES + lane;
            for (var c = params.term_begin; c < params.term_end; c++) {
                let a = weight[at];
                let b = weight[at + LANES];
                let d = weight[at + 2u * LANES];
                let e = weight[at + 3u * LANES];
                // tile: loads
                let v0 = load(t0, c);
                let v1 = load(t1, c);
                // end
                // tile: sums
                let b0 = subgroupBroadcast(v0, 0u);
                sum0 = fma(e, vec4<f32>(b0.w), fma(d, vec4<f32>(b0.z), fma(b, vec4<f32>(b0.y), fma(a, vec4<f32>(b0.x), sum0))));
                let b1 = subgroupBroadcast(v0, 1u);
                sum1 = fma(e, vec4<f32>(b1.w), fma(d, vec4<f32>(b1.z), fma(b, vec4<f32>(b1.y), fma(a, vec4<f32>(b1.x), sum1))));
                let b2 = subgroupBroadcast(v0, 2u);
                sum2 = fma(e, vec4<f32>(b2.w), fma(d, vec4<f32>(b2.z), fma(b, vec4<f32>(b2.y), fma(a, vec4<f32>(b2.x), sum2))));
                let b3 = subgroupBroadcast(v0, 3u);
                sum3 = fma(e, vec4<f32>(b3.w), fma(d, vec4<f32>(b3.z), fma(b, vec4<f32>(b3.y), fma(a, vec4<f32>(b3.x), sum3))));
                let b4 = subgroupBroadcast(v0, 4u);
                sum4 = fma(e, vec4<f32>(b4.w), fma(d, vec4<f32>(b4.z), fma(b, vec4<f32>(b4.y), fma(a, vec4<f32>(b4.x), sum4))));
                let b5 = subgroupBroadcast(v0, 5u);
                sum5 = fma(e, vec4<f32>(b5.w), fma(d, vec4<f32>(b5.z), fma(b, vec4<f32>(b5.y), fma(a, vec4<f32>(b5.x), sum5))));
                let b6 = subgroupBroadcast(v0, 6u);
                sum6 = fma(e, vec4<f32>(b6.w), fma(d, vec4<f32>(b6.z), fma(b, vec4<f32>(b6.y), fma(a, vec4<f32>(b6.x), sum6))));
                let b7 = subgroupBroadcast(v0, 7u);
                sum7 = fma(e, vec4<f32>(b7.w), fma(d, vec4<f32>(b7.z), fma(b, vec4<f32>(b7.y), fma(a, vec4<f32>(b7.x), sum7))));
                let b8 = subgroupBroadcast(v1, 0u);
                sum8 = fma(e, vec4<f32>(b8.w), fma(d, vec4<f32>(b8.z), fma(b, vec4<f32>(b8.y), fma(a, vec4<f32>(b8.x), sum8))));
                let b9 = subgroupBroadcast(v1, 1u);
                sum9 = fma(e, vec4<f32>(b9.w), fma(d, vec4<f32>(b9.z), fma(b, vec4<f32>(b9.y), fma(a, vec4<f32>(b9.x), sum9))));
                let b10 = subgroupBroadcast(v1, 2u);
                sum10 = fma(e, vec4<f32>(b10.w), fma(d, vec4<f32>(b10.z), fma(b, vec4<f32>(b10.y), fma(a, vec4<f32>(b10.x), sum10))));
                let b11 = subgroupBroadcast(v1, 3u);
                sum11 = fma(e, vec4<f32>(b11.w), fma(d, vec4<f32>(b11.z), fma(b, vec4<f32>(b11.y), fma(a, vec4<f32>(b11.x), sum11))));
                let b12 = subgroupBroadcast(v1, 4u);
                sum12 = fma(e, vec4<f32>(b12.w), fma(d, vec4<f32>(b12.z), fma(b, vec4<f32>(b12.y), fma(a, vec4<f32>(b12.x), sum12))));
                let b13 = subgroupBroadcast(v1, 5u);
                sum13 = fma(e, vec4<f32>(b13.w), fma(d, vec4<f32>(b13.z), fma(b, vec4<f32>(b13.y), fma(a, vec4<f32>(b13.x), sum13))));
                let b14 = subgroupBroadcast(v1, 6u);
                sum14 = fma(e, vec4<f32>(b14.w), fma(d, vec4<f32>(b14.z), fma(b, vec4<f32>(b14.y), fma(a, vec4<f32>(b14.x), sum14))));
                let b15 = subgroupBroadcast(v1, 7u);
                sum15 = fma(e, vec4<f32>(b15.w), fma(d, vec4<f32>(b15.z), fma(b, vec4<f32>(b15.y), fma(a, vec4<f32>(b15.x), sum15))));
                // end
                at += 4u * LANES;
            }
        }
    }
    // tile: stores
    store(first + 0u, end, channel, sum0);
    store(first + 1u, end, channel, sum1);
    store(first + 2u, end, channel, sum2);
    store(first + 3u, end, channel, sum3);
    store(first + 4u, end, channel, sum4);
    store(first + 5u, end, channel, sum5);
    store(first + 6u, end, channel, sum6);
    store(first + 7u, end, channel, sum7);
    store(first + 8u, end, channel, sum8);
    store(first + 9u, end, channel, sum9);
    store(first + 10u, end, channel, sum10);
    store(first + 11u, end, channel, sum11);
    store(first + 12u, end, channel, sum12);
    store(first + 13u, end, channel, sum13);
    store(first + 14u, end, channel, sum14);
    store(first + 15u, end, channel, sum15);
    // end
}

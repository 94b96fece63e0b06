// 2-D convolution on a CPU device, ungrouped or in groups whose channels are multiples of 4. Input and weight are read
// as texels.
//
// A workgroup computes PIXELS consecutive pixels of 4 · LANES · BLOCKS output channels of one group. Lane l of LANES
// invocations owns channels 4(q · LANES + l) … + 3 for each q < BLOCKS. `pool` is 2 with fused max pooling: pixels are
// counted by 2×2 squares and the largest of each square is written; else it is 1.
// The parts between marks depend on the tile; src/plan/lowered/conv2d/texels.rs writes them for other tiles.
// The model's values are in Params and not overrides: compilation takes long, and layers of one tile share a pipeline.
// input [n, h, w, c/4] and weight [tile][ky][kx][c/groups][BLOCKS][LANES] as texels, ROW in a row of the texture;
// the first row of input's texture holds zeros. bias [out/4], output [n, h, w, out/4], all vec4.

// tile: size
const LANES = 2u;
const BLOCKS = 1u;
const OWN = 8u;
const PIXELS = 128u;
// end
// Elements, of four channels of a pixel, that an invocation computes.
const ELEMENTS = OWN * BLOCKS;
const ROW = 8192u;

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
    input_start: u32,
    output_start: u32,
    pixel_groups: u32,
    map_height: u32,
    map_width: u32,
    group_in_c4: u32,
    group_out_c4: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_h: u32,
    stride_w: u32,
    dilation_h: u32,
    dilation_w: u32,
    has_relu: u32,
    // The bits of the largest value, 0 for none.
    most: u32,
    pool: u32,
}

@group(0) @binding(0) var input: texture_storage_2d<rgba32float, read>;
@group(0) @binding(1) var weight: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> params: Params;

// Where a pixel's window begins: the image's first pixel, and the row and column of the first tap.
struct Window {
    image: u32,
    y: i32,
    x: i32,
}

// The square of a pixel; without pooling, the pixel.
fn square_of(pixel: u32) -> u32 {
    return pixel >> (params.pool & 2u);
}

// The first pixel of a square.
fn first_of(square: u32) -> u32 {
    return square << (params.pool & 2u);
}

// A pixel past the map's end repeats its last row or column, which does not change the maximum.
fn window(pixel: u32) -> Window {
    let place = square_of(pixel);
    let in_square = pixel - first_of(place);
    let row = place / params.out_width;
    let n = row / params.out_height;
    let y = (row - n * params.out_height) * params.pool + (in_square >> 1u);
    let x = (place - row * params.out_width) * params.pool + (in_square & 1u);
    return Window(
        n * params.in_height * params.in_width,
        i32(min(y, params.map_height - 1u) * params.stride_h) - i32(params.padding_h),
        i32(min(x, params.map_width - 1u) * params.stride_w) - i32(params.padding_w),
    );
}

// Where element i of a texture lies.
fn at(i: u32) -> vec2<u32> {
    return vec2<u32>(i % ROW, i / ROW);
}

// The first element of the window's tap (y, x); outside the input, an element of the row of zeros.
fn tap(w: Window, ky: u32, kx: u32) -> u32 {
    let y = w.y + i32(ky * params.dilation_h);
    let x = w.x + i32(kx * params.dilation_w);
    let inside = y >= 0 && x >= 0 && y < i32(params.in_height) && x < i32(params.in_width);
    let pixel = w.image + u32(y) * params.in_width + u32(x);
    return select(0u, ROW + pixel * params.in_c4 - params.input_start, inside);
}

// The bias of a group of four channels; past the end, the last group's.
fn bias_of(channel: u32) -> vec4<f32> {
    return bias[min(channel, params.out_c4 - 1u)];
}

// The pixel itself; past the end, the pixel at the same place in the last square.
fn existing(pixel: u32, end: u32) -> u32 {
    return min(pixel, end - first_of(1u) + pixel - first_of(square_of(pixel)));
}

// The output element of four channels of a pixel, or of its square if pooled.
fn place(pixel: u32, end: u32, channel: u32) -> u32 {
    return square_of(existing(pixel, end)) * params.out_c4 + channel - params.output_start;
}

// Tests the bits: compilers may assume that there is no NaN.
fn is_nan(value: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(value) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
}

// The larger of two; NaN propagates.
fn larger(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    return select(a, b, (b > a) | is_nan(b));
}

// ReLU, and at most `most`; NaN propagates.
fn finish(sum: vec4<f32>) -> vec4<f32> {
    let negative = vec4<bool>(params.has_relu != 0u) & (sum < vec4<f32>());
    let most = vec4<f32>(bitcast<f32>(params.most));
    let large = vec4<bool>(params.most != 0u) & (sum > most);
    return select(select(sum, vec4<f32>(), negative), most, large);
}

// tile: workgroup
@compute @workgroup_size(32)
// end
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    // tile: lane
        @builtin(local_invocation_index) index: u32,
    // end
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let begin = first_of(params.row_begin * params.out_width);
    let end = first_of(params.row_end * params.out_width);
    let tile = group / params.pixel_groups;
    let lane = index % LANES;
    let share = index / LANES;
    let channel = params.channel_begin + tile * LANES * BLOCKS + lane;
    let first = begin + (group - tile * params.pixel_groups) * PIXELS;
    if params.channel_begin + tile * LANES * BLOCKS >= params.channel_end {
        return;
    }
    let first_c = (params.channel_begin + tile * LANES * BLOCKS) / params.group_out_c4 * params.group_in_c4;
    let end_c = first_c + params.group_in_c4;
    // The first of the pixels that this invocation computes.
    let own = first + share * OWN;
    // tile: windows
    let w0 = window(existing(own + 0u, end));
    let w1 = window(existing(own + 1u, end));
    let w2 = window(existing(own + 2u, end));
    let w3 = window(existing(own + 3u, end));
    let w4 = window(existing(own + 4u, end));
    let w5 = window(existing(own + 5u, end));
    let w6 = window(existing(own + 6u, end));
    let w7 = window(existing(own + 7u, end));
    // end
    // tile: begin
    let bias0 = bias_of(channel + 0u * LANES);
    var s0_0 = bias0;
    var s1_0 = bias0;
    var s2_0 = bias0;
    var s3_0 = bias0;
    var s4_0 = bias0;
    var s5_0 = bias0;
    var s6_0 = bias0;
    var s7_0 = bias0;
    // end
    for (var ky = 0u; ky < params.kernel_h; ky++) {
        for (var kx = 0u; kx < params.kernel_w; kx++) {
            // tile: taps
            let t0 = tap(w0, ky, kx);
            let t1 = tap(w1, ky, kx);
            let t2 = tap(w2, ky, kx);
            let t3 = tap(w3, ky, kx);
            let t4 = tap(w4, ky, kx);
            let t5 = tap(w5, ky, kx);
            let t6 = tap(w6, ky, kx);
            let t7 = tap(w7, ky, kx);
            // end
            let position = (tile * params.kernel_h + ky) * params.kernel_w + kx;
            var base = position * params.group_in_c4 * 4u * LANES * BLOCKS + lane;
            for (var c = first_c; c < end_c; c++) {
                // tile: loads
                let k0_0 = textureLoad(weight, at(base + 0u * LANES));
                let k1_0 = textureLoad(weight, at(base + 1u * LANES));
                let k2_0 = textureLoad(weight, at(base + 2u * LANES));
                let k3_0 = textureLoad(weight, at(base + 3u * LANES));
                let v0 = textureLoad(input, at(t0 + c));
                let v1 = textureLoad(input, at(t1 + c));
                let v2 = textureLoad(input, at(t2 + c));
                let v3 = textureLoad(input, at(t3 + c));
                let v4 = textureLoad(input, at(t4 + c));
                let v5 = textureLoad(input, at(t5 + c));
                let v6 = textureLoad(input, at(t6 + c));
                let v7 = textureLoad(input, at(t7 + c));
                // end
                // tile: sums
                s0_0 += fma(k3_0, vec4<f32>(v0.w), fma(k2_0, vec4<f32>(v0.z), fma(k1_0, vec4<f32>(v0.y), k0_0 * v0.x)));
                s1_0 += fma(k3_0, vec4<f32>(v1.w), fma(k2_0, vec4<f32>(v1.z), fma(k1_0, vec4<f32>(v1.y), k0_0 * v1.x)));
                s2_0 += fma(k3_0, vec4<f32>(v2.w), fma(k2_0, vec4<f32>(v2.z), fma(k1_0, vec4<f32>(v2.y), k0_0 * v2.x)));
                s3_0 += fma(k3_0, vec4<f32>(v3.w), fma(k2_0, vec4<f32>(v3.z), fma(k1_0, vec4<f32>(v3.y), k0_0 * v3.x)));
                s4_0 += fma(k3_0, vec4<f32>(v4.w), fma(k2_0, vec4<f32>(v4.z), fma(k1_0, vec4<f32>(v4.y), k0_0 * v4.x)));
                s5_0 += fma(k3_0, vec4<f32>(v5.w), fma(k2_0, vec4<f32>(v5.z), fma(k1_0, vec4<f32>(v5.y), k0_0 * v5.x)));
                s6_0 += fma(k3_0, vec4<f32>(v6.w), fma(k2_0, vec4<f32>(v6.z), fma(k1_0, vec4<f32>(v6.y), k0_0 * v6.x)));
                s7_0 += fma(k3_0, vec4<f32>(v7.w), fma(k2_0, vec4<f32>(v7.z), fma(k1_0, vec4<f32>(v7.y), k0_0 * v7.x)));
                // end
                base += 4u * LANES * BLOCKS;
            }
        }
    }
    if own >= end {
        return;
    }
    if params.pool == 1u {
        // tile: stores
        if channel + 0u * LANES < params.channel_end {
            output[place(own + 0u, end, channel + 0u * LANES)] = finish(s0_0);
            output[place(own + 1u, end, channel + 0u * LANES)] = finish(s1_0);
            output[place(own + 2u, end, channel + 0u * LANES)] = finish(s2_0);
            output[place(own + 3u, end, channel + 0u * LANES)] = finish(s3_0);
            output[place(own + 4u, end, channel + 0u * LANES)] = finish(s4_0);
            output[place(own + 5u, end, channel + 0u * LANES)] = finish(s5_0);
            output[place(own + 6u, end, channel + 0u * LANES)] = finish(s6_0);
            output[place(own + 7u, end, channel + 0u * LANES)] = finish(s7_0);
        }
        // end
    } else {
        // tile: pooled_stores
        if channel + 0u * LANES < params.channel_end {
            output[place(own + 0u, end, channel + 0u * LANES)] = finish(larger(larger(s0_0, s1_0), larger(s2_0, s3_0)));
            output[place(own + 4u, end, channel + 0u * LANES)] = finish(larger(larger(s4_0, s5_0), larger(s6_0, s7_0)));
        }
        // end
    }
}

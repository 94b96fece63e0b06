// The products of Winograd's algorithm: for each of the POINTS points of a tile, a matrix product over the channels.
// For a CPU device; input and weight are read as texels.
//
// A workgroup computes one point of PIXELS consecutive tiles, counted through the rows, for 4 · LANES · BLOCKS output
// channels. Lane l of LANES invocations owns channels 4(q · LANES + l) … + 3 for each q < BLOCKS. The parts between
// marks depend on the tile; src/plan/lowered/conv2d/texels.rs writes them for other tiles.
// input [n, tile rows, POINTS, c/4, tile columns] and weight [tile][POINTS][c][BLOCKS][LANES] as texels, ROW in a row
// of the texture, input after one row; output [n, tile rows, POINTS, tile columns, out/4], all vec4.

// tile: points
const POINTS = 36u;
// end
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
    in_c4: u32,
    out_c4: u32,
    tile_columns: u32,
    pixel_groups: u32,
    channel_groups: u32,
    row_begin: u32,
    row_end: u32,
    channel_begin: u32,
    channel_end: u32,
    input_start: u32,
    output_start: u32,
}

@group(0) @binding(0) var input: texture_storage_2d<rgba32float, read>;
@group(0) @binding(1) var weight: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> params: Params;

// Where element i of a texture lies.
fn at(i: u32) -> vec2<u32> {
    return vec2<u32>(i % ROW, i / ROW);
}

// The element of `point` of tile `i` in the output; tiles are counted from the band's first.
fn element(i: u32, point: u32) -> u32 {
    let row = params.row_begin + i / params.tile_columns;
    return (row * POINTS + point) * params.tile_columns + i % params.tile_columns;
}

// The first texel of `point` of tile `i` in the input's texture; the next four channels are a row of tiles away.
fn texel(i: u32, point: u32) -> u32 {
    let row = params.row_begin + i / params.tile_columns;
    let first = (row * POINTS + point) * params.in_c4 * params.tile_columns;
    return ROW + first + i % params.tile_columns - params.input_start;
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
    let end = (params.row_end - params.row_begin) * params.tile_columns;
    // Neighbouring workgroups share the weights of one point and tile.
    let slice = group / params.pixel_groups;
    let tile = slice % params.channel_groups;
    let point = slice / params.channel_groups;
    if point >= POINTS {
        return;
    }
    let first = group % params.pixel_groups * PIXELS;
    let lane = index % LANES;
    let share = index / LANES;
    let channel = params.channel_begin + tile * LANES * BLOCKS + lane;
    // The first of the tiles that this invocation computes.
    let own = first + share * OWN;
    // tile: texels
    let t0 = texel(min(own + 0u, end - 1u), point);
    let t1 = texel(min(own + 1u, end - 1u), point);
    let t2 = texel(min(own + 2u, end - 1u), point);
    let t3 = texel(min(own + 3u, end - 1u), point);
    let t4 = texel(min(own + 4u, end - 1u), point);
    let t5 = texel(min(own + 5u, end - 1u), point);
    let t6 = texel(min(own + 6u, end - 1u), point);
    let t7 = texel(min(own + 7u, end - 1u), point);
    // end
    // tile: zeros
    var s0_0 = vec4<f32>();
    var s1_0 = vec4<f32>();
    var s2_0 = vec4<f32>();
    var s3_0 = vec4<f32>();
    var s4_0 = vec4<f32>();
    var s5_0 = vec4<f32>();
    var s6_0 = vec4<f32>();
    var s7_0 = vec4<f32>();
    // end
    var base = (tile * POINTS + point) * params.in_c4 * 4u * LANES * BLOCKS + lane;
    for (var i = 0u; i < params.in_c4; i++) {
        let c = i * params.tile_columns;
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
    if own >= end {
        return;
    }
    // The tiles' elements, each from the one before without a division; past the end the last one repeats.
    let jump = (POINTS - 1u) * params.tile_columns;
    let e0 = element(own, point);
    let x0 = own % params.tile_columns;
    // tile: elements
    let wraps1 = x0 + 1u == params.tile_columns;
    let x1 = select(x0 + 1u, 0u, wraps1);
    let e1 = select(e0, e0 + 1u + select(0u, jump, wraps1), own + 1u < end);
    let wraps2 = x1 + 1u == params.tile_columns;
    let x2 = select(x1 + 1u, 0u, wraps2);
    let e2 = select(e1, e1 + 1u + select(0u, jump, wraps2), own + 2u < end);
    let wraps3 = x2 + 1u == params.tile_columns;
    let x3 = select(x2 + 1u, 0u, wraps3);
    let e3 = select(e2, e2 + 1u + select(0u, jump, wraps3), own + 3u < end);
    let wraps4 = x3 + 1u == params.tile_columns;
    let x4 = select(x3 + 1u, 0u, wraps4);
    let e4 = select(e3, e3 + 1u + select(0u, jump, wraps4), own + 4u < end);
    let wraps5 = x4 + 1u == params.tile_columns;
    let x5 = select(x4 + 1u, 0u, wraps5);
    let e5 = select(e4, e4 + 1u + select(0u, jump, wraps5), own + 5u < end);
    let wraps6 = x5 + 1u == params.tile_columns;
    let x6 = select(x5 + 1u, 0u, wraps6);
    let e6 = select(e5, e5 + 1u + select(0u, jump, wraps6), own + 6u < end);
    let wraps7 = x6 + 1u == params.tile_columns;
    let x7 = select(x6 + 1u, 0u, wraps7);
    let e7 = select(e6, e6 + 1u + select(0u, jump, wraps7), own + 7u < end);
    // end
    let offset = channel - params.output_start;
    // tile: store_points
    if channel + 0u * LANES < params.channel_end {
        output[e0 * params.out_c4 + offset + 0u * LANES] = s0_0;
        output[e1 * params.out_c4 + offset + 0u * LANES] = s1_0;
        output[e2 * params.out_c4 + offset + 0u * LANES] = s2_0;
        output[e3 * params.out_c4 + offset + 0u * LANES] = s3_0;
        output[e4 * params.out_c4 + offset + 0u * LANES] = s4_0;
        output[e5 * params.out_c4 + offset + 0u * LANES] = s5_0;
        output[e6 * params.out_c4 + offset + 0u * LANES] = s6_0;
        output[e7 * params.out_c4 + offset + 0u * LANES] = s7_0;
    }
    // end
}

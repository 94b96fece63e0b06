// The products of Winograd's algorithm on a GPU: for each of the POINTS points of a tile, a matrix product over the
// channels.
//
// A workgroup computes one point of TILES consecutive tiles, counted through the rows, for 4 · QUADS output channels. It
// stages their values and weights for GROUPS groups of four input channels in workgroup memory. One invocation sums
// OWN tiles × OWN_QUADS groups of four output channels. src/plan/lowered/conv2d/winograd/tiled.rs writes the parts
// between marks.
// input [n, tile rows, POINTS, tile columns, c/4], weight [tile of channels][POINTS][c][QUADS],
// output [n, tile rows, POINTS, tile columns, out/4], all vec4.

alias Stored = vec4<f32>;
alias Written = vec4<f32>;

// tile: size
const POINTS = 36u;
const TILES = 128u;
const QUADS = 16u;
const OWN = 8u;
const OWN_QUADS = 2u;
const QUAD_STEP = 8u;
const GROUPS = 4u;
const PITCH = 130u;
// end
// Elements, of four channels of a tile, that an invocation computes.
const ELEMENTS = OWN * OWN_QUADS;

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

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> weight: array<Stored>;
@group(0) @binding(2) var<storage, read_write> output: array<Written>;
@group(0) @binding(3) var<uniform> params: Params;

// Four input channels of a tile: [group of channels][tile]; a group begins every PITCH.
var<workgroup> values: array<vec4<f32>, GROUPS * PITCH>;
// Four output channels of a weight: [input channel][QUADS].
var<workgroup> factors: array<vec4<f32>, GROUPS * 4u * QUADS>;

// The element of `point` of tile `i`, in input and output; tiles are counted from the band's first.
fn element(i: u32, point: u32) -> u32 {
    let row = params.row_begin + i / params.tile_columns;
    return (row * POINTS + point) * params.tile_columns + i % params.tile_columns;
}

// Where the channels of tile `i` begin in the input; tiles past the end repeat the last.
fn source(i: u32, end: u32, point: u32) -> u32 {
    return element(min(i, end - 1u), point) * params.in_c4 - params.input_start;
}

// The value `at` of the input, or zeros unless it is in a group of channels that exists.
fn value(at: u32, inside: bool) -> vec4<f32> {
    return select(vec4<f32>(), vec4<f32>(input[select(0u, at, inside)]), inside);
}

// Weight `i` of a stage that begins at `base` with the group of channels c; zeros from the last group on.
fn factor(i: u32, base: u32, c: u32) -> vec4<f32> {
    let inside = c + i / (4u * QUADS) < params.in_c4;
    return select(vec4<f32>(), vec4<f32>(weight[select(0u, base + i, inside)]), inside);
}

// Writes the sum of tile `i` and the groups of channels from `channel` on.
fn store(i: u32, end: u32, point: u32, channel: u32, q: u32, value: vec4<f32>) {
    if i < end && channel + q * QUAD_STEP < params.channel_end {
        output[element(i, point) * params.out_c4 + channel + q * QUAD_STEP - params.output_start] = Written(value);
    }
}

// tile: workgroup
@compute @workgroup_size(128)
// end
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let workgroup_index = workgroup.y * workgroups.x + workgroup.x;
    let end = (params.row_end - params.row_begin) * params.tile_columns;
    // Neighbouring workgroups share the weights of one point and tile of channels.
    let slice = workgroup_index / params.pixel_groups;
    let tile = slice % params.channel_groups;
    let point = slice / params.channel_groups;
    if point >= POINTS {
        return;
    }
    let first = workgroup_index % params.pixel_groups * TILES;
    let lane = local % QUAD_STEP;
    let own = local / QUAD_STEP;
    // This invocation stages the same group of channels of several tiles.
    let staged = local % GROUPS;
    let in_group = local / GROUPS;
    // tile: sources
    let a0 = source(first + in_group + 0u, end, point) + staged;
    let a1 = source(first + in_group + 32u, end, point) + staged;
    let a2 = source(first + in_group + 64u, end, point) + staged;
    let a3 = source(first + in_group + 96u, end, point) + staged;
    // end
    // tile: zeros
    var sum0_0 = vec4<f32>();
    var sum0_1 = vec4<f32>();
    var sum1_0 = vec4<f32>();
    var sum1_1 = vec4<f32>();
    var sum2_0 = vec4<f32>();
    var sum2_1 = vec4<f32>();
    var sum3_0 = vec4<f32>();
    var sum3_1 = vec4<f32>();
    var sum4_0 = vec4<f32>();
    var sum4_1 = vec4<f32>();
    var sum5_0 = vec4<f32>();
    var sum5_1 = vec4<f32>();
    var sum6_0 = vec4<f32>();
    var sum6_1 = vec4<f32>();
    var sum7_0 = vec4<f32>();
    var sum7_1 = vec4<f32>();
    // end
    var base = (tile * POINTS + point) * params.in_c4 * 4u * QUADS;
    for (var c = 0u; c < params.in_c4; c += GROUPS) {
        let inside = c + staged < params.in_c4;
        // tile: stage
        let v0 = value(a0 + c, inside);
        let v1 = value(a1 + c, inside);
        let v2 = value(a2 + c, inside);
        let v3 = value(a3 + c, inside);
        let f0 = factor(local + 0u, base, c);
        let f1 = factor(local + 128u, base, c);
        workgroupBarrier();
        values[staged * PITCH + in_group + 0u] = v0;
        values[staged * PITCH + in_group + 32u] = v1;
        values[staged * PITCH + in_group + 64u] = v2;
        values[staged * PITCH + in_group + 96u] = v3;
        factors[local + 0u] = f0;
        factors[local + 128u] = f1;
        // end
        workgroupBarrier();
        for (var g = 0u; g < GROUPS; g++) {
            let p = g * PITCH + own;
            let w = g * 4u * QUADS + lane;
            // tile: sums
            let v0 = values[p + 0u];
            let v1 = values[p + 16u];
            let v2 = values[p + 32u];
            let v3 = values[p + 48u];
            let v4 = values[p + 64u];
            let v5 = values[p + 80u];
            let v6 = values[p + 96u];
            let v7 = values[p + 112u];
            let w0_0 = factors[w + 0u];
            let w0_1 = factors[w + 8u];
            sum0_0 = fma(w0_0, vec4<f32>(v0.x), sum0_0);
            sum0_1 = fma(w0_1, vec4<f32>(v0.x), sum0_1);
            sum1_0 = fma(w0_0, vec4<f32>(v1.x), sum1_0);
            sum1_1 = fma(w0_1, vec4<f32>(v1.x), sum1_1);
            sum2_0 = fma(w0_0, vec4<f32>(v2.x), sum2_0);
            sum2_1 = fma(w0_1, vec4<f32>(v2.x), sum2_1);
            sum3_0 = fma(w0_0, vec4<f32>(v3.x), sum3_0);
            sum3_1 = fma(w0_1, vec4<f32>(v3.x), sum3_1);
            sum4_0 = fma(w0_0, vec4<f32>(v4.x), sum4_0);
            sum4_1 = fma(w0_1, vec4<f32>(v4.x), sum4_1);
            sum5_0 = fma(w0_0, vec4<f32>(v5.x), sum5_0);
            sum5_1 = fma(w0_1, vec4<f32>(v5.x), sum5_1);
            sum6_0 = fma(w0_0, vec4<f32>(v6.x), sum6_0);
            sum6_1 = fma(w0_1, vec4<f32>(v6.x), sum6_1);
            sum7_0 = fma(w0_0, vec4<f32>(v7.x), sum7_0);
            sum7_1 = fma(w0_1, vec4<f32>(v7.x), sum7_1);
            let w1_0 = factors[w + 16u];
            let w1_1 = factors[w + 24u];
            sum0_0 = fma(w1_0, vec4<f32>(v0.y), sum0_0);
            sum0_1 = fma(w1_1, vec4<f32>(v0.y), sum0_1);
            sum1_0 = fma(w1_0, vec4<f32>(v1.y), sum1_0);
            sum1_1 = fma(w1_1, vec4<f32>(v1.y), sum1_1);
            sum2_0 = fma(w1_0, vec4<f32>(v2.y), sum2_0);
            sum2_1 = fma(w1_1, vec4<f32>(v2.y), sum2_1);
            sum3_0 = fma(w1_0, vec4<f32>(v3.y), sum3_0);
            sum3_1 = fma(w1_1, vec4<f32>(v3.y), sum3_1);
            sum4_0 = fma(w1_0, vec4<f32>(v4.y), sum4_0);
            sum4_1 = fma(w1_1, vec4<f32>(v4.y), sum4_1);
            sum5_0 = fma(w1_0, vec4<f32>(v5.y), sum5_0);
            sum5_1 = fma(w1_1, vec4<f32>(v5.y), sum5_1);
            sum6_0 = fma(w1_0, vec4<f32>(v6.y), sum6_0);
            sum6_1 = fma(w1_1, vec4<f32>(v6.y), sum6_1);
            sum7_0 = fma(w1_0, vec4<f32>(v7.y), sum7_0);
            sum7_1 = fma(w1_1, vec4<f32>(v7.y), sum7_1);
            let w2_0 = factors[w + 32u];
            let w2_1 = factors[w + 40u];
            sum0_0 = fma(w2_0, vec4<f32>(v0.z), sum0_0);
            sum0_1 = fma(w2_1, vec4<f32>(v0.z), sum0_1);
            sum1_0 = fma(w2_0, vec4<f32>(v1.z), sum1_0);
            sum1_1 = fma(w2_1, vec4<f32>(v1.z), sum1_1);
            sum2_0 = fma(w2_0, vec4<f32>(v2.z), sum2_0);
            sum2_1 = fma(w2_1, vec4<f32>(v2.z), sum2_1);
            sum3_0 = fma(w2_0, vec4<f32>(v3.z), sum3_0);
            sum3_1 = fma(w2_1, vec4<f32>(v3.z), sum3_1);
            sum4_0 = fma(w2_0, vec4<f32>(v4.z), sum4_0);
            sum4_1 = fma(w2_1, vec4<f32>(v4.z), sum4_1);
            sum5_0 = fma(w2_0, vec4<f32>(v5.z), sum5_0);
            sum5_1 = fma(w2_1, vec4<f32>(v5.z), sum5_1);
            sum6_0 = fma(w2_0, vec4<f32>(v6.z), sum6_0);
            sum6_1 = fma(w2_1, vec4<f32>(v6.z), sum6_1);
            sum7_0 = fma(w2_0, vec4<f32>(v7.z), sum7_0);
            sum7_1 = fma(w2_1, vec4<f32>(v7.z), sum7_1);
            let w3_0 = factors[w + 48u];
            let w3_1 = factors[w + 56u];
            sum0_0 = fma(w3_0, vec4<f32>(v0.w), sum0_0);
            sum0_1 = fma(w3_1, vec4<f32>(v0.w), sum0_1);
            sum1_0 = fma(w3_0, vec4<f32>(v1.w), sum1_0);
            sum1_1 = fma(w3_1, vec4<f32>(v1.w), sum1_1);
            sum2_0 = fma(w3_0, vec4<f32>(v2.w), sum2_0);
            sum2_1 = fma(w3_1, vec4<f32>(v2.w), sum2_1);
            sum3_0 = fma(w3_0, vec4<f32>(v3.w), sum3_0);
            sum3_1 = fma(w3_1, vec4<f32>(v3.w), sum3_1);
            sum4_0 = fma(w3_0, vec4<f32>(v4.w), sum4_0);
            sum4_1 = fma(w3_1, vec4<f32>(v4.w), sum4_1);
            sum5_0 = fma(w3_0, vec4<f32>(v5.w), sum5_0);
            sum5_1 = fma(w3_1, vec4<f32>(v5.w), sum5_1);
            sum6_0 = fma(w3_0, vec4<f32>(v6.w), sum6_0);
            sum6_1 = fma(w3_1, vec4<f32>(v6.w), sum6_1);
            sum7_0 = fma(w3_0, vec4<f32>(v7.w), sum7_0);
            sum7_1 = fma(w3_1, vec4<f32>(v7.w), sum7_1);
            // end
        }
        base += GROUPS * 4u * QUADS;
    }
    let channel = params.channel_begin + tile * QUADS + lane;
    // tile: stores
    store(first + own + 0u, end, point, channel, 0u, sum0_0);
    store(first + own + 0u, end, point, channel, 1u, sum0_1);
    store(first + own + 16u, end, point, channel, 0u, sum1_0);
    store(first + own + 16u, end, point, channel, 1u, sum1_1);
    store(first + own + 32u, end, point, channel, 0u, sum2_0);
    store(first + own + 32u, end, point, channel, 1u, sum2_1);
    store(first + own + 48u, end, point, channel, 0u, sum3_0);
    store(first + own + 48u, end, point, channel, 1u, sum3_1);
    store(first + own + 64u, end, point, channel, 0u, sum4_0);
    store(first + own + 64u, end, point, channel, 1u, sum4_1);
    store(first + own + 80u, end, point, channel, 0u, sum5_0);
    store(first + own + 80u, end, point, channel, 1u, sum5_1);
    store(first + own + 96u, end, point, channel, 0u, sum6_0);
    store(first + own + 96u, end, point, channel, 1u, sum6_1);
    store(first + own + 112u, end, point, channel, 0u, sum7_0);
    store(first + own + 112u, end, point, channel, 1u, sum7_1);
    // end
}

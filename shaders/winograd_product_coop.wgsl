// The products of Winograd's algorithm by cooperative matrices: for each of the POINTS points of a tile, a matrix product
// over the channels, with operands in f16 and sums in f32.
//
// A workgroup computes one point of TILES consecutive tiles, counted through the rows, for 4 · QUADS output channels. It
// stages their values and weights for GROUPS groups of four input channels in workgroup memory. The left matrix holds
// SIZE tiles × SIZE input channels, the right one SIZE input × SIZE output channels; in both, the input channels lie side
// by side. A subgroup accumulates TILE_MATRICES × CHANNEL_MATRICES matrices, and stores them to its part of `scratch`,
// where invocations access single elements. src/plan/lowered/conv2d/winograd/coop.rs writes the parts between marks.
// input [n, tile rows, POINTS, tile columns, c/4], weight [tile of channels][POINTS][c/4][out in tile] of four c,
// output [n, tile rows, POINTS, tile columns, out/4], all vec4.
enable f16;
enable wgpu_cooperative_matrix;

alias Stored = vec4<f32>;
alias Written = vec4<f32>;

// tile: size
const POINTS = 16u;
const SIZE = 16u;
const TILES = 128u;
const QUADS = 32u;
const TILE_MATRICES = 4u;
const CHANNEL_MATRICES = 4u;
const SUBGROUP = 64u;
const SUBGROUPS = 4u;
const INVOCATIONS = 256u;
const GROUPS = 8u;
const PITCH = 10u;
const CELLS = 1u;
// end
// Elements, of four channels of a tile, that an invocation computes.
const ELEMENTS = TILES * QUADS / INVOCATIONS;

// tile: matrices
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;
alias Cell = vec4<f16>;
// end

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

// Input channels of tiles: [tile][GROUPS] groups of four; a tile begins every PITCH groups.
var<workgroup> values: array<Cell, CELLS * TILES * PITCH>;
// Weights: [output channel][GROUPS] groups of four input channels; an output channel begins every PITCH groups.
var<workgroup> factors: array<Cell, CELLS * 4u * QUADS * PITCH>;
// A matrix of sums for each subgroup: [tile][channel].
var<workgroup> scratch: array<f32, SUBGROUPS * SIZE * SIZE>;

// tile: cells
fn put_values(at: u32, value: vec4<f16>) {
    values[at] = value;
}
fn put_factors(at: u32, value: vec4<f16>) {
    factors[at] = value;
}
// end

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
fn value(at: u32, inside: bool) -> vec4<f16> {
    return select(vec4<f16>(), vec4<f16>(input[select(0u, at, inside)]), inside);
}

// Weight `i` of a stage that begins at `base` with the group of channels c; zeros from the last group on.
fn factor(i: u32, base: u32, c: u32) -> vec4<f16> {
    let inside = c + i / (4u * QUADS) < params.in_c4;
    return select(vec4<f16>(), vec4<f16>(weight[select(0u, base + i, inside)]), inside);
}

fn store_factor(i: u32, value: vec4<f16>) {
    put_factors(i % (4u * QUADS) * PITCH + i / (4u * QUADS), value);
}

// A subgroup's sums: of tiles from number `tile` on, for groups of four output channels from `channel` on.
struct Own {
    // The invocation's place in its subgroup.
    lane: u32,
    // Where the subgroup's part of `scratch` begins.
    scratch: u32,
    point: u32,
    tile: u32,
    // The end of the band's tiles.
    end: u32,
    channel: u32,
}

// Where group `i` of four sums goes, of a matrix whose first tile is `tile` of the subgroup's, without the channel.
struct Place {
    exists: bool,
    at: u32,
}

fn place(own: Own, tile: u32, i: u32) -> Place {
    let number = own.tile + tile + i / (SIZE / 4u);
    let at = element(min(number, own.end - 1u), own.point) * params.out_c4 - params.output_start;
    return Place(i < SIZE * SIZE / 4u && number < own.end, at);
}

// Writes group `i` of the matrix in scratch, whose groups of output channels begin with `q` of the subgroup's.
fn finish(own: Own, to: Place, q: u32, i: u32) {
    let channel = own.channel + q + i % (SIZE / 4u);
    if to.exists && channel < params.channel_end {
        let first = own.scratch + 4u * i;
        let sums = vec4<f32>(scratch[first], scratch[first + 1u], scratch[first + 2u], scratch[first + 3u]);
        output[to.at + channel] = Written(sums);
    }
}

// tile: workgroup
@compute @workgroup_size(256)
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

    // Neighbouring subgroups share tiles.
    let subgroup = local / SUBGROUP;
    let across = QUADS * 4u / (CHANNEL_MATRICES * SIZE);
    let row = subgroup / across * (TILE_MATRICES * SIZE);
    let quad = subgroup % across * (CHANNEL_MATRICES * SIZE / 4u);
    let own = Own(
        local % SUBGROUP,
        subgroup * SIZE * SIZE,
        point,
        first + row,
        end,
        params.channel_begin + tile * QUADS + quad,
    );
    for (var i = own.lane; i < SIZE * SIZE; i += SUBGROUP) {
        scratch[own.scratch + i] = 0.0;
    }
    workgroupBarrier();
    let zero = coopLoadT<Sum>(&scratch[own.scratch], SIZE);
    // tile: zeros
    var sum0_0 = zero;
    var sum0_1 = zero;
    var sum0_2 = zero;
    var sum0_3 = zero;
    var sum1_0 = zero;
    var sum1_1 = zero;
    var sum1_2 = zero;
    var sum1_3 = zero;
    var sum2_0 = zero;
    var sum2_1 = zero;
    var sum2_2 = zero;
    var sum2_3 = zero;
    var sum3_0 = zero;
    var sum3_1 = zero;
    var sum3_2 = zero;
    var sum3_3 = zero;
    // end
    // This invocation stages the same group of channels of several tiles.
    let staged = local % GROUPS;
    let in_group = local / GROUPS;
    // tile: sources
    let a0 = source(first + in_group + 0u, end, point) + staged;
    let a1 = source(first + in_group + 32u, end, point) + staged;
    let a2 = source(first + in_group + 64u, end, point) + staged;
    let a3 = source(first + in_group + 96u, end, point) + staged;
    // end
    let p = row * PITCH;
    let w = quad * 4u * PITCH;
    var base = (tile * POINTS + point) * params.in_c4 * 4u * QUADS;
    for (var c = 0u; c < params.in_c4; c += GROUPS) {
        let inside = c + staged < params.in_c4;
        // tile: stage
        let v0 = value(a0 + c, inside);
        let v1 = value(a1 + c, inside);
        let v2 = value(a2 + c, inside);
        let v3 = value(a3 + c, inside);
        let f0 = factor(local + 0u, base, c);
        let f1 = factor(local + 256u, base, c);
        let f2 = factor(local + 512u, base, c);
        let f3 = factor(local + 768u, base, c);
        workgroupBarrier();
        put_values((in_group + 0u) * PITCH + staged, v0);
        put_values((in_group + 32u) * PITCH + staged, v1);
        put_values((in_group + 64u) * PITCH + staged, v2);
        put_values((in_group + 96u) * PITCH + staged, v3);
        store_factor(local + 0u, f0);
        store_factor(local + 256u, f1);
        store_factor(local + 512u, f2);
        store_factor(local + 768u, f3);
        // end
        workgroupBarrier();
        // tile: products
        let r0_0 = coopLoad<Right>(&factors[CELLS * (w + 0u)], CELLS * PITCH);
        let r0_1 = coopLoad<Right>(&factors[CELLS * (w + 160u)], CELLS * PITCH);
        let r0_2 = coopLoad<Right>(&factors[CELLS * (w + 320u)], CELLS * PITCH);
        let r0_3 = coopLoad<Right>(&factors[CELLS * (w + 480u)], CELLS * PITCH);
        let l0_0 = coopLoadT<Left>(&values[CELLS * (p + 0u)], CELLS * PITCH);
        sum0_0 = coopMultiplyAdd(l0_0, r0_0, sum0_0);
        sum0_1 = coopMultiplyAdd(l0_0, r0_1, sum0_1);
        sum0_2 = coopMultiplyAdd(l0_0, r0_2, sum0_2);
        sum0_3 = coopMultiplyAdd(l0_0, r0_3, sum0_3);
        let l0_1 = coopLoadT<Left>(&values[CELLS * (p + 160u)], CELLS * PITCH);
        sum1_0 = coopMultiplyAdd(l0_1, r0_0, sum1_0);
        sum1_1 = coopMultiplyAdd(l0_1, r0_1, sum1_1);
        sum1_2 = coopMultiplyAdd(l0_1, r0_2, sum1_2);
        sum1_3 = coopMultiplyAdd(l0_1, r0_3, sum1_3);
        let l0_2 = coopLoadT<Left>(&values[CELLS * (p + 320u)], CELLS * PITCH);
        sum2_0 = coopMultiplyAdd(l0_2, r0_0, sum2_0);
        sum2_1 = coopMultiplyAdd(l0_2, r0_1, sum2_1);
        sum2_2 = coopMultiplyAdd(l0_2, r0_2, sum2_2);
        sum2_3 = coopMultiplyAdd(l0_2, r0_3, sum2_3);
        let l0_3 = coopLoadT<Left>(&values[CELLS * (p + 480u)], CELLS * PITCH);
        sum3_0 = coopMultiplyAdd(l0_3, r0_0, sum3_0);
        sum3_1 = coopMultiplyAdd(l0_3, r0_1, sum3_1);
        sum3_2 = coopMultiplyAdd(l0_3, r0_2, sum3_2);
        sum3_3 = coopMultiplyAdd(l0_3, r0_3, sum3_3);
        let r1_0 = coopLoad<Right>(&factors[CELLS * (w + 4u)], CELLS * PITCH);
        let r1_1 = coopLoad<Right>(&factors[CELLS * (w + 164u)], CELLS * PITCH);
        let r1_2 = coopLoad<Right>(&factors[CELLS * (w + 324u)], CELLS * PITCH);
        let r1_3 = coopLoad<Right>(&factors[CELLS * (w + 484u)], CELLS * PITCH);
        let l1_0 = coopLoadT<Left>(&values[CELLS * (p + 4u)], CELLS * PITCH);
        sum0_0 = coopMultiplyAdd(l1_0, r1_0, sum0_0);
        sum0_1 = coopMultiplyAdd(l1_0, r1_1, sum0_1);
        sum0_2 = coopMultiplyAdd(l1_0, r1_2, sum0_2);
        sum0_3 = coopMultiplyAdd(l1_0, r1_3, sum0_3);
        let l1_1 = coopLoadT<Left>(&values[CELLS * (p + 164u)], CELLS * PITCH);
        sum1_0 = coopMultiplyAdd(l1_1, r1_0, sum1_0);
        sum1_1 = coopMultiplyAdd(l1_1, r1_1, sum1_1);
        sum1_2 = coopMultiplyAdd(l1_1, r1_2, sum1_2);
        sum1_3 = coopMultiplyAdd(l1_1, r1_3, sum1_3);
        let l1_2 = coopLoadT<Left>(&values[CELLS * (p + 324u)], CELLS * PITCH);
        sum2_0 = coopMultiplyAdd(l1_2, r1_0, sum2_0);
        sum2_1 = coopMultiplyAdd(l1_2, r1_1, sum2_1);
        sum2_2 = coopMultiplyAdd(l1_2, r1_2, sum2_2);
        sum2_3 = coopMultiplyAdd(l1_2, r1_3, sum2_3);
        let l1_3 = coopLoadT<Left>(&values[CELLS * (p + 484u)], CELLS * PITCH);
        sum3_0 = coopMultiplyAdd(l1_3, r1_0, sum3_0);
        sum3_1 = coopMultiplyAdd(l1_3, r1_1, sum3_1);
        sum3_2 = coopMultiplyAdd(l1_3, r1_2, sum3_2);
        sum3_3 = coopMultiplyAdd(l1_3, r1_3, sum3_3);
        // end
        base += GROUPS * 4u * QUADS;
    }
    workgroupBarrier();
    // tile: stores
    let to0_0 = place(own, 0u, own.lane + 0u);
    coopStoreT(sum0_0, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to0_0, 0u, own.lane + 0u);
    workgroupBarrier();
    coopStoreT(sum0_1, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to0_0, 4u, own.lane + 0u);
    workgroupBarrier();
    coopStoreT(sum0_2, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to0_0, 8u, own.lane + 0u);
    workgroupBarrier();
    coopStoreT(sum0_3, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to0_0, 12u, own.lane + 0u);
    workgroupBarrier();
    let to1_0 = place(own, 16u, own.lane + 0u);
    coopStoreT(sum1_0, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to1_0, 0u, own.lane + 0u);
    workgroupBarrier();
    coopStoreT(sum1_1, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to1_0, 4u, own.lane + 0u);
    workgroupBarrier();
    coopStoreT(sum1_2, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to1_0, 8u, own.lane + 0u);
    workgroupBarrier();
    coopStoreT(sum1_3, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to1_0, 12u, own.lane + 0u);
    workgroupBarrier();
    let to2_0 = place(own, 32u, own.lane + 0u);
    coopStoreT(sum2_0, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to2_0, 0u, own.lane + 0u);
    workgroupBarrier();
    coopStoreT(sum2_1, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to2_0, 4u, own.lane + 0u);
    workgroupBarrier();
    coopStoreT(sum2_2, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to2_0, 8u, own.lane + 0u);
    workgroupBarrier();
    coopStoreT(sum2_3, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to2_0, 12u, own.lane + 0u);
    workgroupBarrier();
    let to3_0 = place(own, 48u, own.lane + 0u);
    coopStoreT(sum3_0, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to3_0, 0u, own.lane + 0u);
    workgroupBarrier();
    coopStoreT(sum3_1, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to3_0, 4u, own.lane + 0u);
    workgroupBarrier();
    coopStoreT(sum3_2, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to3_0, 8u, own.lane + 0u);
    workgroupBarrier();
    coopStoreT(sum3_3, &scratch[own.scratch], SIZE);
    workgroupBarrier();
    finish(own, to3_0, 12u, own.lane + 0u);
    workgroupBarrier();
    // end
}

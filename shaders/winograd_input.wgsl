// The input transform of Winograd's F(4×4, 3×3): Bᵀ·d·B of every tile d of 6×6 pixels. Neighbouring tiles overlap by
// two pixels. Matrices: src/ops/packing/winograd.rs.
//
// One invocation computes four channels of one tile. A tile of a dilated convolution takes every DILATION-th pixel of
// each axis; DILATION tiles interleave over 4 · DILATION output pixels.
// input [n, h, w, c/4] as texels, ROW in a row of the texture, the first row zeros;
// output [n, tile rows, 36, tile columns, c/4], all vec4.

override DILATION: u32 = 1u;

const ROW = 8192u;
const HALF = 0.7071067811865476;
const TWO = 1.4142135623730951;

struct Params {
    in_height: u32,
    in_width: u32,
    in_c4: u32,
    tile_rows: u32,
    tile_columns: u32,
    padding_h: u32,
    padding_w: u32,
    line_items: u32,
    row_begin: u32,
    row_end: u32,
    input_start: u32,
    output_start: u32,
}

@group(0) @binding(0) var input: texture_storage_2d<rgba32float, read>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> params: Params;

struct Six {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
    e: vec4<f32>,
    f: vec4<f32>,
}

// Bᵀ·v.
fn transform(v: Six) -> Six {
    // Points ±√½, then ±√2: the terms even in the point, and the odd ones.
    let even_half = v.e - 2.0 * v.c;
    let odd_half = HALF * v.d - TWO * v.b;
    let even_two = v.e - 0.5 * v.c;
    let odd_two = TWO * v.d - HALF * v.b;
    return Six(
        v.a - 2.5 * v.c + v.e,
        even_half + odd_half,
        even_half - odd_half,
        even_two + odd_two,
        even_two - odd_two,
        v.b - 2.5 * v.d + v.f,
    );
}

// Four channels of pixel (y, x) of the image whose first row is `top`; zeros outside.
fn load(top: u32, y: i32, x: i32, c: u32) -> vec4<f32> {
    let inside = y >= 0 && x >= 0 && y < i32(params.in_height) && x < i32(params.in_width);
    let pixel = (top + u32(y)) * params.in_width + u32(x);
    let i = c + select(0u, ROW + pixel * params.in_c4 - params.input_start, inside);
    return textureLoad(input, vec2<u32>(i % ROW, i / ROW));
}

// Row `y` of a tile, transformed along the row.
fn row(top: u32, y: i32, x: i32, c: u32) -> Six {
    return transform(Six(
        load(top, y, x, c),
        load(top, y, x + i32(DILATION), c),
        load(top, y, x + 2 * i32(DILATION), c),
        load(top, y, x + 3 * i32(DILATION), c),
        load(top, y, x + 4 * i32(DILATION), c),
        load(top, y, x + 5 * i32(DILATION), c),
    ));
}

// The first pixel of a tile, along one axis.
fn first_of(tile: u32) -> u32 {
    return tile / DILATION * 4u * DILATION + tile % DILATION;
}

// Writes a column of the result from `at` on, its rows `step` apart.
fn store(at: u32, step: u32, v: Six) {
    output[at] = v.a;
    output[at + step] = v.b;
    output[at + 2u * step] = v.c;
    output[at + 3u * step] = v.d;
    output[at + 4u * step] = v.e;
    output[at + 5u * step] = v.f;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = (workgroup.y * workgroups.x + workgroup.x) * 64u + local;
    let tile_row = params.row_begin + i / params.line_items;
    if tile_row >= params.row_end {
        return;
    }
    let tile_column = i % params.line_items / params.in_c4;
    let c = i % params.in_c4;
    let n = tile_row / params.tile_rows;
    let top = n * params.in_height;
    let y = i32(first_of(tile_row - n * params.tile_rows)) - i32(params.padding_h);
    let x = i32(first_of(tile_column)) - i32(params.padding_w);

    let step_y = i32(DILATION);
    let r0 = row(top, y, x, c);
    let r1 = row(top, y + step_y, x, c);
    let r2 = row(top, y + 2 * step_y, x, c);
    let r3 = row(top, y + 3 * step_y, x, c);
    let r4 = row(top, y + 4 * step_y, x, c);
    let r5 = row(top, y + 5 * step_y, x, c);
    let at = (tile_row * 36u * params.tile_columns + tile_column) * params.in_c4 + c - params.output_start;
    let point = params.line_items;
    let step = 6u * point;
    store(at, step, transform(Six(r0.a, r1.a, r2.a, r3.a, r4.a, r5.a)));
    store(at + point, step, transform(Six(r0.b, r1.b, r2.b, r3.b, r4.b, r5.b)));
    store(at + 2u * point, step, transform(Six(r0.c, r1.c, r2.c, r3.c, r4.c, r5.c)));
    store(at + 3u * point, step, transform(Six(r0.d, r1.d, r2.d, r3.d, r4.d, r5.d)));
    store(at + 4u * point, step, transform(Six(r0.e, r1.e, r2.e, r3.e, r4.e, r5.e)));
    store(at + 5u * point, step, transform(Six(r0.f, r1.f, r2.f, r3.f, r4.f, r5.f)));
}

// The input transform of Winograd's algorithm: Bᵀ·d·B of every tile d of SIDE × SIDE pixels, whose window makes
// OUTPUTS × OUTPUTS pixels. Neighbouring tiles overlap. Matrices: src/ops/packing/winograd.rs. The parts between marks
// depend on the transform, here F(4×4, 3×3); src/plan/lowered/conv2d/winograd/text.rs writes them for others.
//
// One invocation computes four channels of one tile. A tile of a dilated convolution takes every DILATION-th pixel of
// each axis; DILATION tiles interleave over OUTPUTS · DILATION output pixels.
// input [n, h, w, c/4] as texels, ROW in a row of the texture, the first row zeros;
// output [n, tile rows, SIDE², c/4, tile columns], all vec4.

override DILATION: u32 = 1u;

// tile: size
const OUTPUTS = 4u;
const SIDE = 6u;
alias Points = array<vec4<f32>, 6>;
// end
const ROW = 8192u;

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

// Bᵀ·v.
fn transform(v: Points) -> Points {
    // tile: to_points
    let even1 = fma(vec4<f32>(-2.0), v[2], v[4]);
    let odd1 = fma(vec4<f32>(0.70710677), v[3], -1.4142135 * v[1]);
    let even3 = fma(vec4<f32>(-0.5), v[2], v[4]);
    let odd3 = fma(vec4<f32>(1.4142135), v[3], -0.70710677 * v[1]);
    return Points(
        fma(vec4<f32>(-2.5), v[2], v[0] + v[4]),
        even1 + odd1,
        even1 - odd1,
        even3 + odd3,
        even3 - odd3,
        fma(vec4<f32>(-2.5), v[3], v[1] + v[5]),
    );
    // end
}

// Four channels of pixel (y, x) of the image whose first row is `top`; zeros outside.
fn load(top: u32, y: i32, x: i32, c: u32) -> vec4<f32> {
    let inside = y >= 0 && x >= 0 && y < i32(params.in_height) && x < i32(params.in_width);
    let pixel = (top + u32(y)) * params.in_width + u32(x);
    let i = c + select(0u, ROW + pixel * params.in_c4 - params.input_start, inside);
    return textureLoad(input, vec2<u32>(i % ROW, i / ROW));
}

// Row `y` of a tile, transformed along the row.
fn row(top: u32, y: i32, x: i32, c: u32) -> Points {
    return transform(Points(
        // tile: row_of_input
        load(top, y, x + 0 * i32(DILATION), c),
        load(top, y, x + 1 * i32(DILATION), c),
        load(top, y, x + 2 * i32(DILATION), c),
        load(top, y, x + 3 * i32(DILATION), c),
        load(top, y, x + 4 * i32(DILATION), c),
        load(top, y, x + 5 * i32(DILATION), c),
        // end
    ));
}

// The first pixel of a tile, along one axis.
fn first_of(tile: u32) -> u32 {
    return tile / DILATION * OUTPUTS * DILATION + tile % DILATION;
}

// Writes a column of the result from `at` on, its rows `step` apart.
fn store(at: u32, step: u32, v: Points) {
    // tile: store_points
    output[at + 0u * step] = v[0];
    output[at + 1u * step] = v[1];
    output[at + 2u * step] = v[2];
    output[at + 3u * step] = v[3];
    output[at + 4u * step] = v[4];
    output[at + 5u * step] = v[5];
    // end
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
    let tile_column = i % params.tile_columns;
    let c = i % params.line_items / params.tile_columns;
    let n = tile_row / params.tile_rows;
    let top = n * params.in_height;
    let y = i32(first_of(tile_row - n * params.tile_rows)) - i32(params.padding_h);
    let x = i32(first_of(tile_column)) - i32(params.padding_w);

    // tile: rows_of_input
    let r0 = row(top, y + 0 * i32(DILATION), x, c);
    let r1 = row(top, y + 1 * i32(DILATION), x, c);
    let r2 = row(top, y + 2 * i32(DILATION), x, c);
    let r3 = row(top, y + 3 * i32(DILATION), x, c);
    let r4 = row(top, y + 4 * i32(DILATION), x, c);
    let r5 = row(top, y + 5 * i32(DILATION), x, c);
    // end
    let at = tile_row * SIDE * SIDE * params.line_items + i % params.line_items - params.output_start;
    let point = params.line_items;
    let step = SIDE * point;
    // tile: columns_of_points
    store(at + 0u * point, step, transform(Points(r0[0], r1[0], r2[0], r3[0], r4[0], r5[0])));
    store(at + 1u * point, step, transform(Points(r0[1], r1[1], r2[1], r3[1], r4[1], r5[1])));
    store(at + 2u * point, step, transform(Points(r0[2], r1[2], r2[2], r3[2], r4[2], r5[2])));
    store(at + 3u * point, step, transform(Points(r0[3], r1[3], r2[3], r3[3], r4[3], r5[3])));
    store(at + 4u * point, step, transform(Points(r0[4], r1[4], r2[4], r3[4], r4[4], r5[4])));
    store(at + 5u * point, step, transform(Points(r0[5], r1[5], r2[5], r3[5], r4[5], r5[5])));
    // end
}

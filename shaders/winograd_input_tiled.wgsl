// The input transform of Winograd's algorithm on a GPU: Bᵀ·d·B of every tile d of SIDE × SIDE pixels, whose window makes
// OUTPUTS × OUTPUTS pixels. Neighbouring tiles overlap. Matrices: src/ops/packing/winograd.rs. The parts between marks
// depend on the transform, here F(4×4, 3×3); src/plan/lowered/conv2d/winograd/text.rs writes them for others.
//
// SIDE invocations transform four channels of one tile: first each a row, then each a column, which it reads from
// workgroup memory. One invocation alone would hold SIDE² values, more than registers on some GPUs. A workgroup
// transforms FOURS such fours of channels. A tile of a dilated convolution takes every DILATION-th pixel of each axis;
// DILATION tiles interleave over OUTPUTS · DILATION output pixels.
// input [n, h, w, c/4], output [n, tile rows, SIDE², tile columns, c/4], all vec4.

alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override DILATION: u32 = 1u;

// tile: size
const OUTPUTS = 4u;
const SIDE = 6u;
alias Points = array<vec4<f32>, 6>;
// end
const FOURS = 16u;
// Elements, of four channels of a point, of four channels of a tile.
const ELEMENTS = SIDE * SIDE;

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

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// The transformed rows of all items: [row][column][item].
var<workgroup> rows: array<vec4<f32>, SIDE * SIDE * FOURS>;

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

// Four channels of pixel (y, x) of the image whose first row is `top`; zeros outside, and everywhere unless `exists`.
fn load(top: u32, y: i32, x: i32, c: u32, exists: bool) -> vec4<f32> {
    let inside = exists && y >= 0 && x >= 0 && y < i32(params.in_height) && x < i32(params.in_width);
    let at = ((top + u32(y)) * params.in_width + u32(x)) * params.in_c4 + c - params.input_start;
    return select(vec4<f32>(), vec4<f32>(input[select(0u, at, inside)]), inside);
}

// The first pixel of a tile, along one axis.
fn first_of(tile: u32) -> u32 {
    return tile / DILATION * OUTPUTS * DILATION + tile % DILATION;
}

@compute @workgroup_size(SIDE * FOURS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let item = local % FOURS;
    // The row, and then the column, of this invocation.
    let line = local / FOURS;
    let i = (workgroup.y * workgroups.x + workgroup.x) * FOURS + item;
    let tile_row = params.row_begin + i / params.line_items;
    let exists = tile_row < params.row_end;
    let tile_column = i % params.line_items / params.in_c4;
    let c = i % params.in_c4;
    let n = tile_row / params.tile_rows;
    let top = n * params.in_height;
    let y = i32(first_of(tile_row - n * params.tile_rows) + line * DILATION) - i32(params.padding_h);
    let x = i32(first_of(tile_column)) - i32(params.padding_w);

    let row = transform(Points(
        // tile: tiled_row_of_input
        load(top, y, x + 0 * i32(DILATION), c, exists),
        load(top, y, x + 1 * i32(DILATION), c, exists),
        load(top, y, x + 2 * i32(DILATION), c, exists),
        load(top, y, x + 3 * i32(DILATION), c, exists),
        load(top, y, x + 4 * i32(DILATION), c, exists),
        load(top, y, x + 5 * i32(DILATION), c, exists),
        // end
    ));
    let in_row = line * SIDE * FOURS + item;
    // tile: store_row_of_points
    rows[in_row + 0u * FOURS] = row[0];
    rows[in_row + 1u * FOURS] = row[1];
    rows[in_row + 2u * FOURS] = row[2];
    rows[in_row + 3u * FOURS] = row[3];
    rows[in_row + 4u * FOURS] = row[4];
    rows[in_row + 5u * FOURS] = row[5];
    // end
    workgroupBarrier();
    if !exists {
        return;
    }
    let in_column = line * FOURS + item;
    let column = transform(Points(
        // tile: column_of_rows
        rows[in_column + 0u * SIDE * FOURS],
        rows[in_column + 1u * SIDE * FOURS],
        rows[in_column + 2u * SIDE * FOURS],
        rows[in_column + 3u * SIDE * FOURS],
        rows[in_column + 4u * SIDE * FOURS],
        rows[in_column + 5u * SIDE * FOURS],
        // end
    ));
    let first_point = tile_row * SIDE * SIDE * params.tile_columns + tile_column;
    let point = params.line_items;
    let at = first_point * params.in_c4 + c - params.output_start + line * point;
    // tile: store_column_of_points
    output[at + 0u * SIDE * point] = Written(column[0]);
    output[at + 1u * SIDE * point] = Written(column[1]);
    output[at + 2u * SIDE * point] = Written(column[2]);
    output[at + 3u * SIDE * point] = Written(column[3]);
    output[at + 4u * SIDE * point] = Written(column[4]);
    output[at + 5u * SIDE * point] = Written(column[5]);
    // end
}

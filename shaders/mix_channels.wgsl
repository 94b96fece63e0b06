// A matrix product over the channels of each pixel, with a computed matrix. One invocation computes four pixels, 4 rows
// apart, of one vec4 of output channels.
//
// A workgroup computes a block of 16 rows and 16 columns of one image for one vec4.
// a [n, h, w, c/4], b [n, outputs, c/4], output [n, h, w, outputs/4], all vec4. Padding channels become 0.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

const ELEMENTS = 4u;

struct Params {
    out_height: u32,
    out_width: u32,
    outputs: u32,
    out_c4: u32,
    c4: u32,
    // Pixels of a and rows of b from an image to the next one; 0 where one image serves all.
    a_image: u32,
    b_image: u32,
    row_begin: u32,
    row_end: u32,
    term_begin: u32,
    term_end: u32,
    a_start: u32,
    b_start: u32,
    output_start: u32,
    blocks_x: u32,
    blocks_y: u32,
    pixel_groups: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Stored>;
@group(0) @binding(1) var<storage, read> b: array<Stored>;
@group(0) @binding(2) var<storage, read_write> output: array<Written>;
@group(0) @binding(3) var<uniform> params: Params;

// The rows of the image that the dispatch computes, and an invocation's first one with its output element.
struct Own {
    y: u32,
    end: u32,
    at: u32,
}

fn place(own: Own, i: u32) -> u32 {
    return own.at + i * 4u * params.out_width * params.out_c4;
}

// The initial sum of pixel i: an earlier dispatch's, or zero.
fn begin_sum(own: Own, i: u32) -> vec4<f32> {
    if params.term_begin == 0u || own.y + i * 4u >= own.end {
        return vec4<f32>();
    }
    return vec4<f32>(output[place(own, i)]);
}

fn store(own: Own, i: u32, sum: vec4<f32>, exist: vec4<bool>) {
    if own.y + i * 4u < own.end {
        output[place(own, i)] = Written(select(vec4<f32>(), sum, exist));
    }
}

// Four channels of a pixel times those of four rows of the matrix.
fn products(pixel: vec4<f32>, row0: vec4<f32>, row1: vec4<f32>, row2: vec4<f32>, row3: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot(pixel, row0), dot(pixel, row1), dot(pixel, row2), dot(pixel, row3));
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // The band is rows of one image, or all rows of several images.
    let group = workgroup.y * workgroups.x + workgroup.x;
    let height = min(params.row_end - params.row_begin, params.out_height);
    let quad = group / params.pixel_groups;
    if quad >= params.out_c4 {
        return;
    }
    let block = group - quad * params.pixel_groups;
    let block_row = block / params.blocks_x;
    let n = params.row_begin / params.out_height + block_row / params.blocks_y;
    let first_y = params.row_begin % params.out_height;
    let end_y = first_y + height;
    let y = first_y + block_row % params.blocks_y * 16u + local / 16u;
    let x = block % params.blocks_x * 16u + local % 16u;
    if y >= end_y || x >= params.out_width {
        return;
    }
    let pixel = y * params.out_width + x;
    let at = (n * params.out_height * params.out_width + pixel) * params.out_c4 + quad - params.output_start;
    let own = Own(y, end_y, at);
    // Pixels past the end are read as the last one that exists, and not written.
    let most = (end_y - 1u - y) / 4u;
    let step = 4u * params.out_width * params.c4;
    let from0 = (n * params.a_image + pixel) * params.c4 - params.a_start;
    let from1 = from0 + min(1u, most) * step;
    let from2 = from0 + min(2u, most) * step;
    let from3 = from0 + min(3u, most) * step;
    let numbers = vec4<u32>(quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    let exist = numbers < vec4<u32>(params.outputs);
    let matrix_rows = vec4<u32>(n * params.b_image) + min(numbers, vec4<u32>(params.outputs - 1u));
    let rows = matrix_rows * params.c4 - vec4<u32>(params.b_start);
    var sum0 = begin_sum(own, 0u);
    var sum1 = begin_sum(own, 1u);
    var sum2 = begin_sum(own, 2u);
    var sum3 = begin_sum(own, 3u);
    for (var c = params.term_begin; c < params.term_end; c++) {
        let row0 = vec4<f32>(b[rows.x + c]);
        let row1 = vec4<f32>(b[rows.y + c]);
        let row2 = vec4<f32>(b[rows.z + c]);
        let row3 = vec4<f32>(b[rows.w + c]);
        sum0 += products(vec4<f32>(a[from0 + c]), row0, row1, row2, row3);
        sum1 += products(vec4<f32>(a[from1 + c]), row0, row1, row2, row3);
        sum2 += products(vec4<f32>(a[from2 + c]), row0, row1, row2, row3);
        sum3 += products(vec4<f32>(a[from3 + c]), row0, row1, row2, row3);
    }
    store(own, 0u, sum0, exist);
    store(own, 1u, sum1, exist);
    store(own, 2u, sum2, exist);
    store(own, 3u, sum3, exist);
}

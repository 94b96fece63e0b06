// Products of the channels of two tensors, summed over all pixels. One invocation computes 4 rows of the output, for
// four channels of a, × one vec4 of channels of b.
//
// A workgroup computes a block of 32 rows × 8 vec4 of one image. Part p of PARTS, side by side in the output, sums the
// pixels from p · terms on.
// a [n, pixels, a_c4], b [n, pixels, b_c4], output [n, channels of a, 1, PARTS, b_c4], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override PARTS: u32 = 1u;
const ELEMENTS = 4u;

struct Params {
    a_channels: u32,
    a_c4: u32,
    b_c4: u32,
    pixels: u32,
    // Pixels from an image to the next one; 0 where one image serves all.
    a_image: u32,
    b_image: u32,
    row_begin: u32,
    row_end: u32,
    term_begin: u32,
    term_end: u32,
    terms: u32,
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

// The rows that an invocation computes: the first, and the output's element there.
struct Own {
    row: u32,
    at: u32,
    begin: u32,
    end: u32,
}

fn is_inside(own: Own, i: u32) -> bool {
    return own.row + i >= own.begin && own.row + i < own.end;
}

// The initial sum of row i: an earlier dispatch's, or zero.
fn begin_sum(own: Own, i: u32) -> vec4<f32> {
    if params.term_begin == 0u || !is_inside(own, i) {
        return vec4<f32>();
    }
    return vec4<f32>(output[own.at + i * PARTS * params.b_c4]);
}

fn store(own: Own, i: u32, sum: vec4<f32>) {
    if is_inside(own, i) {
        output[own.at + i * PARTS * params.b_c4] = Written(sum);
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // The band is rows of one image, or all rows of several images. Blocks are counted from the image's first row, so
    // that an invocation's rows are one vec4 of a.
    let group = workgroup.y * workgroups.x + workgroup.x;
    let height = min(params.row_end - params.row_begin, params.a_channels);
    let slice = group / params.pixel_groups;
    let part = slice % PARTS;
    let quad = slice / PARTS * 8u + local % 8u;
    let block_row = (group - slice * params.pixel_groups) / params.blocks_x;
    let n = params.row_begin / params.a_channels + block_row / params.blocks_y;
    let first_y = params.row_begin % params.a_channels;
    let row = (first_y / 32u + block_row % params.blocks_y) * 32u + local / 8u * 4u;
    if quad >= params.b_c4 || row >= params.a_channels {
        return;
    }
    let at = ((n * params.a_channels + row) * PARTS + part) * params.b_c4 + quad - params.output_start;
    let own = Own(row, at, first_y, first_y + height);
    let a_at = n * params.a_image * params.a_c4 + row / 4u - params.a_start;
    let b_at = n * params.b_image * params.b_c4 + quad - params.b_start;
    var sum0 = begin_sum(own, 0u);
    var sum1 = begin_sum(own, 1u);
    var sum2 = begin_sum(own, 2u);
    var sum3 = begin_sum(own, 3u);
    let first = part * params.terms;
    let end = min(first + params.term_end, params.pixels);
    for (var pixel = first + params.term_begin; pixel < end; pixel++) {
        let left = vec4<f32>(a[a_at + pixel * params.a_c4]);
        let right = vec4<f32>(b[b_at + pixel * params.b_c4]);
        sum0 += left.x * right;
        sum1 += left.y * right;
        sum2 += left.z * right;
        sum3 += left.w * right;
    }
    store(own, 0u, sum0);
    store(own, 1u, sum1);
    store(own, 2u, sum2);
    store(own, 3u, sum3);
}

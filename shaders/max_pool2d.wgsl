// 2-D max pooling. One invocation computes one vec4; taps outside the input do not count.
// input [n, in_height, in_width, c/4], output [n, out_height, out_width, c/4], all vec4.

override KERNEL_H: u32 = 2u;
override KERNEL_W: u32 = 2u;
override STRIDE_H: u32 = 2u;
override STRIDE_W: u32 = 2u;

struct Params {
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    c4: u32,
    padding_h: u32,
    padding_w: u32,
    row_begin: u32,
    row_end: u32,
    input_start: u32,
    output_start: u32,
}

@group(0) @binding(0) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> output: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let row_elements = params.out_width * params.c4;
    let at = params.row_begin * row_elements + group * 64u + local;
    if at >= params.row_end * row_elements {
        return;
    }
    let pixel = at / params.c4;
    let c = at - pixel * params.c4;
    let row = pixel / params.out_width;
    let n = row / params.out_height;
    let y0 = i32((row - n * params.out_height) * STRIDE_H) - i32(params.padding_h);
    let x0 = i32((pixel - row * params.out_width) * STRIDE_W) - i32(params.padding_w);
    let y1 = min(y0 + i32(KERNEL_H), i32(params.in_height));
    let x1 = min(x0 + i32(KERNEL_W), i32(params.in_width));

    let image = n * params.in_height * params.in_width;
    let first_y = u32(max(y0, 0));
    let first_x = u32(max(x0, 0));
    var best = input[(image + first_y * params.in_width + first_x) * params.c4 + c - params.input_start];
    for (var y = first_y; y < u32(max(y1, 0)); y++) {
        for (var x = first_x; x < u32(max(x1, 0)); x++) {
            let value = input[(image + y * params.in_width + x) * params.c4 + c - params.input_start];
            best = select(best, value, (value > best) | (value != value));
        }
    }
    output[at - params.output_start] = best;
}

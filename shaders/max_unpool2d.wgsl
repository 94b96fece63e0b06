// 2-D max unpooling. One invocation computes one vec4. Its value comes from the last window around the pixel whose
// index is the pixel's; zero if there is none. A window whose index lies outside it is filled with NaN.
// input, indices [n, in_height, in_width, c/4], output [n, out_height, out_width, c/4], all vec4; an index is
// y · out_width + x, always f32.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

override KERNEL_H: u32 = 2u;
override KERNEL_W: u32 = 2u;
override STRIDE_H: u32 = 2u;
override STRIDE_W: u32 = 2u;

struct Params {
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    channels: u32,
    c4: u32,
    padding_h: u32,
    padding_w: u32,
    nan: u32,
    row_begin: u32,
    row_end: u32,
    input_start: u32,
    indices_start: u32,
    output_start: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> indices: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<Written>;
@group(0) @binding(3) var<uniform> params: Params;

// The first window that covers `position` of the padded axis, and the end of those windows.
fn windows(position: u32, kernel: u32, stride: u32, count: u32) -> vec2<u32> {
    let first = (max(position + 1u, kernel) - kernel + stride - 1u) / stride;
    return vec2<u32>(first, min(position / stride + 1u, count));
}

// The first position of window `i` and its end, on an axis of `size`.
fn window(i: u32, kernel: u32, stride: u32, padding: u32, size: u32) -> vec2<u32> {
    let begin = i * stride;
    return vec2<u32>(max(begin, padding) - padding, min(max(begin + kernel, padding) - padding, size));
}

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
    let y = row - n * params.out_height;
    let x = pixel - row * params.out_width;
    let rows = windows(y + params.padding_h, KERNEL_H, STRIDE_H, params.in_height);
    let columns = windows(x + params.padding_w, KERNEL_W, STRIDE_W, params.in_width);
    let is_channel = vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.channels);
    let own = vec4<f32>(f32(y * params.out_width + x));

    var value = vec4<f32>();
    var is_foreign = vec4<bool>();
    for (var i = rows.x; i < rows.y; i++) {
        let inside_y = window(i, KERNEL_H, STRIDE_H, params.padding_h, params.out_height);
        let image_row = (n * params.in_height + i) * params.in_width;
        for (var j = columns.x; j < columns.y; j++) {
            let element = (image_row + j) * params.c4 + c;
            let index = indices[element - params.indices_start];
            let named = vec4<f32>(input[element - params.input_start]);
            value = select(value, named, index == own);
            let inside_x = window(j, KERNEL_W, STRIDE_W, params.padding_w, params.out_width);
            // Clamping or truncating an invalid index makes it differ from `index` below.
            let place = vec4<u32>(clamp(index, vec4<f32>(), vec4<f32>(16777216.0)));
            var is_inside = vec4<bool>();
            for (var k = inside_y.x; k < inside_y.y; k++) {
                let from_first = place - vec4<u32>(k * params.out_width + inside_x.x);
                is_inside |= from_first < vec4<u32>(inside_x.y - inside_x.x);
            }
            is_foreign |= !(is_inside & (vec4<f32>(place) == index));
        }
    }
    value = select(value, vec4<f32>(bitcast<f32>(params.nan)), is_foreign);
    output[at - params.output_start] = Written(select(vec4<f32>(), value, is_channel));
}

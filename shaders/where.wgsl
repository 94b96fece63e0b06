// Choice between two tensors: a where c is not zero, else b. One invocation computes one vec4. Stride 0 broadcasts an axis
// of size 1.
// a, b, c and output [n, h, w, c/4] vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

// The operand has one channel, the output several.
override A_SPLAT: bool = false;
override B_SPLAT: bool = false;
override C_SPLAT: bool = false;
// The result's padding channels may be nonzero and are reset to 0.
override MASKED: bool = false;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    c_start: u32,
    a_start: u32,
    b_start: u32,
    height: u32,
    channels: u32,
    c4: u32,
    c_image: u32,
    c_row: u32,
    c_pixel: u32,
    c_group: u32,
    a_image: u32,
    a_row: u32,
    a_pixel: u32,
    a_group: u32,
    b_image: u32,
    b_row: u32,
    b_pixel: u32,
    b_group: u32,
}

@group(0) @binding(0) var<storage, read> c: array<Stored>;
@group(0) @binding(1) var<storage, read> a: array<Stored>;
@group(0) @binding(2) var<storage, read> b: array<Stored>;
@group(0) @binding(3) var<storage, read_write> output: array<Written>;
@group(0) @binding(4) var<uniform> params: Params;

fn splat(value: vec4<f32>, one_channel: bool) -> vec4<f32> {
    return select(value, vec4<f32>(value.x), vec4<bool>(one_channel));
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index = workgroup.y * workgroups.x + workgroup.x;
    let at = params.row_begin * params.row_elements + index * 64u + local;
    if at >= params.row_end * params.row_elements {
        return;
    }
    let row = at / params.row_elements;
    let in_row = at - row * params.row_elements;
    let n = row / params.height;
    let y = row - n * params.height;
    let x = in_row / params.c4;
    let group = in_row - x * params.c4;
    let at_c = n * params.c_image + y * params.c_row + x * params.c_pixel + group * params.c_group;
    let at_a = n * params.a_image + y * params.a_row + x * params.a_pixel + group * params.a_group;
    let at_b = n * params.b_image + y * params.b_row + x * params.b_pixel + group * params.b_group;
    let condition = splat(vec4<f32>(c[at_c - params.c_start]), C_SPLAT);
    let of_a = splat(vec4<f32>(a[at_a - params.a_start]), A_SPLAT);
    let of_b = splat(vec4<f32>(b[at_b - params.b_start]), B_SPLAT);
    // NaN is not zero.
    let chosen = (bitcast<vec4<u32>>(condition) & vec4<u32>(0x7fffffffu)) != vec4<u32>();
    var result = select(of_b, of_a, chosen);
    if MASKED {
        let channel = group * 4u + vec4<u32>(0u, 1u, 2u, 3u);
        result = select(vec4<f32>(), result, channel < vec4<u32>(params.channels));
    }
    output[at - params.output_start] = Written(result);
}

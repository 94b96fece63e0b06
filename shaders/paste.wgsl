// The inside comes from tensor a, the frame around it from tensor b.
//
// One invocation computes one vec4. a [n, h, w, c/4], b [n, h, w, c/4] and output [n, h, w, c/4], all vec4.

alias Stored = vec4<f32>;
alias Written = vec4<f32>;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    a_start: u32,
    b_start: u32,
    out_c4: u32,
    // Rows, then columns: of the output, of a and of b.
    out_height: u32,
    out_width: u32,
    a_height: u32,
    a_width: u32,
    b_height: u32,
    b_width: u32,
    // The part taken from a: its begin and end in the output, and the output position minus the position in a.
    begin_y: u32,
    begin_x: u32,
    end_y: u32,
    end_x: u32,
    shift_y: u32,
    shift_x: u32,
    // The frame's width at the beginning and at the end; between them, all rows or columns of b are alike.
    near_y: u32,
    near_x: u32,
    far_y: u32,
    far_x: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Stored>;
@group(0) @binding(1) var<storage, read> b: array<Stored>;
@group(0) @binding(2) var<storage, read_write> output: array<Written>;
@group(0) @binding(3) var<uniform> params: Params;

// The position in b (size `inner`) of position i of the output (size `outer`).
fn in_frame(i: u32, outer: u32, inner: u32, near: u32, far: u32) -> u32 {
    let from_end = outer - 1u - i;
    return select(select(near, inner - 1u - from_end, from_end < far), i, i < near);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let at = params.row_begin * params.row_elements + group * 64u + local;
    if at >= params.row_end * params.row_elements {
        return;
    }
    let row = at / params.row_elements;
    let n = row / params.out_height;
    let y = row - n * params.out_height;
    let x = at % params.row_elements / params.out_c4;
    let c = at % params.out_c4;
    let inside = y >= params.begin_y && y < params.end_y && x >= params.begin_x && x < params.end_x;
    if inside {
        let pixel = (n * params.a_height + y - params.shift_y) * params.a_width + x - params.shift_x;
        output[at - params.output_start] = Written(vec4<f32>(a[pixel * params.out_c4 + c - params.a_start]));
    } else {
        let from_y = in_frame(y, params.out_height, params.b_height, params.near_y, params.far_y);
        let from_x = in_frame(x, params.out_width, params.b_width, params.near_x, params.far_x);
        let pixel = (n * params.b_height + from_y) * params.b_width + from_x;
        output[at - params.output_start] = Written(vec4<f32>(b[pixel * params.out_c4 + c - params.b_start]));
    }
}

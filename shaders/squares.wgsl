// Squares of the distances from a value. One invocation computes one vec4. Stride 0 broadcasts an axis of size 1 of the
// values. Padding channels become 0.
// input and output [n, h, w, c/4] vec4; shift likewise, f32.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

// There is one value for all channels.
override SPLAT: bool = false;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    shift_start: u32,
    height: u32,
    channels: u32,
    c4: u32,
    image: u32,
    row: u32,
    pixel: u32,
    group: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> shift: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<Written>;
@group(0) @binding(3) var<uniform> params: Params;

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
    let c = in_row - x * params.c4;
    var origin = shift[n * params.image + y * params.row + x * params.pixel + c * params.group - params.shift_start];
    if SPLAT {
        origin = vec4<f32>(origin.x);
    }
    let distance = vec4<f32>(input[at - params.input_start]) - origin;
    let channel = c * 4u + vec4<u32>(0u, 1u, 2u, 3u);
    output[at - params.output_start] =
        Written(select(vec4<f32>(), distance * distance, channel < vec4<u32>(params.channels)));
}

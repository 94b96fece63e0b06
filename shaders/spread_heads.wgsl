// Lets every head begin at a vec4: pads the channels of each head with zeros. One invocation computes one vec4.
// input [n, h, w, c/4] with heads of head_channels channels, output [n, h, w, head][head_quads], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    in_c4: u32,
    c4: u32,
    head_channels: u32,
    head_quads: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// Channel `in_head` of head `head` of the pixel whose channels begin at `first`; zero past the head's last.
fn channel(first: u32, head: u32, in_head: u32) -> f32 {
    if in_head >= params.head_channels {
        return 0.0;
    }
    let c = head * params.head_channels + in_head;
    let four = vec4<f32>(input[first + c / 4u]);
    let pair = select(four.xy, four.zw, c % 4u >= 2u);
    return select(pair.x, pair.y, c % 2u == 1u);
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
    let pixel = at / params.c4;
    let quad = at - pixel * params.c4;
    let head = quad / params.head_quads;
    let in_head = (quad - head * params.head_quads) * 4u;
    let first = pixel * params.in_c4 - params.input_start;
    let value = vec4<f32>(
        channel(first, head, in_head),
        channel(first, head, in_head + 1u),
        channel(first, head, in_head + 2u),
        channel(first, head, in_head + 3u),
    );
    output[at - params.output_start] = Written(value);
}

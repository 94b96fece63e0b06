// The last stage of an attention: divides the sums of weighted values by the sum of the weights. One invocation
// computes one vec4 of a pixel, channel by channel: in the output, heads may begin within a vec4.
// input [n, h, w, head][head_chunks][quads + 1], the last vec4 of a chunk (largest score, sum of the weights, 0, 0);
// output [n, h, w, c/4], all vec4. Padding channels become 0.
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
    channels: u32,
    head_channels: u32,
    head_chunks: u32,
    quads: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// Output channel `c` of the pixel whose vec4 begin at `first`; zero past the last.
fn channel(first: u32, c: u32) -> f32 {
    if c >= params.channels {
        return 0.0;
    }
    let head = c / params.head_channels;
    let in_head = c - head * params.head_channels;
    let quad = in_head / 4u;
    let chunk = head * params.head_chunks + quad / params.quads;
    let at = first + chunk * (params.quads + 1u);
    let four = vec4<f32>(input[at + quad % params.quads]) / vec4<f32>(input[at + params.quads]).y;
    let pair = select(four.xy, four.zw, in_head % 4u >= 2u);
    return select(pair.x, pair.y, in_head % 2u == 1u);
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
    let c = (at - pixel * params.c4) * 4u;
    let first = pixel * params.in_c4 - params.input_start;
    let value = vec4<f32>(
        channel(first, c),
        channel(first, c + 1u),
        channel(first, c + 2u),
        channel(first, c + 3u),
    );
    output[at - params.output_start] = Written(value);
}

// Means over groups of channels. One invocation computes one vec4: for each of its channels, the mean over the channels
// of the group that it belongs to. Padding channels become 0.
// input and output [n, h, w, c/4] vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

struct Params {
    row_begin: u32,
    row_end: u32,
    row_elements: u32,
    output_start: u32,
    input_start: u32,
    channels: u32,
    c4: u32,
    // Channels of a group.
    size: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read_write> output: array<Written>;
@group(0) @binding(2) var<uniform> params: Params;

// The mean over channels `begin` to `begin` + size of the pixel at `pixel`.
fn mean(pixel: u32, begin: u32) -> f32 {
    let end = begin + params.size;
    var sums = vec4<f32>();
    for (var quad = begin / 4u; quad * 4u < end; quad++) {
        let channel = quad * 4u + vec4<u32>(0u, 1u, 2u, 3u);
        let inside = (channel >= vec4<u32>(begin)) & (channel < vec4<u32>(end));
        sums += select(vec4<f32>(), vec4<f32>(input[pixel + quad]), inside);
    }
    return (sums.x + sums.y + sums.z + sums.w) / f32(params.size);
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
    let c = at % params.c4;
    let pixel = at - c - params.input_start;
    var of_group = 0.0;
    var result = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        let channel = c * 4u + i;
        if channel >= params.channels {
            break;
        }
        if i == 0u || channel % params.size == 0u {
            of_group = mean(pixel, channel - channel % params.size);
        }
        result = select(result, vec4<f32>(of_group), vec4<u32>(0u, 1u, 2u, 3u) == vec4<u32>(i));
    }
    output[at - params.output_start] = Written(result);
}

// Labels as rows that can be copied to a texture, which begin at multiples of 256 bytes. One invocation computes
// four neighbouring labels of a row, or what is between its end and the next one's beginning, as zeros.
//
// Where a layer tells of a value that f16 does not hold, no label is right: all become no class.
// input: one byte a pixel, row after row; saturated: the layers' words, some words apart; output: one byte a pixel.

struct Params {
    width: u32,
    pitch: u32,
    rows: u32,
    // The first label's byte in input.
    first: u32,
    layers: u32,
    layer_words: u32,
}

@group(0) @binding(0) var<storage, read> input: array<u32>;
@group(0) @binding(1) var<storage, read> saturated: array<u32>;
@group(0) @binding(2) var<storage, read_write> output: array<u32>;
@group(0) @binding(3) var<uniform> params: Params;

// The label of a pixel that has none.
const NO_CLASS = 255u;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let word = group * 64u + local;
    let row_words = params.pitch / 4u;
    let row = word / row_words;
    if row >= params.rows {
        return;
    }
    var told = 0u;
    for (var layer = 0u; layer < params.layers; layer++) {
        told |= saturated[layer * params.layer_words];
    }
    let column = 4u * (word - row * row_words);
    let first = params.first + row * params.width + column;
    var labels = 0u;
    for (var i = 0u; i < 4u; i++) {
        if column + i >= params.width {
            break;
        }
        let at = first + i;
        let label = (input[at / 4u] >> (8u * (at % 4u))) & 255u;
        labels |= select(label, NO_CLASS, told != 0u) << (8u * i);
    }
    output[word] = labels;
}

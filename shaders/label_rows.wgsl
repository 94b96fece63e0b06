// Labels in rows for a copy to a texture: each row begins at a multiple of 256 bytes. One invocation computes four
// neighbouring labels of a row; the bytes after the row's end are zeros.
//
// If a layer has reported a value that f16 does not hold, every label becomes NO_CLASS.
// input: one byte a pixel, row after row; saturated: one word a layer, `layer_words` apart; output: one byte a pixel.

struct Params {
    width: u32,
    pitch: u32,
    rows: u32,
    // The byte of the first label in `input`.
    first: u32,
    layers: u32,
    layer_words: u32,
}

@group(0) @binding(0) var<storage, read> input: array<u32>;
@group(0) @binding(1) var<storage, read> saturated: array<u32>;
@group(0) @binding(2) var<storage, read_write> output: array<u32>;
@group(0) @binding(3) var<uniform> params: Params;

// The label of a pixel without a class.
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

// softmax(factor · query · keyᵀ) · value over the pixels of each head. One invocation computes QUADS vec4 of one query
// pixel; it goes through the keys in tiles of 8, with the largest score so far, the sum of the weights and the sums of
// the weighted values. Scores are not written.
//
// A workgroup computes a block of 4 rows and 16 columns of one image, for a chunk of QUADS vec4 of one head. With
// CARRIED = 1 the sums are not divided: the chunk has one more vec4 (largest score, sum of the weights, 0, 0), from
// which the dispatch for the next run of tiles goes on.
// query [n, h, w, head][query_quads], key [n, keys, head][query_quads], value [n, keys, head][value_quads],
// output [n, h, w, chunk][QUADS + CARRIED], all vec4.
alias Stored = vec4<f32>;
alias Written = vec4<f32>;

const QUADS = 4u;
const CARRIED = 0u;
const ELEMENTS = QUADS + CARRIED;

struct Params {
    out_height: u32,
    out_width: u32,
    out_c4: u32,
    query_c4: u32,
    query_quads: u32,
    value_c4: u32,
    value_quads: u32,
    head_chunks: u32,
    keys: u32,
    // Pixels from an image to the next one; 0 where one image serves all.
    query_image: u32,
    key_image: u32,
    value_image: u32,
    factor: f32,
    row_begin: u32,
    row_end: u32,
    term_begin: u32,
    term_end: u32,
    query_start: u32,
    key_start: u32,
    value_start: u32,
    output_start: u32,
    blocks_x: u32,
    blocks_y: u32,
    pixel_groups: u32,
}

@group(0) @binding(0) var<storage, read> query: array<Stored>;
@group(0) @binding(1) var<storage, read> key: array<Stored>;
@group(0) @binding(2) var<storage, read> value: array<Stored>;
@group(0) @binding(3) var<storage, read_write> output: array<Written>;
@group(0) @binding(4) var<uniform> params: Params;

fn score(query_part: vec4<f32>, at: u32) -> f32 {
    return dot(query_part, vec4<f32>(key[at]));
}

fn weighted(weight: f32, at: u32) -> vec4<f32> {
    return weight * vec4<f32>(value[at]);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // The band is rows of one image, or all rows of several images.
    let group = workgroup.y * workgroups.x + workgroup.x;
    let height = min(params.row_end - params.row_begin, params.out_height);
    let chunk = group / params.pixel_groups;
    if chunk * ELEMENTS >= params.out_c4 {
        return;
    }
    let block = group - chunk * params.pixel_groups;
    let block_row = block / params.blocks_x;
    let n = params.row_begin / params.out_height + block_row / params.blocks_y;
    let first_y = params.row_begin % params.out_height;
    let y = first_y + block_row % params.blocks_y * 4u + local / 16u;
    let x = block % params.blocks_x * 16u + local % 16u;
    if y >= first_y + height || x >= params.out_width {
        return;
    }
    let pixel = y * params.out_width + x;
    let head = chunk / params.head_chunks;
    let first_quad = head * params.value_quads + chunk % params.head_chunks * QUADS;
    let end_quad = (head + 1u) * params.value_quads;
    let query_at = (n * params.query_image + pixel) * params.query_c4 + head * params.query_quads - params.query_start;
    let keys_at = n * params.key_image * params.query_c4 + head * params.query_quads - params.key_start;
    let values_at = n * params.value_image * params.value_c4 - params.value_start;
    let output_at = (n * params.out_height * params.out_width + pixel) * params.out_c4 + chunk * ELEMENTS
        - params.output_start;

    var best = 0.0;
    var sum = 0.0;
    var sums: array<vec4<f32>, QUADS>;
    if CARRIED > 0u && params.term_begin > 0u {
        let state = vec4<f32>(output[output_at + QUADS]);
        best = state.x;
        sum = state.y;
        for (var quad = 0u; quad < QUADS; quad++) {
            sums[quad] = vec4<f32>(output[output_at + quad]);
        }
    }
    for (var tile = params.term_begin; tile < params.term_end; tile++) {
        // Keys past the last are read as the last, with weight 0.
        let first = tile * 8u;
        let last = params.keys - 1u;
        let pixels_a = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
        let pixels_b = min(vec4<u32>(first) + vec4<u32>(4u, 5u, 6u, 7u), vec4<u32>(last));
        let exist_a = vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u) <= vec4<u32>(last);
        let exist_b = vec4<u32>(first) + vec4<u32>(4u, 5u, 6u, 7u) <= vec4<u32>(last);
        let key_a = vec4<u32>(keys_at) + pixels_a * params.query_c4;
        let key_b = vec4<u32>(keys_at) + pixels_b * params.query_c4;
        var scores_a = vec4<f32>();
        var scores_b = vec4<f32>();
        for (var quad = 0u; quad < params.query_quads; quad++) {
            let part = vec4<f32>(query[query_at + quad]);
            let a = key_a + quad;
            let b = key_b + quad;
            scores_a += vec4<f32>(score(part, a.x), score(part, a.y), score(part, a.z), score(part, a.w));
            scores_b += vec4<f32>(score(part, b.x), score(part, b.y), score(part, b.z), score(part, b.w));
        }
        scores_a *= params.factor;
        scores_b *= params.factor;
        let largest = max(scores_a, scores_b);
        var top = max(max(largest.x, largest.y), max(largest.z, largest.w));
        if tile > 0u {
            top = max(top, best);
            // The sums so far had weights relative to a smaller score.
            if top != best {
                let smaller = exp(best - top);
                sum *= smaller;
                for (var quad = 0u; quad < QUADS; quad++) {
                    sums[quad] *= smaller;
                }
            }
        }
        best = top;
        let weights_a = select(vec4<f32>(), exp(scores_a - top), exist_a);
        let weights_b = select(vec4<f32>(), exp(scores_b - top), exist_b);
        let both = weights_a + weights_b;
        sum += both.x + both.y + both.z + both.w;
        let value_a = vec4<u32>(values_at) + pixels_a * params.value_c4;
        let value_b = vec4<u32>(values_at) + pixels_b * params.value_c4;
        for (var quad = 0u; quad < QUADS; quad++) {
            let a = value_a + min(first_quad + quad, end_quad - 1u);
            let b = value_b + min(first_quad + quad, end_quad - 1u);
            let sum_a = weighted(weights_a.x, a.x) + weighted(weights_a.y, a.y)
                + weighted(weights_a.z, a.z) + weighted(weights_a.w, a.w);
            let sum_b = weighted(weights_b.x, b.x) + weighted(weights_b.y, b.y)
                + weighted(weights_b.z, b.z) + weighted(weights_b.w, b.w);
            sums[quad] += sum_a + sum_b;
        }
    }
    for (var quad = 0u; quad < QUADS; quad++) {
        let exists = first_quad + quad < end_quad;
        if CARRIED > 0u {
            output[output_at + quad] = Written(select(vec4<f32>(), sums[quad], exists));
        } else if exists {
            output[output_at + quad] = Written(sums[quad] / sum);
        }
    }
    if CARRIED > 0u {
        output[output_at + QUADS] = Written(vec4<f32>(best, sum, 0.0, 0.0));
    }
}

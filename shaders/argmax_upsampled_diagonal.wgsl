// The class of each pixel of a transposed convolution's scores, fused: the scores are never stored. The weight is
// zero off its diagonal.
//
// One invocation labels 4 consecutive pixels at each of four places, or eight if WIDE, `step` pixels apart. `step` is
// a multiple of the stride: the places share their taps. It is a multiple of 4: a place is one u32 of labels, the
// first pixel in the lowest byte. A line is a row or the whole band: `line_pixels` pixels, `line_items` invocations.
// Strict > keeps the lower class on a tie. Sums accumulate in the order of conv_transpose2d_diagonal.wgsl.
// input [n, h, w, c/4], weight [c/4][ky][kx], bias [c/4], all vec4; output one byte a pixel.
alias Stored = vec4<f32>;

override WIDE: bool = true;
// One channel of scores, of two classes: class 1 where the score is at least THRESHOLD.
override BINARY: bool = false;
override THRESHOLD: f32 = 0.0;

struct Params {
    in_height: u32,
    in_width: u32,
    in_c4: u32,
    out_height: u32,
    out_width: u32,
    channels: u32,
    kernel_h: u32,
    kernel_w: u32,
    stride_h: u32,
    stride_w: u32,
    padding_h: u32,
    padding_w: u32,
    step: u32,
    line_pixels: u32,
    line_items: u32,
    row_begin: u32,
    row_end: u32,
    input_start: u32,
    output_start: u32,
}

@group(0) @binding(0) var<storage, read> input: array<Stored>;
@group(0) @binding(1) var<storage, read> weight: array<Stored>;
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<u32>;
@group(0) @binding(4) var<uniform> params: Params;

// The label of a pixel with a non-finite score: no class.
const NO_CLASS = 255u;
// The lowest finite score.
const LOWEST = -0x1.fffffep+127;

// The best classes of four pixels so far, and their scores.
struct Best {
    label: vec4<u32>,
    score: vec4<f32>,
}

fn no_best() -> Best {
    return Best(vec4<u32>(), vec4<f32>(LOWEST));
}

fn is_finite(scores: vec4<f32>) -> vec4<bool> {
    let exponent = vec4<u32>(0x7f800000u);
    return (bitcast<vec4<u32>>(scores) & exponent) != exponent;
}

// `best`, replaced by class `id` for the pixels in which its score is higher.
fn better(best: Best, scores: vec4<f32>, id: u32) -> Best {
    let higher = (scores > best.score) & vec4<bool>(id < params.channels);
    // NO_CLASS, the label of a non-finite score, is never replaced.
    let label = select(best.label, vec4<u32>(id), higher & (best.label != vec4<u32>(NO_CLASS)));
    return Best(
        select(vec4<u32>(NO_CLASS), label, is_finite(scores)),
        select(best.score, scores, higher),
    );
}

// The better of `best` and the four classes from `id` on; each column of `scores` is a pixel.
fn best_of(best: Best, scores: mat4x4<f32>, id: u32) -> Best {
    let by_class = transpose(scores);
    if BINARY {
        let label = vec4<u32>(by_class[0] >= vec4<f32>(THRESHOLD));
        return Best(select(vec4<u32>(NO_CLASS), label, is_finite(by_class[0])), by_class[0]);
    }
    var found = better(best, by_class[0], id);
    found = better(found, by_class[1], id + 1u);
    found = better(found, by_class[2], id + 2u);
    return better(found, by_class[3], id + 3u);
}

// The input at `column` of the row that begins at `row`; zeros outside the row.
fn load(row: u32, column: i32, c: u32) -> vec4<f32> {
    let last = i32(params.in_width) - 1;
    let at = (row + u32(clamp(column, 0, last))) * params.in_c4 + c - params.input_start;
    return select(vec4<f32>(), vec4<f32>(input[at]), column >= 0 && column <= last);
}

// Four pixels from `column` on, of the row that begins at `row`, each times the weights of channel group `c`.
fn times_four(w: vec4<f32>, row: u32, column: i32, c: u32) -> mat4x4<f32> {
    let step = i32(params.step / params.stride_w);
    return mat4x4<f32>(
        w * load(row, column, c),
        w * load(row, column + step, c),
        w * load(row, column + 2 * step, c),
        w * load(row, column + 3 * step, c),
    );
}

struct Labels {
    low: vec4<u32>,
    high: vec4<u32>,
}

// The labels of pixels of `row`, `step` apart; pixel number `done` is at `column`.
fn labels(row: u32, column: u32, done: u32) -> Labels {
    let n = row / params.out_height;
    // Output row y takes tap ky from input row (y + padding − ky) / stride, if that is an integer.
    let y = row - n * params.out_height + params.padding_h;
    let x = column + params.padding_w;
    let step = i32(params.step / params.stride_w);
    var best = no_best();
    var best_more = no_best();
    for (var g = 0u; g < (params.channels + 3u) / 4u; g++) {
        let b = vec4<f32>(bias[g]);
        var sum = mat4x4<f32>(b, b, b, b);
        var more = sum;
        for (var ky = y % params.stride_h; ky < params.kernel_h && ky <= y; ky += params.stride_h) {
            let in_y = (y - ky) / params.stride_h;
            if in_y >= params.in_height {
                continue;
            }
            let in_row = (n * params.in_height + in_y) * params.in_width;
            for (var kx = x % params.stride_w; kx < params.kernel_w; kx += params.stride_w) {
                let start = (i32(x) - i32(kx)) / i32(params.stride_w) - i32(done) * step;
                let w = vec4<f32>(weight[(g * params.kernel_h + ky) * params.kernel_w + kx]);
                sum += times_four(w, in_row, start, g);
                if WIDE { more += times_four(w, in_row, start + 4 * step, g); }
            }
        }
        best = best_of(best, sum, 4u * g);
        if WIDE { best_more = best_of(best_more, more, 4u * g); }
    }
    return Labels(best.label, best_more.label);
}

fn store(pixel: u32, end: u32, labels: vec4<u32>) {
    for (var j = 0u; j < 4u; j++) {
        let at = pixel + j * params.step;
        if at < end { output[at / 4u - params.output_start] = labels[j]; }
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let item = (workgroup.y * workgroups.x + workgroup.x) * 64u + local;
    let line_begin = params.row_begin * params.out_width + item / params.line_items * params.line_pixels;
    let band_end = params.row_end * params.out_width;
    if line_begin >= band_end {
        return;
    }
    let end = line_begin + min(params.line_pixels, band_end - line_begin);
    let fours = params.step / 4u;
    let pixels = select(4u, 8u, WIDE);
    let in_line = item % params.line_items;
    let first = line_begin + in_line % fours * 4u + in_line / fours * pixels * params.step;
    if first >= end {
        return;
    }
    var words = vec4<u32>();
    var more_words = vec4<u32>();
    let index = vec4<u32>(0u, 1u, 2u, 3u);
    for (var i = 0u; i < 4u; i++) {
        // One row's pixels at a time: the next row has other taps.
        var done = 0u;
        while done < pixels && first + i + done * params.step < end {
            let pixel = first + i + done * params.step;
            let row = pixel / params.out_width;
            let column = pixel - row * params.out_width;
            let next = done + (params.out_width - column + params.step - 1u) / params.step;
            let found = labels(row, column, done);
            let inside = (vec4<u32>(first + i) + index * params.step) < vec4<u32>(end);
            let is_now = (index >= vec4<u32>(done)) & (index < vec4<u32>(next)) & inside;
            words |= select(vec4<u32>(), found.low << vec4<u32>(8u * i), is_now);
            if WIDE {
                let wide = index + 4u;
                let inside_wide = (vec4<u32>(first + i) + wide * params.step) < vec4<u32>(end);
                let is_wide = (wide >= vec4<u32>(done)) & (wide < vec4<u32>(next)) & inside_wide;
                more_words |= select(vec4<u32>(), found.high << vec4<u32>(8u * i), is_wide);
            }
            done = next;
        }
    }
    store(first, end, words);
    if WIDE { store(first + 4u * params.step, end, more_words); }
}

// The colours of labels, blended with the picture: picture · (1 − opacity) + colour · opacity, on the byte values
// of an 8-bit texture. One invocation computes one pixel.
//
// labels: the ids; input: the picture, invisible at opacity 1; palette: one u32 a class, red in the lowest byte;
// output: red, green, blue, and 1.

struct Params {
    width: u32,
    begin: u32,
    end: u32,
    srgb: u32,
    opacity: f32,
}

@group(0) @binding(0) var labels: texture_2d<u32>;
@group(0) @binding(1) var input: texture_2d<f32>;
@group(0) @binding(2) var<storage, read> palette: array<u32>;
@group(0) @binding(3) var output: texture_storage_2d<rgba8unorm, write>;
@group(0) @binding(4) var<uniform> params: Params;

// IEC 61966-2-1.
fn encoded(linear: vec3<f32>) -> vec3<f32> {
    let curve = 1.055 * pow(linear, vec3<f32>(1.0 / 2.4)) - 0.055;
    return select(curve, 12.92 * linear, linear <= vec3<f32>(0.0031308));
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group = workgroup.y * workgroups.x + workgroup.x;
    let pixel = params.begin + group * 64u + local;
    if pixel >= params.end {
        return;
    }
    let row = pixel / params.width;
    let at = vec2<u32>(pixel - row * params.width, row);
    let texel = textureLoad(input, at, 0).rgb;
    let picture = round(255.0 * select(texel, encoded(texel), params.srgb != 0u));
    let colour = 255.0 * unpack4x8unorm(palette[textureLoad(labels, at, 0).x]).rgb;
    let mixed = picture * (1.0 - params.opacity) + round(colour) * params.opacity;
    textureStore(output, at, vec4<f32>(floor(mixed + 0.5) / 255.0, 1.0));
}

// Packs a texture's pixels into one u32 each, with the bytes that an 8-bit texture stores. One invocation computes
// one pixel.
//
// Reading an sRGB texture decodes its bytes; this kernel encodes them again. Its error is far below half a byte:
// rounding restores the stored byte. Alpha is never encoded. input: red, green, blue and alpha from 0 to 1; output: one
// u32 a pixel, row by row, red in the lowest byte, alpha in the highest.

struct Params {
    width: u32,
    begin: u32,
    end: u32,
    srgb: u32,
}

@group(0) @binding(0) var input: texture_2d<f32>;
@group(0) @binding(1) var<storage, read_write> output: array<u32>;
@group(0) @binding(2) var<uniform> params: Params;

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
    let texel = textureLoad(input, vec2<u32>(pixel - row * params.width, row), 0);
    let stored = select(texel.rgb, encoded(texel.rgb), params.srgb != 0u);
    output[pixel - params.begin] = pack4x8unorm(vec4<f32>(stored, texel.a));
}

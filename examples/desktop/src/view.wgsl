// Draws the visible part of a picture, blended with the colours of its labels: picture · (1 − opacity) +
// colour · opacity, on 8-bit sRGB values. A pixel that covers several texels is the mean of as many samples, up to
// 8 × 8.

struct Settings {
    // In texels: the first visible position, and the texels per window pixel.
    first: vec2<f32>,
    per_pixel: vec2<f32>,
    // In window pixels.
    size: vec2<f32>,
    opacity: f32,
    // Whether the window's format encodes linear values to sRGB.
    linear: u32,
    // A colour for each class; alpha is 1 if the class is tinted, else 0.
    palette: array<vec4<f32>, 256>,
}

@group(0) @binding(0) var picture: texture_2d<f32>;
@group(0) @binding(1) var labels: texture_2d<u32>;
@group(0) @binding(2) var between: sampler;
@group(0) @binding(3) var<uniform> settings: Settings;

struct Corner {
    @builtin(position) position: vec4<f32>,
    @location(0) at: vec2<f32>,
}

@vertex
fn corner(@builtin(vertex_index) index: u32) -> Corner {
    let at = vec2<f32>(f32(index & 1u), f32(index >> 1u));
    return Corner(vec4<f32>(2.0 * at.x - 1.0, 1.0 - 2.0 * at.y, 0.0, 1.0), at * settings.size);
}

// IEC 61966-2-1.
fn decoded(bytes: vec3<f32>) -> vec3<f32> {
    let curve = pow((bytes + 0.055) / 1.055, vec3<f32>(2.4));
    return select(curve, bytes / 12.92, bytes <= vec3<f32>(0.04045));
}

fn tinted(texel: vec2<f32>) -> vec3<f32> {
    let colour = textureSampleLevel(picture, between, texel / vec2<f32>(textureDimensions(picture)), 0.0).rgb;
    // Without a mask, `labels` is a single texel.
    let last = vec2<i32>(textureDimensions(labels)) - 1;
    let label = textureLoad(labels, clamp(vec2<i32>(floor(texel)), vec2<i32>(), last), 0).x;
    let class_colour = settings.palette[label];
    return mix(colour, class_colour.rgb, settings.opacity * class_colour.a);
}

@fragment
fn pixel(corner: Corner) -> @location(0) vec4<f32> {
    let middle = settings.first + corner.at * settings.per_pixel;
    let count = clamp(ceil(settings.per_pixel), vec2<f32>(1.0), vec2<f32>(8.0));
    let step = settings.per_pixel / count;
    var sum = vec3<f32>();
    for (var y = 0.0; y < count.y; y += 1.0) {
        for (var x = 0.0; x < count.x; x += 1.0) {
            sum += tinted(middle + (vec2<f32>(x, y) - 0.5 * (count - 1.0)) * step);
        }
    }
    let colour = sum / (count.x * count.y);
    return vec4<f32>(select(colour, decoded(colour), settings.linear != 0u), 1.0);
}

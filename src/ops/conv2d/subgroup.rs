//! The kernel for CPU devices with subgroups (lavapipe): a workgroup is one subgroup; a lane owns four
//! output channels, loads its share of the pixels, and broadcasts them to the others.
//!
//! Such a device runs a subgroup as one vector instruction after another: loads go lane by lane and
//! cost the most, a broadcast and a multiply-add next to nothing. Registers need the tile unrolled in
//! the text, so [`source`] writes it.

use super::{Conv2d, Parts};
use crate::device_profile::DeviceProfile;
use crate::ops::kernel::{Grid, Kernel, Packing, Shader};
use crate::tensor::Shape;
use std::fmt::Write;

/// Pixels a workgroup: a multiple of the lanes.
const PIXELS: usize = 16;
/// Wider subgroups than this are left alone: Mesa 22.3 with `LP_NATIVE_VECTOR_WIDTH=1024` broadcasts zeros
/// from lanes 16 to 31.
const MOST_LANES: usize = 16;
/// Fewer output channels than this leave most lanes idle.
const LEAST_CHANNELS: usize = 12;

pub(super) fn kernel(
    op: &Conv2d,
    inputs: &[Shape],
    output: Shape,
    device: &DeviceProfile,
) -> Option<Kernel> {
    let lanes = device.subgroup_size? as usize;
    let divides = PIXELS.is_multiple_of(lanes.max(1));
    if !device.is_cpu || !divides || !(4..=MOST_LANES).contains(&lanes) || output.c < LEAST_CHANNELS {
        return None;
    }
    let pixels = PIXELS;
    Some(op.kernel(
        inputs,
        output,
        Parts {
            shader: Shader {
                name: "conv2d_subgroup",
                source: source(lanes, pixels).into(),
            },
            packing: Packing::Conv {
                tile: 4 * lanes,
                pad_input: true,
            },
            grid: Grid::Tiles {
                pixels,
                channels: 4 * lanes,
            },
            terms: inputs[0].c4(),
            extra: Vec::new(),
        },
    ))
}

/// `shaders/conv2d_subgroup.wgsl` for subgroups of `lanes`, with a tile of `pixels`.
///
/// The file is the kernel for 8 lanes and 16 pixels, complete and valid. Between its marks
/// `// tile: NAME` and `// end` stand the unrolled parts, which are written anew for another tile.
fn source(lanes: usize, pixels: usize) -> String {
    let file = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/shaders/conv2d_subgroup.wgsl"
    ));
    let mut text = String::with_capacity(file.len());
    let mut skipping = false;
    for line in file.lines() {
        if line.trim() == "// end" {
            skipping = false;
        }
        if !skipping {
            text.push_str(line);
            text.push('\n');
        }
        if let Some(name) = line.trim().strip_prefix("// tile: ") {
            skipping = true;
            text.push_str(&unrolled(name, lanes, pixels));
        }
    }
    text
}

/// The unrolled part called `name`.
fn unrolled(name: &str, lanes: usize, pixels: usize) -> String {
    let mut text = String::new();
    let loads = pixels / lanes;
    // Writing to a String cannot fail.
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(arguments);
        text.push('\n');
    };
    match name {
        "size" => {
            line(format_args!("const LANES = {lanes}u;"));
            line(format_args!("const PIXELS = {pixels}u;"));
        }
        "workgroup" => line(format_args!("@compute @workgroup_size({lanes})")),
        "windows" => {
            for i in 0..loads {
                line(format_args!(
                    "    let w{i} = window(min(first + {}u + lane, end - 1u));",
                    i * lanes
                ));
            }
        }
        "begin" => {
            for p in 0..pixels {
                line(format_args!("    var sum{p} = begin_sum(first + {p}u, end, channel);"));
            }
        }
        "taps" => {
            for i in 0..loads {
                line(format_args!("            let t{i} = tap(w{i}, ky, kx);"));
            }
        }
        "loads" => {
            for i in 0..loads {
                line(format_args!("                let v{i} = load(t{i}, c);"));
            }
        }
        "sums" => {
            for p in 0..pixels {
                line(format_args!(
                    "                let b{p} = subgroupBroadcast(v{}, {}u);",
                    p / lanes,
                    p % lanes
                ));
                line(format_args!(
                    "                sum{p} = fma(e, vec4<f32>(b{p}.w), fma(d, vec4<f32>(b{p}.z), fma(b, vec4<f32>(b{p}.y), fma(a, vec4<f32>(b{p}.x), sum{p}))));"
                ));
            }
        }
        "stores" => {
            for p in 0..pixels {
                line(format_args!("    store(first + {p}u, end, channel, sum{p});"));
            }
        }
        _ => line(format_args!("unknown tile part {name}")),
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_file_is_what_the_generator_writes_for_8_lanes_and_16_pixels() {
        let file = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/shaders/conv2d_subgroup.wgsl"
        ));
        assert_eq!(super::source(8, 16), file);
    }
}

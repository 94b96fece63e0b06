//! Depthwise convolution: each output channel reads one input channel. Channels share nothing, so the number of loads
//! decides the speed.
//!
//! An invocation computes a run of pixels of a row. A value that it reads serves all pixels of the run whose windows
//! contain it: a row of the window is unrolled in the text. CPU devices read texels (see [`texels`](super::texels)),
//! others buffers.

use super::template::fill;
use super::{Convolution, KernelParts};
use crate::ops::grid::{Count, Grid, PixelRun};
use crate::ops::kernel::{Kernel, MAX_LOOP_STEPS, Packing, Shader, counts};
use crate::target::Target;
use crate::tensor::Shape;
use std::collections::BTreeSet;

/// Invocations a workgroup.
const WORKGROUP: usize = 64;
/// The most neighbouring invocations that take neighbouring channels: with four channels each, 256 bytes.
const MOST_LANES: usize = 16;
/// The widest window that is unrolled.
const MOST_TAPS: usize = 16;
/// Lengths of a run, in pixels: long runs read less; short runs keep more of a device busy and waste less at the end of
/// a row.
const PIXELS: [usize; 2] = [4, 8];

/// The parts of the text that depend on the convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unrolled {
    lanes: usize,
    pixels: usize,
    taps: usize,
    stride: usize,
    dilation: usize,
    texels: bool,
}

impl Unrolled {
    fn new(op: &Convolution, weight: Shape, map: Shape, texels: bool) -> Self {
        let with = |pixels| Self {
            lanes: map.c4().next_power_of_two().min(MOST_LANES),
            pixels,
            taps: weight.w,
            stride: op.conv.stride[1],
            dilation: op.conv.dilation[1],
            texels,
        };
        // Only a CPU device is busy with few invocations.
        let candidates = PIXELS.into_iter().take(if texels { 2 } else { 1 });
        let reads = |of: &Self| map.w.div_ceil(of.pixels) * (of.columns().len() + of.taps);
        let best = candidates.map(with).min_by_key(reads);
        best.unwrap_or_else(|| with(PIXELS[0]))
    }

    /// The columns that a run reads of a row of the input, from its first on.
    fn columns(self) -> BTreeSet<usize> {
        (0..self.pixels)
            .flat_map(|p| (0..self.taps).map(move |k| self.column(p, k)))
            .collect()
    }

    fn column(self, pixel: usize, tap: usize) -> usize {
        pixel * self.stride + tap * self.dilation
    }

    fn source(self) -> String {
        let file = match self.texels {
            true => include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/shaders/conv2d_depthwise_texels.wgsl"
            )),
            false => include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/shaders/conv2d_depthwise.wgsl"
            )),
        };
        fill(file, |name| self.part(name))
    }

    /// The lines of the part called `name`.
    fn part(self, name: &str) -> Vec<String> {
        let pixels = 0..self.pixels;
        match name {
            "size" => [
                ("LANES", self.lanes),
                ("ITEMS", WORKGROUP / self.lanes),
                ("PIXELS", self.pixels),
                ("KERNEL_W", self.taps),
                ("STRIDE_W", self.stride),
            ]
            .map(|(name, value)| format!("const {name} = {value}u;"))
            .to_vec(),
            "begin" => std::iter::once("let begin = bias[channel];".to_owned())
                .chain(pixels.map(|p| format!("var s{p} = begin;")))
                .collect(),
            "row" => self.row(),
            "stores" => pixels
                .map(|p| format!("store(first + {p}u, at + {p}u * params.out_c4, s{p});"))
                .collect(),
            _ => vec![format!("unknown part {name}")],
        }
    }

    /// The multiply-adds of a row of the window.
    fn row(self) -> Vec<String> {
        let weight = |k: usize| match self.texels {
            true => format!("textureLoad(weight, at_texel(at + {k}u * LANES))"),
            false => format!("vec4<f32>(weight[at + {k}u * LANES])"),
        };
        let mut lines: Vec<_> = (0..self.taps)
            .map(|k| format!("let k{k} = {};", weight(k)))
            .collect();
        for column in self.columns() {
            lines.push(format!(
                "let v{column} = value(line, x0 + {column}, channel);"
            ));
            let all = (0..self.pixels).flat_map(|p| (0..self.taps).map(move |k| (p, k)));
            let with_it = all.filter(|(p, k)| self.column(*p, *k) == column);
            lines.extend(with_it.map(|(p, k)| format!("s{p} = fma(k{k}, v{column}, s{p});")));
        }
        lines
    }
}

/// The kernels, if the convolution is depthwise and its windows are small.
pub(super) fn kernels(
    op: &Convolution,
    inputs: &[Shape],
    map: Shape,
    target: &Target,
) -> Vec<Kernel> {
    let (input, weight) = (inputs[0], inputs[1]);
    let is_depthwise = weight.c == 1 && op.conv.groups == input.c && op.conv.groups > 1;
    let is_small = weight.w <= MOST_TAPS && (weight.h as u64) < MAX_LOOP_STEPS;
    if !is_depthwise || !is_small || op.pool.is_some() {
        return Vec::new();
    }
    let of_texels = target.device.is_cpu && target.max_texel_bytes() > 0;
    let ways = if of_texels {
        &[true, false][..]
    } else {
        &[false]
    };
    ways.iter()
        .filter_map(|texels| kernel(op, inputs, map, *texels))
        .collect()
}

fn kernel(op: &Convolution, inputs: &[Shape], map: Shape, texels: bool) -> Option<Kernel> {
    let weight = inputs[1];
    let unrolled = Unrolled::new(op, weight, map, texels);
    let parts = KernelParts {
        shader: Shader::own(
            if texels {
                "conv2d_depthwise_texels"
            } else {
                "conv2d_depthwise"
            },
            unrolled.source(),
        ),
        packing: Packing::Conv {
            tile: 4 * unrolled.lanes,
            pad_input: false,
        },
        grid: Grid::Items {
            items: WORKGROUP / unrolled.lanes,
            run: PixelRun::of_row(unrolled.pixels),
            channels: 4 * unrolled.lanes,
        },
        terms: None,
        extra: counts([Count::LineItems, Count::PixelGroups]).to_vec(),
    };
    let kernel = op.kernel(inputs, map, parts).ok()?;
    // The text already contains the window's width.
    let constants = kernel.constants.iter().copied();
    let mut constants: Vec<_> = constants
        .filter(|(name, _)| !name.ends_with("_W"))
        .collect();
    constants.push(("MULTIPLIER", (weight.n / op.conv.groups) as f64));
    let kernel = Kernel {
        constants,
        steps_per_term: weight.h as u64,
        fixed_steps: 0,
        ..kernel
    };
    Some(if texels {
        kernel.reading_texels()
    } else {
        kernel
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_what_the_generator_writes_for_3x3_windows() {
        for texels in [true, false] {
            let unrolled = Unrolled {
                lanes: 16,
                pixels: 4,
                taps: 3,
                stride: 1,
                dilation: 1,
                texels,
            };
            let file = unrolled.source();
            let name = if texels {
                "conv2d_depthwise_texels"
            } else {
                "conv2d_depthwise"
            };
            let path = format!("{}/shaders/{name}.wgsl", env!("CARGO_MANIFEST_DIR"));
            assert!(std::fs::read_to_string(path).unwrap() == file, "{name}");
        }
    }

    #[test]
    fn values_that_windows_share_are_read_once() {
        let unrolled = |stride, dilation| Unrolled {
            lanes: 16,
            pixels: 4,
            taps: 3,
            stride,
            dilation,
            texels: false,
        };
        assert_eq!(unrolled(1, 1).columns().len(), 6);
        assert_eq!(unrolled(2, 1).columns().len(), 9);
        assert_eq!(unrolled(1, 2).columns().len(), 8);
        assert_eq!(unrolled(1, 4).columns().len(), 12);
    }
}

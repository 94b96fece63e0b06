//! A picture as the input of a network: resized, its channels in order, scaled and centred,
//! `out[c] = (picture[c] / 255 · range − mean[c]) / std[c]`.
//!
//! The input is a picture `[n, 3, h, w]`, red, green, blue from 0 to 255, or `[n, 4, h, w]` with alpha where the network
//! has a channel for it; mean and std are in the order of the network's channels. Grey is the luma of each pixel,
//! rounded to a whole number before the resize, as by Pillow. Bands are `[n, c, h, w]`, scaled and centred before: they
//! are only resized. The resize is bilinear with antialiasing: where the picture shrinks, the
//! triangle filter is widened to cover every input pixel. Source:
//! `torch.nn.functional.interpolate(mode="bilinear", antialias=True)`, as torchvision and Pillow resize.

use super::numerics::{Numerics, UNIT, sum_units};
use super::{Case, Op, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::Grid;
use crate::ops::interpolate::lowest_terms;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, floats, shader, sizes, words};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The channels of a network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red, as in Caffe.
    Bgr,
    /// Grey, the luma of red, green and blue: (299 R + 587 G + 114 B) / 1000, rounded. In a network of two channels
    /// alpha follows.
    Grey,
    /// Red, green, blue, alpha.
    Rgba,
    /// The picture's bands in their order, any number of them.
    Bands,
}

/// Size and normalisation of a network's input.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Height and width of the output.
    pub size: [usize; 2],
    /// The order of the output's channels.
    pub channels: Channels,
    /// The value of a full channel (255) before the mean is subtracted: 1 or 255.
    pub range: f32,
    /// Subtracted from each channel; as many numbers as the network has channels. Empty for bands.
    pub mean: Vec<f32>,
    /// The divisor of each channel.
    pub std: Vec<f32>,
}

/// The triangle filter along one axis.
#[derive(Clone, Copy, Debug)]
struct Filter {
    size: usize,
    /// Input size over output size, in lowest terms.
    inputs: usize,
    outputs: usize,
}

impl Filter {
    /// The filter's radius, in units of the distance |(2j + 1) · out − (2i + 1) · in| from input j to output i.
    fn radius(&self) -> i64 {
        2 * self.inputs.max(self.outputs) as i64
    }

    /// The inputs under the filter of output `i` and their weights, which add up to 1.
    fn weights(&self, i: usize) -> (Range<usize>, Vec<f64>) {
        let (inputs, outputs) = (self.inputs as i64, self.outputs as i64);
        let centre = (2 * i as i64 + 1) * inputs;
        let radius = self.radius();
        let begin = (centre - radius - outputs).div_euclid(2 * outputs).max(0);
        let end = ((centre + radius - outputs).div_euclid(2 * outputs) + 1).min(self.size as i64);
        let mut weights: Vec<f64> = (begin..end)
            .map(|j| (radius - ((2 * j + 1) * outputs - centre).abs()).max(0) as f64)
            .collect();
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
        (begin as usize..end as usize, weights)
    }

    fn rows(&self) -> Rows {
        let (inputs, outputs) = (self.inputs as i64, self.outputs as i64);
        Rows {
            mul: 2 * inputs,
            div: 2 * outputs,
            first: inputs - self.radius() - outputs,
            last: inputs + self.radius() - outputs,
        }
    }

    /// The most inputs under the filter.
    fn taps(&self) -> u64 {
        2 * self.inputs.div_ceil(self.outputs) as u64 + 1
    }
}

impl Preprocess {
    fn filters(&self, input: Shape) -> Result<[Filter; 2]> {
        let along = |inputs: usize, outputs: usize| {
            let (per, by) = lowest_terms(inputs, outputs);
            if 4 * (outputs.max(inputs) as u64 + 1).saturating_mul(per.min(by) as u64 + 1)
                > i32::MAX as u64
            {
                bail!(
                    Unsupported,
                    "resizing {inputs} pixels to {outputs} is more than this kernel can count"
                );
            }
            Ok(Filter {
                size: inputs,
                inputs: per,
                outputs: by,
            })
        };
        Ok([along(input.h, self.size[0])?, along(input.w, self.size[1])?])
    }

    /// The channels of the picture and of the output for a picture of `channels`.
    ///
    /// # Errors
    /// `Shape` if mean and std have another number of channels.
    fn counts(&self, channels: usize) -> Result<[usize; 2]> {
        let counts = match (self.channels, self.mean.len()) {
            (Channels::Rgb | Channels::Bgr, 3) => [3, 3],
            (Channels::Grey, 1) => [3, 1],
            (Channels::Grey, 2) => [4, 2],
            (Channels::Rgba, 4) => [4, 4],
            (Channels::Bands, 0) => [channels, channels],
            (order, count) => bail!(Shape, "{order:?} does not have {count} channels"),
        };
        if self.std.len() != self.mean.len() {
            bail!(
                Shape,
                "mean has {} numbers, std {}",
                self.mean.len(),
                self.std.len()
            );
        }
        Ok(counts)
    }

    /// The order of the channels, as the shader counts them.
    fn order(&self) -> usize {
        match (self.channels, self.mean.len()) {
            (Channels::Rgb | Channels::Bands, _) => 0,
            (Channels::Bgr, _) => 1,
            (Channels::Grey, 1) => 2,
            (Channels::Grey, _) => 3,
            (Channels::Rgba, _) => 4,
        }
    }

    /// The network's value for `value` of its channel `c`.
    fn normalised(&self, c: usize, value: f64) -> f64 {
        match (self.mean.get(c), self.std.get(c)) {
            (Some(mean), Some(std)) => {
                (value / 255.0 * f64::from(self.range) - f64::from(*mean)) / f64::from(*std)
            }
            _ => value,
        }
    }

    /// The value of the network's channel `c` at pixel `i` of image `n`, from 0 to 255.
    fn value(&self, input: &Tensor, n: usize, c: usize, i: usize) -> f64 {
        let of = |channel| f64::from(input.plane(n, channel)[i]);
        match (self.channels, c) {
            (Channels::Bgr, c) => of(2 - c),
            (Channels::Grey, 0) => {
                let rgb = [0, 1, 2].map(|channel| input.plane(n, channel)[i] as u8);
                f64::from(luma(rgb))
            }
            (Channels::Grey, _) => of(3),
            (Channels::Rgb | Channels::Rgba | Channels::Bands, c) => of(c),
        }
    }
}

/// The grey value of a colour (ITU-R BT.601), as Pillow's `convert("L")`: 16 bits of fraction, rounded.
pub(crate) fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let [red, green, blue] = [red, green, blue].map(u32::from);
    ((19_595 * red + 38_470 * green + 7_471 * blue + (1 << 15)) >> 16) as u8
}

impl Op for Preprocess {
    fn name(&self) -> &'static str {
        "preprocess"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        super::check_attributes(&[self.size])?;
        let [channels, outputs] = self.counts(input.c)?;
        if input.c != channels || input.elements() == 0 || self.size.contains(&0) {
            bail!(
                Shape,
                "a picture is [n, {channels}, h, w], none of them 0, and so is its new size; not {input}, {:?}",
                self.size
            );
        }
        let [height, width] = self.size;
        Ok(input.with_channels(outputs).with_size(height, width))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        let [rows, columns] = self.filters(input.shape())?;
        let columns: Vec<_> = (0..output.w).map(|x| columns.weights(x)).collect();
        let width = input.shape().w;
        let pixels = input.shape().h * width;
        Tensor::from_planes(output, |n, c, plane| {
            let from: Vec<f64> = (0..pixels).map(|i| self.value(input, n, c, i)).collect();
            for (y, line) in plane.chunks_exact_mut(output.w).enumerate() {
                let (inside, weights) = rows.weights(y);
                for (out, (columns, column_weights)) in line.iter_mut().zip(&columns) {
                    let mut sum = 0.0;
                    for (y, weight) in inside.clone().zip(&weights) {
                        let pixels = &from[y * width..][columns.clone()];
                        for (pixel, column_weight) in pixels.iter().zip(column_weights) {
                            sum += weight * column_weight * pixel;
                        }
                    }
                    *out = self.normalised(c, sum) as f32;
                }
            }
        })
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let input = inputs[0];
        let [rows, columns] = self.filters(input)?;
        let mut params = sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("out_height", output.h),
            ("out_width", output.w),
            ("row_inputs", rows.inputs),
            ("row_outputs", rows.outputs),
            ("column_inputs", columns.inputs),
            ("column_outputs", columns.outputs),
        ])
        .to_vec();
        let is_bands = self.channels == Channels::Bands;
        if !is_bands {
            let number = |numbers: &[f32], c: usize, none| *numbers.get(c).unwrap_or(&none);
            let [m0, m1, m2, m3] = [0, 1, 2, 3].map(|c| number(&self.mean, c, 0.0));
            let [s0, s1, s2, s3] = [0, 1, 2, 3].map(|c| number(&self.std, c, 1.0));
            params.extend(sizes([("order", self.order())]));
            params.extend(floats([("range", self.range)]));
            params.extend(floats([("mean_0", m0), ("mean_1", m1), ("mean_2", m2)]));
            params.extend(floats([("mean_3", m3), ("std_0", s0), ("std_1", s1)]));
            params.extend(floats([("std_2", s2), ("std_3", s3)]));
        }
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]));
        if is_bands {
            params.extend(sizes([("c4", output.c4())]));
        }
        Ok(vec![Candidate::kernel(Kernel {
            shader: match is_bands {
                true => shader!("preprocess_bands"),
                false => shader!("preprocess"),
            },
            constants: Vec::new(),
            bindings: vec![Binding::Activation {
                input: 0,
                format: match is_bands {
                    true => Format::Nhwc4,
                    false => Format::Rgba8,
                },
                rows: rows.rows(),
            }],
            output: Format::Nhwc4,
            params,
            grid: match is_bands {
                true => Grid::Elements(64),
                false => Grid::Tiles {
                    pixels: 64,
                    channels: 4,
                },
            },
            terms: None,
            steps_per_term: rows.taps() * (columns.taps() + 1),
            fixed_steps: 0,
        })])
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        if self.channels == Channels::Bands {
            // Bands have either sign: of independent elements, the squares add up.
            let Ok([rows, columns]) = self.filters(inputs[0].shape()) else {
                return 0.0;
            };
            let squares = |filter: &Filter, size: usize| {
                let of = |i| filter.weights(i).1.iter().map(|w| w * w).sum::<f64>();
                (0..size).map(of).sum::<f64>() / size as f64
            };
            let shares = squares(&rows, self.size[0]) * squares(&columns, self.size[1]);
            return shares.sqrt() * inputs[0].root_mean_square();
        }
        // The mean cancels most of a picture: the values before it is subtracted.
        let black = inputs[0].map(|_| 0.0);
        match (self.reference(inputs), self.reference(&[&black])) {
            (Ok(mut values), Ok(black)) => {
                let pairs = values.data_mut().iter_mut().zip(black.data());
                pairs.for_each(|(value, black)| *value -= black);
                values.root_mean_square()
            }
            _ => 0.0,
        }
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        // The sum of terms is the result plus the subtracted mean, and both err with it. The terms' shares come from
        // divisions: 4 roundings a term, where a plain sum has one.
        let length = self
            .filters(inputs[0])
            .map_or(1, |[rows, columns]| (rows.taps() * columns.taps()) as usize);
        Numerics::elements(length, move |inputs, expected| {
            let factor = 4.0 * (sum_units(length) * UNIT) as f32;
            if self.channels == Channels::Bands {
                // Bands have either sign.
                let magnitudes = self.reference(&[&inputs[0].map(f32::abs)])?;
                return Ok(magnitudes.map(|x| factor * x));
            }
            let black = self.reference(&[&inputs[0].map(|_| 0.0)])?;
            let mut bounds = expected.clone();
            for (bound, black) in bounds.data_mut().iter_mut().zip(black.data()) {
                *bound = factor * (bound.abs() + 2.0 * black.abs());
            }
            Ok(bounds)
        })
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let to = |h, w, channels, range| {
        let count = match channels {
            Channels::Bands => 0,
            Channels::Rgba => 4,
            Channels::Rgb | Channels::Bgr | Channels::Grey => 3,
        };
        let numbers = |all: [f32; 4]| all[..count].iter().map(|m| m * range).collect();
        Preprocess {
            size: [h, w],
            channels,
            range,
            mean: numbers([0.485, 0.456, 0.406, 0.5]),
            std: numbers([0.229, 0.224, 0.225, 0.25]),
        }
    };
    let grey = |h, w, count| {
        let mut op = to(h, w, Channels::Grey, 1.0);
        op.mean.truncate(count);
        op.std.truncate(count);
        op
    };
    vec![
        case(to(9, 7, Channels::Rgb, 1.0), [[1, 3, 9, 7]]),
        case(to(5, 6, Channels::Bgr, 255.0), [[2, 3, 17, 29]]),
        case(to(11, 13, Channels::Rgb, 1.0), [[1, 3, 4, 6]]),
        case(to(3, 1, Channels::Bgr, 1.0), [[1, 3, 1, 40]]),
        case(grey(7, 9, 1), [[2, 3, 14, 11]]),
        case(grey(5, 9, 2), [[1, 4, 8, 9]]),
        case(to(6, 5, Channels::Rgba, 255.0), [[1, 4, 13, 9]]),
        case(to(6, 5, Channels::Bands, 1.0), [[2, 11, 13, 9]]),
        case(to(9, 12, Channels::Bands, 1.0), [[1, 6, 4, 5]]),
    ]
}

//! 2-D transposed convolution ("deconvolution"): every input value spreads `weight` over the output,
//! `out[n, o, y·stride − padding + ky, …] += weight[i, o, ky, kx] · input[n, i, y, x]`, plus bias.
//!
//! Inputs: `[n, c, h, w]`, weight `[c, out / groups, kh, kw]`, and optionally bias `[out, 1, 1, 1]`. The
//! output has (size − 1)·stride − 2·padding + kernel + output_padding rows and columns.
//! Source: `torch.nn.functional.conv_transpose2d`.

use super::conv2d::bias_binding;
use super::{Case, Op, case, shapes};
use crate::device_profile::DeviceProfile;
use crate::error::{Result, bail};
use crate::ops::kernel::{Binding, Format, Grid, Kernel, Packing, Rows, Word, shader};
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The attributes of a transposed convolution, each `[vertical, horizontal]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvTranspose2d {
    /// Step between the places that neighbouring inputs spread to.
    pub stride: [usize; 2],
    /// Rows and columns cut from each side of the output.
    pub padding: [usize; 2],
    /// Rows and columns added at the bottom and the right; less than the stride.
    pub output_padding: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

impl Default for ConvTranspose2d {
    fn default() -> Self {
        Self {
            stride: [1, 1],
            padding: [0, 0],
            output_padding: [0, 0],
            groups: 1,
        }
    }
}

impl ConvTranspose2d {
    /// The same stride and padding both ways.
    pub fn strided(stride: usize, padding: usize) -> Self {
        Self {
            stride: [stride; 2],
            padding: [padding; 2],
            ..Self::default()
        }
    }

    /// The most rows and columns of the kernel that reach one output pixel.
    fn taps(&self, weight: Shape) -> [usize; 2] {
        [
            weight.h.div_ceil(self.stride[0]),
            weight.w.div_ceil(self.stride[1]),
        ]
    }

    /// The parameters that both kernels share.
    fn params(&self, input: Shape, weight: Shape, output: Shape) -> Vec<Word> {
        let mut params = Word::sizes([
            input.h,
            input.w,
            input.c4(),
            output.h,
            output.w,
            output.c4(),
            weight.h,
            weight.w,
            self.stride[0],
            self.stride[1],
            self.padding[0],
            self.padding[1],
        ])
        .to_vec();
        params.extend([
            Word::RowBegin,
            Word::RowEnd,
            Word::ChannelBegin,
            Word::ChannelEnd,
            Word::TermBegin,
            Word::TermEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]);
        params
    }

    fn output_size(&self, axis: usize, size: usize, kernel: usize) -> Result<usize> {
        let full = (size - 1) * self.stride[axis] + kernel + self.output_padding[axis];
        match full.checked_sub(2 * self.padding[axis]) {
            None | Some(0) => bail!(
                Shape,
                "padding {} leaves nothing of {full} output pixels",
                self.padding[axis]
            ),
            Some(size) => Ok(size),
        }
    }
}

impl Op for ConvTranspose2d {
    fn name(&self) -> &'static str {
        "conv_transpose2d"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let (&[input, weight], bias) = inputs.split_at(2.min(inputs.len())) else {
            bail!(
                Shape,
                "conv_transpose2d takes an input, a weight and perhaps a bias"
            );
        };
        super::check_attributes(&[self.stride, self.padding, [self.groups; 2]])?;
        if self.stride.contains(&0) || self.groups == 0 {
            bail!(Shape, "stride and groups are at least 1");
        }
        if (0..2).any(|axis| self.output_padding[axis] >= self.stride[axis]) {
            bail!(Shape, "output_padding must be less than stride");
        }
        if weight.elements() == 0 || input.elements() == 0 {
            bail!(Shape, "input {input} or weight {weight} has no elements");
        }
        if input.c != weight.n || weight.n % self.groups != 0 {
            bail!(
                Shape,
                "a weight of shape {weight} with groups {} does not fit an input of shape {input}",
                self.groups
            );
        }
        let channels = weight.c * self.groups;
        if bias.len() > 1 || bias.iter().any(|b| *b != Shape::vector(channels)) {
            bail!(Shape, "the bias {bias:?} does not fit {channels} output channels");
        }
        Ok(Shape::new(
            input.n,
            channels,
            self.output_size(0, input.h, weight.h)?,
            self.output_size(1, input.w, weight.w)?,
        ))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let (input, weight, bias) = (inputs[0], inputs[1], inputs.get(2));
        let (size, kernel) = (input.shape(), weight.shape());
        let group_inputs = size.c / self.groups;
        Tensor::from_planes(output, |n, o, plane| {
            let (group, o_in_group) = (o / kernel.c, o % kernel.c);
            let bias = bias.map_or(0.0, |b| f64::from(b.data()[o]));
            let mut sums = vec![bias; plane.len()];
            for i in group * group_inputs..(group + 1) * group_inputs {
                for (j, &value) in input.plane(n, i).iter().enumerate() {
                    let (top, left) = (j / size.w * self.stride[0], j % size.w * self.stride[1]);
                    for ky in 0..kernel.h {
                        let Some(y) = (top + ky)
                            .checked_sub(self.padding[0])
                            .filter(|y| *y < output.h)
                        else {
                            continue;
                        };
                        for kx in 0..kernel.w {
                            let Some(x) = (left + kx)
                                .checked_sub(self.padding[1])
                                .filter(|x| *x < output.w)
                            else {
                                continue;
                            };
                            let factor = f64::from(weight.at(i, o_in_group, ky, kx));
                            sums[y * output.w + x] += factor * f64::from(value);
                        }
                    }
                }
            }
            for (out, sum) in plane.iter_mut().zip(sums) {
                *out = sum as f32;
            }
        })
    }

    fn kernels(&self, inputs: &[Shape], _device: &DeviceProfile) -> Result<Vec<Kernel>> {
        let output = self.output_shape(inputs)?;
        let (input, weight) = (inputs[0], inputs[1]);
        let grouped = self.groups > 1;
        let group_inputs = input.c / self.groups;
        // Ungrouped, an invocation computes four pixels of one row that read the same taps.
        let per_row = self.stride[1] * output.w.div_ceil(4 * self.stride[1]);
        let mut params = self.params(input, weight, output);
        let (shader, grid, terms) = if grouped {
            params.extend(Word::sizes([group_inputs, output.c, weight.c]));
            let grid = Grid::Tiles {
                pixels: 64,
                channels: 4,
            };
            (shader!("conv_transpose2d_grouped"), grid, group_inputs)
        } else {
            params.extend(Word::sizes([per_row]));
            let grid = Grid::Items {
                items: 64,
                per_row,
                channels: 4,
            };
            (shader!("conv_transpose2d"), grid, input.c4())
        };
        let [rows, columns] = self.taps(weight);
        Ok(vec![Kernel {
            shader,
            constants: Vec::new(),
            bindings: vec![
                Binding::Activation {
                    input: 0,
                    format: Format::Nhwc4,
                    rows: Rows {
                        mul: 1,
                        div: self.stride[0] as i64,
                        first: self.padding[0] as i64 - (weight.h as i64 - 1),
                        last: self.padding[0] as i64,
                    },
                },
                Binding::Parameter {
                    input: 1,
                    packing: Packing::ConvTranspose {
                        groups: self.groups,
                    },
                },
                bias_binding(inputs, 2, output.c),
            ],
            output: Format::Nhwc4,
            params,
            grid,
            terms: Some(terms),
            steps_per_term: (rows * columns) as u64,
            fixed_steps: (rows * (columns + 1)) as u64,
        }])
    }

    fn terms(&self, inputs: &[Shape]) -> usize {
        let weight = inputs[1];
        let [rows, columns] = self.taps(weight);
        weight.n / self.groups * rows * columns
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let terms = self.terms(&shapes(inputs)) as f64;
        inputs[0].root_mean_square() * inputs[1].root_mean_square() * terms.sqrt()
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let cropped = ConvTranspose2d::strided(8, 4);
    let odd = ConvTranspose2d {
        output_padding: [1, 1],
        ..ConvTranspose2d::strided(2, 1)
    };
    let grouped = ConvTranspose2d {
        groups: 2,
        ..odd.clone()
    };
    vec![
        case(ConvTranspose2d::strided(2, 0), [[1, 5, 4, 3], [5, 5, 4, 4]]),
        case(cropped, [[2, 7, 3, 4], [7, 7, 16, 16]]),
        case(odd, [[3, 6, 4, 5], [6, 9, 3, 3], [9, 1, 1, 1]]),
        case(grouped, [[1, 6, 4, 5], [6, 3, 3, 3], [6, 1, 1, 1]]),
        case(ConvTranspose2d::strided(3, 0), [[1, 4, 3, 3], [4, 2, 2, 2]]),
    ]
}

//! 2-D transposed convolution ("deconvolution"): every input value spreads `weight` over the output,
//! `out[n, o, y·stride − padding + ky·dilation, …] += weight[i, o, ky, kx] · input[n, i, y, x]`, plus bias.
//!
//! Inputs: `[n, c, h, w]`, weight `[c, out / groups, kh, kw]`, and optionally bias `[out, 1, 1, 1]`. The
//! output has (size − 1)·stride − 2·padding + dilation·(kernel − 1) + 1 + output_padding rows and columns.
//! Source: `torch.nn.functional.conv_transpose2d`. Its kernels are those of
//! [`TransposedConvolution`](crate::plan::lowered::TransposedConvolution).

use super::attributes::pair;
use super::interpolate::lowest_terms;
use super::numerics::Numerics;
use super::{Case, Op, case, shapes};
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The attributes of a transposed convolution, each `[vertical, horizontal]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvTranspose2d {
    /// Step between the places that neighbouring inputs spread to.
    #[serde(deserialize_with = "pair")]
    pub stride: [usize; 2],
    /// Rows and columns cut from each side of the output.
    #[serde(deserialize_with = "pair")]
    pub padding: [usize; 2],
    /// Rows and columns added at the bottom and the right; less than the stride or the dilation.
    #[serde(deserialize_with = "pair")]
    pub output_padding: [usize; 2],
    /// Distance of the places that neighbouring taps of the kernel spread to.
    #[serde(deserialize_with = "pair")]
    pub dilation: [usize; 2],
    /// Groups of channels, each convolved on its own.
    pub groups: usize,
}

impl Default for ConvTranspose2d {
    fn default() -> Self {
        Self {
            stride: [1, 1],
            padding: [0, 0],
            output_padding: [0, 0],
            dilation: [1, 1],
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

    /// Input, weight and perhaps bias.
    pub(crate) fn inputs<T: Copy>(inputs: &[T]) -> Result<(T, T, Option<T>)> {
        match *inputs {
            [input, weight] => Ok((input, weight, None)),
            [input, weight, bias] => Ok((input, weight, Some(bias))),
            _ => bail!(
                Shape,
                "conv_transpose2d takes an input, a weight and perhaps a bias"
            ),
        }
    }

    /// The most rows and columns of the kernel that reach one output pixel.
    pub(crate) fn taps(&self, weight: Shape) -> [usize; 2] {
        // Taps reach the same pixel if they are a common multiple of stride and dilation apart.
        [(0, weight.h), (1, weight.w)].map(|(axis, kernel)| {
            let (apart, _) = lowest_terms(self.stride[axis], self.dilation[axis]);
            kernel.div_ceil(apart)
        })
    }

    /// Whether taps are further apart than the pixels of the output.
    pub(crate) fn is_dilated(&self) -> bool {
        self.dilation != [1, 1]
    }

    fn output_size(&self, axis: usize, size: usize, kernel: usize) -> Result<usize> {
        let reach = (kernel - 1) * self.dilation[axis] + 1;
        let full = (size - 1) * self.stride[axis] + reach + self.output_padding[axis];
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
        let (input, weight, bias) = Self::inputs(inputs)?;
        super::check_attributes(&[self.stride, self.padding, self.dilation, [self.groups; 2]])?;
        if self.stride.contains(&0) || self.dilation.contains(&0) || self.groups == 0 {
            bail!(Shape, "stride, dilation and groups are at least 1");
        }
        let most = |axis: usize| self.stride[axis].max(self.dilation[axis]);
        if (0..2).any(|axis| self.output_padding[axis] >= most(axis)) {
            bail!(Shape, "output_padding must be less than stride or dilation");
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
        if let Some(bias) = bias.filter(|bias| *bias != Shape::vector(channels)) {
            bail!(
                Shape,
                "the bias {bias:?} does not fit {channels} output channels"
            );
        }
        Ok(Shape::new(
            input.n,
            channels,
            self.output_size(0, input.h, weight.h)?,
            self.output_size(1, input.w, weight.w)?,
        ))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let (input, weight, bias) = Self::inputs(inputs)?;
        let output = self.output_shape(&shapes(inputs))?;
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
                        let Some(y) = (top + ky * self.dilation[0])
                            .checked_sub(self.padding[0])
                            .filter(|y| *y < output.h)
                        else {
                            continue;
                        };
                        for kx in 0..kernel.w {
                            let Some(x) = (left + kx * self.dilation[1])
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

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        let weight = inputs[1];
        let [rows, columns] = self.taps(weight);
        Numerics::weighted_sum(weight.n / self.groups * rows * columns)
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let weight = inputs[1];
        let [rows, columns] = self.taps(weight.shape());
        let terms = (weight.shape().n / self.groups * rows * columns) as f64;
        inputs[0].root_mean_square() * weight.root_mean_square() * terms.sqrt()
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let strided = ConvTranspose2d::strided;
    let odd = ConvTranspose2d {
        output_padding: [1, 1],
        ..strided(2, 1)
    };
    let grouped = ConvTranspose2d {
        groups: 2,
        ..odd.clone()
    };
    let dilated = |stride, padding, dilation, output_padding, groups| ConvTranspose2d {
        stride,
        padding,
        output_padding,
        dilation,
        groups,
    };
    vec![
        case(strided(2, 0), [[1, 5, 4, 3], [5, 5, 4, 4]]),
        case(strided(8, 4), [[2, 7, 3, 4], [7, 7, 16, 16]]),
        case(odd, [[3, 6, 4, 5], [6, 9, 3, 3], [9, 1, 1, 1]]),
        case(grouped, [[1, 6, 4, 5], [6, 3, 3, 3], [6, 1, 1, 1]]),
        case(strided(3, 0), [[1, 4, 3, 3], [4, 2, 2, 2]]),
        case(
            dilated([1, 1], [2, 1], [2, 3], [0, 2], 1),
            [[2, 5, 4, 3], [5, 7, 3, 3], [7, 1, 1, 1]],
        ),
        case(
            dilated([2, 3], [1, 4], [3, 2], [1, 0], 2),
            [[1, 6, 3, 5], [6, 5, 4, 3]],
        ),
        case(
            dilated([4, 2], [0, 0], [2, 4], [0, 0], 1),
            [[1, 8, 3, 4], [8, 4, 3, 2]],
        ),
        // A row has more than eight pixels that share their taps, and the channels do not fill the last tile.
        case(strided(2, 0), [[1, 3, 2, 19], [3, 27, 4, 4], [27, 1, 1, 1]]),
    ]
}

//! 2-D transposed convolution ("deconvolution"): every input value spreads `weight` over the output,
//! `out[n, o, y·stride − padding + ky, …] += weight[i, o, ky, kx] · input[n, i, y, x]`, plus bias.
//!
//! Inputs: `[n, c, h, w]`, weight `[c, out / groups, kh, kw]`, and optionally bias `[out, 1, 1, 1]`. The
//! output has (size − 1)·stride − 2·padding + kernel + output_padding rows and columns.
//! Source: `torch.nn.functional.conv_transpose2d`.

pub(super) mod labels;

use super::attributes::pair;
use super::conv2d::bias_binding;
use super::numerics::Numerics;
use super::{Argmax, Case, Crop, Op, case, diagonal_case, shapes};
use crate::device_profile::DeviceProfile;
use crate::error::{Result, bail};
use crate::ops::argmax::Scores;
use crate::ops::candidate::Candidate;
use crate::ops::grid::{Count, Grid, Run};
use crate::ops::kernel::{
    Binding, Format, Kernel, Packing, Param, Rows, Word, counts, shader, sizes, words,
};
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;
use std::any::Any;
use std::sync::Arc;

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
    /// Rows and columns added at the bottom and the right; less than the stride.
    #[serde(deserialize_with = "pair")]
    pub output_padding: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// The weight `[c, c, kh, kw]` is zero off its diagonal, as that of bilinear upsampling is: set when a
    /// model is opened, and believed by kernels; the reference implementation computes with all of the weight.
    #[serde(skip)]
    pub diagonal: bool,
    /// Give a window of the result alone: set when planning fuses the two. The last input then is what the
    /// window is as large as.
    #[serde(skip)]
    pub crop: Option<Crop>,
}

impl Default for ConvTranspose2d {
    fn default() -> Self {
        Self {
            stride: [1, 1],
            padding: [0, 0],
            output_padding: [0, 0],
            groups: 1,
            diagonal: false,
            crop: None,
        }
    }
}

/// The inputs by what they are.
#[derive(Clone, Copy)]
struct Inputs<T> {
    input: T,
    weight: T,
    bias: Option<T>,
    /// What the window is as large as, where there is one.
    like: Option<T>,
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

    /// This for a weight that is zero off its diagonal, unless its groups make it smaller already.
    pub fn with_diagonal_weight(&self) -> Option<Self> {
        (self.groups == 1 && !self.diagonal).then(|| Self {
            diagonal: true,
            ..self.clone()
        })
    }

    fn inputs<T: Copy>(&self, inputs: &[T]) -> Result<Inputs<T>> {
        let (inputs, like) = match (&self.crop, inputs) {
            (Some(_), [inputs @ .., like]) => (inputs, Some(*like)),
            _ => (inputs, None),
        };
        let (input, weight, bias) = match *inputs {
            [input, weight] => (input, weight, None),
            [input, weight, bias] => (input, weight, Some(bias)),
            _ => bail!(
                Shape,
                "conv_transpose2d takes an input, a weight and perhaps a bias"
            ),
        };
        Ok(Inputs {
            input,
            weight,
            bias,
            like,
        })
    }

    /// The most rows and columns of the kernel that reach one output pixel.
    fn taps(&self, weight: Shape) -> [usize; 2] {
        [
            weight.h.div_ceil(self.stride[0]),
            weight.w.div_ceil(self.stride[1]),
        ]
    }

    /// Rows and columns cut from the top and the left of the full result.
    fn cut(&self) -> [usize; 2] {
        let offset = self.crop.as_ref().map_or([0, 0], |crop| crop.offset);
        [self.padding[0] + offset[0], self.padding[1] + offset[1]]
    }

    /// Sizes that all kernels are given.
    fn sizes(
        &self,
        input: Shape,
        weight: Shape,
        output: Shape,
        channels: (&'static str, usize),
    ) -> [Param; 12] {
        let [top, left] = self.cut();
        sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("in_c4", input.c4()),
            ("out_height", output.h),
            ("out_width", output.w),
            channels,
            ("kernel_h", weight.h),
            ("kernel_w", weight.w),
            ("stride_h", self.stride[0]),
            ("stride_w", self.stride[1]),
            ("padding_h", top),
            ("padding_w", left),
        ])
    }

    /// The buffers that all kernels read.
    fn bindings(&self, inputs: Inputs<Shape>, channels: usize) -> Vec<Binding> {
        let top = self.cut()[0] as i64;
        let packing = match self.diagonal {
            true => Packing::Diagonal,
            false => Packing::ConvTranspose {
                groups: self.groups,
            },
        };
        vec![
            Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: Rows {
                    mul: 1,
                    div: self.stride[0] as i64,
                    first: top - (inputs.weight.h as i64 - 1),
                    last: top,
                },
            },
            Binding::Parameter { input: 1, packing },
            bias_binding(inputs.bias.is_some(), 2, channels),
        ]
    }

    /// The shape of the full result.
    fn full_shape(&self, inputs: Inputs<Shape>) -> Result<Shape> {
        let Inputs {
            input,
            weight,
            bias,
            ..
        } = inputs;
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
        if input.c != weight.n
            || weight.n % self.groups != 0
            || self.diagonal && weight.n != weight.c
        {
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
        let inputs = self.inputs(inputs)?;
        let full = self.full_shape(inputs)?;
        match (&self.crop, inputs.like) {
            (Some(crop), Some(like)) => crop.output_shape(&[full, like]),
            _ => Ok(full),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let Inputs {
            input,
            weight,
            bias,
            like,
        } = self.inputs(inputs)?;
        let output = self.full_shape(self.inputs(&shapes(inputs))?)?;
        let (size, kernel) = (input.shape(), weight.shape());
        let group_inputs = size.c / self.groups;
        let full = Tensor::from_planes(output, |n, o, plane| {
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
        })?;
        match (&self.crop, like) {
            (Some(crop), Some(like)) => crop.reference(&[&full, like]),
            _ => Ok(full),
        }
    }

    fn candidates(&self, inputs: &[Shape], device: &DeviceProfile) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let inputs = self.inputs(inputs)?;
        let mut kernel = if self.groups > 1 {
            self.grouped(inputs, output)
        } else if self.diagonal {
            self.diagonal(inputs, output)
        } else {
            self.dense(inputs, output, device)
        };
        let [rows, columns] = self.taps(inputs.weight).map(|taps| taps as u64);
        kernel.steps_per_term = rows * columns;
        kernel.fixed_steps = rows * (columns + 1);
        Ok(vec![Candidate::kernel(kernel)])
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        let weight = inputs[1];
        let [rows, columns] = self.taps(weight);
        let channels = match self.diagonal {
            true => 1,
            false => weight.n / self.groups,
        };
        Numerics::weighted_sum(channels * rows * columns)
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        // Of all of the weight, with the zeros off its diagonal.
        let weight = inputs[1];
        let [rows, columns] = self.taps(weight.shape());
        let terms = (weight.shape().n / self.groups * rows * columns) as f64;
        inputs[0].root_mean_square() * weight.root_mean_square() * terms.sqrt()
    }

    fn fused_with(&self, next: &dyn Op) -> Option<Arc<dyn Op>> {
        let next: &dyn Any = next;
        if let Some(crop) = next.downcast_ref::<Crop>() {
            return self.crop.is_none().then(|| {
                Arc::new(Self {
                    crop: Some(crop.clone()),
                    ..self.clone()
                }) as Arc<dyn Op>
            });
        }
        let labels = next.downcast_ref::<Argmax>()?.scores == Scores::Given && self.groups == 1;
        labels.then(|| {
            Arc::new(Argmax {
                scores: Scores::Upsampled(self.clone()),
            }) as Arc<dyn Op>
        })
    }
}

/// How many groups of four output channels, of `c4`, an invocation computes: up to three, and few that
/// are not there.
fn groups_at_once(c4: usize) -> usize {
    c4.div_ceil(c4.div_ceil(3))
}

impl ConvTranspose2d {
    /// The kernel for any weight of ungrouped channels. An invocation computes pixels of one row that read
    /// the same taps: on a CPU device, where loads cost the most, twice as many.
    fn dense(&self, inputs: Inputs<Shape>, output: Shape, device: &DeviceProfile) -> Kernel {
        let groups = groups_at_once(output.c4());
        let pixels = if device.is_cpu { 8 } else { 4 };
        let mut kernel = self.kernel(inputs, output, true);
        kernel.shader = shader!("conv_transpose2d");
        kernel.constants = vec![
            ("GROUPS", groups as f64),
            ("WIDE", f64::from(u8::from(device.is_cpu))),
        ];
        kernel.params.extend(counts([Count::LineItems]));
        kernel.grid = Grid::Items {
            items: 64,
            run: self.run(pixels),
            channels: 4 * groups,
        };
        kernel.terms = Some(inputs.input.c4());
        kernel
    }

    /// The kernel for a weight that is zero off its diagonal.
    fn diagonal(&self, inputs: Inputs<Shape>, output: Shape) -> Kernel {
        let mut kernel = self.kernel(inputs, output, false);
        kernel.shader = shader!("conv_transpose2d_diagonal");
        kernel.params.extend(counts([Count::LineItems]));
        kernel.grid = Grid::Items {
            items: 64,
            run: self.run(4),
            channels: 4,
        };
        kernel
    }

    /// The kernel for groups.
    fn grouped(&self, inputs: Inputs<Shape>, output: Shape) -> Kernel {
        let group_inputs = inputs.input.c / self.groups;
        let mut kernel = self.kernel(inputs, output, true);
        kernel.params.extend(sizes([
            ("group_inputs", group_inputs),
            ("out_channels", output.c),
            ("group_outputs", inputs.weight.c),
        ]));
        kernel.terms = Some(group_inputs);
        kernel
    }

    /// What an invocation writes that computes so many pixels of a row that read the same taps.
    fn run(&self, pixels: usize) -> Run {
        Run {
            apart: self.stride[1],
            ..Run::of_row(pixels)
        }
    }

    /// What the kernels that write the result share; in full, the one for groups.
    fn kernel(&self, inputs: Inputs<Shape>, output: Shape, in_runs: bool) -> Kernel {
        let sizes = self.sizes(inputs.input, inputs.weight, output, ("out_c4", output.c4()));
        let mut params = sizes.to_vec();
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::ChannelBegin,
            Word::ChannelEnd,
        ]));
        if in_runs {
            params.extend(words([Word::TermBegin, Word::TermEnd]));
        }
        params.extend(words([
            Word::InputStart(0),
            Word::OutputStart,
            Word::Count(Count::PixelGroups),
        ]));
        Kernel {
            shader: shader!("conv_transpose2d_grouped"),
            constants: Vec::new(),
            bindings: self.bindings(inputs, output.c),
            output: Format::Nhwc4,
            params,
            grid: Grid::Tiles {
                pixels: 64,
                channels: 4,
            },
            terms: None,
            steps_per_term: 0,
            fixed_steps: 0,
        }
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let strided = ConvTranspose2d::strided;
    let cropped = strided(8, 4);
    let odd = ConvTranspose2d {
        output_padding: [1, 1],
        ..strided(2, 1)
    };
    let grouped = ConvTranspose2d {
        groups: 2,
        ..odd.clone()
    };
    let window = |op: ConvTranspose2d, y, x| ConvTranspose2d {
        crop: Some(Crop { offset: [y, x] }),
        ..op
    };
    let diagonal = |op: ConvTranspose2d| ConvTranspose2d {
        diagonal: true,
        ..op
    };
    vec![
        case(strided(2, 0), [[1, 5, 4, 3], [5, 5, 4, 4]]),
        case(cropped.clone(), [[2, 7, 3, 4], [7, 7, 16, 16]]),
        case(odd.clone(), [[3, 6, 4, 5], [6, 9, 3, 3], [9, 1, 1, 1]]),
        case(grouped.clone(), [[1, 6, 4, 5], [6, 3, 3, 3], [6, 1, 1, 1]]),
        case(strided(3, 0), [[1, 4, 3, 3], [4, 2, 2, 2]]),
        // More than eight pixels a row that share their taps, of groups of channels of which some are missing.
        case(strided(2, 0), [[1, 3, 2, 19], [3, 27, 4, 4], [27, 1, 1, 1]]),
        case(
            window(odd.clone(), 2, 1),
            [[3, 6, 4, 5], [6, 9, 3, 3], [9, 1, 1, 1], [3, 2, 5, 7]],
        ),
        case(
            window(grouped, 0, 3),
            [[1, 6, 4, 5], [6, 3, 3, 3], [1, 1, 6, 6]],
        ),
        diagonal_case(diagonal(cropped), [[2, 7, 3, 4], [7, 7, 16, 16]]),
        diagonal_case(
            diagonal(odd.clone()),
            [[3, 6, 4, 5], [6, 6, 3, 3], [6, 1, 1, 1]],
        ),
        diagonal_case(
            window(diagonal(strided(4, 0)), 5, 3),
            [[1, 9, 3, 11], [9, 9, 8, 8], [1, 1, 8, 37]],
        ),
    ]
}

//! 2-D convolution: `out[n, o, y, x] = bias[o] + Σ weight[o, i, ky, kx] ·
//! input[n, g·(C/groups) + i, y·stride + ky·dilation − padding, …]`, zeros outside the input.
//!
//! Inputs: `[n, c, h, w]`, weight `[out, c / groups, kh, kw]`, and optionally bias `[out, 1, 1, 1]`.
//! Source: `torch.nn.functional.conv2d`.

mod cases;
mod coop;
mod depthwise;
mod direct;
mod grouped;
mod pool;
mod sum_parts;
mod template;
mod texels;
mod tiled;
pub(super) mod winograd;

pub use cases::cases;
pub(crate) use sum_parts::SumParts;

use super::attributes::pair;
use super::candidate::{Candidate, Trust};
use super::numerics::Numerics;
use super::{Element, MaxPool2d, Op, Relu, Window, shapes};
use crate::device_profile::DeviceProfile;
use crate::error::{Result, bail};
use crate::ops::kernel::{Binding, Format, Kernel, Packing, Param, Rows, Word, sizes, words};
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;
use std::any::Any;
use std::sync::Arc;

/// The attributes of a convolution, each `[vertical, horizontal]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conv2d {
    /// Step between neighbouring windows.
    #[serde(deserialize_with = "pair")]
    pub stride: [usize; 2],
    /// Zeros around the input, on each side.
    #[serde(deserialize_with = "pair")]
    pub padding: [usize; 2],
    /// Step between the taps of a window.
    #[serde(deserialize_with = "pair")]
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// Apply ReLU to the result: set when planning fuses the two.
    #[serde(skip)]
    pub relu: bool,
    /// Leave the sum in as many parts, set when planning: runs of as many groups of four input channels,
    /// each in output channels of its own, padded to a multiple of 4; the bias is in the first.
    #[serde(skip)]
    pub parts: usize,
    /// Pool the result: set when planning fuses the two. Windows of 2×2 pixels alone, side by side.
    #[serde(skip)]
    pub pool: Option<MaxPool2d>,
}

impl Default for Conv2d {
    fn default() -> Self {
        Self {
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
            relu: false,
            parts: 1,
            pool: None,
        }
    }
}

impl Conv2d {
    /// Stride 1 and `padding` zeros on each side.
    pub fn padded(padding: usize) -> Self {
        Self {
            padding: [padding; 2],
            ..Self::default()
        }
    }

    /// The window over a weight of `taps`, height and width.
    fn window_over(&self, taps: [usize; 2]) -> Window {
        Window {
            size: [0, 1].map(|i| self.dilation[i] * (taps[i] - 1) + 1),
            stride: self.stride,
            padding: self.padding,
            ceil_mode: false,
        }
    }

    fn output_size(&self, axis: usize, size: usize, kernel: usize) -> Result<usize> {
        let (window, padding) = (self.window_over([kernel; 2]), self.padding[axis]);
        match window.outputs(axis, size, padding) {
            Some(outputs) => Ok(outputs),
            None => bail!(
                Shape,
                "the window of {} pixels is larger than the input of {size} with padding {padding}",
                window.size[axis]
            ),
        }
    }

    /// The shape of the convolution, before it is pooled.
    fn map_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let (&[input, weight], bias) = inputs.split_at(2.min(inputs.len())) else {
            bail!(Shape, "conv2d takes an input, a weight and perhaps a bias");
        };
        super::check_attributes(&[self.stride, self.padding, self.dilation, [self.groups; 2]])?;
        if self.stride.contains(&0) || self.dilation.contains(&0) || self.groups == 0 {
            bail!(Shape, "stride, dilation and groups are at least 1");
        }
        if weight.elements() == 0 {
            bail!(Shape, "the weight {weight} has no elements");
        }
        if input.c != weight.c * self.groups || weight.n % self.groups != 0 {
            bail!(
                Shape,
                "a weight of shape {weight} with groups {} does not fit an input of shape {input}",
                self.groups
            );
        }
        if bias.len() > 1 || bias.iter().any(|b| *b != Shape::vector(weight.n)) {
            bail!(
                Shape,
                "the bias {bias:?} does not fit a weight of shape {weight}"
            );
        }
        let h = self.output_size(0, input.h, weight.h)?;
        let w = self.output_size(1, input.w, weight.w)?;
        let is_plain = self.groups == 1 && !self.relu && self.pool.is_none();
        let channels = match self.parts {
            1 => weight.n,
            parts if parts > 1 && is_plain => parts * 4 * weight.n.div_ceil(4),
            parts => bail!(
                Shape,
                "a convolution with groups, ReLU or pooling cannot be left in {parts} parts"
            ),
        };
        Ok(Shape::new(input.n, channels, h, w))
    }

    /// Bindings, rows and the parameters that all kernels of this op share; `map` is what the convolution makes
    /// before it is pooled.
    fn kernel(&self, inputs: &[Shape], map: Shape, parts: Parts) -> Result<Kernel> {
        let (input, weight) = (inputs[0], inputs[1]);
        let output = pool::pooled(self.pool.as_ref(), map)?;
        let mut params = sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("in_c4", input.c4()),
            ("out_height", output.h),
            ("out_width", output.w),
            ("out_c4", output.c4() / self.parts),
            ("padding_h", self.padding[0]),
            ("padding_w", self.padding[1]),
        ])
        .to_vec();
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::ChannelBegin,
            Word::ChannelEnd,
        ]));
        if let Some(terms) = parts.terms {
            params.extend(words([Word::TermBegin, Word::TermEnd]));
            params.extend(sizes([("terms", terms)]));
        }
        params.extend(words([Word::InputStart(0), Word::OutputStart]));
        params.extend(parts.extra);
        let taps = (weight.h * weight.w) as u64;
        let quads = inputs[0].c4().min(weight.c4());
        let reach = self.dilation[0] * (weight.h - 1);
        let side = self.pool_side();
        let kernel = Kernel {
            shader: parts.shader,
            constants: vec![
                ("KERNEL_H", weight.h as f64),
                ("KERNEL_W", weight.w as f64),
                ("STRIDE_H", self.stride[0] as f64),
                ("STRIDE_W", self.stride[1] as f64),
                ("DILATION_H", self.dilation[0] as f64),
                ("DILATION_W", self.dilation[1] as f64),
                ("RELU", f64::from(u8::from(self.relu))),
            ],
            bindings: vec![
                Binding::Activation {
                    input: 0,
                    format: Format::Nhwc4,
                    rows: Rows {
                        mul: (side * self.stride[0]) as i64,
                        div: 1,
                        first: -(self.padding[0] as i64),
                        last: ((side - 1) * self.stride[0] + reach) as i64 - self.padding[0] as i64,
                    },
                },
                Binding::Parameter {
                    input: 1,
                    packing: parts.packing,
                },
                bias_binding(inputs.len() > 2, 2, weight.n),
            ],
            output: Format::Nhwc4,
            params,
            grid: parts.grid,
            terms: parts.terms,
            steps_per_term: match parts.terms {
                Some(_) => taps,
                None => taps * quads as u64,
            },
            fixed_steps: (weight.h * (weight.w + 1)) as u64,
        };
        // Only whole sums can be pooled.
        Ok(if side > 1 {
            kernel.of_all_terms()
        } else {
            kernel
        })
    }
}

/// Where the kernels of a convolution differ.
struct Parts {
    shader: crate::ops::kernel::Shader,
    packing: Packing,
    grid: crate::ops::grid::Grid,
    /// The length of the loop over input channels, if dispatches may continue each other's sums.
    terms: Option<usize>,
    extra: Vec<Param>,
}

/// The bias, input number `position`, or zeros for `channels` where it is not given.
pub(super) fn bias_binding(given: bool, position: usize, channels: usize) -> Binding {
    if given {
        Binding::Parameter {
            input: position,
            packing: Packing::Vector,
        }
    } else {
        Binding::Zeros { channels }
    }
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        pool::pooled(self.pool.as_ref(), self.map_shape(inputs)?)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.map_shape(&shapes(inputs))?;
        let (input, weight, bias) = (inputs[0], inputs[1], inputs.get(2));
        let (size, kernel) = (input.shape(), weight.shape());
        let per_part = self.channels_per_part(kernel);
        let columns: Vec<_> = (0..kernel.w)
            .map(|kx| self.taps_inside(1, kx, size.w, output.w))
            .collect();
        let padded = output.c.div_ceil(self.parts);
        let map = Tensor::from_planes(output, |n, o, plane| {
            let (part, o) = (o / padded, o % padded);
            if o >= kernel.n {
                return;
            }
            let first_channel = o / (kernel.n / self.groups) * kernel.c;
            let channels = part * per_part..kernel.c.min((part + 1) * per_part);
            let bias = bias.filter(|_| part == 0);
            let bias = bias.map_or(0.0, |b| f64::from(b.data()[o]));
            let mut sums = vec![0.0f64; output.w];
            for (y, row) in plane.chunks_exact_mut(output.w).enumerate() {
                sums.fill(bias);
                for i in channels.clone() {
                    let image = input.plane(n, first_channel + i);
                    for ky in 0..kernel.h {
                        let from = y * self.stride[0] + ky * self.dilation[0];
                        let Some(from) = from.checked_sub(self.padding[0]).filter(|f| *f < size.h)
                        else {
                            continue;
                        };
                        let line = &image[from * size.w..][..size.w];
                        for (kx, (inside, from)) in columns.iter().enumerate() {
                            let factor = f64::from(weight.at(o, i, ky, kx));
                            let values = line.get(*from..).unwrap_or_default();
                            add_scaled(&mut sums[inside.clone()], factor, values, self.stride[1]);
                        }
                    }
                }
                for (out, sum) in row.iter_mut().zip(&sums) {
                    let sum = *sum as f32;
                    *out = if self.relu && sum < 0.0 { 0.0 } else { sum };
                }
            }
        })?;
        pool::pool_map(self.pool.as_ref(), map)
    }

    fn candidates(&self, inputs: &[Shape], device: &DeviceProfile) -> Result<Vec<Candidate>> {
        let map = self.map_shape(inputs)?;
        let in_parts = tiled::stages(self, inputs, device);
        let stages = in_parts.or_else(|| winograd::stages(self, inputs, device));
        let mut all: Vec<_> = stages.map(Candidate::stages).into_iter().collect();
        let kernels = self.static_kernels(inputs, map, device)?;
        all.extend(kernels.into_iter().map(Candidate::kernel));
        let others = tiled::other_stages(self, inputs, device).into_iter();
        all.extend(others.map(|stages| Candidate::stages(stages).trusted(Trust::Measured)));
        let output = self.output_shape(inputs)?;
        let by_matrices = coop::kernels(self, inputs, output, device).into_iter();
        all.extend(by_matrices.map(|k| Candidate::kernel(k).trusted(Trust::Experimental)));
        Ok(all)
    }

    fn windows(&self, inputs: &[Shape]) -> Vec<Window> {
        let of_map = inputs
            .get(1)
            .map(|weight| self.window_over([weight.h, weight.w]));
        let of_pool = self.pool.as_ref().map(MaxPool2d::over_input);
        of_map.into_iter().chain(of_pool).collect()
    }

    fn with_padding(&self, padding: [usize; 2]) -> Option<Arc<dyn Op>> {
        Some(Arc::new(Self {
            padding,
            ..self.clone()
        }))
    }

    fn elements(&self, inputs: &[&Tensor], at: &[[usize; 4]]) -> Result<Vec<Element>> {
        let map = self.map_shape(&shapes(inputs))?;
        crate::parallel::try_map(at, |&[n, c, y, x]| {
            Ok(match self.pool {
                None => self.element(inputs, [n, c, y, x]),
                Some(_) => pool::largest(map, [y, x], |y, x| self.element(inputs, [n, c, y, x])),
            })
        })
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        let weight = inputs[1];
        Numerics::weighted_sum(weight.c.min(self.channels_per_part(weight)) * weight.h * weight.w)
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let (size, kernel) = (inputs[0].shape(), inputs[1].shape());
        // Taps in the padding add nothing.
        let inside = |axis: usize, taps: usize, size: usize| {
            let outputs = self.output_size(axis, size, taps).unwrap_or(1);
            let reads = (0..taps).map(|k| self.taps_inside(axis, k, size, outputs).0.len());
            reads.sum::<usize>() as f64 / outputs as f64
        };
        let terms = kernel.c as f64 * inside(0, kernel.h, size.h) * inside(1, kernel.w, size.w);
        inputs[0].root_mean_square() * inputs[1].root_mean_square() * terms.sqrt()
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        let of_map = self
            .map_shape(inputs)
            .map_or(0, |map| map.elements() as u64);
        of_map.saturating_mul(2 * self.reduction_length(inputs) as u64)
    }

    fn fused_with(&self, next: &dyn Op) -> Option<Arc<dyn Op>> {
        let next: &dyn Any = next;
        let fused = match next.downcast_ref::<MaxPool2d>() {
            Some(pool) => self.pooled_by(pool),
            None => (next.is::<Relu>() && !self.relu && self.parts == 1).then(|| Self {
                relu: true,
                ..self.clone()
            }),
        };
        fused.map(|fused| Arc::new(fused) as Arc<dyn Op>)
    }
}

impl Conv2d {
    /// The kernels that a plan may take unmeasured, best first.
    fn static_kernels(
        &self,
        inputs: &[Shape],
        map: Shape,
        device: &DeviceProfile,
    ) -> Result<Vec<Kernel>> {
        let mut kernels = depthwise::kernels(self, inputs, map, device);
        if self.has_whole_quads(inputs[1]) {
            kernels.extend(tiled::kernels(self, inputs, map, device));
            if self.parts > 1 {
                return Ok(kernels);
            }
            kernels.extend(texels::kernel(self, inputs, map, device));
            kernels.push(direct::kernel(self, inputs, map)?);
        }
        if self.groups > 1 && self.pool.is_none() {
            kernels.push(grouped::kernel(self, inputs, map)?);
        }
        Ok(kernels)
    }

    /// Whether no four channels that lie together are of two groups: then a kernel finds those of a group by where
    /// they begin.
    fn has_whole_quads(&self, weight: Shape) -> bool {
        self.groups == 1 || weight.c.is_multiple_of(4) && (weight.n / self.groups).is_multiple_of(4)
    }

    /// Groups of four output channels that are made of the same input channels.
    fn group_quads(&self, weight: Shape) -> usize {
        (weight.n / self.groups).div_ceil(4)
    }

    /// What the kernels for whole groups of four channels have in their parameters beside those of all: the size of
    /// the map, and how many such groups a group of the convolution reads and makes.
    fn sizes_of_groups(&self, map: Shape, weight: Shape) -> [Param; 4] {
        sizes([
            ("map_height", map.h),
            ("map_width", map.w),
            ("group_in_c4", weight.c4()),
            ("group_out_c4", self.group_quads(weight)),
        ])
    }

    /// Input channels in one part of the sum.
    fn channels_per_part(&self, weight: Shape) -> usize {
        4 * weight.c4().div_ceil(self.parts.max(1))
    }

    fn element(&self, inputs: &[&Tensor], [n, o, y, x]: [usize; 4]) -> Element {
        let (input, weight, bias) = (inputs[0], inputs[1], inputs.get(2));
        let (size, kernel) = (input.shape(), weight.shape());
        let padded = 4 * kernel.n.div_ceil(4);
        let (part, o) = (o / padded * usize::from(self.parts > 1), o % padded);
        if o >= kernel.n {
            return Element {
                value: 0.0,
                magnitude: 0.0,
            };
        }
        let first_channel = o / (kernel.n / self.groups) * kernel.c;
        let per_part = self.channels_per_part(kernel);
        let bias = bias
            .filter(|_| part == 0)
            .map_or(0.0, |b| f64::from(b.data()[o]));
        let (mut sum, mut magnitude) = (bias, bias.abs());
        let inside = |axis: usize, at: usize, k: usize, size: usize| {
            let from = at * self.stride[axis] + k * self.dilation[axis];
            from.checked_sub(self.padding[axis])
                .filter(|from| *from < size)
        };
        for i in part * per_part..kernel.c.min((part + 1) * per_part) {
            let image = input.plane(n, first_channel + i);
            for ky in 0..kernel.h {
                let Some(row) = inside(0, y, ky, size.h) else {
                    continue;
                };
                for kx in 0..kernel.w {
                    let Some(column) = inside(1, x, kx, size.w) else {
                        continue;
                    };
                    let product = f64::from(weight.at(o, i, ky, kx))
                        * f64::from(image[row * size.w + column]);
                    sum += product;
                    magnitude += product.abs();
                }
            }
        }
        let sum = sum as f32;
        Element {
            value: if self.relu && sum < 0.0 { 0.0 } else { sum },
            magnitude,
        }
    }

    /// The outputs along `axis` whose tap `k` lies inside the input, and where the first of them reads.
    fn taps_inside(
        &self,
        axis: usize,
        k: usize,
        size: usize,
        outputs: usize,
    ) -> (std::ops::Range<usize>, usize) {
        let (stride, padding) = (self.stride[axis], self.padding[axis]);
        let offset = k * self.dilation[axis];
        let begin = padding.saturating_sub(offset).div_ceil(stride);
        let end = (size + padding).saturating_sub(offset).div_ceil(stride);
        let end = end.min(outputs);
        let begin = begin.min(end);
        (
            begin..end,
            (begin * stride + offset).saturating_sub(padding),
        )
    }
}

/// `sums[j] += factor · values[j · stride]`.
fn add_scaled(sums: &mut [f64], factor: f64, values: &[f32], stride: usize) {
    if stride == 1 {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += factor * f64::from(*value);
        }
    } else {
        for (sum, value) in sums.iter_mut().zip(values.iter().step_by(stride)) {
            *sum += factor * f64::from(*value);
        }
    }
}

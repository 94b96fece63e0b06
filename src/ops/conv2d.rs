//! 2-D convolution: `out[n, o, y, x] = bias[o] + Σ weight[o, i, ky, kx] ·
//! input[n, g·(C/groups) + i, y·stride + ky·dilation − padding, …]`, zeros outside the input.
//!
//! Inputs: `[n, c, h, w]`, weight `[out, c / groups, kh, kw]`, and optionally bias `[out, 1, 1, 1]`.
//! Source: `torch.nn.functional.conv2d`. Its kernels are those of [`Convolution`](crate::plan::lowered::Convolution).

use super::attributes::pair;
use super::numerics::Numerics;
use super::{Case, Element, Op, Window, case, shapes};
use crate::error::{Result, bail};
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;
use std::ops::Range;
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
    /// Groups of channels, each convolved on its own.
    pub groups: usize,
}

impl Default for Conv2d {
    fn default() -> Self {
        Self {
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
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

    /// The sliding window of a weight with `taps` rows and columns.
    pub(crate) fn window_over(&self, taps: [usize; 2]) -> Window {
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

    /// The sums over `channels`, a range of the weight's second dimension, with the bias or without.
    ///
    /// # Errors
    /// As [`Op::reference`].
    pub(crate) fn sums(
        &self,
        inputs: &[&Tensor],
        channels: Range<usize>,
        with_bias: bool,
    ) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let (input, weight) = (inputs[0], inputs[1]);
        let bias = inputs.get(2).filter(|_| with_bias);
        let (size, kernel) = (input.shape(), weight.shape());
        let columns: Vec<_> = (0..kernel.w)
            .map(|kx| self.taps_inside(1, kx, size.w, output.w))
            .collect();
        Tensor::from_planes(output, |n, o, plane| {
            let first_channel = o / (kernel.n / self.groups) * kernel.c;
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
                    *out = *sum as f32;
                }
            }
        })
    }

    /// One element of [`Conv2d::sums`].
    pub(crate) fn element(
        &self,
        inputs: &[&Tensor],
        [n, o, y, x]: [usize; 4],
        channels: Range<usize>,
        with_bias: bool,
    ) -> Element {
        let (input, weight) = (inputs[0], inputs[1]);
        let (size, kernel) = (input.shape(), weight.shape());
        let first_channel = o / (kernel.n / self.groups) * kernel.c;
        let bias = inputs.get(2).filter(|_| with_bias);
        let bias = bias.map_or(0.0, |b| f64::from(b.data()[o]));
        let (mut sum, mut magnitude) = (bias, bias.abs());
        let inside = |axis: usize, at: usize, k: usize, size: usize| {
            let from = at * self.stride[axis] + k * self.dilation[axis];
            from.checked_sub(self.padding[axis])
                .filter(|from| *from < size)
        };
        for i in channels {
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
        Element {
            value: sum as f32,
            magnitude,
        }
    }

    /// The outputs along `axis` whose tap `k` lies inside the input, and the position that the first of them reads.
    fn taps_inside(
        &self,
        axis: usize,
        k: usize,
        size: usize,
        outputs: usize,
    ) -> (Range<usize>, usize) {
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

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
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
        Ok(Shape::new(input.n, weight.n, h, w))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        self.output_shape(&shapes(inputs))?;
        self.sums(inputs, 0..inputs[1].shape().c, true)
    }

    fn window(&self, inputs: &[Shape]) -> Option<Window> {
        let weight = inputs.get(1)?;
        Some(self.window_over([weight.h, weight.w]))
    }

    fn with_padding(&self, padding: [usize; 2]) -> Option<Arc<dyn Op>> {
        Some(Arc::new(Self {
            padding,
            ..self.clone()
        }))
    }

    fn elements(&self, inputs: &[&Tensor], at: &[[usize; 4]]) -> Result<Vec<Element>> {
        self.output_shape(&shapes(inputs))?;
        let channels = inputs[1].shape().c;
        crate::parallel::try_map(at, |at| Ok(self.element(inputs, *at, 0..channels, true)))
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        let weight = inputs[1];
        Numerics::weighted_sum(weight.c * weight.h * weight.w)
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

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let with = |stride, padding, dilation, groups| Conv2d {
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [dilation; 2],
        groups,
    };
    vec![
        case(
            Conv2d::padded(0),
            [[2, 1100, 4, 5], [24, 1100, 1, 1], [24, 1, 1, 1]],
        ),
        case(
            Conv2d::padded(1),
            [[1, 3, 9, 7], [5, 3, 3, 3], [5, 1, 1, 1]],
        ),
        case(
            Conv2d::padded(1),
            [[2, 128, 9, 10], [132, 128, 3, 3], [132, 1, 1, 1]],
        ),
        case(Conv2d::padded(0), [[1, 130, 23, 7], [129, 130, 3, 3]]),
        case(
            with(1, 2, 2, 1),
            [[2, 66, 11, 18], [130, 66, 3, 3], [130, 1, 1, 1]],
        ),
        case(with(1, 3, 4, 1), [[2, 64, 19, 21], [128, 64, 3, 3]]),
        case(Conv2d::padded(0), [[1, 13, 5, 5], [21, 13, 1, 1]]),
        case(
            Conv2d::padded(3),
            [[1, 8, 4, 6], [32, 8, 7, 7], [32, 1, 1, 1]],
        ),
        case(
            Conv2d::padded(100),
            [[1, 3, 1, 1], [4, 3, 3, 3], [4, 1, 1, 1]],
        ),
        case(
            with(2, 1, 1, 1),
            [[1, 5, 10, 9], [33, 5, 3, 3], [33, 1, 1, 1]],
        ),
        case(with(1, 2, 2, 1), [[1, 4, 9, 9], [8, 4, 3, 3]]),
        case(
            with(2, 3, 1, 1),
            [[1, 3, 30, 37], [64, 3, 7, 7], [64, 1, 1, 1]],
        ),
        case(with(2, 0, 1, 1), [[2, 20, 9, 21], [40, 20, 1, 1]]),
        case(
            with(1, 2, 2, 1),
            [[1, 9, 40, 25], [130, 9, 3, 3], [130, 1, 1, 1]],
        ),
        case(Conv2d::padded(2), [[1, 20, 12, 19], [36, 20, 5, 5]]),
        case(
            Conv2d::padded(0),
            [[3, 129, 11, 13], [16, 129, 1, 1], [16, 1, 1, 1]],
        ),
        case(
            Conv2d::padded(0),
            [[1, 70, 13, 12], [48, 70, 7, 7], [48, 1, 1, 1]],
        ),
        case(Conv2d::padded(0), [[1, 2, 3, 130], [4, 2, 1, 130]]),
        case(
            with(3, 0, 1, 3),
            [[2, 6, 12, 10], [9, 2, 3, 3], [9, 1, 1, 1]],
        ),
        case(with(1, 1, 1, 7), [[1, 7, 6, 6], [7, 1, 3, 3], [7, 1, 1, 1]]),
        case(
            with(2, 1, 1, 6),
            [[1, 6, 11, 14], [12, 1, 3, 3], [12, 1, 1, 1]],
        ),
        case(with(1, 2, 2, 5), [[3, 5, 7, 9], [15, 1, 3, 3]]),
        case(
            with(3, 2, 1, 9),
            [[1, 9, 17, 16], [36, 1, 5, 5], [36, 1, 1, 1]],
        ),
        case(
            with(1, 0, 1, 2),
            [[1, 2, 3, 20], [10, 1, 1, 17], [10, 1, 1, 1]],
        ),
        case(
            with(2, 1, 1, 2),
            [[1, 24, 10, 19], [40, 12, 3, 3], [40, 1, 1, 1]],
        ),
        case(
            with(1, 2, 2, 2),
            [[1, 16, 12, 9], [192, 8, 3, 3], [192, 1, 1, 1]],
        ),
        case(
            with(1, 2, 1, 2),
            [[2, 40, 9, 18], [128, 20, 5, 5], [128, 1, 1, 1]],
        ),
        case(with(1, 0, 1, 4), [[1, 80, 5, 6], [48, 20, 1, 1]]),
    ]
}

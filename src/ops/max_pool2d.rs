//! 2-D max pooling: `out[n, c, y, x] = max input[n, c, y·stride − padding + ky, …]` over the taps inside
//! the input.
//!
//! The output size is ⌊(size + 2·padding − kernel) / stride⌋ + 1, or with `ceil_mode` ⌈…⌉ + 1, less one
//! if the last window would begin past the input and its left padding. NaN in a window gives NaN.
//! Source: `torch.nn.functional.max_pool2d`.

use super::attributes::pair;
use super::{Case, Op, Window, case, take_inputs};
use crate::device_profile::DeviceProfile;
use crate::error::{Result, bail};
use crate::ops::kernel::{Binding, Format, Grid, Kernel, MAX_LOOP_STEPS, Rows, Word, shader};
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The attributes of a max pooling, each `[vertical, horizontal]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool2d {
    /// Size of the window.
    #[serde(deserialize_with = "pair")]
    pub kernel_size: [usize; 2],
    /// Step between neighbouring windows.
    #[serde(deserialize_with = "pair")]
    pub stride: [usize; 2],
    /// Positions around the input, on each side, that never win; at most half the window.
    #[serde(default, deserialize_with = "pair")]
    pub padding: [usize; 2],
    /// Keep a last window that reaches past the input.
    #[serde(default)]
    pub ceil_mode: bool,
}

impl MaxPool2d {
    /// A square window without padding.
    pub const fn square(kernel_size: usize, stride: usize, ceil_mode: bool) -> Self {
        Self {
            kernel_size: [kernel_size; 2],
            stride: [stride; 2],
            padding: [0; 2],
            ceil_mode,
        }
    }

    fn windows(&self) -> Window {
        Window {
            size: self.kernel_size,
            stride: self.stride,
            padding: self.padding,
            ceil_mode: self.ceil_mode,
        }
    }

    fn output_size(&self, axis: usize, size: usize) -> Result<usize> {
        let (kernel, padding) = (self.kernel_size[axis], self.padding[axis]);
        match self.windows().outputs(axis, size, padding) {
            Some(outputs) => Ok(outputs),
            None => bail!(
                Shape,
                "the window of {kernel} pixels is larger than the input of {size} with padding {padding}"
            ),
        }
    }
}

impl Op for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        super::check_attributes(&[self.kernel_size, self.stride, self.padding])?;
        for axis in 0..2 {
            let (kernel, padding) = (self.kernel_size[axis], self.padding[axis]);
            if kernel == 0 || self.stride[axis] == 0 || 2 * padding > kernel {
                bail!(
                    Shape,
                    "kernel_size and stride are at least 1, padding at most half of kernel_size"
                );
            }
        }
        Ok(input.with_size(
            self.output_size(0, input.h)?,
            self.output_size(1, input.w)?,
        ))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        let size = input.shape();
        let window = |axis: usize, at: usize, size: usize| {
            let begin = at * self.stride[axis];
            let end = (begin + self.kernel_size[axis]).saturating_sub(self.padding[axis]);
            begin.saturating_sub(self.padding[axis])..end.min(size)
        };
        Tensor::from_planes(output, |n, c, plane| {
            let from = input.plane(n, c);
            for (i, out) in plane.iter_mut().enumerate() {
                let columns = window(1, i % output.w, size.w);
                *out = window(0, i / output.w, size.h)
                    .flat_map(|y| &from[y * size.w..][columns.clone()])
                    .fold(f32::NEG_INFINITY, |max, &x| {
                        if x > max || x.is_nan() { x } else { max }
                    });
            }
        })
    }

    fn window(&self, _inputs: &[Shape]) -> Option<Window> {
        Some(self.windows())
    }

    fn kernels(&self, inputs: &[Shape], _device: &DeviceProfile) -> Result<Vec<Kernel>> {
        let output = self.output_shape(inputs)?;
        let input = inputs[0];
        let [kernel_h, kernel_w] = self.kernel_size;
        let window_steps = (kernel_h * (kernel_w + 1)) as u64;
        let pixels = if 4 * window_steps <= MAX_LOOP_STEPS { 4 } else { 1 };
        let per_row = output.w.div_ceil(pixels) * output.c4();
        let mut params = Word::sizes([
            input.h,
            input.w,
            output.h,
            output.w,
            output.c4(),
            self.padding[0],
            self.padding[1],
            per_row,
        ])
        .to_vec();
        params.extend([
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]);
        Ok(vec![Kernel {
            shader: shader!("max_pool2d"),
            constants: vec![
                ("KERNEL_H", kernel_h as f64),
                ("KERNEL_W", kernel_w as f64),
                ("STRIDE_H", self.stride[0] as f64),
                ("STRIDE_W", self.stride[1] as f64),
                ("PIXELS", pixels as f64),
            ],
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: Rows {
                    mul: self.stride[0] as i64,
                    div: 1,
                    first: -(self.padding[0] as i64),
                    last: kernel_h as i64 - 1 - self.padding[0] as i64,
                },
            }],
            output: Format::Nhwc4,
            params,
            grid: Grid::Items {
                items: 64,
                per_row,
                channels: 4 * output.c4(),
            },
            terms: None,
            steps_per_term: pixels as u64 * window_steps,
            fixed_steps: 0,
        }])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let pool = |kernel, stride, padding, ceil_mode| MaxPool2d {
        padding: [padding; 2],
        ..MaxPool2d::square(kernel, stride, ceil_mode)
    };
    vec![
        case(pool(2, 2, 0, true), [[1, 5, 7, 9]]),
        case(pool(2, 2, 0, false), [[3, 4, 7, 8]]),
        case(pool(3, 2, 1, true), [[2, 9, 8, 6]]),
        case(pool(3, 3, 1, false), [[1, 8, 10, 11]]),
        case(pool(2, 2, 0, true), [[1, 3, 1, 1]]),
        // A window so large that an invocation computes one pixel alone.
        case(pool(125, 2, 60, false), [[1, 2, 7, 9]]),
    ]
}

//! 2-D max pooling: `out[n, c, y, x] = max input[n, c, y·stride − padding + ky·dilation, …]` over the taps inside
//! the input.
//!
//! With w = dilation · (kernel − 1) + 1 pixels from the first tap to the last, the output size is
//! ⌊(size + 2·padding − w) / stride⌋ + 1, or with `ceil_mode` ⌈…⌉ + 1, less one if the last window would begin past
//! the input and its left padding. NaN propagates. A window with no tap inside the input, possible with a dilation
//! larger than the input, is an error; PyTorch's result is −∞.
//! Source: `torch.nn.functional.max_pool2d`.

use super::attributes::{optional_pair, pair};
use super::numerics::Numerics;
use super::{Case, Op, Probabilities, Window, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::{Count, Grid, PixelRun};
use crate::ops::kernel::{
    Binding, Format, Kernel, MAX_LOOP_STEPS, Rows, Shader, Word, shader, sizes, words,
};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The attributes of a max pooling, each `[vertical, horizontal]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Attributes")]
pub struct MaxPool2d {
    /// Size of the window.
    #[serde(deserialize_with = "pair")]
    pub kernel_size: [usize; 2],
    /// Step between neighbouring windows; in a model file `kernel_size` by default.
    pub stride: [usize; 2],
    /// Positions around the input, on each side, that never win; at most half the window.
    pub padding: [usize; 2],
    /// Step between neighbouring taps.
    pub dilation: [usize; 2],
    /// Keep a last window that reaches past the input.
    pub ceil_mode: bool,
}

/// The attributes as PyTorch takes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attributes {
    #[serde(deserialize_with = "pair")]
    kernel_size: [usize; 2],
    #[serde(default, deserialize_with = "optional_pair")]
    stride: Option<[usize; 2]>,
    #[serde(default, deserialize_with = "pair")]
    padding: [usize; 2],
    #[serde(default = "ones", deserialize_with = "pair")]
    dilation: [usize; 2],
    #[serde(default)]
    ceil_mode: bool,
}

fn ones() -> [usize; 2] {
    [1; 2]
}

impl From<Attributes> for MaxPool2d {
    fn from(attributes: Attributes) -> Self {
        let Attributes {
            kernel_size,
            stride,
            padding,
            dilation,
            ceil_mode,
        } = attributes;
        Self {
            kernel_size,
            stride: stride.unwrap_or(kernel_size),
            padding,
            dilation,
            ceil_mode,
        }
    }
}

/// An error unless PyTorch pools windows of `kernel_size` with this `stride` and `padding`.
pub(super) fn check_windows(
    kernel_size: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
) -> Result<()> {
    super::check_attributes(&[kernel_size, stride, padding])?;
    for axis in 0..2 {
        let (kernel, padding) = (kernel_size[axis], padding[axis]);
        if kernel == 0 || stride[axis] == 0 || 2 * padding > kernel {
            bail!(
                Shape,
                "kernel_size and stride are at least 1, padding at most half of kernel_size"
            );
        }
    }
    Ok(())
}

/// The number of `windows` along `axis` for an input of `size`, or an error if a window is larger than the input.
pub(super) fn output_size(windows: Window, axis: usize, size: usize) -> Result<usize> {
    let padding = windows.padding[axis];
    match windows.outputs(axis, size, padding) {
        Some(outputs) => Ok(outputs),
        None => bail!(
            Shape,
            "the window of {} pixels is larger than the input of {size} with padding {padding}",
            windows.size[axis]
        ),
    }
}

impl MaxPool2d {
    /// A square window without padding.
    pub const fn square(kernel_size: usize, stride: usize, ceil_mode: bool) -> Self {
        Self {
            kernel_size: [kernel_size; 2],
            stride: [stride; 2],
            padding: [0; 2],
            dilation: [1; 2],
            ceil_mode,
        }
    }

    pub(crate) fn over_input(&self) -> Window {
        Window {
            size: [0, 1].map(|i| self.dilation[i] * self.kernel_size[i].saturating_sub(1) + 1),
            stride: self.stride,
            padding: self.padding,
            ceil_mode: self.ceil_mode,
        }
    }

    /// The output's size along `axis`, or an error where a window has no tap inside an input of `size`.
    fn output_size(&self, axis: usize, size: usize) -> Result<usize> {
        let outputs = output_size(self.over_input(), axis, size)?;
        let (stride, padding) = (self.stride[axis], self.padding[axis]);
        // Past the padding, a window's first tap is inside.
        let mut in_padding = (0..outputs).take_while(|i| i * stride < padding);
        if in_padding.any(|i| self.taps(axis, i, size).next().is_none()) {
            bail!(
                Shape,
                "with dilation {} a window has no tap inside the input of {size}",
                self.dilation[axis]
            );
        }
        Ok(outputs)
    }

    /// The taps along `axis` of output `i` that lie inside an input of `size`.
    pub(super) fn taps(
        &self,
        axis: usize,
        i: usize,
        size: usize,
    ) -> impl Iterator<Item = usize> + Clone {
        let (kernel, dilation) = (self.kernel_size[axis], self.dilation[axis]);
        let (begin, padding) = (i * self.stride[axis], self.padding[axis]);
        let first = padding.saturating_sub(begin).div_ceil(dilation);
        let end = (size + padding).saturating_sub(begin).div_ceil(dilation);
        (first..end.min(kernel)).map(move |k| begin + k * dilation - padding)
    }

    /// The kernel of a `shader` that reads every tap of a window, with an output of this shape and format.
    pub(super) fn kernel(&self, shader: Shader, input: Shape, output: (Shape, Format)) -> Kernel {
        let (output, format) = output;
        let [kernel_h, kernel_w] = self.kernel_size;
        let window_steps = kernel_h as u64 * (kernel_w as u64 + 1);
        let pixels = if 4 * window_steps <= MAX_LOOP_STEPS {
            4
        } else {
            1
        };
        let mut params = sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("out_height", output.h),
            ("out_width", output.w),
            ("c4", output.c4()),
            ("padding_h", self.padding[0]),
            ("padding_w", self.padding[1]),
        ])
        .to_vec();
        params.extend(words([
            Word::Count(Count::LineItems),
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]));
        Kernel {
            shader,
            constants: vec![
                ("KERNEL_H", kernel_h as f64),
                ("KERNEL_W", kernel_w as f64),
                ("STRIDE_H", self.stride[0] as f64),
                ("STRIDE_W", self.stride[1] as f64),
                ("DILATION_H", self.dilation[0] as f64),
                ("DILATION_W", self.dilation[1] as f64),
                ("PIXELS", pixels as f64),
            ],
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: Rows {
                    mul: self.stride[0] as i64,
                    div: 1,
                    first: -(self.padding[0] as i64),
                    last: self.over_input().size[0] as i64 - 1 - self.padding[0] as i64,
                },
            }],
            output: format,
            params,
            grid: Grid::Items {
                items: 64,
                run: PixelRun {
                    quads: output.c4(),
                    ..PixelRun::of_row(pixels)
                },
                channels: 4 * output.c4(),
            },
            terms: None,
            steps_per_term: pixels as u64 * window_steps,
            fixed_steps: 0,
        }
    }
}

impl Op for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        check_windows(self.kernel_size, self.stride, self.padding)?;
        super::check_attributes(&[self.dilation])?;
        if self.dilation.contains(&0) {
            bail!(Shape, "dilation is at least 1");
        }
        Ok(input.with_size(self.output_size(0, input.h)?, self.output_size(1, input.w)?))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        let size = input.shape();
        Tensor::from_planes(output, |n, c, plane| {
            let from = input.plane(n, c);
            for (i, out) in plane.iter_mut().enumerate() {
                let columns = self.taps(1, i % output.w, size.w);
                *out = self
                    .taps(0, i / output.w, size.h)
                    .flat_map(|y| columns.clone().map(move |x| from[y * size.w + x]))
                    .fold(f32::NEG_INFINITY, |max, x| {
                        if x > max || x.is_nan() { x } else { max }
                    });
            }
        })
    }

    fn window(&self, _inputs: &[Shape]) -> Option<Window> {
        Some(self.over_input())
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::OfInputs
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = (self.output_shape(inputs)?, Format::Nhwc4);
        Ok(vec![Candidate::kernel(self.kernel(
            shader!("max_pool2d"),
            inputs[0],
            output,
        ))])
    }
}

/// Poolings, and shapes to try them on.
pub(super) fn samples() -> Vec<(MaxPool2d, [usize; 4])> {
    let pool = |kernel, stride, padding, ceil_mode| MaxPool2d {
        padding: [padding; 2],
        ..MaxPool2d::square(kernel, stride, ceil_mode)
    };
    let dilated = |dilation, pool: MaxPool2d| MaxPool2d { dilation, ..pool };
    vec![
        (pool(2, 2, 0, true), [1, 5, 7, 9]),
        (pool(2, 2, 0, false), [3, 4, 7, 8]),
        (pool(3, 2, 1, true), [2, 9, 8, 6]),
        (pool(3, 3, 1, false), [1, 8, 10, 11]),
        (pool(2, 2, 0, true), [1, 3, 1, 1]),
        (dilated([2, 3], pool(3, 2, 1, true)), [2, 5, 11, 9]),
        (dilated([3, 1], pool(2, 1, 1, false)), [1, 4, 3, 6]),
        // A window so large that an invocation computes one pixel alone.
        (pool(125, 2, 60, false), [1, 2, 7, 9]),
    ]
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let of = |(pool, input)| case(pool, [input]);
    samples().into_iter().map(of).collect()
}

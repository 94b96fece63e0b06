//! 2-D max unpooling, the inverse of a max pooling: each value goes back to its position in its channel's plane, given
//! by the indices of [`MaxPool2dIndices`](super::MaxPool2dIndices); all other positions are zero.
//!
//! Inputs: values and indices `[n, c, h, w]`, and optionally a tensor of the output's height and width, whose values
//! are not read. The output's size is that tensor's, or `output_size`, or by default
//! (size − 1) · stride − 2 · padding + kernel_size; a given size may differ from the default by less than `stride`. If several values have the same
//! position, the last wins, row by row, as on PyTorch's CPU.
//!
//! The indices must come from a pooling with the same window of a plane as large as the output: each index lies in the
//! window of its value. PyTorch takes any index in the plane; here a pixel looks only at the windows that contain it.
//! An index outside its window is not lost silently: the reference implementation returns an error, and a kernel writes
//! NaN throughout the part of the window inside the output. NaN is an error where labels are made, and in f16 at once.
//! Source: `torch.nn.functional.max_unpool2d`.

use super::attributes::{optional_pair, pair};
use super::max_pool2d::check_windows;
use super::max_pool2d_indices::check_plane;
use super::numerics::Numerics;
use super::{Case, Op, case};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, shader, sizes, words};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;
use std::ops::Range;

/// The attributes of a max unpooling, each `[vertical, horizontal]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Attributes")]
pub struct MaxUnpool2d {
    /// Size of the pooling's window.
    pub kernel_size: [usize; 2],
    /// Step between neighbouring windows of the pooling; in a model file `kernel_size` by default.
    pub stride: [usize; 2],
    /// Padding of the pooling, at most half the window.
    pub padding: [usize; 2],
    /// Height and width of the output; by default those of the smallest plane that pools to the input's size.
    pub output_size: Option<[usize; 2]>,
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
    #[serde(default, deserialize_with = "optional_pair")]
    output_size: Option<[usize; 2]>,
}

impl From<Attributes> for MaxUnpool2d {
    fn from(attributes: Attributes) -> Self {
        let Attributes {
            kernel_size,
            stride,
            padding,
            output_size,
        } = attributes;
        Self {
            kernel_size,
            stride: stride.unwrap_or(kernel_size),
            padding,
            output_size,
        }
    }
}

impl MaxUnpool2d {
    /// The inverse of a pooling with a square window without padding.
    pub const fn square(kernel_size: usize, stride: usize) -> Self {
        Self {
            kernel_size: [kernel_size; 2],
            stride: [stride; 2],
            padding: [0; 2],
            output_size: None,
        }
    }

    /// The output's size along `axis`: `wanted`, or by default the smallest that pools to `size`.
    fn output_size(&self, axis: usize, size: usize, wanted: Option<usize>) -> Result<usize> {
        let (stride, padding) = (self.stride[axis], self.padding[axis]);
        let pooled = (size - 1) * stride + self.kernel_size[axis] - 2 * padding;
        let output = wanted.unwrap_or(pooled);
        if output == 0 || output.abs_diff(pooled) >= stride.max(1) && wanted.is_some() {
            bail!(
                Shape,
                "{size} windows come from {pooled} pixels, give or take less than {stride}, not from {output}"
            );
        }
        Ok(output)
    }

    /// The positions along `axis` that window `i` covers, out of `size`.
    fn window(&self, axis: usize, i: usize, size: usize) -> Range<usize> {
        let begin = i * self.stride[axis];
        let end = (begin + self.kernel_size[axis]).saturating_sub(self.padding[axis]);
        begin.saturating_sub(self.padding[axis])..end.min(size)
    }

    /// The input rows whose windows contain an output row.
    fn rows(&self) -> Rows {
        let (stride, padding) = (self.stride[0] as i64, self.padding[0] as i64);
        Rows {
            mul: 1,
            div: stride,
            first: padding - self.kernel_size[0] as i64 + stride,
            last: padding,
        }
    }
}

impl Op for MaxUnpool2d {
    fn name(&self) -> &'static str {
        "max_unpool2d"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let (&[input, indices], like) = inputs.split_at(2.min(inputs.len())) else {
            bail!(
                Shape,
                "max_unpool2d takes values, indices and perhaps a tensor of the output's size"
            );
        };
        check_windows(self.kernel_size, self.stride, self.padding)?;
        super::check_attributes(self.output_size.as_slice())?;
        if input != indices || input.elements() == 0 {
            bail!(
                Shape,
                "indices of shape {indices} do not fit values of shape {input}"
            );
        }
        let wanted = match (self.output_size, like) {
            (size, []) => size,
            (None, [like]) => Some([like.h, like.w]),
            (None, _) => bail!(
                Shape,
                "max_unpool2d takes 2 or 3 inputs, not {}",
                inputs.len()
            ),
            (Some(_), _) => bail!(
                Shape,
                "the output's size is given twice, by output_size and by an input"
            ),
        };
        let output = input.with_size(
            self.output_size(0, input.h, wanted.map(|size| size[0]))?,
            self.output_size(1, input.w, wanted.map(|size| size[1]))?,
        );
        check_plane(output)?;
        Ok(output)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let (input, indices) = (inputs[0], inputs[1]);
        let shape = input.shape();
        let mut unpooled = Tensor::zeros(output)?;
        for (i, (value, index)) in input.data().iter().zip(indices.data()).enumerate() {
            let [n, c, y, x] = input.position(i);
            let (rows, columns) = (self.window(0, y, output.h), self.window(1, x, output.w));
            // An index that is not in the plane casts to another number, or to one outside the window.
            let at = *index as usize;
            let inside = rows.contains(&(at / output.w)) && columns.contains(&(at % output.w));
            if at as f32 != *index || !inside {
                bail!(
                    Unsupported,
                    "index {index} at [{n}, {c}, {y}, {x}] does not lie in its window, rows {rows:?} and columns \
                     {columns:?} of a plane of {} × {}: the pooling's window or input was another",
                    output.h,
                    output.w
                );
            }
            let plane = (n * shape.c + c) * output.h * output.w;
            unpooled.data_mut()[plane + at] = *value;
        }
        Ok(unpooled)
    }

    fn reads(&self, input: usize) -> bool {
        input < 2
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let input = inputs[0];
        let mut params = sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("out_height", output.h),
            ("out_width", output.w),
            ("channels", output.c),
            ("c4", output.c4()),
            ("padding_h", self.padding[0]),
            ("padding_w", self.padding[1]),
        ])
        .to_vec();
        params.push(("nan", Word::Value(f32::NAN.to_bits())));
        params.extend(words([Word::RowBegin, Word::RowEnd, Word::InputStart(0)]));
        params.push(("indices_start", Word::InputStart(1)));
        params.extend(words([Word::OutputStart]));
        let at = |input: usize, format: Format| Binding::Activation {
            input,
            format,
            rows: self.rows(),
        };
        let windows = [0, 1].map(|i| self.kernel_size[i].div_ceil(self.stride[i]) as u64);
        Ok(vec![Candidate::kernel(Kernel {
            shader: shader!("max_unpool2d"),
            constants: vec![
                ("KERNEL_H", self.kernel_size[0] as f64),
                ("KERNEL_W", self.kernel_size[1] as f64),
                ("STRIDE_H", self.stride[0] as f64),
                ("STRIDE_W", self.stride[1] as f64),
            ],
            bindings: vec![at(0, Format::Nhwc4), at(1, Format::Nhwc4Exact)],
            output: Format::Nhwc4,
            params,
            grid: Grid::Elements(64),
            terms: None,
            steps_per_term: windows[0]
                .saturating_mul(1 + windows[1].saturating_mul(1 + self.kernel_size[0] as u64)),
            fixed_steps: 0,
        })])
    }
}

/// Shapes to try. Tests make the indices by pooling a plane of the output's size.
pub fn cases() -> Vec<Case> {
    let unpool = |kernel, stride, padding, output_size| MaxUnpool2d {
        padding: [padding; 2],
        output_size,
        ..MaxUnpool2d::square(kernel, stride)
    };
    vec![
        case(unpool(2, 2, 0, None), [[1, 5, 4, 3], [1, 5, 4, 3]]),
        case(unpool(2, 2, 0, Some([7, 9])), [[3, 4, 4, 5], [3, 4, 4, 5]]),
        case(
            unpool(3, 2, 1, None),
            [[2, 9, 4, 3], [2, 9, 4, 3], [1, 2, 8, 6]],
        ),
        case(unpool(4, 1, 2, None), [[1, 8, 5, 6], [1, 8, 5, 6]]),
        case(unpool(2, 2, 0, None), [[2, 6, 2, 3], [2, 6, 2, 3]]),
        case(
            unpool(2, 3, 0, None),
            [[1, 3, 3, 2], [1, 3, 3, 2], [1, 3, 10, 5]],
        ),
    ]
}

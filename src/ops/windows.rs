//! The pixels of a window as channels: `out[n, (c · kh + ky) · kw + kx, y, x]` is the input's channel c at row
//! y · stride + ky · dilation − padding, columns likewise, and zero outside. The common part of `Unfold` and
//! `PixelUnshuffle`.

use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, shader, sizes};
use crate::tensor::{MAX_SIZE, Shape, Tensor};

/// The windows along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Windows {
    pub kernel: usize,
    pub dilation: usize,
    pub padding: usize,
    pub stride: usize,
}

impl Windows {
    /// The number of windows along an axis of `size`.
    fn outputs(&self, size: usize) -> Result<usize> {
        if [self.kernel, self.dilation, self.stride].contains(&0) {
            bail!(Shape, "kernel_size, dilation and stride are at least 1");
        }
        let reach = (self.kernel - 1)
            .saturating_mul(self.dilation)
            .saturating_add(1);
        match (size + 2 * self.padding).checked_sub(reach) {
            Some(room) if size > 0 => Ok(room / self.stride + 1),
            _ => bail!(
                Shape,
                "{size} rows or columns with padding {} are fewer than the {reach} of a window",
                self.padding
            ),
        }
    }

    /// The input's position, out of `size`, at tap `tap` of window `i`.
    fn source(&self, i: usize, tap: usize, size: usize) -> Option<usize> {
        let at = (i * self.stride + tap * self.dilation).checked_sub(self.padding);
        at.filter(|at| *at < size)
    }
}

/// The shape of the output for the windows along rows and columns.
///
/// # Errors
/// `Shape` if there is no window, or the output is too large.
pub(super) fn output_shape([rows, columns]: &[Windows; 2], input: Shape) -> Result<Shape> {
    for axis in [rows, columns] {
        super::check_attributes(&[[axis.kernel, axis.dilation], [axis.padding, axis.stride]])?;
    }
    let taps = rows.kernel.saturating_mul(columns.kernel);
    let channels = input.c.saturating_mul(taps);
    if channels > MAX_SIZE {
        bail!(Shape, "{channels} channels are more than {MAX_SIZE}");
    }
    let size = [rows.outputs(input.h)?, columns.outputs(input.w)?];
    Ok(input.with_channels(channels).with_size(size[0], size[1]))
}

/// The reference implementation.
///
/// # Errors
/// As [`output_shape`], and `Limit` if the host has no memory for the output.
pub(super) fn reference(axes: &[Windows; 2], input: &Tensor) -> Result<Tensor> {
    let output = output_shape(axes, input.shape())?;
    let [rows, columns] = axes;
    let Shape { h, w, .. } = input.shape();
    Tensor::from_fn(output, |n, k, y, x| {
        let (c, ky, kx) = (
            k / columns.kernel / rows.kernel,
            k / columns.kernel % rows.kernel,
            k % columns.kernel,
        );
        match (rows.source(y, ky, h), columns.source(x, kx, w)) {
            (Some(y), Some(x)) => input.at(n, c, y, x),
            _ => 0.0,
        }
    })
}

/// The kernel.
///
/// # Errors
/// As [`output_shape`].
pub(super) fn candidates(axes: &[Windows; 2], input: Shape) -> Result<Vec<Candidate>> {
    let output = output_shape(axes, input)?;
    let [rows, columns] = axes;
    let extra = sizes([
        ("in_height", input.h),
        ("in_width", input.w),
        ("in_c4", input.c4()),
        ("height", output.h),
        ("channels", output.c),
        ("c4", output.c4()),
        ("kernel_h", rows.kernel),
        ("kernel_w", columns.kernel),
        ("dilation_h", rows.dilation),
        ("dilation_w", columns.dilation),
        ("padding_h", rows.padding),
        ("padding_w", columns.padding),
        ("stride_h", rows.stride),
        ("stride_w", columns.stride),
    ]);
    let first = -(rows.padding as i64);
    Ok(vec![Candidate::kernel(Kernel {
        bindings: vec![Binding::Activation {
            input: 0,
            format: Format::Nhwc4,
            rows: Rows {
                mul: rows.stride as i64,
                div: 1,
                first,
                last: first + ((rows.kernel - 1) * rows.dilation) as i64,
            },
        }],
        ..Kernel::elementwise(shader!("windows"), &["input_start"], &extra, output)
    })])
}

//! Elements of each image in another order: the common part of [`Permute`](super::Permute),
//! [`Reshape`](super::Reshape) and [`TransposeChannels`](super::TransposeChannels).
//!
//! `out[n, c, y, x]` is element number `c·steps[0] + y·steps[1] + x·steps[2]` of image n of the input, counted in the
//! order `[c, h, w]`.

use super::kernel::{Binding, Format, Kernel, Rows, shader, sizes};
use crate::error::Result;
use crate::tensor::{Shape, Tensor};

/// The steps between neighbours along channels, rows and columns of a tensor that is not rearranged.
pub(super) fn steps(shape: Shape) -> [usize; 3] {
    [shape.h.saturating_mul(shape.w), shape.w, 1]
}

/// The reference.
pub(super) fn rearranged(input: &Tensor, output: Shape, steps: [usize; 3]) -> Result<Tensor> {
    let of_image = input.shape().elements() / input.shape().n.max(1);
    Tensor::from_fn(output, |n, c, y, x| {
        input.data()[n * of_image + c * steps[0] + y * steps[1] + x * steps[2]]
    })
}

/// The kernel. Every row of the output may need every row of its image.
pub(super) fn kernel(input: Shape, output: Shape, steps: [usize; 3]) -> Kernel {
    let extra = sizes([
        ("out_height", output.h),
        ("channels", output.c),
        ("c4", output.c4()),
        ("in_height", input.h),
        ("in_width", input.w),
        ("in_c4", input.c4()),
        ("step_c", steps[0]),
        ("step_y", steps[1]),
        ("step_x", steps[2]),
    ]);
    Kernel {
        bindings: vec![Binding::Activation {
            input: 0,
            format: Format::Nhwc4,
            rows: Rows::all(input.h),
        }],
        ..Kernel::elementwise(shader!("rearrange"), &["input_start"], &extra, output)
    }
}

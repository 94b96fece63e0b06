//! Arithmetic of two tensors, element by element: the common part of `Add`, `Sub` and `Mul`. A size of 1 in one tensor
//! broadcasts along that dimension of the other.

use super::take_inputs;
use crate::error::{Result, bail};
use crate::ops::kernel::{Binding, Format, Kernel, Param, Rows, shader, sizes};
use crate::tensor::{Shape, Tensor};

/// An operation in `shaders/broadcast.wgsl`.
#[derive(Clone, Copy)]
pub(crate) struct Arithmetic {
    /// PyTorch's name.
    pub name: &'static str,
    /// Its number in the shader, the value of `OPERATION`.
    pub number: u8,
    /// The operation on two numbers.
    pub value: fn(f64, f64) -> f64,
}

impl Arithmetic {
    pub(crate) fn output_shape(self, inputs: &[Shape]) -> Result<Shape> {
        let [a, b] = take_inputs(self.name, inputs)?;
        let size = |a: usize, b: usize| match (a, b) {
            (1, size) | (size, 1) => Some(size),
            _ => (a == b).then_some(a),
        };
        let shape = || {
            Some(Shape::new(
                size(a.n, b.n)?,
                size(a.c, b.c)?,
                size(a.h, b.h)?,
                size(a.w, b.w)?,
            ))
        };
        match shape() {
            Some(shape) => Ok(shape),
            None => bail!(
                Shape,
                "cannot {} tensors of shapes {a} and {b}: their sizes are equal or 1",
                self.name
            ),
        }
    }

    pub(crate) fn reference(self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [a, b] = take_inputs(self.name, inputs)?;
        let at = |t: &Tensor, [n, c, y, x]: [usize; 4]| {
            let s = t.shape();
            let inside = |i: usize, size: usize| if size == 1 { 0 } else { i };
            f64::from(t.at(
                inside(n, s.n),
                inside(c, s.c),
                inside(y, s.h),
                inside(x, s.w),
            ))
        };
        Tensor::from_fn(output, |n, c, y, x| {
            (self.value)(at(a, [n, c, y, x]), at(b, [n, c, y, x])) as f32
        })
    }

    /// The kernel; with `relu`, which only sums have, ReLU of the result.
    pub(crate) fn kernel(self, inputs: &[Shape], relu: bool) -> Result<Kernel> {
        let output = self.output_shape(inputs)?;
        let [a, b] = take_inputs(self.name, inputs)?;
        let mut extra = sizes([
            ("height", output.h),
            ("width", output.w),
            ("channels", output.c),
            ("c4", output.c4()),
        ])
        .to_vec();
        extra.extend(strides(a, ["a_image", "a_row", "a_pixel", "a_group"]));
        extra.extend(strides(b, ["b_image", "b_row", "b_pixel", "b_group"]));
        let splat = [a, b].map(|operand| operand.c == 1 && output.c > 1);
        // A value broadcast over all channels reaches the padding channels too.
        let masked = splat.contains(&true) && !output.c.is_multiple_of(4);
        let flag = |flag: bool| f64::from(u8::from(flag));
        let binding = |(input, operand): (usize, Shape)| Binding::Activation {
            input,
            format: Format::Nhwc4,
            rows: match operand.h {
                1 => Rows::all(1),
                _ => Rows::shifted(0),
            },
        };
        Ok(Kernel {
            constants: vec![
                ("OPERATION", f64::from(self.number)),
                ("SAME_SHAPE", flag(a == b)),
                ("A_SPLAT", flag(splat[0])),
                ("B_SPLAT", flag(splat[1])),
                ("MASKED", flag(masked)),
                ("RELU", flag(relu)),
            ],
            bindings: [(0, a), (1, b)].map(binding).to_vec(),
            ..Kernel::elementwise(
                shader!("broadcast"),
                &["a_start", "b_start"],
                &extra,
                output,
            )
        })
    }
}

/// Strides of an operand, in elements, between images, rows, pixels and groups of channels; 0 along a broadcast
/// dimension.
fn strides(operand: Shape, [image, row, pixel, group]: [&'static str; 4]) -> [Param; 4] {
    let Shape { n, c, h, w } = operand;
    let c4 = operand.c4();
    let stride = |size: usize, stride: usize| if size == 1 { 0 } else { stride };
    sizes([
        (image, stride(n, h * w * c4)),
        (row, stride(h, w * c4)),
        (pixel, stride(w, c4)),
        (group, stride(c, 1)),
    ])
}

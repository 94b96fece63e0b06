//! Arithmetic and comparisons of two tensors, element by element: the common part of their ops. A size of 1 in one tensor
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
        match together(a, b) {
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
        Tensor::from_fn(output, |n, c, y, x| {
            let [a, b] = [a, b].map(|t| f64::from(at(t, [n, c, y, x])));
            (self.value)(a, b) as f32
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
        // A value broadcast over all channels reaches the padding channels too; and some operations of two zeros do not
        // give zero.
        let of_zeros = (self.value)(0.0, 0.0) != 0.0;
        let masked = (of_zeros || splat.contains(&true)) && !output.c.is_multiple_of(4);
        let flag = |flag: bool| f64::from(u8::from(flag));
        Ok(Kernel {
            constants: vec![
                ("OPERATION", f64::from(self.number)),
                ("SAME_SHAPE", flag(a == b)),
                ("A_SPLAT", flag(splat[0])),
                ("B_SPLAT", flag(splat[1])),
                ("MASKED", flag(masked)),
                ("RELU", flag(relu)),
            ],
            bindings: vec![binding(0, a), binding(1, b)],
            ..Kernel::elementwise(
                shader!("broadcast"),
                &["a_start", "b_start"],
                &extra,
                output,
            )
        })
    }
}

/// The shape of both together, unless sizes differ of which neither is 1.
pub(super) fn together(a: Shape, b: Shape) -> Option<Shape> {
    let size = |a: usize, b: usize| match (a, b) {
        (1, size) | (size, 1) => Some(size),
        _ => (a == b).then_some(a),
    };
    Some(Shape::new(
        size(a.n, b.n)?,
        size(a.c, b.c)?,
        size(a.h, b.h)?,
        size(a.w, b.w)?,
    ))
}

/// The value of an operand for an element of the output.
pub(super) fn at(operand: &Tensor, [n, c, y, x]: [usize; 4]) -> f32 {
    let s = operand.shape();
    let inside = |i: usize, size: usize| if size == 1 { 0 } else { i };
    operand.at(
        inside(n, s.n),
        inside(c, s.c),
        inside(y, s.h),
        inside(x, s.w),
    )
}

/// The binding of an operand.
pub(super) fn binding(input: usize, operand: Shape) -> Binding {
    Binding::Activation {
        input,
        format: Format::Nhwc4,
        rows: match operand.h {
            1 => Rows::all(1),
            _ => Rows::shifted(0),
        },
    }
}

/// Strides of an operand, in elements, between images, rows, pixels and groups of channels; 0 along a broadcast
/// dimension.
pub(super) fn strides(operand: Shape, [image, row, pixel, group]: [&'static str; 4]) -> [Param; 4] {
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

/// An op without attributes that broadcasts, from its [`Arithmetic`], its `numerics`, its `noise` from the inputs' root
/// mean squares, and what it makes of probabilities.
macro_rules! broadcasting {
    ($op:ident, $arithmetic:expr, $numerics:expr, $noise:expr) => {
        $crate::ops::broadcast::broadcasting!(
            $op,
            $arithmetic,
            $numerics,
            $noise,
            $crate::ops::Probabilities::Changed
        );
    };
    ($op:ident, $arithmetic:expr, $numerics:expr, $noise:expr, $probabilities:expr) => {
        impl $op {
            const ARITHMETIC: $crate::ops::broadcast::Arithmetic = $arithmetic;
        }

        impl $crate::ops::Op for $op {
            fn name(&self) -> &'static str {
                Self::ARITHMETIC.name
            }

            fn output_shape(
                &self,
                inputs: &[$crate::tensor::Shape],
            ) -> $crate::error::Result<$crate::tensor::Shape> {
                Self::ARITHMETIC.output_shape(inputs)
            }

            fn reference(
                &self,
                inputs: &[&$crate::tensor::Tensor],
            ) -> $crate::error::Result<$crate::tensor::Tensor> {
                Self::ARITHMETIC.reference(inputs)
            }

            fn noise(&self, inputs: &[&$crate::tensor::Tensor]) -> f64 {
                let noise: fn(&[&$crate::tensor::Tensor]) -> f64 = $noise;
                noise(inputs)
            }

            fn broadcasts(&self) -> bool {
                true
            }

            fn probabilities(&self) -> $crate::ops::Probabilities {
                $probabilities
            }

            fn numerics(
                &self,
                _inputs: &[$crate::tensor::Shape],
            ) -> $crate::ops::numerics::Numerics<'_> {
                $numerics
            }

            fn candidates(
                &self,
                inputs: &[$crate::tensor::Shape],
                _target: &$crate::target::Target,
            ) -> $crate::error::Result<Vec<$crate::ops::candidate::Candidate>> {
                let kernel = Self::ARITHMETIC.kernel(inputs, false)?;
                Ok(vec![$crate::ops::candidate::Candidate::kernel(kernel)])
            }
        }
    };
}
pub(super) use broadcasting;

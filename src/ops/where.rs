//! Choice between two tensors, element by element: `out = a` where the condition is not 0, else `b`. Sizes are equal; a
//! size of 1 broadcasts.
//!
//! Inputs: condition, a and b. Source: `torch.where`.

use super::broadcast::{at, binding, strides, together};
use super::numerics::{Jumps, Numerics};
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Kernel, shader, sizes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The operation has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Where {}

impl Op for Where {
    fn name(&self) -> &'static str {
        "where"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [condition, a, b] = take_inputs(self.name(), inputs)?;
        match together(a, b).and_then(|both| together(condition, both)) {
            Some(shape) => Ok(shape),
            None => bail!(
                Shape,
                "cannot choose between tensors of shapes {a} and {b} by {condition}: their sizes are equal or 1"
            ),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [condition, a, b] = take_inputs(self.name(), inputs)?;
        Tensor::from_fn(output, |n, c, y, x| {
            let chosen = if at(condition, [n, c, y, x]) == 0.0 {
                b
            } else {
                a
            };
            at(chosen, [n, c, y, x])
        })
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let [a, b] = [inputs[1], inputs[2]].map(Tensor::root_mean_square);
        a.max(b)
    }

    fn broadcasts(&self) -> bool {
        true
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::Chosen
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact().with_jumps(Jumps::Branches(Box::new(|inputs| {
            let output = self.output_shape(&super::shapes(inputs))?;
            Tensor::from_fn(output, |n, c, y, x| {
                f32::from(u8::from(at(inputs[0], [n, c, y, x]) != 0.0))
            })
        })))
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let [condition, a, b] = take_inputs(self.name(), inputs)?;
        let mut extra = sizes([
            ("height", output.h),
            ("channels", output.c),
            ("c4", output.c4()),
        ])
        .to_vec();
        extra.extend(strides(
            condition,
            ["c_image", "c_row", "c_pixel", "c_group"],
        ));
        extra.extend(strides(a, ["a_image", "a_row", "a_pixel", "a_group"]));
        extra.extend(strides(b, ["b_image", "b_row", "b_pixel", "b_group"]));
        let splat = |operand: Shape| operand.c == 1 && output.c > 1;
        let masked = (splat(a) || splat(b)) && !output.c.is_multiple_of(4);
        let flag = |flag: bool| f64::from(u8::from(flag));
        Ok(vec![Candidate::kernel(Kernel {
            constants: vec![
                ("A_SPLAT", flag(splat(a))),
                ("B_SPLAT", flag(splat(b))),
                ("C_SPLAT", flag(splat(condition))),
                ("MASKED", flag(masked)),
            ],
            bindings: vec![binding(0, condition), binding(1, a), binding(2, b)],
            ..Kernel::elementwise(
                shader!("where"),
                &["c_start", "a_start", "b_start"],
                &extra,
                output,
            )
        })])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let of = |condition, a, b| case(Where {}, [condition, a, b]);
    vec![
        of([2, 5, 3, 7], [2, 5, 3, 7], [2, 5, 3, 7]),
        of([2, 1, 5, 4], [2, 7, 5, 4], [2, 1, 1, 1]),
        of([1, 6, 1, 1], [2, 6, 4, 3], [1, 6, 4, 3]),
        of([3, 1, 4, 1], [3, 1, 1, 5], [1, 6, 1, 1]),
        of([1, 5, 4, 3], [1, 5, 4, 3], [1, 1, 4, 3]),
    ]
}

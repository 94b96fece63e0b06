//! Padding: rows and columns around a tensor, filled with a constant, the reflected input, or its repeated edge.
//!
//! Source: `torch.nn.functional.pad` of the last two dimensions.

use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, floats, shader, sizes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The values around the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PadMode {
    /// A value.
    #[default]
    Constant,
    /// The input mirrored at its first and last position, which are not repeated.
    Reflect,
    /// The nearest position of the input.
    Replicate,
}

/// The size of the padding, and its values.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// Columns at the left and the right, rows at the top and the bottom: `[left, right, top, bottom]`.
    pub padding: [usize; 4],
    /// How the padding is filled.
    #[serde(default)]
    pub mode: PadMode,
    /// The constant.
    #[serde(default)]
    pub value: f32,
}

impl Pad {
    /// The input position, out of `size`, of output position `at` with `before` positions of padding ahead; `None`
    /// for the constant.
    fn source(&self, at: usize, before: usize, size: usize) -> Option<usize> {
        let (at, last) = (at as i64 - before as i64, size as i64 - 1);
        let inside = match self.mode {
            PadMode::Constant => at,
            PadMode::Replicate => at.clamp(0, last),
            // Padding is less than the size: one reflection at either end suffices.
            PadMode::Reflect => last - (last - at.abs()).abs(),
        };
        (0..=last).contains(&inside).then_some(inside as usize)
    }
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        let [left, right, top, bottom] = self.padding;
        super::check_attributes(&[[left, right], [top, bottom]])?;
        if self.value.is_nan() {
            bail!(Shape, "the value around an input is NaN");
        }
        let most = |size: usize| match self.mode {
            PadMode::Constant => usize::MAX,
            PadMode::Replicate if size > 0 => usize::MAX,
            PadMode::Reflect if size > 0 => size - 1,
            _ => 0,
        };
        if left.max(right) > most(input.w) || top.max(bottom) > most(input.h) {
            bail!(
                Shape,
                "{input} is too small for {:?} around it in mode {:?}",
                self.padding,
                self.mode
            );
        }
        Ok(input.with_size(input.h + top + bottom, input.w + left + right))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        let [left, _, top, _] = self.padding;
        let Shape { h, w, .. } = input.shape();
        Tensor::from_fn(output, |n, c, y, x| {
            match (self.source(y, top, h), self.source(x, left, w)) {
                (Some(y), Some(x)) => input.at(n, c, y, x),
                _ => self.value,
            }
        })
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::OfInputs
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::rounded()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let [input] = take_inputs(self.name(), inputs)?;
        let [left, _, top, bottom] = self.padding;
        let mut extra = sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("height", output.h),
            ("channels", output.c),
            ("c4", output.c4()),
            ("top", top),
            ("left", left),
        ])
        .to_vec();
        extra.extend(floats([("value", self.value)]));
        let (above, below) = (top as i64, bottom as i64);
        let rows = match self.mode {
            // The row k above the first mirrors the row k below it, and likewise at the bottom: a source is up to
            // twice the padding away. `Rows` has one range for every row.
            PadMode::Reflect => Rows {
                mul: 1,
                div: 1,
                first: -above - 2 * below,
                last: above,
            },
            // Rows outside count as the nearest inside.
            PadMode::Constant | PadMode::Replicate => Rows {
                mul: 1,
                div: 1,
                first: -above,
                last: -above,
            },
        };
        Ok(vec![Candidate::kernel(Kernel {
            constants: vec![("MODE", f64::from(self.mode as u8))],
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows,
            }],
            ..Kernel::elementwise(shader!("pad"), &["input_start"], &extra, output)
        })])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let pad = |padding, mode, value, shape| {
        case(
            Pad {
                padding,
                mode,
                value,
            },
            [shape],
        )
    };
    vec![
        pad([1, 2, 3, 0], PadMode::Constant, 0.0, [1, 5, 3, 7]),
        pad([0, 3, 1, 2], PadMode::Constant, -0.5, [2, 6, 4, 3]),
        pad([2, 1, 3, 2], PadMode::Reflect, 0.0, [2, 5, 4, 3]),
        pad([5, 1, 0, 7], PadMode::Replicate, 0.0, [3, 8, 2, 3]),
    ]
}

//! Padding: rows and columns around a tensor, filled with a constant, the reflected input, its repeated edge, or the
//! input again from its other end. Negative padding cuts rows and columns off.
//!
//! The size of the padding is `padding`, or it follows from the output's size: that of a second input, whose values are
//! not read, or the next multiple of `multiple`. With d rows more than the input, ⌊d / 2⌋ of them lie above if `align` is
//! `center`, all if it is `end`, none if it is `start`; columns likewise.
//!
//! Source: `torch.nn.functional.pad` of the last two dimensions.

use super::attributes::optional_pair;
use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Binding, Format, Kernel, Param, Rows, Word, floats, shader, sizes};
use crate::target::Target;
use crate::tensor::{MAX_SIZE, Shape, Tensor};
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
    /// The input again and again: before its first position lies the last.
    Circular,
}

/// The place of the input in an output of given size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Align {
    /// At the top and the left.
    Start,
    /// In the middle; of an odd number of rows, one more lies below.
    Center,
    /// At the bottom and the right.
    End,
}

/// The size of the padding, by one of `padding`, `multiple` and a second input, and its values.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// Columns at the left and the right, rows at the top and the bottom: `[left, right, top, bottom]`. Negative ones
    /// are cut off.
    #[serde(default)]
    pub padding: Option<[i64; 4]>,
    /// The output's height and width are the next multiples of these.
    #[serde(default, deserialize_with = "optional_pair")]
    pub multiple: Option<[usize; 2]>,
    /// Where the input lies, if not given by `padding`; `start` when absent.
    #[serde(default)]
    pub align: Option<Align>,
    /// How the padding is filled.
    #[serde(default)]
    pub mode: PadMode,
    /// The constant.
    #[serde(default)]
    pub value: f32,
}

impl Pad {
    /// Padding of these columns and rows, `[left, right, top, bottom]`.
    pub fn by(padding: [i64; 4], mode: PadMode, value: f32) -> Self {
        Self {
            padding: Some(padding),
            mode,
            value,
            ..Self::default()
        }
    }

    /// The padding `[before, after]` of rows and of columns.
    fn around(&self, inputs: &[Shape]) -> Result<[[i64; 2]; 2]> {
        let (input, like) = match *inputs {
            [input] => (input, None),
            [input, like] => (input, Some([like.h, like.w])),
            _ => bail!(Shape, "pad takes 1 or 2 inputs, not {}", inputs.len()),
        };
        let size = [input.h, input.w];
        let wanted = match (self.padding, self.multiple, like) {
            (Some(_), None, None) if self.align.is_some() => {
                bail!(
                    Shape,
                    "align is of a multiple or a second input, not of padding"
                )
            }
            (Some([left, right, top, bottom]), None, None) => {
                return Ok([[top, bottom], [left, right]]);
            }
            (None, Some(multiple), None) => {
                super::check_attributes(&[multiple])?;
                if multiple.contains(&0) {
                    bail!(Shape, "multiple {multiple:?} contains 0");
                }
                [0, 1].map(|axis| size[axis].next_multiple_of(multiple[axis]))
            }
            (None, None, Some(wanted)) => wanted,
            _ => bail!(
                Shape,
                "pad takes its size from one of padding, multiple and a second input"
            ),
        };
        Ok([0, 1].map(|axis| {
            let more = wanted[axis] as i64 - size[axis] as i64;
            let before = match self.align.unwrap_or(Align::Start) {
                Align::Start => 0,
                Align::Center => more.div_euclid(2),
                Align::End => more,
            };
            [before, more - before]
        }))
    }

    /// The output's size along an axis of `size`, or an error where PyTorch has none.
    fn padded(&self, size: usize, [before, after]: [i64; 2]) -> Result<usize> {
        let most = match self.mode {
            PadMode::Constant => i64::MAX,
            PadMode::Replicate if size > 0 => i64::MAX,
            PadMode::Reflect => size as i64 - 1,
            PadMode::Circular => size as i64,
            PadMode::Replicate => 0,
        };
        let around = [before, after];
        let limit = MAX_SIZE as i64;
        if around
            .iter()
            .any(|padding| !(-limit..=limit).contains(padding))
        {
            bail!(Shape, "a padding of {around:?} is beyond {MAX_SIZE}");
        }
        if before.max(after) > most.max(0) {
            bail!(
                Shape,
                "{size} rows or columns are too few for {around:?} around them in mode {:?}",
                self.mode
            );
        }
        if self.mode == PadMode::Circular && before.min(after) < 0 {
            bail!(
                Shape,
                "mode circular takes no negative padding {around:?}: slice the input"
            );
        }
        match size as i64 + before + after {
            padded if padded > 0 || size == 0 && padded == 0 => Ok(padded as usize),
            _ => bail!(
                Shape,
                "a padding of {around:?} leaves nothing of {size} rows or columns"
            ),
        }
    }

    /// The input position, out of `size`, of output position `at` with `before` positions of padding ahead; `None`
    /// for the constant.
    fn source(&self, at: usize, before: i64, size: usize) -> Option<usize> {
        let (at, last) = (at as i64 - before, size as i64 - 1);
        let inside = match self.mode {
            PadMode::Constant => at,
            PadMode::Replicate => at.clamp(0, last),
            // Padding is less than the size: one reflection at either end suffices.
            PadMode::Reflect => last - (last - at.abs()).abs(),
            PadMode::Circular => at.rem_euclid(size as i64),
        };
        (0..=last).contains(&inside).then_some(inside as usize)
    }

    /// The input rows that an output row needs.
    fn rows(&self, [above, below]: [i64; 2], height: usize) -> Rows {
        match self.mode {
            // The row k above the first mirrors the row k below it, and likewise at the bottom: a source is up to
            // twice the padding away. `Rows` has one range for every row.
            PadMode::Reflect => Rows {
                mul: 1,
                div: 1,
                first: -above - 2 * below.max(0),
                last: above.abs(),
            },
            PadMode::Circular if above > 0 || below > 0 => Rows::all(height),
            // Rows outside count as the nearest inside.
            _ => Rows {
                mul: 1,
                div: 1,
                first: -above,
                last: -above,
            },
        }
    }
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [rows, columns] = self.around(inputs)?;
        if self.value.is_nan() {
            bail!(Shape, "the value around an input is NaN");
        }
        let input = inputs[0];
        Ok(input.with_size(self.padded(input.h, rows)?, self.padded(input.w, columns)?))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let shapes = super::shapes(inputs);
        let output = self.output_shape(&shapes)?;
        let [[top, _], [left, _]] = self.around(&shapes)?;
        let input = inputs[0];
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

    fn reads(&self, input: usize) -> bool {
        input == 0
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::rounded()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let [rows, columns] = self.around(inputs)?;
        let input = inputs[0];
        let mut extra = sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("height", output.h),
            ("channels", output.c),
            ("c4", output.c4()),
        ])
        .to_vec();
        let signed = |name, size: i64| -> Param { (name, Word::Value(size as i32 as u32)) };
        extra.extend([signed("top", rows[0]), signed("left", columns[0])]);
        extra.extend(floats([("value", self.value)]));
        Ok(vec![Candidate::kernel(Kernel {
            constants: vec![("MODE", f64::from(self.mode as u8))],
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: self.rows(rows, input.h),
            }],
            ..Kernel::elementwise(shader!("pad"), &["input_start"], &extra, output)
        })])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let pad = |padding, mode, value, shape| case(Pad::by(padding, mode, value), [shape]);
    let to = |multiple, align, mode| Pad {
        multiple,
        align: Some(align),
        mode,
        ..Pad::default()
    };
    vec![
        pad([1, 2, 3, 0], PadMode::Constant, 0.0, [1, 5, 3, 7]),
        pad([0, 3, 1, 2], PadMode::Constant, -0.5, [2, 6, 4, 3]),
        pad([1, 0, 0, 1], PadMode::Constant, 0.75, [1, 8, 2, 3]),
        pad([0, 1, 2, 0], PadMode::Constant, 1.5, [1, 5, 3, 2]),
        pad([2, 1, 3, 2], PadMode::Reflect, 0.0, [2, 5, 4, 3]),
        pad([5, 1, 0, 7], PadMode::Replicate, 0.0, [3, 8, 2, 3]),
        pad([3, 1, 2, 4], PadMode::Circular, 0.0, [2, 5, 4, 3]),
        pad([-1, 2, 3, -2], PadMode::Constant, 0.25, [2, 7, 4, 5]),
        pad([-2, 3, 2, -1], PadMode::Reflect, 0.0, [1, 6, 4, 6]),
        case(
            to(Some([4, 8]), Align::Center, PadMode::Replicate),
            [[2, 3, 5, 11]],
        ),
        case(
            to(None, Align::Center, PadMode::Constant),
            [[3, 5, 4, 9], [3, 2, 7, 6]],
        ),
        case(
            to(None, Align::End, PadMode::Constant),
            [[1, 4, 3, 3], [1, 1, 5, 4]],
        ),
    ]
}

//! Bilinear resize: each output pixel is mixed from the four input pixels around its source position.
//!
//! With `align_corners` false, the source of output row y is max((y + 0.5) · in / out − 0.5, 0); with
//! true, y · (in − 1) / (out − 1). Positions are computed as whole fractions, so that no size is too
//! large for `f32`. Source: `torch.nn.functional.interpolate(mode="bilinear")`.

use super::{Case, Op, case, take_inputs};
use crate::device_profile::DeviceProfile;
use crate::error::{Result, bail};
use crate::ops::argmax::{Argmax, Scores};
use crate::ops::kernel::{Binding, Format, Grid, Kernel, Rows, Word, shader};
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;
use std::any::Any;
use std::sync::Arc;

/// The size to resize to, and the rule for the corners.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResizeBilinear {
    /// Height and width of the output.
    pub size: [usize; 2],
    /// The centres of the corner pixels stay where they are, instead of the corners of the picture.
    #[serde(default)]
    pub align_corners: bool,
}

/// Source positions along one axis: that of output i is max(i · `mul` + `add`, 0) / `div`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Positions {
    mul: usize,
    add: i64,
    div: usize,
    inputs: usize,
}

impl Positions {
    /// The two inputs that output `i` mixes, and the share of the second.
    fn taps(&self, i: usize) -> (usize, usize, f64) {
        let position = (i as i64 * self.mul as i64 + self.add).max(0) as usize;
        let first = (position / self.div).min(self.inputs - 1);
        let share = (position % self.div) as f64 / self.div as f64;
        (first, (first + 1).min(self.inputs - 1), share)
    }

    /// The parameters of a kernel that resizes along this axis.
    pub(super) fn words(&self) -> [Word; 3] {
        let [mul, div] = Word::sizes([self.mul, self.div]);
        [mul, Word::Value(self.add as i32 as u32), div]
    }

    /// The input rows that an output row needs: that of its position and the next. A position before the
    /// first row is moved to it, and reads its next one too, if only to multiply it by 0.
    pub(super) fn rows(&self) -> Rows {
        Rows {
            mul: self.mul as i64,
            div: self.div as i64,
            first: self.add,
            last: self.add.max(0) + self.div as i64,
        }
    }
}

/// `a / b` in lowest terms, so that sizes alike are counted with small numbers.
pub(super) fn lowest_terms(a: usize, b: usize) -> (usize, usize) {
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor.max(1), b / divisor.max(1))
}

impl ResizeBilinear {
    /// The source positions of rows and of columns, or an error where they would overflow an `i32`.
    pub(super) fn positions(&self, input: Shape) -> Result<[Positions; 2]> {
        let along = |inputs: usize, outputs: usize| {
            let positions = if self.align_corners {
                let mul = if outputs > 1 { inputs - 1 } else { 0 };
                let (mul, div) = lowest_terms(mul, (outputs - 1).max(1));
                Positions {
                    mul,
                    add: 0,
                    div,
                    inputs,
                }
            } else {
                let (mul, div) = lowest_terms(inputs, outputs);
                Positions {
                    mul: 2 * mul,
                    add: mul as i64 - div as i64,
                    div: 2 * div,
                    inputs,
                }
            };
            if (outputs as u64 + 1).saturating_mul(positions.mul as u64 + 1) > i32::MAX as u64 {
                bail!(
                    Unsupported,
                    "resizing {inputs} pixels to {outputs} is more than this kernel can count"
                );
            }
            Ok(positions)
        };
        Ok([along(input.h, self.size[0])?, along(input.w, self.size[1])?])
    }
}

impl Op for ResizeBilinear {
    fn name(&self) -> &'static str {
        "resize_bilinear"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        super::check_attributes(&[self.size])?;
        if input.elements() == 0 || self.size.contains(&0) {
            bail!(Shape, "cannot resize {input} to {:?}", self.size);
        }
        Ok(input.with_size(self.size[0], self.size[1]))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        let [rows, columns] = self.positions(input.shape())?;
        let width = input.shape().w;
        Tensor::from_planes(output, |n, c, plane| {
            let from = input.plane(n, c);
            for (y, line) in plane.chunks_exact_mut(output.w).enumerate() {
                let (y0, y1, down) = rows.taps(y);
                for (x, out) in line.iter_mut().enumerate() {
                    let (x0, x1, right) = columns.taps(x);
                    let at = |y: usize, x: usize| f64::from(from[y * width + x]);
                    let top = at(y0, x0) * (1.0 - right) + at(y0, x1) * right;
                    let bottom = at(y1, x0) * (1.0 - right) + at(y1, x1) * right;
                    *out = (top * (1.0 - down) + bottom * down) as f32;
                }
            }
        })
    }

    fn kernels(&self, inputs: &[Shape], _device: &DeviceProfile) -> Result<Vec<Kernel>> {
        let output = self.output_shape(inputs)?;
        let input = inputs[0];
        let [rows, columns] = self.positions(input)?;
        let mut params = Word::sizes([input.h, input.w, output.h, output.w, output.c4()]).to_vec();
        params.extend(rows.words());
        params.extend(columns.words());
        params.extend([
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]);
        Ok(vec![Kernel {
            shader: shader!("resize_bilinear"),
            constants: Vec::new(),
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: rows.rows(),
            }],
            output: Format::Nhwc4,
            params,
            grid: Grid::Elements(64),
            terms: None,
            steps_per_term: 1,
            fixed_steps: 0,
        }])
    }

    fn terms(&self, _inputs: &[Shape]) -> usize {
        4
    }

    fn fused_with(&self, next: &dyn Op) -> Option<Arc<dyn Op>> {
        let next: &dyn Any = next;
        (next.downcast_ref::<Argmax>()?.scores == Scores::Given).then(|| {
            Arc::new(Argmax {
                scores: Scores::Resized(self.clone()),
            }) as Arc<dyn Op>
        })
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let resize = |h, w, align_corners| ResizeBilinear {
        size: [h, w],
        align_corners,
    };
    vec![
        case(resize(13, 7, false), [[1, 5, 6, 9]]),
        case(resize(4, 21, true), [[3, 4, 9, 8]]),
        case(resize(1, 1, false), [[1, 3, 5, 4]]),
        case(resize(3, 5, true), [[1, 8, 1, 1]]),
    ]
}

//! Numbers that grow evenly along the rows or the columns: `out[n, 0, y, x] = start + (end − start) · y / (h − 1)` for
//! dim 2; dim 3 goes along the columns. The output has the input's batch, height and width; the input's values are not
//! read. One row alone is `start`.
//!
//! Source: `torch.linspace`, expanded to a map, as in CoordConv.

use super::numerics::{Numerics, UNIT};
use super::{Case, Op, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Kernel, floats, shader, sizes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The dimension and the two ends, which are finite.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linspace {
    /// 2: along the rows, from top to bottom; 3: along the columns, from left to right.
    pub dim: usize,
    /// The first number.
    pub start: f32,
    /// The last number.
    pub end: f32,
}

impl Op for Linspace {
    fn name(&self) -> &'static str {
        "linspace"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        if ![2, 3].contains(&self.dim) {
            bail!(
                Shape,
                "dim is 2 for rows or 3 for columns, not {}",
                self.dim
            );
        }
        if !self.start.is_finite() || !self.end.is_finite() {
            bail!(
                Shape,
                "start {} or end {} is not finite",
                self.start,
                self.end
            );
        }
        Ok(input.with_channels(1))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let (start, end) = (f64::from(self.start), f64::from(self.end));
        Tensor::from_fn(output, |_, _, y, x| {
            let (at, size) = if self.dim == 2 {
                (y, output.h)
            } else {
                (x, output.w)
            };
            let share = at as f64 / (size.max(2) - 1) as f64;
            (start * (1.0 - share) + end * share) as f32
        })
    }

    fn reads(&self, _input: usize) -> bool {
        false
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        // The share comes from a division (2.5 ULP, 5 roundings), the other share from a subtraction more; each product
        // and their sum are rounded, and so is the reference. Each error is relative to the larger end.
        let largest = self.start.abs().max(self.end.abs());
        Numerics::elements(2, move |_, expected| {
            Ok(expected.map(|_| 16.0 * UNIT as f32 * largest))
        })
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let (along_rows, size) = match self.dim {
            2 => (1, output.h),
            _ => (0, output.w),
        };
        let mut extra = sizes([
            ("height", output.h),
            ("along_rows", along_rows),
            ("last", size.max(2) - 1),
        ])
        .to_vec();
        extra.extend(floats([("begin", self.start), ("end", self.end)]));
        let kernel = Kernel::elementwise(shader!("linspace"), &[], &extra, output);
        Ok(vec![Candidate::kernel(kernel)])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let linspace = |dim, start, end, shape| case(Linspace { dim, start, end }, [shape]);
    vec![
        linspace(2, -1.0, 1.0, [2, 3, 7, 5]),
        linspace(3, 0.0, 1.0, [1, 4, 3, 41]),
        linspace(3, 3.0, -2.5, [3, 1, 2, 1]),
    ]
}

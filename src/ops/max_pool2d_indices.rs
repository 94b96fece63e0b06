//! The indices of a 2-D max pooling: for each output of [`MaxPool2d`], the position y · w + x of its window's maximum
//! in the channel's plane, h × w, without padding.
//!
//! The first of equal values wins, row by row. NaN counts as the largest value, and the last NaN wins, as on PyTorch's
//! CPU. Indices stay f32 where activations are f16: f32 is exact up to 2²⁴, and a larger plane is an error.
//! Source: `torch.nn.functional.max_pool2d(return_indices=True)`, the second of its results.

use super::numerics::Numerics;
use super::{Case, MaxPool2d, Op, case};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Format, shader, sizes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The most pixels of a plane: up to here `f32` holds every whole number.
pub const MAX_PLANE: usize = 1 << 24;

/// The attributes are those of the pooling.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct MaxPool2dIndices {
    /// The pooling.
    pub pool: MaxPool2d,
}

/// An error if a plane of `shape` has more than [`MAX_PLANE`] pixels.
pub(super) fn check_plane(shape: Shape) -> Result<()> {
    if shape.h.saturating_mul(shape.w) > MAX_PLANE {
        bail!(
            Limit,
            "indices are exact in planes of up to {MAX_PLANE} pixels, not of {} × {}: use a smaller picture",
            shape.h,
            shape.w
        );
    }
    Ok(())
}

impl Op for MaxPool2dIndices {
    fn name(&self) -> &'static str {
        "max_pool2d_indices"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let output = self.pool.output_shape(inputs)?;
        check_plane(inputs[0])?;
        Ok(output)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let input = inputs[0];
        let size = input.shape();
        Tensor::from_planes(output, |n, c, plane| {
            let from = input.plane(n, c);
            for (i, out) in plane.iter_mut().enumerate() {
                let columns = self.pool.taps(1, i % output.w, size.w);
                let better = |best: Option<usize>, at: usize| match best {
                    Some(best) if !(from[at] > from[best] || from[at].is_nan()) => Some(best),
                    _ => Some(at),
                };
                let largest = self
                    .pool
                    .taps(0, i / output.w, size.h)
                    .flat_map(|y| columns.clone().map(move |x| y * size.w + x))
                    .fold(None, better);
                *out = largest.unwrap_or(0) as f32;
            }
        })
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::steps()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = (self.output_shape(inputs)?, Format::Nhwc4Exact);
        let shader = shader!("max_pool2d_indices");
        let mut kernel = self.pool.kernel(shader, inputs[0], output);
        kernel.params.extend(sizes([("channels", inputs[0].c)]));
        Ok(vec![Candidate::kernel(kernel)])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let of = |(pool, input)| case(MaxPool2dIndices { pool }, [input]);
    super::max_pool2d::samples().into_iter().map(of).collect()
}

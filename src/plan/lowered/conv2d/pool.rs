//! Max pooling fused into a convolution: the map before pooling, four times as large as the result, is never written
//! or read.
//!
//! Kernels pool squares of 2×2 pixels, side by side from the first pixel on. Pixels of a square past the end of the map
//! (`ceil_mode`) do not count. ReLU before or after pooling gives the same result.

use super::Convolution;
use crate::error::{Result, bail};
use crate::ops::{Element, MaxPool2d};
use crate::tensor::{Shape, Tensor};

/// Side of the squares that kernels pool.
const SIDE: usize = 2;

impl Convolution {
    /// The same convolution, then `pool`, if kernels pool its windows.
    pub(super) fn pooled_by(&self, pool: &MaxPool2d) -> Option<Self> {
        // Winograd's tiles of a dilated convolution do not hold squares: with pooling, Winograd would be lost.
        let is_plain = self.parts == 1 && self.conv.groups == 1 && self.conv.dilation == [1, 1];
        let is_free = self.pool.is_none() && is_plain;
        (is_free && is_of_squares(pool)).then(|| Self {
            pool: Some(pool.clone()),
            ..self.clone()
        })
    }

    /// The convolution without its pooling.
    pub(super) fn unpooled(&self) -> Self {
        Self {
            pool: None,
            ..self.clone()
        }
    }

    /// Side of the squares of the map for each of which one value is written; 1 without pooling.
    pub(super) fn pool_side(&self) -> usize {
        side(self.pool.as_ref())
    }
}

/// Side of the squares for each of which one value is written; 1 without pooling.
pub(super) fn side(pool: Option<&MaxPool2d>) -> usize {
    if pool.is_some() { SIDE } else { 1 }
}

fn is_of_squares(pool: &MaxPool2d) -> bool {
    *pool == MaxPool2d::square(SIDE, SIDE, pool.ceil_mode)
}

/// The shape of a map after `pool`, if there is one.
///
/// # Errors
/// `Shape` if kernels do not pool these windows, or the map is smaller than a window.
pub(super) fn pooled(pool: Option<&MaxPool2d>, map: Shape) -> Result<Shape> {
    use crate::ops::Op;
    match pool {
        None => Ok(map),
        Some(pool) if is_of_squares(pool) => pool.output_shape(&[map]),
        Some(pool) => bail!(
            Shape,
            "a convolution pools {SIDE}×{SIDE} pixels, not by {pool:?}"
        ),
    }
}

/// A map after `pool`, if there is one.
///
/// # Errors
/// As [`pooled`], and `Limit` if the host has no memory for it.
pub(super) fn pool_map(pool: Option<&MaxPool2d>, map: Tensor) -> Result<Tensor> {
    use crate::ops::Op;
    match pool {
        None => Ok(map),
        Some(pool) => pool.reference(&[&map]),
    }
}

/// The largest element of a square; `of` gives the element at (y, x) of a map of this shape. The magnitude is the
/// largest of the square, since an error of any element may show.
pub(super) fn largest(
    map: Shape,
    [y, x]: [usize; 2],
    of: impl Fn(usize, usize) -> Element,
) -> Element {
    let end = |at: usize, size: usize| (SIDE * (at + 1)).min(size);
    let rows = SIDE * y..end(y, map.h);
    let columns = SIDE * x..end(x, map.w);
    let square = rows.flat_map(|y| columns.clone().map(move |x| (y, x)));
    let least = Element {
        value: f32::NEG_INFINITY,
        magnitude: 0.0,
    };
    square
        .map(|(y, x)| of(y, x))
        .fold(least, |best, element| Element {
            value: if element.value > best.value || element.value.is_nan() {
                element.value
            } else {
                best.value
            },
            magnitude: best.magnitude.max(element.magnitude),
        })
}

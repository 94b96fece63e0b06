//! Shapes `[n, c, h, w]` and host tensors in PyTorch's memory order (NCHW).

use crate::error::{Error, ErrorKind, Result, bail};
use std::fmt;

/// The largest size of a dimension, and of any attribute that is added to or multiplied with a dimension: small enough
/// that a product of two does not overflow a `usize`, which has 32 bits in a browser.
pub(crate) const MAX_SIZE: usize = if usize::BITS < 64 { 1 << 15 } else { 1 << 24 };

/// The four dimensions of a tensor: batch, channels, height, width.
///
/// Weights use the same four places as in PyTorch: `[out, in / groups, kh, kw]` for a convolution,
/// `[in, out / groups, kh, kw]` for a transposed one, `[c, 1, 1, 1]` for a bias.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Batch, or the first dimension of a weight.
    pub n: usize,
    /// Channels, or the second dimension of a weight.
    pub c: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
}

impl Shape {
    /// `[n, c, h, w]`.
    pub const fn new(n: usize, c: usize, h: usize, w: usize) -> Self {
        Self { n, c, h, w }
    }

    /// The shape of a bias: `[c, 1, 1, 1]`.
    pub const fn vector(c: usize) -> Self {
        Self::new(c, 1, 1, 1)
    }

    /// The number of elements of a tensor of this shape; saturates instead of overflowing.
    pub fn elements(&self) -> usize {
        [self.c, self.h, self.w]
            .iter()
            .fold(self.n, |product, &d| product.saturating_mul(d))
    }

    /// An error if a dimension is larger than [`MAX_SIZE`].
    pub(crate) fn check(&self) -> Result<()> {
        if [self.n, self.c, self.h, self.w]
            .iter()
            .any(|d| *d > MAX_SIZE)
        {
            bail!(Shape, "{self} is larger than {MAX_SIZE} in a dimension");
        }
        Ok(())
    }

    /// Groups of four channels, as the device stores them: ⌈c / 4⌉.
    pub const fn c4(&self) -> usize {
        self.c.div_ceil(4)
    }

    /// Pixels over the whole batch: n · h · w.
    pub fn pixels(&self) -> usize {
        self.n.saturating_mul(self.h).saturating_mul(self.w)
    }

    /// The same shape with another batch size.
    #[must_use]
    pub const fn with_batch(self, n: usize) -> Self {
        Self { n, ..self }
    }

    /// The same shape with another number of channels.
    #[must_use]
    pub const fn with_channels(self, c: usize) -> Self {
        Self { c, ..self }
    }

    /// The same shape with another height and width.
    #[must_use]
    pub const fn with_size(self, h: usize, w: usize) -> Self {
        Self { h, w, ..self }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}, {}, {}]", self.n, self.c, self.h, self.w)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A tensor on the host: `f32`, in the order of [`Shape`], last dimension fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Shape,
    data: Vec<f32>,
}

impl Tensor {
    /// A tensor of `data` in `shape`.
    ///
    /// # Errors
    /// `Shape` if the length of `data` is not the number of elements of `shape`.
    pub fn new(shape: Shape, data: Vec<f32>) -> Result<Self> {
        if data.len() != shape.elements() {
            bail!(
                Shape,
                "a tensor of shape {shape} has {} elements, not {}",
                shape.elements(),
                data.len()
            );
        }
        Ok(Self { shape, data })
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// `Limit` if the host has no memory for it.
    pub fn zeros(shape: Shape) -> Result<Self> {
        let mut data = Vec::new();
        data.try_reserve_exact(shape.elements()).map_err(|_| {
            Error::new(
                ErrorKind::Limit,
                format!("not enough host memory for a tensor of shape {shape}"),
            )
        })?;
        data.resize(shape.elements(), 0.0);
        Ok(Self { shape, data })
    }

    /// A tensor whose element at `[n, c, y, x]` is `f(n, c, y, x)`.
    ///
    /// # Errors
    /// `Limit` if the host has no memory for it.
    pub fn from_fn(
        shape: Shape,
        mut f: impl FnMut(usize, usize, usize, usize) -> f32,
    ) -> Result<Self> {
        let mut tensor = Self::zeros(shape)?;
        let mut elements = tensor.data.iter_mut();
        for n in 0..shape.n {
            for c in 0..shape.c {
                for y in 0..shape.h {
                    for (x, element) in (0..shape.w).zip(&mut elements) {
                        *element = f(n, c, y, x);
                    }
                }
            }
        }
        Ok(tensor)
    }

    /// A tensor made plane by plane, on all cores: `fill(n, c, plane)` writes the h · w elements of one
    /// channel of one image.
    ///
    /// # Errors
    /// `Limit` if the host has no memory for it.
    pub fn from_planes(
        shape: Shape,
        fill: impl Fn(usize, usize, &mut [f32]) + Sync + Send,
    ) -> Result<Self> {
        let mut tensor = Self::zeros(shape)?;
        crate::parallel::try_chunks(&mut tensor.data, shape.h * shape.w, |i, plane| {
            fill(i / shape.c, i % shape.c, plane);
            Ok(())
        })?;
        Ok(tensor)
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The elements, last dimension fastest.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The elements, for writing.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// The elements, without the shape.
    pub fn into_data(self) -> Vec<f32> {
        self.data
    }

    /// One channel of one image: h · w elements.
    pub fn plane(&self, n: usize, c: usize) -> &[f32] {
        let size = self.shape.h * self.shape.w;
        &self.data[(n * self.shape.c + c) * size..][..size]
    }

    /// The element at `[n, c, y, x]`.
    pub fn at(&self, n: usize, c: usize, y: usize, x: usize) -> f32 {
        let s = self.shape;
        self.data[((n * s.c + c) * s.h + y) * s.w + x]
    }

    /// `[n, c, y, x]` of the element at `index` of [`Tensor::data`].
    pub fn position(&self, index: usize) -> [usize; 4] {
        let s = self.shape;
        let (rest, x) = (index / s.w, index % s.w);
        let (rest, y) = (rest / s.h, rest % s.h);
        [rest / s.c, rest % s.c, y, x]
    }

    /// √(mean of the squares) of the elements; 0 if there are none.
    pub fn root_mean_square(&self) -> f64 {
        let squares: f64 = self.data.iter().map(|x| f64::from(*x).powi(2)).sum();
        (squares / self.data.len().max(1) as f64).sqrt()
    }

    /// The same tensor with `f` applied to every element.
    #[must_use]
    pub fn map(&self, f: impl Fn(f32) -> f32) -> Self {
        Self {
            shape: self.shape,
            data: self.data.iter().map(|&x| f(x)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_is_the_inverse_of_the_memory_order() {
        let shape = Shape::new(2, 3, 4, 5);
        let t =
            Tensor::from_fn(shape, |n, c, y, x| (((n * 3 + c) * 4 + y) * 5 + x) as f32).unwrap();
        for (i, &v) in t.data().iter().enumerate() {
            let [n, c, y, x] = t.position(i);
            assert_eq!(v, i as f32);
            assert_eq!(t.at(n, c, y, x), v);
        }
    }

    #[test]
    fn a_wrong_length_is_an_error() {
        let error = Tensor::new(Shape::new(1, 2, 3, 4), vec![0.0; 23]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
    }
}

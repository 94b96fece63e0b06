//! The parameters of a network, one row at a time: tensors of its file (F32, F16, BF16 or F64), and derived parameters.

mod bytes;
mod file;
#[cfg(not(target_arch = "wasm32"))]
mod index;
mod kind;

pub use file::TensorFile;

use crate::error::{Result, bail};
use crate::ops::packing::RowSource;
use crate::tensor::{Shape, Tensor};
use file::InFile;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// A parameter that is not a tensor of the file but derived from the network and its tensors.
#[derive(Clone, Debug, PartialEq)]
pub enum Derived {
    /// The bilinear kernel of a transposed convolution that is missing in the file.
    Bilinear,
    /// The weight of a convolution, each output channel times the factor of the normalisation after it.
    Scaled {
        /// The tensor of the weight.
        weight: String,
        /// The normalisation.
        norm: Norm,
    },
    /// The bias of a convolution with [`Derived::Scaled`] weights, which includes the normalisation after it.
    Shifted {
        /// The tensor of the convolution's own bias.
        bias: Option<String>,
        /// The normalisation.
        norm: Norm,
    },
}

/// A batch normalisation, `(x − mean) · weight / √(var + eps) + bias`: the tensors of its parameters, `[c]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// The names of `weight`, `bias`, `running_mean` and `running_var`.
    pub tensors: [String; 4],
    /// Added to the variance.
    pub eps: f64,
}

/// The parameters of a network: tensors of its file, and derived ones.
#[derive(Debug)]
pub struct Parameters {
    file: TensorFile,
    derived: BTreeMap<String, Derived>,
    identity: u64,
}

impl Parameters {
    /// The tensors of `file`, and the `derived` parameters, by name.
    pub fn new(file: TensorFile, derived: BTreeMap<String, Derived>) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Self {
            file,
            derived,
            identity: MADE.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// A number that no other parameters have in this process.
    pub(crate) fn identity(&self) -> u64 {
        self.identity
    }

    /// The file of the tensors.
    pub fn file(&self) -> &TensorFile {
        &self.file
    }

    /// The weights of transposed convolutions that are bilinear because the file does not hold them.
    pub fn bilinear(&self) -> impl Iterator<Item = &str> {
        let bilinear = |(name, derived): (_, &Derived)| match derived {
            Derived::Bilinear => Some(name),
            _ => None,
        };
        let derived = self.derived.iter().map(|(name, d)| (name.as_str(), d));
        derived.filter_map(bilinear)
    }

    /// The parameter called `name`, of `shape`.
    ///
    /// # Errors
    /// `ModelFile` if it is missing, has another number of elements, or is not of a float type; `Io` if it cannot be
    /// read.
    pub fn get<'a>(&'a self, name: &'a str, shape: Shape) -> Result<Parameter<'a>> {
        let source = match self.derived.get(name) {
            None => return self.file.view(name, shape),
            Some(Derived::Bilinear) => Source::Bilinear,
            Some(Derived::Scaled { weight, norm }) => Source::Scaled {
                weight: Box::new(self.file.view(weight, shape)?),
                factors: self.factors(norm, shape.n)?,
            },
            Some(Derived::Shifted { bias, norm }) => {
                Source::Made(self.shifted(bias.as_deref(), norm, shape.n)?)
            }
        };
        Ok(Parameter {
            name,
            shape,
            source,
        })
    }

    /// The factor of each channel in a normalisation of `channels` channels.
    fn factors(&self, norm: &Norm, channels: usize) -> Result<Vec<f64>> {
        let [weight, .., var] = &norm.tensors;
        let vector = |name| self.file.view(name, Shape::vector(channels))?.tensor();
        let (weight, var) = (vector(weight)?, vector(var)?);
        let factor = |(w, v): (&f32, &f32)| f64::from(*w) / (f64::from(*v) + norm.eps).sqrt();
        Ok(weight.data().iter().zip(var.data()).map(factor).collect())
    }

    fn shifted(&self, own: Option<&str>, norm: &Norm, channels: usize) -> Result<Vec<f32>> {
        let [_, bias, mean, _] = &norm.tensors;
        let vector = |name| self.file.view(name, Shape::vector(channels))?.tensor();
        let (bias, mean) = (vector(bias)?, vector(mean)?);
        let own = own.map(vector).transpose()?;
        let shifted = |(c, factor): (usize, f64)| {
            let at = |tensor: &Tensor| f64::from(tensor.data()[c]);
            (at(&bias) + (own.as_ref().map_or(0.0, at) - at(&mean)) * factor) as f32
        };
        let factors = self.factors(norm, channels)?.into_iter();
        Ok(factors.enumerate().map(shifted).collect())
    }
}

/// One parameter, read row by row.
#[derive(Debug)]
pub struct Parameter<'a> {
    name: &'a str,
    shape: Shape,
    source: Source<'a>,
}

#[derive(Debug)]
enum Source<'a> {
    File(InFile<'a>),
    Bilinear,
    Scaled {
        weight: Box<Parameter<'a>>,
        /// One per row.
        factors: Vec<f64>,
    },
    Made(Vec<f32>),
}

impl Parameter<'_> {
    /// A kernel that upsamples bilinearly, each class by itself.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn bilinear(shape: Shape) -> Self {
        Self {
            name: "bilinear",
            shape,
            source: Source::Bilinear,
        }
    }

    /// The whole parameter.
    ///
    /// # Errors
    /// `ModelFile` if an element is not finite; `Io` if it cannot be read; `Limit` if the host has no memory for it.
    pub fn tensor(&self) -> Result<Tensor> {
        let mut tensor = Tensor::zeros(self.shape)?;
        let size = self.row_elements();
        for (i, to) in tensor.data_mut().chunks_exact_mut(size.max(1)).enumerate() {
            to.copy_from_slice(&self.row(i)?);
        }
        Ok(tensor)
    }

    /// Whether the weight has as many rows as columns of kernels, and all kernels off the diagonal are zero. False for
    /// a weight that cannot be read: the error comes when it is used.
    pub(crate) fn is_diagonal(&self) -> bool {
        let Shape { n, c, h, w } = self.shape;
        let only_own = |i: usize| {
            self.row(i).is_ok_and(|row| {
                let mut kernels = row.chunks_exact(h * w).enumerate();
                kernels.all(|(o, kernel)| o == i || kernel.iter().all(|v| *v == 0.0))
            })
        };
        let known = matches!(self.source, Source::Bilinear);
        n == c && h * w > 0 && (known || (0..n).all(only_own))
    }

    fn row_elements(&self) -> usize {
        self.shape.with_batch(1).elements()
    }

    fn check(&self, i: usize, row: &[f32]) -> Result<()> {
        // Without an early exit within a block, so that many elements are checked at a time.
        let is_finite = |block: &[f32]| block.iter().fold(true, |all, v| all & v.is_finite());
        if row.chunks(256).all(is_finite) {
            return Ok(());
        }
        if let Some(j) = row.iter().position(|v| !v.is_finite()) {
            let Shape { h, w, .. } = self.shape;
            bail!(
                ModelFile,
                "tensor {} holds {} at [{i}, {}, {}, {}]; it must be finite",
                self.name,
                row[j],
                j / (h * w),
                j / w % h,
                j % w
            );
        }
        Ok(())
    }
}

impl RowSource for Parameter<'_> {
    fn row(&self, i: usize) -> Result<Cow<'_, [f32]>> {
        let size = self.row_elements();
        let row = match &self.source {
            Source::Bilinear => Cow::Owned(bilinear_row(self.shape, i)),
            Source::Made(values) => Cow::Borrowed(&values[i * size..][..size]),
            Source::Scaled { weight, factors } => {
                let scaled = |x: &f32| (f64::from(*x) * factors[i]) as f32;
                weight.row(i)?.iter().map(scaled).collect()
            }
            Source::File(stored) => stored.row(i, size, self.name)?,
        };
        self.check(i, &row)?;
        Ok(row)
    }
}

/// Row `i` of a kernel that upsamples bilinearly, each class by itself: w[i, i, y, x] = (1 − |y − c| /
/// f)(1 − |x − c| / f) with f = ⌊(k + 1) / 2⌋ and c = f − 1 for odd k, f − 0.5 for even.
fn bilinear_row(shape: Shape, i: usize) -> Vec<f32> {
    let share = |position: usize, size: usize| {
        let f = size.div_ceil(2) as f64;
        let centre = if size % 2 == 1 { f - 1.0 } else { f - 0.5 };
        1.0 - (position as f64 - centre).abs() / f
    };
    let mut row = vec![0.0; shape.c * shape.h * shape.w];
    for (at, value) in row[i * shape.h * shape.w..][..shape.h * shape.w]
        .iter_mut()
        .enumerate()
    {
        *value = (share(at / shape.w, shape.h) * share(at % shape.w, shape.w)) as f32;
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bilinear_kernel_of_stride_2() {
        let row = bilinear_row(Shape::new(2, 2, 4, 4), 1);
        assert_eq!(&row[..16], &[0.0; 16]);
        let line = [0.25, 0.75, 0.75, 0.25];
        for (i, value) in row[16..].iter().enumerate() {
            assert_eq!(*value, line[i / 4] * line[i % 4]);
        }
    }
}

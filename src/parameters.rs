//! The tensors of a model file, read where they lie: F32, F16, BF16 or F64, one row at a time.

use crate::error::{Error, ErrorKind, Result, bail};
use crate::ops::packing::Rows;
use crate::tensor::{Shape, Tensor};
use safetensors::{Dtype, SafeTensors};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the bytes of a file are.
enum Bytes {
    #[cfg(not(target_arch = "wasm32"))]
    Mapped(memmap2::Mmap),
    Memory(Cow<'static, [u8]>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Mapped(map) => map,
            Self::Memory(bytes) => bytes,
        }
    }
}

/// A tensor in the file.
struct Stored {
    dtype: Dtype,
    dimensions: Vec<usize>,
    bytes: Range<usize>,
}

/// A safetensors file: its tensors by name, and its metadata.
pub struct TensorFile {
    bytes: Bytes,
    tensors: BTreeMap<String, Stored>,
    metadata: HashMap<String, String>,
}

impl std::fmt::Debug for TensorFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(self.tensors.iter().map(|(name, t)| (name, &t.dimensions)))
            .finish()
    }
}

impl TensorFile {
    /// Opens the file at `path` without reading its tensors; they are read when they are used, so the
    /// file must stay as it is while this lives.
    ///
    /// # Errors
    /// `Io` if it cannot be opened; `ModelFile` if it is not a whole safetensors file.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: &Path) -> Result<Self> {
        let io = |e: std::io::Error| {
            Error::new(
                ErrorKind::Io,
                format!("cannot open {}: {e}", path.display()),
            )
        };
        let file = std::fs::File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.is_dir() {
            bail!(Io, "{} is a folder, not a safetensors file", path.display());
        }
        if metadata.len() == 0 {
            bail!(ModelFile, "{} is empty", path.display());
        }
        // SAFETY: the map is read only. That nobody cuts the file short meanwhile is asked of the caller
        // in this function's documentation, as by every program that maps files.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io)?;
        Self::parse(Bytes::Mapped(map)).map_err(|e| e.at(path.display()))
    }

    /// A file in memory: a vector, or bytes that are part of the program, which are not copied.
    ///
    /// # Errors
    /// `ModelFile` if it is not a whole safetensors file.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        Self::parse(Bytes::Memory(bytes.into()))
    }

    fn parse(bytes: Bytes) -> Result<Self> {
        let broken = |e: safetensors::SafeTensorError| {
            Error::new(
                ErrorKind::ModelFile,
                format!("not a whole safetensors file: {e}"),
            )
        };
        let (header, info) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
        let data = header + size_of::<u64>();
        let tensors = info
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let (begin, end) = info.data_offsets;
                let stored = Stored {
                    dtype: info.dtype,
                    dimensions: info.shape.clone(),
                    bytes: data + begin..data + end,
                };
                (name, stored)
            })
            .collect::<BTreeMap<_, _>>();
        if tensors.values().any(|t| t.bytes.end > bytes.len()) {
            bail!(
                ModelFile,
                "not a whole safetensors file: tensors past its end"
            );
        }
        let metadata = info.metadata().clone().unwrap_or_default();
        Ok(Self {
            bytes,
            tensors,
            metadata,
        })
    }

    /// The entry `key` of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Names and dimensions of all tensors, in the order of the names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors
            .iter()
            .map(|(name, t)| (name.as_str(), t.dimensions.as_slice()))
    }

    /// The name of the type that a tensor is stored in.
    pub fn dtype(&self, name: &str) -> Option<String> {
        self.tensors.get(name).map(|t| format!("{:?}", t.dtype))
    }

    /// Bytes of the whole file.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the file has no bytes, which a file that could be read never has.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// A tensor of one to four dimensions as floats. One of one dimension is `[n, 1, 1, 1]`.
    ///
    /// # Errors
    /// `ModelFile` if it is not there, is no float tensor, has more dimensions, or an element that is not
    /// finite.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let stored = self.stored(name)?;
        let mut dimensions = [1; 4];
        if stored.dimensions.len() > 4 {
            bail!(
                ModelFile,
                "tensor {name} has {} dimensions",
                stored.dimensions.len()
            );
        }
        dimensions[..stored.dimensions.len()].copy_from_slice(&stored.dimensions);
        let [n, c, h, w] = dimensions;
        let shape = Shape::new(n, c, h, w);
        self.view(name, shape)?.tensor()
    }

    /// The type and the bytes of a tensor.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn raw(&self, name: &str) -> Option<(Dtype, &[u8])> {
        let stored = self.tensors.get(name)?;
        Some((stored.dtype, &self.bytes[stored.bytes.clone()]))
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        match self.tensors.get(name) {
            Some(stored) => Ok(stored),
            None => bail!(ModelFile, "tensor {name} is missing"),
        }
    }

    /// The tensor called `name`, which has the elements of `shape`.
    pub(crate) fn view<'a>(&'a self, name: &'a str, shape: Shape) -> Result<Parameter<'a>> {
        let stored = self.stored(name)?;
        let elements = stored.dimensions.iter().product::<usize>();
        if elements != shape.elements() {
            bail!(
                ModelFile,
                "tensor {name} has shape {:?}; {shape} is needed",
                stored.dimensions
            );
        }
        if !matches!(
            stored.dtype,
            Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64
        ) {
            bail!(
                ModelFile,
                "tensor {name} is {:?}; F32, F16, BF16 and F64 are read",
                stored.dtype
            );
        }
        Ok(Parameter {
            name,
            shape,
            source: Source::File {
                dtype: stored.dtype,
                bytes: &self.bytes[stored.bytes.clone()],
            },
        })
    }
}

/// A parameter that is no tensor of the file, but follows from the network and its tensors.
#[derive(Clone, Debug, PartialEq)]
pub enum Derived {
    /// The kernel of a transposed convolution that upsamples bilinearly, which the file leaves out.
    Bilinear,
    /// The weight of a convolution, each output channel times the factor of the normalisation after it.
    Scaled {
        /// The tensor of the weight.
        weight: String,
        /// The normalisation.
        norm: Norm,
    },
    /// The bias that is left when a convolution with [`Derived::Scaled`] weights does what follows it too.
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

/// The parameters of a network: tensors of its file, and what follows from them.
#[derive(Debug)]
pub struct Parameters {
    file: TensorFile,
    derived: BTreeMap<String, Derived>,
    identity: u64,
}

impl Parameters {
    /// The tensors of `file`, and those that are `derived`, by name.
    pub fn new(file: TensorFile, derived: BTreeMap<String, Derived>) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Self {
            file,
            derived,
            identity: MADE.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// A number that no others have in this process.
    pub(crate) fn identity(&self) -> u64 {
        self.identity
    }

    /// The file they are in.
    pub fn file(&self) -> &TensorFile {
        &self.file
    }

    /// The transposed convolutions that the file leaves out.
    pub fn bilinear(&self) -> impl Iterator<Item = &str> {
        let bilinear = |(name, derived): (_, &Derived)| match derived {
            Derived::Bilinear => Some(name),
            _ => None,
        };
        let derived = self.derived.iter().map(|(name, d)| (name.as_str(), d));
        derived.filter_map(bilinear)
    }

    /// Lets go of the memory that reading `rows` of `count` rows of the parameter called `name` has taken;
    /// reading them again brings it back from the file. What is copied to a device need not stay on the host
    /// too.
    pub(crate) fn release(&self, name: &str, rows: Range<usize>, count: usize) {
        let name = match self.derived.get(name) {
            Some(Derived::Scaled { weight, .. }) => weight,
            _ => name,
        };
        #[cfg(unix)]
        if let (Bytes::Mapped(map), Some(stored)) = (&self.file.bytes, self.file.tensors.get(name))
        {
            let row = stored.bytes.len() / count.max(1);
            let (offset, len) = (stored.bytes.start + rows.start * row, rows.len() * row);
            // SAFETY: the map is a read-only view of a file: pages let go are read again from there.
            let released = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, len)
            };
            if let Err(e) = released {
                tracing::debug!("memory of {name} was not released: {e}");
            }
        }
        #[cfg(not(unix))]
        let _ = (name, rows, count);
    }

    /// The parameter called `name`, of `shape`.
    ///
    /// # Errors
    /// `ModelFile` if it is not there, has another number of elements, or is not of a float type.
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

    /// What a normalisation of `channels` channels multiplies each of them by.
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
    File {
        dtype: Dtype,
        bytes: &'a [u8],
    },
    Bilinear,
    Scaled {
        weight: Box<Parameter<'a>>,
        /// Of each row.
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

    /// All of it.
    ///
    /// # Errors
    /// `ModelFile` if an element is not finite; `Limit` if the host has no memory for it.
    pub fn tensor(&self) -> Result<Tensor> {
        let mut tensor = Tensor::zeros(self.shape)?;
        let size = self.row_elements();
        for (i, to) in tensor.data_mut().chunks_exact_mut(size.max(1)).enumerate() {
            to.copy_from_slice(&self.row(i)?);
        }
        Ok(tensor)
    }

    /// Whether this is as many rows as columns of kernels, of which all are zero off the diagonal. What
    /// cannot be read is not: its error comes when it is used.
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
        // By blocks, without a way out of each, so that many elements are looked at at a time.
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

impl Rows for Parameter<'_> {
    fn row(&self, i: usize) -> Result<Cow<'_, [f32]>> {
        let size = self.row_elements();
        let row = match &self.source {
            Source::Bilinear => Cow::Owned(bilinear_row(self.shape, i)),
            Source::Made(values) => Cow::Borrowed(&values[i * size..][..size]),
            Source::Scaled { weight, factors } => {
                let scaled = |x: &f32| (f64::from(*x) * factors[i]) as f32;
                weight.row(i)?.iter().map(scaled).collect()
            }
            Source::File { dtype, bytes } => {
                let width = dtype.bitsize() / 8;
                let bytes = &bytes[i * size * width..][..size * width];
                match dtype {
                    Dtype::F16 => convert(bytes, |b| half::f16::from_le_bytes(b).to_f32()),
                    Dtype::BF16 => convert(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
                    Dtype::F64 => convert(bytes, |b| f64::from_le_bytes(b) as f32),
                    _ => match bytemuck::try_cast_slice(bytes) {
                        Ok(floats) if cfg!(target_endian = "little") => Cow::Borrowed(floats),
                        _ => convert(bytes, f32::from_le_bytes),
                    },
                }
            }
        };
        self.check(i, &row)?;
        Ok(row)
    }
}

fn convert<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Cow<'static, [f32]> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|b| f(*b)).collect()
}

/// Row `i` of the kernel that upsamples bilinearly, each class by itself: w[i, i, y, x] = (1 − |y − c| /
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

//! A safetensors file: its header, and its tensors, read at positions on use.

use super::bytes::Bytes;
#[cfg(not(target_arch = "wasm32"))]
use super::bytes::open;
#[cfg(not(target_arch = "wasm32"))]
use super::index;
use super::{Parameter, Source, kind};
use crate::error::{Error, ErrorKind, Result, bail};
#[cfg(not(target_arch = "wasm32"))]
use crate::files;
use crate::tensor::{Shape, Tensor};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorView};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;
use std::sync::OnceLock;

/// Bytes before the header: its length.
const LENGTH_BYTES: usize = size_of::<u64>();
/// The longest header that the format allows.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// A tensor of at most this many bytes is read at once: a row of a bias is one number.
const SMALL_BYTES: usize = 64 << 10;

/// A tensor in a file.
struct Stored {
    /// The position of its file.
    file: usize,
    dtype: Dtype,
    dimensions: Vec<usize>,
    bytes: Range<usize>,
}

/// A safetensors file, or several that an index makes one: its tensors by name, and its metadata.
pub struct TensorFile {
    files: Vec<Bytes>,
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
    /// Opens the file at `path` without reading its tensors. They are read on use, so the file must not change while
    /// this lives. A file that is cut short gives errors of the kind `Io`.
    ///
    /// If it is the index of sharded safetensors (`model.safetensors.index.json`), it is opened with all its shards,
    /// which lie beside it.
    ///
    /// # Errors
    /// `Io` if it cannot be opened; `ModelFile` if it is not a whole safetensors file; the message names the kind of
    /// a file that is something else, and what to do with it.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = open(path)?;
        let is_text = || {
            bytes
                .first(kind::FIRST_BYTES)
                .is_ok_and(|first| first.trim_ascii_start().starts_with(b"{"))
        };
        let opened = match is_safetensors(&bytes) {
            false if is_text() => Self::sharded(path),
            _ => Self::parse(bytes, &path.display().to_string()),
        };
        opened.map_err(|e| match e.kind() {
            // Its message already names the file.
            ErrorKind::Io => e,
            _ => e.at(path.display()),
        })
    }

    /// The tensors of the shards of the index at `path`.
    #[cfg(not(target_arch = "wasm32"))]
    fn sharded(path: &Path) -> Result<Self> {
        let index = index::parse(&files::read(path, index::MOST_BYTES)?)?;
        let mut all = Self {
            files: Vec::new(),
            tensors: BTreeMap::new(),
            metadata: HashMap::new(),
        };
        let mut shards = Vec::new();
        for name in &index.shards {
            let shard = path.with_file_name(name);
            if !shard.exists() {
                bail!(
                    ModelFile,
                    "shard {name} is missing: put all {} shards beside the index",
                    index.shards.len()
                );
            }
            let Self {
                files,
                tensors,
                metadata,
            } = Self::parse(open(&shard)?, name).map_err(|e| e.at(name))?;
            all.files.extend(files);
            all.metadata.extend(metadata);
            shards.push(tensors);
        }
        for (name, file) in index.tensors {
            let Some(stored) = shards[file].remove(&name) else {
                bail!(
                    ModelFile,
                    "tensor {name} is not in shard {}, where the index has it",
                    index.shards[file]
                );
            };
            all.tensors.insert(name, Stored { file, ..stored });
        }
        Ok(all)
    }

    /// A file in memory: a vector, or static bytes of the program, which are not copied.
    ///
    /// # Errors
    /// `ModelFile` if it is not a whole safetensors file.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        Self::parse(Bytes::Memory(bytes.into()), "FILE")
    }

    /// A file in memory of these `f32` tensors; one of shape `[c, 1, 1, 1]` has one dimension.
    ///
    /// # Errors
    /// `ModelFile` if two tensors have one name.
    pub(crate) fn of(tensors: &[(String, Tensor)]) -> Result<Self> {
        let wrong = |reason: safetensors::SafeTensorError| {
            Error::new(ErrorKind::ModelFile, format!("tensors in memory: {reason}"))
        };
        let mut views = Vec::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            let Shape { n, c, h, w } = tensor.shape();
            let dimensions = match [c, h, w] {
                [1, 1, 1] => vec![n],
                _ => vec![n, c, h, w],
            };
            let bytes = bytemuck::cast_slice(tensor.data());
            let view = TensorView::new(Dtype::F32, dimensions, bytes);
            views.push((name.as_str(), view.map_err(wrong)?));
        }
        Self::from_bytes(safetensors::serialize(views, None).map_err(wrong)?)
    }

    /// The file of `bytes`; commands in messages call it `name`.
    fn parse(bytes: Bytes, name: &str) -> Result<Self> {
        if !is_safetensors(&bytes)
            && let Some(kind) = kind::of(&bytes.first(kind::FIRST_BYTES)?, name)
        {
            bail!(ModelFile, "not a safetensors file but {kind}");
        }
        let (data, info) = header(&bytes)?;
        let tensors = info
            .tensors()
            .into_iter()
            .map(|(name, info)| {
                let (begin, end) = info.data_offsets;
                let stored = Stored {
                    file: 0,
                    dtype: info.dtype,
                    dimensions: info.shape.clone(),
                    bytes: data + begin..data + end,
                };
                (name, stored)
            })
            .collect::<BTreeMap<_, _>>();
        let metadata = info.metadata().clone().unwrap_or_default();
        Ok(Self {
            files: vec![bytes],
            tensors,
            metadata,
        })
    }

    /// Whether tensors are read from the file at `path`.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn reads(&self, path: &Path) -> bool {
        self.files.iter().any(|file| file.are_at(path))
    }

    /// The same file with `prefix` removed from the names that begin with it; other tensors keep theirs, except those
    /// whose names are then taken.
    pub(crate) fn without_prefix(mut self, prefix: &str) -> Self {
        let (own, others): (BTreeMap<_, _>, _) = std::mem::take(&mut self.tensors)
            .into_iter()
            .partition(|(name, _)| name.starts_with(prefix));
        self.tensors = others;
        let own = own.into_iter();
        let own = own.map(|(name, stored)| (name[prefix.len()..].to_owned(), stored));
        self.tensors.extend(own);
        self
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

    /// The name of a tensor's stored type.
    pub fn dtype(&self, name: &str) -> Option<String> {
        self.tensors.get(name).map(|t| format!("{:?}", t.dtype))
    }

    /// Bytes of the whole file, or of all shards.
    pub fn len(&self) -> usize {
        self.files.iter().map(Bytes::len).sum()
    }

    /// Whether the file has no bytes; a file that could be read never is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A tensor of up to four dimensions as floats. Missing dimensions are 1: a vector is `[n, 1, 1, 1]`.
    ///
    /// # Errors
    /// `ModelFile` if it is missing, is not a float tensor, has more dimensions, or an element that is not finite.
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

    /// The type of a tensor.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn type_of(&self, name: &str) -> Option<Dtype> {
        Some(self.tensors.get(name)?.dtype)
    }

    /// The bytes of a tensor.
    ///
    /// # Errors
    /// `ModelFile` if it is missing, `Io` if it cannot be read.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn raw(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        let stored = self.stored(name)?;
        self.files[stored.file].read(stored.bytes.clone(), &format!("tensor {name}"))
    }

    fn stored(&self, name: &str) -> Result<&Stored> {
        match self.tensors.get(name) {
            Some(stored) => Ok(stored),
            None => bail!(ModelFile, "tensor {name} is missing"),
        }
    }

    /// The tensor called `name`, with the elements of `shape`.
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
            source: Source::File(InFile {
                dtype: stored.dtype,
                file: &self.files[stored.file],
                range: stored.bytes.clone(),
                small: OnceLock::new(),
            }),
        })
    }
}

/// Whether the file begins as a safetensors file does: with the length of a header, and the header's brace.
fn is_safetensors(bytes: &Bytes) -> bool {
    let is = |first: &[u8]| match first.split_first_chunk::<LENGTH_BYTES>() {
        Some((length, rest)) => {
            u64::from_le_bytes(*length) <= MAX_HEADER_BYTES && rest.first() == Some(&b'{')
        }
        None => false,
    };
    bytes.first(kind::FIRST_BYTES).is_ok_and(|first| is(&first))
}

/// The header of a safetensors file, and the position of its tensors' bytes, which end where the file ends.
fn header(bytes: &Bytes) -> Result<(usize, Metadata)> {
    const WHAT: &str = "the header";
    let broken = |reason: &dyn std::fmt::Display| {
        let message = format!("not a whole safetensors file: {reason}");
        Error::new(ErrorKind::ModelFile, message)
    };
    let total = bytes.len();
    if total < LENGTH_BYTES {
        return Err(broken(&format!("it has {total} bytes")));
    }
    let mut length = [0; LENGTH_BYTES];
    bytes.read_at(&mut length, 0, WHAT)?;
    let length = u64::from_le_bytes(length);
    let after = (total - LENGTH_BYTES) as u64;
    if length > after.min(MAX_HEADER_BYTES) {
        let reason = format!("its header would take {length} of the {after} bytes that follow");
        return Err(broken(&reason));
    }
    let data = LENGTH_BYTES + length as usize;
    let text = bytes.read(LENGTH_BYTES..data, WHAT)?;
    let info: Metadata = serde_json::from_slice(&text).map_err(|e| broken(&e).with_source(e))?;
    let (needed, there) = (info.data_len(), total - data);
    if needed != there {
        let again = match there < needed {
            true => "; download or copy it again",
            false => "",
        };
        let reason =
            format!("its tensors take {needed} bytes, and {there} follow the header{again}");
        return Err(broken(&reason));
    }
    Ok((data, info))
}

/// A tensor in a file.
pub(super) struct InFile<'a> {
    dtype: Dtype,
    file: &'a Bytes,
    range: Range<usize>,
    /// The whole tensor once read, if it is small and the file not in memory.
    small: OnceLock<Vec<u8>>,
}

impl std::fmt::Debug for InFile<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} at {:?}", self.dtype, self.range)
    }
}

impl InFile<'_> {
    /// Row `i` of `size` elements of the tensor called `name`.
    pub(super) fn row(&self, i: usize, size: usize, name: &str) -> Result<Cow<'_, [f32]>> {
        let width = self.dtype.bitsize() / 8;
        let within = i * size * width..(i + 1) * size * width;
        if let Some(bytes) = self.bytes(within.clone(), name)? {
            return Ok(self.floats(bytes));
        }
        let begin = self.range.start + within.start;
        let what = format!("tensor {name}");
        if self.dtype == Dtype::F32 && cfg!(target_endian = "little") {
            let mut floats = vec![0.0f32; size];
            let bytes = bytemuck::cast_slice_mut(&mut floats);
            self.file.read_at(bytes, begin, &what)?;
            return Ok(Cow::Owned(floats));
        }
        let bytes = self.file.read(begin..begin + within.len(), &what)?;
        Ok(Cow::Owned(self.floats(&bytes).into_owned()))
    }

    /// The bytes `within` the tensor, if the file is in memory or the tensor is small enough to be read at once.
    fn bytes(&self, within: Range<usize>, name: &str) -> Result<Option<&[u8]>> {
        if let Some(bytes) = self.file.in_memory(self.range.clone()) {
            return Ok(bytes.get(within));
        }
        if self.range.len() > SMALL_BYTES {
            return Ok(None);
        }
        if self.small.get().is_none() {
            let bytes = self
                .file
                .read(self.range.clone(), &format!("tensor {name}"))?;
            // Another thread may have read the same tensor meanwhile.
            let _ = self.small.set(bytes.into_owned());
        }
        Ok(self.small.get().and_then(|bytes| bytes.get(within)))
    }

    fn floats<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [f32]> {
        match self.dtype {
            Dtype::F16 => convert(bytes, |b| half::f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => convert(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
            Dtype::F64 => convert(bytes, |b| f64::from_le_bytes(b) as f32),
            _ => match bytemuck::try_cast_slice(bytes) {
                Ok(floats) if cfg!(target_endian = "little") => Cow::Borrowed(floats),
                _ => convert(bytes, f32::from_le_bytes),
            },
        }
    }
}

fn convert<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Cow<'static, [f32]> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|b| f(*b)).collect()
}

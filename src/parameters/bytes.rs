//! The bytes of a file, on disk or in memory.

#[cfg(not(target_arch = "wasm32"))]
use crate::error::{Error, ErrorKind};
use crate::error::{Result, bail};
#[cfg(not(target_arch = "wasm32"))]
use crate::files;
use std::borrow::Cow;
#[cfg(not(target_arch = "wasm32"))]
use std::fs::File;
use std::ops::Range;
#[cfg(not(target_arch = "wasm32"))]
use std::path::{Path, PathBuf};

/// Where the bytes of a file are.
pub(super) enum Bytes {
    /// On disk, read at positions: a file that is cut short gives an error, where a memory map would end the
    /// program.
    #[cfg(not(target_arch = "wasm32"))]
    File {
        file: File,
        path: PathBuf,
        length: usize,
    },
    /// In memory.
    Memory(Cow<'static, [u8]>),
}

impl Bytes {
    pub(super) fn len(&self) -> usize {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::File { length, .. } => *length,
            Self::Memory(bytes) => bytes.len(),
        }
    }

    /// Whether these are the bytes of the file at `path`.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn are_at(&self, path: &Path) -> bool {
        let real = |path: &Path| std::fs::canonicalize(path);
        match self {
            Self::File { path: own, .. } => {
                matches!((real(own), real(path)), (Ok(a), Ok(b)) if a == b)
            }
            Self::Memory(_) => false,
        }
    }

    /// The bytes at `range`, if they are in memory.
    pub(super) fn in_memory(&self, range: Range<usize>) -> Option<&[u8]> {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::File { .. } => None,
            Self::Memory(bytes) => bytes.get(range),
        }
    }

    /// Fills `buffer` with the bytes from `offset` on; an error names `what`.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: usize, what: &str) -> Result<()> {
        #[cfg(not(target_arch = "wasm32"))]
        if let Self::File { file, path, .. } = self {
            let Err(e) = files::read_exact_at(file, buffer, offset as u64) else {
                return Ok(());
            };
            let reason = match e.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    "the file was cut short after it was opened; put it back and open it again"
                        .into()
                }
                _ => e.to_string(),
            };
            let text = format!("{}: {what} cannot be read: {reason}", path.display());
            return Err(Error::new(ErrorKind::Io, text).with_source(e));
        }
        match self.in_memory(offset..offset + buffer.len()) {
            Some(bytes) => buffer.copy_from_slice(bytes),
            None => bail!(ModelFile, "{what} is past the end of the file"),
        }
        Ok(())
    }

    /// At most the first `count` bytes.
    pub(super) fn first(&self, count: usize) -> Result<Cow<'_, [u8]>> {
        self.read(0..self.len().min(count), "the header")
    }

    /// The bytes at `range`; an error names `what`.
    pub(super) fn read(&self, range: Range<usize>, what: &str) -> Result<Cow<'_, [u8]>> {
        if let Some(bytes) = self.in_memory(range.clone()) {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut bytes = vec![0; range.len()];
        self.read_at(&mut bytes, range.start, what)?;
        Ok(Cow::Owned(bytes))
    }
}

/// Opens the file at `path`.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn open(path: &Path) -> Result<Bytes> {
    let io = |e: std::io::Error| {
        let text = format!("cannot open {}: {e}", path.display());
        Error::new(ErrorKind::Io, text).with_source(e)
    };
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if metadata.is_dir() {
        bail!(
            Io,
            "{} is a folder, not a safetensors file{}",
            path.display(),
            inside(path)
        );
    }
    if metadata.len() == 0 {
        bail!(ModelFile, "{} is empty", path.display());
    }
    match usize::try_from(metadata.len()) {
        Ok(length) => Ok(Bytes::File {
            file,
            path: path.to_owned(),
            length,
        }),
        Err(_) => bail!(
            Limit,
            "{} has {} bytes, more than this system can address",
            path.display(),
            metadata.len()
        ),
    }
}

/// The model files in `folder`, as the rest of a sentence.
#[cfg(not(target_arch = "wasm32"))]
fn inside(folder: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return String::new();
    };
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let is_model =
        |name: &String| name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
    let mut names: Vec<_> = names.filter(is_model).collect();
    // An index stands for its shards.
    names.sort_by_key(|name| (name.ends_with(".safetensors"), name.clone()));
    match names.first() {
        Some(name) => format!("; it holds {}", folder.join(name).display()),
        None => String::new(),
    }
}

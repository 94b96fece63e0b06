//! One opaque [`Error`] for the whole crate: what failed, where, and what to do about it.

use std::fmt;

/// The kind of an [`Error`], as far as a program needs it to react.
///
/// The message of the [`Error`] has the details: the node, the file, the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file could not be read or written.
    Io,
    /// A model file is damaged, incomplete, or not one that this crate knows.
    ModelFile,
    /// A picture could not be decoded, or is not as requested.
    Picture,
    /// Shapes do not fit together.
    Shape,
    /// The caller requested something that does not exist: a node, an adapter, an architecture.
    Request,
    /// An operation, or a size of an operation, that this crate does not run.
    Unsupported,
    /// A limit of the device, of the host's memory, or set by the caller.
    Limit,
    /// Scores are not finite: the weights or the input are too large for `f32`.
    NotFinite,
    /// No usable adapter was found.
    NoAdapter,
    /// The device failed: it did not finish, or a shader would not compile.
    Device,
    /// The device is lost: its driver was reset or replaced, or the program has destroyed it. Another device can
    /// take over, see [`Segmenter::recover`](crate::Segmenter::recover).
    DeviceLost,
    /// A fault of fullconv, found before it could give a wrong result.
    Internal,
}

/// The error of every fallible function in this crate.
///
/// `Display` is one line for the person who meets it, causes and all; [`Error::kind`] is for programs, and so is
/// [`source`](std::error::Error::source): what the system or another crate said, where that is the cause.
///
/// ```
/// let error = fullconv::Model::read("no-such-file.safetensors").unwrap_err();
/// assert_eq!(error.kind(), fullconv::ErrorKind::Io);
/// assert!(error.to_string().contains("no-such-file.safetensors"));
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Source>,
}

/// What another crate said.
type Source = Box<dyn std::error::Error + Send + Sync>;

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a one-line `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            source: None,
        }))
    }

    /// The same error with `source` as its cause, which [`std::error::Error::source`] returns. The message should already
    /// contain the cause's message.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The kind, for programs.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The same error with `place` (a file, a node) before its message.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.message = format!("{place}: {}", self.0.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.0.source.as_deref()?;
        Some(source)
    }
}

/// `Err` of `kind` with a formatted message.
macro_rules! bail {
    ($kind:ident, $($message:tt)*) => {
        return Err($crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($message)*)))
    };
}
pub(crate) use bail;

//! Errors as Python's exceptions, and panics as errors.

use fullconv::{Error, ErrorKind, Result};
use pyo3::prelude::*;
use std::any::Any;
use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The name of a kind, which `fullconv.Error.kind` holds.
fn name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Io => "io",
        ErrorKind::ModelFile => "model_file",
        ErrorKind::Picture => "picture",
        ErrorKind::Shape => "shape",
        ErrorKind::Request => "request",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Limit => "limit",
        ErrorKind::NotFinite => "not_finite",
        ErrorKind::NoAdapter => "no_adapter",
        ErrorKind::Device => "device",
        ErrorKind::DeviceLost => "device_lost",
        _ => "internal",
    }
}

/// `error` as an exception; `file` is the file at fault, which an `OSError` names.
pub fn exception(py: Python<'_>, error: &Error, file: Option<&str>) -> PyErr {
    let reason = error
        .source()
        .and_then(|s| s.downcast_ref::<std::io::Error>());
    let number = reason.and_then(std::io::Error::raw_os_error);
    let made = || {
        let of_kind = py.import("fullconv.errors")?.getattr("of_kind")?;
        of_kind.call1((name(error.kind()), error.to_string(), number, file))
    };
    match made() {
        Ok(value) => PyErr::from_value(value),
        Err(failure) => failure,
    }
}

/// An error of `kind`.
pub fn error(kind: ErrorKind, text: impl Into<String>) -> Error {
    Error::new(kind, text)
}

/// The error for the payload of a panic.
pub fn of_panic(payload: &(dyn Any + Send)) -> Error {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or(payload.downcast_ref::<String>().map(String::as_str));
    let text = format!("a fault of fullconv: {}", text.unwrap_or("a panic"));
    error(ErrorKind::Internal, text)
}

/// Does `work` while other threads of Python run. A panic becomes an error.
///
/// # Errors
/// Those of `work` as exceptions.
pub fn detached<T: Send>(
    py: Python<'_>,
    file: Option<&str>,
    work: impl FnOnce() -> Result<T> + Send,
) -> PyResult<T> {
    let done = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
    let done = done.unwrap_or_else(|payload| Err(of_panic(&*payload)));
    done.map_err(|error| exception(py, &error, file))
}

//! The border to C: calls return a status and never panic.

use fullconv::{Error, ErrorKind};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a call ended.
#[allow(non_camel_case_types)] // The type has its C name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum fullconv_status {
    /// The call succeeded.
    Ok = 0,
    /// An argument is null, not a handle (or a freed one), not UTF-8, or too small.
    InvalidArgument = 1,
    /// A file could not be read.
    Io = 2,
    /// A model file is damaged, incomplete, or of an unknown network.
    ModelFile = 3,
    /// The picture is damaged or unsuitable.
    Picture = 4,
    /// Shapes do not match.
    Shape = 5,
    /// A requested backend or adapter, or a kernel in FULLCONV_WITHOUT, does not exist.
    Request = 6,
    /// The model or the device does not support the call.
    Unsupported = 7,
    /// The call exceeds the device's limits.
    Limit = 8,
    /// Scores are not finite: the weights or the picture are too large for f32.
    NotFinite = 9,
    /// There is no usable adapter. The device "cpu" always exists.
    NoAdapter = 10,
    /// The device failed: it did not finish, or a shader did not compile.
    Device = 11,
    /// A fault of fullconv itself.
    Internal = 12,
    /// The device is lost: its driver was reset or replaced. Free the device and its segmenters, then open another.
    DeviceLost = 13,
}

/// The status and message of a failed call.
pub struct Failure {
    pub status: fullconv_status,
    pub message: String,
}

/// A failure due to an invalid argument.
pub fn invalid(message: impl Into<String>) -> Failure {
    Failure {
        status: fullconv_status::InvalidArgument,
        message: message.into(),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Io => fullconv_status::Io,
            ErrorKind::ModelFile => fullconv_status::ModelFile,
            ErrorKind::Picture => fullconv_status::Picture,
            ErrorKind::Shape => fullconv_status::Shape,
            ErrorKind::Request => fullconv_status::Request,
            ErrorKind::Unsupported => fullconv_status::Unsupported,
            ErrorKind::Limit => fullconv_status::Limit,
            ErrorKind::NotFinite => fullconv_status::NotFinite,
            ErrorKind::NoAdapter => fullconv_status::NoAdapter,
            ErrorKind::Device => fullconv_status::Device,
            ErrorKind::DeviceLost => fullconv_status::DeviceLost,
            _ => fullconv_status::Internal,
        };
        let message = error.to_string();
        Self { status, message }
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// `text` as a C string; zeros within it are replaced.
pub fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// The message of the last call on this thread, empty if the call succeeded. Valid until the next call.
pub fn last_error() -> *const c_char {
    let pointer = LAST_ERROR.try_with(|last| last.borrow().as_ptr());
    // A thread that is ending has no message.
    pointer.unwrap_or(c"".as_ptr())
}

/// Runs `work`, returns its status and sets the last error. Catches panics.
pub fn border(work: impl FnOnce() -> Result<(), Failure>) -> fullconv_status {
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or(panic.downcast_ref::<String>().map(String::as_str));
        Err(Failure {
            status: fullconv_status::Internal,
            message: format!("a fault of fullconv: {}", text.unwrap_or("a panic")),
        })
    });
    let (status, message) = match result {
        Ok(()) => (fullconv_status::Ok, CString::default()),
        Err(Failure { status, message }) => (status, c_string(&message)),
    };
    let _ = LAST_ERROR.try_with(|last| last.replace(message));
    status
}

/// The string at `pointer`; `name` is the argument's name, for errors.
///
/// # Safety
/// `pointer` is null or points to a zero-terminated string that does not change for `'a`.
pub unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(invalid(format!("{name} is null")));
    }
    // SAFETY: `pointer` is not null; the caller guarantees the rest.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str()
        .map_err(|_| invalid(format!("{name} is not UTF-8")))
}

/// Refuses a null pointer.
pub fn not_null<T>(pointer: *const T, name: &str) -> Result<(), Failure> {
    match pointer.is_null() {
        true => Err(invalid(format!("{name} is null"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> String {
        // SAFETY: the last error is a string of this thread.
        unsafe { CStr::from_ptr(last_error()) }
            .to_str()
            .unwrap()
            .into()
    }

    #[test]
    fn a_panic_is_a_status_and_a_message() {
        assert_eq!(
            border(|| panic!("on {}", "purpose")),
            fullconv_status::Internal
        );
        assert_eq!(message(), "a fault of fullconv: on purpose");
        assert_eq!(border(|| panic!("bare")), fullconv_status::Internal);
        assert_eq!(message(), "a fault of fullconv: bare");
        let other = border(|| std::panic::panic_any(7));
        assert_eq!(other, fullconv_status::Internal);
        assert_eq!(message(), "a fault of fullconv: a panic");
        assert_eq!(border(|| Ok(())), fullconv_status::Ok);
        assert_eq!(message(), "");
    }

    #[test]
    fn every_thread_has_its_own_last_error() {
        border(|| Err(invalid("here")));
        let other = std::thread::spawn(|| {
            border(|| Err(invalid("a\0b")));
            message()
        });
        assert_eq!(other.join().unwrap(), "a\u{fffd}b");
        assert_eq!(message(), "here");
    }
}

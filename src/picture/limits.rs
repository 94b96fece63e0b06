//! The limits of a picture.

use super::MAX_BYTES;
use crate::error::{Result, bail};
use crate::size::Size;
use std::fmt;

/// Limits of a picture, for [`Picture::decode_within`](crate::Picture::decode_within).
///
/// ```
/// use fullconv::{ErrorKind, Picture, PictureLimits, Size};
///
/// let upload = Picture::from_rgb(Size::new(20, 30), vec![0; 1800])?.to_png()?;
/// let limits = PictureLimits::default().pixels(500);
/// let error = Picture::decode_within(&upload, &limits).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Limit);
/// # Ok::<(), fullconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureLimits {
    pixels: u64,
    bytes: u64,
}

impl Default for PictureLimits {
    /// 1 GiB and any number of pixels, as for [`Picture::decode`](crate::Picture::decode).
    fn default() -> Self {
        Self {
            pixels: u64::MAX,
            bytes: MAX_BYTES,
        }
    }
}

impl PictureLimits {
    /// At most this many pixels.
    #[must_use]
    pub fn pixels(self, pixels: u64) -> Self {
        Self { pixels, ..self }
    }

    /// At most this many bytes in memory, decoded in the file's own pixel format, 1 to 8 bytes a pixel. More than 1 GiB
    /// is never decoded.
    #[must_use]
    pub fn bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }
}

/// An error unless a picture of `size` that takes `taken` bytes is within `limits`; it calls the picture `name`.
pub(super) fn check_limits(
    name: &dyn fmt::Display,
    size: Size,
    taken: u64,
    limits: Option<&PictureLimits>,
) -> Result<()> {
    if let Some(PictureLimits { pixels, bytes }) = limits {
        if size.height as u64 * size.width as u64 > *pixels {
            bail!(
                Limit,
                "{name} is too large: it has {size} pixels (height x width), and {pixels} are allowed; make it \
                 smaller"
            );
        }
        if taken > *bytes {
            bail!(
                Limit,
                "{name} is too large: {size} pixels (height x width) take {taken} bytes, and {bytes} are allowed; \
                 make it smaller"
            );
        }
    }
    if taken > MAX_BYTES {
        bail!(
            Picture,
            "{name} is too large: {size} pixels (height x width) take more than {MAX_BYTES} bytes"
        );
    }
    Ok(())
}

//! The size of a picture, height before width.

use crate::error::{Error, Result, bail};
use std::fmt;
use std::str::FromStr;

/// The size of a picture, a mask or a network's input, in pixels.
///
/// Height comes before width everywhere: in arguments, in text, and in the shapes of tensors.
///
/// ```
/// use fullconv::{ErrorKind, Size};
///
/// let size = Size::new(480, 640);
/// assert_eq!((size.height, size.width), (480, 640));
/// assert_eq!(size.pixels(), Some(307_200));
/// assert_eq!(size.to_string(), "480x640");
/// assert_eq!("480x640".parse::<Size>()?, size);
/// assert_eq!("480".parse::<Size>().unwrap_err().kind(), ErrorKind::Request);
/// # Ok::<(), fullconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Size {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Size {
    /// `height` rows of `width` pixels.
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    /// `side` rows of `side` pixels.
    pub const fn square(side: usize) -> Self {
        Self::new(side, side)
    }

    /// Height · width; `None` if the product is beyond `usize`.
    pub const fn pixels(self) -> Option<usize> {
        self.height.checked_mul(self.width)
    }

    /// `[vertical, horizontal]`, as in the attributes of ops.
    pub(crate) const fn axes(self) -> [usize; 2] {
        [self.height, self.width]
    }
}

/// Height, then width: `480x640`.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}

impl FromStr for Size {
    type Err = Error;

    /// Height and width, neither 0, such as `360x480`.
    ///
    /// # Errors
    /// `Request` if `text` is something else.
    fn from_str(text: &str) -> Result<Self> {
        let side = |side: &str| side.parse().ok().filter(|side| *side > 0);
        let sides = text.split_once(['x', 'X']);
        match sides.map(|(height, width)| (side(height), side(width))) {
            Some((Some(height), Some(width))) => Ok(Self::new(height, width)),
            _ => bail!(Request, "a size is HEIGHTxWIDTH in pixels, such as 360x480"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn text_is_height_before_width() {
        for text in ["480x640", "480X640"] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size, Size::new(480, 640));
            assert_eq!(size.axes(), [480, 640]);
            assert_eq!(size.to_string(), "480x640");
        }
    }

    #[test]
    fn other_text_is_an_error() {
        for text in [
            "", "x", "480", "480x", "x640", "0x640", "480x0", "-1x5", "4x5x6", "4×5",
        ] {
            let error = text.parse::<Size>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Request);
            assert!(error.to_string().contains("HEIGHTxWIDTH"), "{error}");
        }
    }

    #[test]
    fn pixels_do_not_overflow() {
        assert_eq!(Size::square(3).pixels(), Some(9));
        assert_eq!(Size::new(usize::MAX, 2).pixels(), None);
    }
}

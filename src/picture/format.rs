//! The formats of picture files, known by their first bytes.

use crate::npy;
use std::fmt;

/// The format of a picture file.
///
/// ```
/// use fullconv::PictureFormat;
/// assert_eq!(PictureFormat::of(b"GIF89a\x01\0\x01\0"), Some(PictureFormat::Gif));
/// assert_eq!(PictureFormat::of(b"Dear photograph,"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PictureFormat {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    WebP,
    /// TIFF.
    Tiff,
    /// Windows bitmap.
    Bmp,
    /// GIF.
    Gif,
    /// Portable anymap: PBM, PGM, PPM, PAM.
    Pnm,
    /// A NumPy array, `.npy`.
    Npy,
    /// A picture in a format of this name that is not read.
    Unread(&'static str),
}

impl PictureFormat {
    /// The number of first bytes of a file that tell every format.
    pub const HEAD: usize = 512;

    /// The format of a file that begins with `head`; `None` if it is no picture.
    pub fn of(head: &[u8]) -> Option<Self> {
        let after = |at: usize, text: &[u8]| head.get(at..).is_some_and(|h| h.starts_with(text));
        let begins = |text: &[u8]| after(0, text);
        Some(match head {
            [0xFF, 0xD8, 0xFF, ..] => Self::Jpeg,
            _ if begins(b"\x89PNG\r\n\x1a\n") => Self::Png,
            _ if begins(b"RIFF") && after(8, b"WEBP") => Self::WebP,
            _ if begins(b"II*\0") || begins(b"MM\0*") => Self::Tiff,
            _ if begins(b"II+\0") || begins(b"MM\0+") => Self::Tiff,
            _ if begins(b"GIF87a") || begins(b"GIF89a") => Self::Gif,
            _ if begins(npy::SIGNATURE) => Self::Npy,
            // Two letters begin many texts: the size of the header that follows is one of a few.
            [b'B', b'M', ..]
                if matches!(
                    head.get(14..18),
                    Some([12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])
                ) =>
            {
                Self::Bmp
            }
            [b'P', b'1'..=b'7', space, ..] if space.is_ascii_whitespace() => Self::Pnm,
            _ => Self::Unread(unread(head)?),
        })
    }

    /// Whether [`Picture::open`](crate::Picture::open) reads it.
    pub fn is_read(self) -> bool {
        let of_browsers = matches!(self, Self::Jpeg | Self::Png | Self::Npy);
        of_browsers || (cfg!(not(target_arch = "wasm32")) && !matches!(self, Self::Unread(_)))
    }

    /// What to do with a file that is not read.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Unread("HEIC") => {
                "convert it to JPEG, with `heif-convert a.heic a.jpg` for instance"
            }
            Self::Unread("AVIF") => "convert it to PNG, with `avifdec a.avif a.png` for instance",
            Self::Unread("JPEG XL") => "convert it to PNG, with `djxl a.jxl a.png` for instance",
            Self::Unread("camera raw" | "DICOM" | "PDF" | "SVG" | "video") => "export it as PNG",
            Self::Unread(_) => "convert it to PNG, with `magick` for instance",
            _ => "draw it into a canvas, and give its ImageData",
        }
    }
}

impl fmt::Display for PictureFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Tiff => "TIFF",
            Self::Bmp => "BMP",
            Self::Gif => "GIF",
            Self::Pnm => "PNM",
            Self::Npy => "NumPy",
            Self::Unread(name) => name,
        })
    }
}

/// The name of a format that is not read.
fn unread(head: &[u8]) -> Option<&'static str> {
    if head.get(4..8) == Some(b"ftyp") {
        return of_brands(head);
    }
    let magic: &[(usize, &[u8], &str)] = &[
        (0, b"\xFF\x0A", "JPEG XL"),
        (0, b"\0\0\0\x0CJXL ", "JPEG XL"),
        (0, b"\0\0\0\x0CjP  ", "JPEG 2000"),
        (0, b"\xFF\x4F\xFF\x51", "JPEG 2000"),
        (0, b"8BPS", "Photoshop"),
        (0, b"gimp xcf", "GIMP"),
        (0, b"%PDF-", "PDF"),
        (0, b"<svg", "SVG"),
        (0, b"\x76\x2F\x31\x01", "OpenEXR"),
        (0, b"#?RADIANCE", "Radiance HDR"),
        (0, b"qoif", "QOI"),
        (0, b"DDS ", "DDS"),
        (0, b"\0\0\x01\0", "ICO"),
        (0, b"PF\n", "PFM"),
        (0, b"Pf\n", "PFM"),
        (0, b"SIMPLE  =", "FITS"),
        (0, b"FUJIFILMCCD-RAW", "camera raw"),
        (0, b"IIRO", "camera raw"),
        (0, b"IIU\0", "camera raw"),
        (128, b"DICM", "DICOM"),
        (344, b"n+1\0", "NIfTI"),
    ];
    let found = magic.iter().find(|(at, text, _)| {
        let rest = head.get(*at..);
        rest.is_some_and(|rest| rest.starts_with(text))
    });
    if let Some((_, _, name)) = found {
        return Some(name);
    }
    let is_svg = head.starts_with(b"<?xml") && head.windows(4).any(|four| four == b"<svg");
    is_svg.then_some("SVG")
}

/// The name of a format of the ISO base media file format, from the brands of its first box.
fn of_brands(head: &[u8]) -> Option<&'static str> {
    let length = head
        .first_chunk::<4>()
        .map(|b| u32::from_be_bytes(*b) as usize)?;
    let end = length.min(head.len());
    let brands = head.get(8..end)?.as_chunks::<4>().0;
    let has = |any: &[&[u8; 4]]| brands.iter().any(|brand| any.contains(&brand));
    if has(&[b"avif", b"avis"]) {
        return Some("AVIF");
    }
    if has(&[
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1",
    ]) {
        return Some("HEIC");
    }
    Some(if has(&[b"crx "]) {
        "camera raw"
    } else {
        "video"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_their_first_bytes() {
        let boxed = |brands: &[u8]| {
            let length = (16 + brands.len() as u32).to_be_bytes();
            [&length[..], b"ftyp", &brands[..4], b"\0\0\0\0", brands].concat()
        };
        for (head, expected) in [
            (boxed(b"avifmif1"), Some("AVIF")),
            (boxed(b"mif1avif"), Some("AVIF")),
            (boxed(b"heicmif1"), Some("HEIC")),
            (boxed(b"isommp42"), Some("video")),
            (b"P6 3 3 255\n".to_vec(), Some("PNM")),
            (b"P600 is a phone".to_vec(), None),
            (b"BMW is a car, and not a picture".to_vec(), None),
            (b"BM1234\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec(), Some("BMP")),
            (b"MM\0*\0\0\0\x08".to_vec(), Some("TIFF")),
            (b"RIFF\0\0\0\0WAVE".to_vec(), None),
            (b"<?xml version='1.0'?><svg/>".to_vec(), Some("SVG")),
            (Vec::new(), None),
        ] {
            let found = PictureFormat::of(&head).map(|format| format.to_string());
            assert_eq!(found.as_deref(), expected, "{}", head.escape_ascii());
            for length in 0..head.len() {
                PictureFormat::of(&head[..length]);
            }
        }
    }
}

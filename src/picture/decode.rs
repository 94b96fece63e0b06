//! Picture files: the kind by its first bytes, header, limits, pixels.

use super::jpeg;
use super::{MAX_BYTES, Picture};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::size::Size;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use std::fmt;
use std::io::Cursor;

/// Limits of a picture, for [`Picture::decode_within`].
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
    /// 1 GiB and any number of pixels, as for [`Picture::decode`].
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

/// The header of a picture file.
struct Header<'a> {
    decoder: Box<dyn ImageDecoder + 'a>,
    /// Before the orientation is applied.
    size: Size,
    orientation: Orientation,
}

impl<'a> Header<'a> {
    /// The header of `bytes` in `format`; errors call the picture `name`.
    fn read(bytes: &'a [u8], format: ImageFormat, name: &dyn fmt::Display) -> Result<Self> {
        let mut limits = Limits::default();
        limits.max_alloc = Some(MAX_BYTES);
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|e| damaged(name, e))?;
        let (width, height) = decoder.dimensions();
        let orientation = decoder.orientation().map_err(|e| damaged(name, e))?;
        Ok(Self {
            decoder: Box::new(decoder),
            size: Size::new(height as usize, width as usize),
            orientation,
        })
    }
}

/// The size of the picture in `bytes` when upright, from its header; errors call the picture `name`.
pub(super) fn upright_size(bytes: &[u8], name: &dyn fmt::Display) -> Result<Size> {
    let header = Header::read(bytes, format_of(bytes, name)?, name)?;
    let Size { height, width } = header.size;
    Ok(match header.orientation {
        Orientation::NoTransforms
        | Orientation::Rotate180
        | Orientation::FlipHorizontal
        | Orientation::FlipVertical => header.size,
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => Size::new(width, height),
    })
}

/// JPEG or PNG; errors call the picture `name`.
fn format_of(bytes: &[u8], name: &dyn fmt::Display) -> Result<ImageFormat> {
    if bytes.is_empty() {
        bail!(Picture, "{name} is empty");
    }
    match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png)) => Ok(format),
        Ok(other) => bail!(
            Picture,
            "{name} is not a JPEG or PNG picture; it looks like {other:?}"
        ),
        Err(_) => bail!(Picture, "{name} is not a JPEG or PNG picture"),
    }
}

fn damaged(name: &dyn fmt::Display, reason: ImageError) -> Error {
    // Some of the decoder's reasons end in empty lines.
    let said = reason.to_string();
    let said: Vec<_> = said.split_whitespace().collect();
    let text = format!("{name} cannot be decoded: {}", said.join(" "));
    Error::new(ErrorKind::Picture, text).with_source(reason)
}

/// Decodes `bytes` if they are a picture within `limits`; errors call the picture `name`.
pub(super) fn decode(
    bytes: &[u8],
    name: &dyn fmt::Display,
    limits: Option<&PictureLimits>,
) -> Result<Picture> {
    let format = format_of(bytes, name)?;
    if format == ImageFormat::Jpeg && !jpeg::has_end(bytes) {
        bail!(Picture, "{name} is cut short: the JPEG has no end marker");
    }
    let header = Header::read(bytes, format, name)?;
    let (size, taken) = (header.size, header.decoder.total_bytes());
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
    let decoded = DynamicImage::from_decoder(header.decoder);
    let mut image = decoded.map_err(|e| damaged(name, e))?;
    image.apply_orientation(header.orientation);
    Picture::try_from(image).map_err(|error| error.at(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, ImageBuffer, Luma, RgbImage, RgbaImage};
    use std::fs;

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// Red on the left, blue on the right: 32 wide, 16 high.
    fn two_halves() -> RgbImage {
        RgbImage::from_fn(32, 16, |x, _| {
            image::Rgb(if x < 16 { [255, 0, 0] } else { [0, 0, 255] })
        })
    }

    fn jpeg() -> Vec<u8> {
        encoded(two_halves(), ImageFormat::Jpeg)
    }

    /// An APP1 segment with one EXIF entry: orientation (tag 0x0112, one SHORT).
    fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
        [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
    }

    fn refusal(bytes: &[u8]) -> String {
        let error = Picture::decode(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Picture);
        let message = error.to_string();
        assert!(!message.contains('\n'), "{message}");
        message
    }

    #[test]
    fn exif_orientation_turns_the_picture_upright() {
        let plain = Picture::decode(&jpeg()).unwrap();
        assert_eq!(plain.size(), Size::new(16, 32));
        // 6: to be turned by 90 degrees clockwise, so that the left side becomes the top.
        let turned = Picture::decode(&with_orientation(&jpeg(), 6)).unwrap();
        assert_eq!(turned.size(), Size::new(32, 16));
        let [top, bottom] = [2, 29].map(|y| turned.image().get_pixel(8, y).0);
        assert!(top[0] > 200 && top[2] < 50, "{top:?}");
        assert!(bottom[0] < 50 && bottom[2] > 200, "{bottom:?}");
    }

    #[test]
    fn files_that_are_no_pictures_are_errors() {
        assert_eq!(refusal(b""), "the picture is empty");
        for text in [&b"x"[..], b"Dear photograph,\n", &[0xFF, 0xD8]] {
            assert_eq!(refusal(text), "the picture is not a JPEG or PNG picture");
        }
        assert!(
            refusal(b"GIF89a\x01\0\x01\0").contains("not a JPEG or PNG picture; it looks like Gif")
        );
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.jpg");
        fs::write(&empty, b"").unwrap();
        let error = Picture::open(&empty).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Picture);
        assert_eq!(error.to_string(), format!("{} is empty", empty.display()));
        for (path, reason) in [
            (folder.path().to_path_buf(), "is a folder"),
            (folder.path().join("none.png"), "none.png: "),
        ] {
            let error = Picture::open(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn every_cut_of_a_file_is_an_error() {
        let jpeg = with_orientation(&jpeg(), 6);
        let png = encoded(two_halves(), ImageFormat::Png);
        // A PNG whose image data is complete is complete, with or without the 12 bytes of IEND.
        for (file, complete) in [(&jpeg, jpeg.len()), (&png, png.len() - 12)] {
            for length in 0..complete {
                refusal(&file[..length]);
            }
            Picture::decode(file).unwrap();
        }
    }

    #[test]
    fn damaged_bytes_never_panic() {
        for file in [jpeg(), encoded(two_halves(), ImageFormat::Png)] {
            for at in 0..file.len() {
                for flip in [0xFF, 0x80, 0x01] {
                    let mut damaged = file.clone();
                    damaged[at] ^= flip;
                    let _ = Picture::decode(&damaged);
                }
            }
        }
    }

    #[test]
    fn a_decompression_bomb_is_an_error() {
        let mut png = encoded(GrayImage::new(1, 1), ImageFormat::Png);
        // IHDR: length, type, width, height, 5 bytes, CRC of type and data.
        png[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
        let crc = crc32(&png[12..29]).to_be_bytes();
        png[29..33].copy_from_slice(&crc);
        assert!(
            refusal(&png).contains("too large: 65536x65536"),
            "{}",
            refusal(&png)
        );
        let mut jpeg = jpeg();
        // SOF0: marker, length, precision, height, width.
        let sof = jpeg.windows(2).position(|m| m == [0xFF, 0xC0]).unwrap();
        jpeg[sof + 5..sof + 9].fill(0xFF);
        assert!(refusal(&jpeg).contains("too large: 65535x65535"));
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |c, _| {
                (c >> 1) ^ (0xEDB8_8320 & (c & 1).wrapping_neg())
            })
        })
    }

    #[test]
    fn every_pixel_format_becomes_rgb8() {
        let grey16 = ImageBuffer::<Luma<u16>, _>::from_vec(2, 1, vec![0, 0xFFFF]).unwrap();
        let grey16 = Picture::decode(&encoded(grey16, ImageFormat::Png)).unwrap();
        assert_eq!(grey16.rgb(), [0, 0, 0, 255, 255, 255]);
        let rgba = RgbaImage::from_vec(1, 1, vec![10, 20, 30, 0]).unwrap();
        let rgba = Picture::decode(&encoded(rgba, ImageFormat::Png)).unwrap();
        assert_eq!(rgba.rgb(), [10, 20, 30]);
        let grey = GrayImage::from_vec(1, 1, vec![7]).unwrap();
        let grey = Picture::decode(&encoded(grey, ImageFormat::Png)).unwrap();
        assert_eq!(grey.rgb(), [7, 7, 7]);
    }

    #[test]
    fn a_size_is_known_from_the_header() {
        let png = encoded(two_halves(), ImageFormat::Png);
        assert_eq!(Picture::size_of(&png).unwrap(), Size::new(16, 32));
        assert_eq!(Picture::size_of(&png[..60]).unwrap(), Size::new(16, 32));
        for orientation in 1..=8 {
            let jpeg = with_orientation(&jpeg(), orientation);
            let decoded = Picture::decode(&jpeg).unwrap();
            let size = Picture::size_of(&jpeg).unwrap();
            assert_eq!(size, decoded.size(), "{orientation}");
        }
        for damaged in [&b""[..], b"x", &png[..20], b"GIF89a\x01\0\x01\0"] {
            let error = Picture::size_of(damaged).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Picture);
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn limits_are_held_before_pixels_are_decoded() {
        // Two halves of 32 by 16 pixels of three bytes.
        for bytes in [encoded(two_halves(), ImageFormat::Png), jpeg()] {
            let limits = PictureLimits::default().pixels(512).bytes(1536);
            assert!(Picture::decode_within(&bytes, &limits).is_ok());
            for (limits, part) in [
                (
                    limits.pixels(511),
                    "it has 16x32 pixels (height x width), and 511 are allowed",
                ),
                (
                    limits.bytes(1535),
                    "16x32 pixels (height x width) take 1536 bytes, and 1535 are allowed",
                ),
            ] {
                let error = Picture::decode_within(&bytes, &limits).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Limit);
                assert!(error.to_string().contains(part), "{error}");
            }
        }
        let error = Picture::decode_within(b"x", &PictureLimits::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Picture);
    }
}

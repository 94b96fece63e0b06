//! Picture files: the format, header, limits, pixels.

use super::chunks::Chunks;
use super::limits::check_limits;
use super::upright::upright;
use super::{MAX_BYTES, Picture, PictureFormat, PictureLimits, PictureNote, jpeg, npy};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::size::Size;
#[cfg(not(target_arch = "wasm32"))]
use image::AnimationDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use std::fmt;
use std::io::Cursor;

/// The header of a picture file that the `image` crate reads.
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

    fn pixels(self, name: &dyn fmt::Display) -> Result<DynamicImage> {
        let decoded = DynamicImage::from_decoder(self.decoder);
        let mut image = decoded.map_err(|e| damaged(name, e))?;
        image.apply_orientation(self.orientation);
        Ok(image)
    }
}

/// The size of the picture in `bytes` when upright, from its header; errors call the picture `name`.
pub(super) fn upright_size(bytes: &[u8], name: &dyn fmt::Display) -> Result<Size> {
    match format_of(bytes, name)? {
        PictureFormat::Npy => Ok(npy::Array::read(bytes, name)?.size),
        #[cfg(not(target_arch = "wasm32"))]
        PictureFormat::Tiff => super::pages::upright_size(bytes, name),
        format => {
            let header = Header::read(bytes, of_image(format, name)?, name)?;
            Ok(upright(header.size, header.orientation))
        }
    }
}

/// The format of a file that is read; errors call the picture `name`.
fn format_of(bytes: &[u8], name: &dyn fmt::Display) -> Result<PictureFormat> {
    if bytes.is_empty() {
        bail!(Picture, "{name} is empty");
    }
    match PictureFormat::of(bytes) {
        Some(format) if format.is_read() => Ok(format),
        Some(format) => bail!(
            Picture,
            "{name} is a file of {format}, which is not read: {}",
            format.advice()
        ),
        None => bail!(
            Picture,
            "{name} is no picture: JPEG, PNG, WebP, TIFF, BMP, GIF, PNM and .npy are read"
        ),
    }
}

/// `format` as the `image` crate names it.
fn of_image(format: PictureFormat, name: &dyn fmt::Display) -> Result<ImageFormat> {
    Ok(match format {
        PictureFormat::Jpeg => ImageFormat::Jpeg,
        PictureFormat::Png => ImageFormat::Png,
        PictureFormat::WebP => ImageFormat::WebP,
        PictureFormat::Bmp => ImageFormat::Bmp,
        PictureFormat::Gif => ImageFormat::Gif,
        PictureFormat::Pnm => ImageFormat::Pnm,
        other => bail!(Picture, "{name} is a file of {other}, which is not read"),
    })
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
    match format_of(bytes, name)? {
        PictureFormat::Npy => {
            let array = npy::Array::read(bytes, name)?;
            check_limits(
                name,
                array.size,
                array.bytes().unwrap_or(usize::MAX) as u64,
                limits,
            )?;
            let picture = Picture::from_bands(array.size, array.bands, array.samples(bytes));
            picture.map_err(|error| error.at(name))
        }
        #[cfg(not(target_arch = "wasm32"))]
        PictureFormat::Tiff => super::pages::decode(bytes, name, limits),
        format => {
            let format = of_image(format, name)?;
            if format == ImageFormat::WebP && webp_is_cut(bytes) {
                bail!(Picture, "{name} is cut short");
            }
            let lacks_end = format == ImageFormat::Jpeg && !jpeg::has_end(bytes);
            let header = match Header::read(bytes, format, name) {
                Err(_) if lacks_end => bail!(Picture, "{name} is cut short"),
                header => header?,
            };
            check_limits(name, header.size, header.decoder.total_bytes(), limits)?;
            let picture = match format {
                ImageFormat::Jpeg if lacks_end => without_jpeg_end(bytes, name)?,
                ImageFormat::Png => png_pixels(header, bytes, name)?,
                // A frame has alpha, whether a colour is transparent or not.
                ImageFormat::Gif => opaque(header.pixels(name)?, name)?,
                _ => Picture::try_from(header.pixels(name)?).map_err(|error| error.at(name))?,
            };
            Ok(match is_animated(bytes, format) {
                true => picture.noting(PictureNote::FirstFrame),
                false => picture,
            })
        }
    }
}

/// The picture of `image`, without alpha if no pixel is transparent.
fn opaque(image: DynamicImage, name: &dyn fmt::Display) -> Result<Picture> {
    let is_opaque = match &image {
        DynamicImage::ImageRgba8(rgba) => rgba.pixels().all(|pixel| pixel.0[3] == 255),
        _ => false,
    };
    let picture = match is_opaque {
        true => Picture::try_from(image.into_rgb8()),
        false => Picture::try_from(image),
    };
    picture.map_err(|error| error.at(name))
}

/// Whether a WebP has fewer bytes than its header says. Its decoder makes up missing pixels without an error.
fn webp_is_cut(bytes: &[u8]) -> bool {
    let length = bytes.get(4..).and_then(|rest| rest.first_chunk::<4>());
    let after = length.map_or(0, |length| u32::from_le_bytes(*length) as usize);
    // The last byte may only align.
    bytes.len() - bytes.len().min(8) + 1 < after
}

/// The picture of a JPEG that has no end marker.
fn without_jpeg_end(bytes: &[u8], name: &dyn fmt::Display) -> Result<Picture> {
    let pixels = |bytes: &[u8]| {
        let header = Header::read(bytes, ImageFormat::Jpeg, name).ok()?;
        header.pixels(name).ok()
    };
    match jpeg::completed(bytes, pixels).and_then(|whole| pixels(&whole)) {
        Some(image) => Ok(Picture::try_from(image)?.noting(PictureNote::EndMissing)),
        None => bail!(
            Picture,
            "{name} is cut short: the JPEG has no end marker, and pixels are missing"
        ),
    }
}

/// The picture of a PNG, whose last chunks may be missing.
fn png_pixels(header: Header<'_>, bytes: &[u8], name: &dyn fmt::Display) -> Result<Picture> {
    let chunks = Chunks::of(bytes);
    if chunks.has_end {
        return Picture::try_from(header.pixels(name)?).map_err(|error| error.at(name));
    }
    let completed = chunks.completed(bytes);
    let whole = Header::read(&completed, ImageFormat::Png, name).and_then(|h| h.pixels(name));
    // Of two errors, that of the file itself.
    let image = match whole {
        Ok(image) => image,
        Err(error) => header.pixels(name).and(Err(error))?,
    };
    Ok(Picture::try_from(image)?.noting(PictureNote::EndMissing))
}

/// Whether the file has more than one frame.
fn is_animated(bytes: &[u8], format: ImageFormat) -> bool {
    match format {
        ImageFormat::Png => Chunks::of(bytes).is_animated,
        // The flags of the extended header.
        ImageFormat::WebP => {
            bytes.get(12..16) == Some(b"VP8X") && bytes.get(20).is_some_and(|flags| flags & 2 != 0)
        }
        #[cfg(not(target_arch = "wasm32"))]
        ImageFormat::Gif => {
            let decoder = image::codecs::gif::GifDecoder::new(Cursor::new(bytes));
            decoder.is_ok_and(|decoder| decoder.into_frames().take(2).count() > 1)
        }
        _ => false,
    }
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
            assert!(refusal(text).starts_with("the picture is no picture: JPEG, PNG"));
        }
        let heic = refusal(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic");
        assert!(
            heic.starts_with("the picture is a file of HEIC, which is not read: convert"),
            "{heic}"
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
    fn a_file_that_is_cut_has_every_pixel_or_is_refused() {
        let noise = RgbImage::from_fn(21, 19, |x, y| {
            image::Rgb(
                [0, 8, 16]
                    .map(|bits| ((x * 73 + y * 179).wrapping_mul(2_654_435_761) >> bits) as u8),
            )
        });
        for format in [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::WebP,
            ImageFormat::Bmp,
            ImageFormat::Gif,
            ImageFormat::Pnm,
        ] {
            // What may be missing: the end marker, and bits that change no pixel; the end chunk, the checksums before it
            // and the end of the compressed data; a block without content and the trailer; a byte that aligns.
            let most = match format {
                ImageFormat::Jpeg => 2 + 4,
                ImageFormat::Png => 12 + 4 + 4 + 2,
                ImageFormat::Gif => 3,
                ImageFormat::WebP => 1,
                _ => 0,
            };
            for image in [noise.clone(), two_halves()] {
                let mut file = encoded(image, format);
                if format == ImageFormat::Jpeg {
                    file = with_orientation(&file, 6);
                }
                let whole = Picture::decode(&file).unwrap();
                assert!(whole.notes().is_empty());
                for length in 0..file.len() {
                    let missing = file.len() - length;
                    if let Ok(picture) = Picture::decode(&file[..length]) {
                        assert_eq!(picture, whole, "{format:?} without {missing} bytes");
                        assert!(missing <= most, "{format:?} without {missing} bytes");
                        let is_said =
                            missing > 0 && matches!(format, ImageFormat::Jpeg | ImageFormat::Png);
                        assert!(!is_said || picture.notes() == [PictureNote::EndMissing]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_jpeg_or_png_that_lacks_only_its_end_is_read() {
        for (format, end) in [(ImageFormat::Jpeg, 1..=2), (ImageFormat::Png, 1..=16)] {
            let file = encoded(two_halves(), format);
            let whole = Picture::decode(&file).unwrap();
            for missing in end {
                let picture = Picture::decode(&file[..file.len() - missing]).unwrap();
                assert_eq!(picture, whole);
                assert_eq!(picture.notes(), [PictureNote::EndMissing], "{missing}");
            }
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

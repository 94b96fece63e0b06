//! Pictures: JPEG and PNG, upright, as RGB bytes.

use crate::error::{Error, ErrorKind, Result, bail};
use crate::files;
use crate::size::Size;
use crate::tensor::{Shape, Tensor};
use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};
use std::borrow::Cow;
use std::fmt;
use std::io::Cursor;
use std::path::Path;
use std::sync::OnceLock;

/// The most bytes of a file, and of a picture in memory while it is decoded: 1 GiB, some 358 million RGB pixels. A
/// larger picture is a decompression bomb or beyond any device's limits.
pub(crate) const MAX_BYTES: u64 = 1 << 30;

/// The quality of a saved JPEG, of 100: the loss is hardly visible.
const JPEG_QUALITY: u8 = 92;

/// A picture of at least one pixel: RGB, 8 bits a channel, rows from the top.
///
/// ```
/// use fullconv::{Picture, Size};
/// let size = Size::new(1, 2);
/// let picture = Picture::from_rgb(size, vec![255, 0, 0, 0, 0, 255])?;
/// assert_eq!(picture.size(), size);
/// assert_eq!(Picture::decode(&picture.to_png()?)?, picture);
/// # Ok::<(), fullconv::Error>(())
/// ```
#[derive(Clone)]
pub struct Picture(Pixels);

/// The pixels in their original layout.
#[derive(Clone)]
enum Pixels {
    Rgb(RgbImage),
    Rgba {
        /// Both sides fit `u32`.
        size: Size,
        bytes: Vec<u8>,
        /// The pixels without the fourth byte, made on first use.
        rgb: OnceLock<RgbImage>,
    },
}

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

impl Picture {
    /// Reads a JPEG or PNG file, whatever its extension.
    ///
    /// The picture is turned upright by its EXIF orientation. Grey becomes RGB, 16 bits become
    /// 8, transparency is dropped; colour profiles are ignored.
    ///
    /// # Errors
    /// `Io` if the file cannot be read; `Picture` if it is empty, neither JPEG nor PNG, damaged, cut
    /// short, or takes more than 1 GiB in memory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        decode(&files::read(path, MAX_BYTES)?, &path.display(), None)
    }

    /// Reads a JPEG or PNG from memory, as [`Picture::open`] does from a file.
    ///
    /// # Errors
    /// `Picture`, as for [`Picture::open`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode(bytes, &"the picture", None)
    }

    /// As [`Picture::decode`], if the picture is within `limits`, which are checked before its pixels are decoded.
    ///
    /// # Errors
    /// `Limit` if the picture is beyond the limits; `Picture`, as for [`Picture::open`].
    pub fn decode_within(bytes: &[u8], limits: &PictureLimits) -> Result<Self> {
        decode(bytes, &"the picture", Some(limits))
    }

    /// The size of the JPEG or PNG in `bytes` when upright, from its header only: the pixels are not decoded, and may
    /// be damaged.
    ///
    /// # Errors
    /// `Picture` if it is empty, neither JPEG nor PNG, or its header is damaged.
    pub fn size_of(bytes: &[u8]) -> Result<Size> {
        let name = &"the picture";
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

    /// The picture of `size` whose pixels are `data`: red, green and blue of each, row by row.
    ///
    /// # Errors
    /// `Picture` if there is no pixel, or `data` does not have 3 · height · width bytes.
    pub fn from_rgb(size: Size, data: Vec<u8>) -> Result<Self> {
        check_length(size, 3, data.len())?;
        match RgbImage::from_raw(size.width as u32, size.height as u32, data) {
            Some(image) => Self::try_from(image),
            None => Err(wrong_length(size, 3, 0)),
        }
    }

    /// The picture of `size` whose pixels are `data`: red, green, blue and a fourth byte of each, row by row. The
    /// fourth byte is ignored. The bytes go to a device unchanged.
    ///
    /// # Errors
    /// `Picture` if there is no pixel, or `data` does not have 4 · height · width bytes.
    pub fn from_rgba(size: Size, data: Vec<u8>) -> Result<Self> {
        check_length(size, 4, data.len())?;
        Ok(Self(Pixels::Rgba {
            size,
            bytes: data,
            rgb: OnceLock::new(),
        }))
    }

    /// The size, at least one pixel a side.
    pub fn size(&self) -> Size {
        match &self.0 {
            Pixels::Rgb(image) => size_of(image),
            Pixels::Rgba { size, .. } => *size,
        }
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> usize {
        self.size().width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> usize {
        self.size().height
    }

    /// Red, green and blue of each pixel, row by row: 3 · height · width bytes. A picture from [`Picture::from_rgba`]
    /// copies them on the first call.
    pub fn rgb(&self) -> &[u8] {
        self.image().as_raw()
    }

    /// Red, green, blue and a fourth byte of each pixel, row by row: 4 · height · width bytes, as in an `Rgba8Unorm`
    /// texture. The fourth byte is the original one, or 255 if there was none.
    pub fn rgba(&self) -> Cow<'_, [u8]> {
        match &self.0 {
            Pixels::Rgb(image) => {
                let pixels = image.as_raw().as_chunks::<3>().0;
                let mut bytes = Vec::with_capacity(4 * pixels.len());
                bytes.extend(pixels.iter().flat_map(|[r, g, b]| [*r, *g, *b, 255]));
                Cow::Owned(bytes)
            }
            Pixels::Rgba { bytes, .. } => Cow::Borrowed(bytes),
        }
    }

    /// The picture as an image of the `image` crate.
    pub fn image(&self) -> &RgbImage {
        match &self.0 {
            Pixels::Rgb(image) => image,
            Pixels::Rgba { size, bytes, rgb } => rgb.get_or_init(|| {
                let mut image = RgbImage::new(size.width as u32, size.height as u32);
                let pixels = image.as_chunks_mut::<3>().0;
                for ([r, g, b], from) in pixels.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    [*r, *g, *b] = [from[0], from[1], from[2]];
                }
                image
            }),
        }
    }

    /// One word a pixel, row by row: red in the lowest byte, then green, blue, and 255. Little-endian
    /// in memory, these are the bytes of an `Rgba8Unorm` texture.
    pub fn to_rgba_words(&self) -> Vec<u32> {
        let bytes = self.rgba();
        let pixels = bytes.as_chunks::<4>().0.iter();
        pixels
            .map(|[r, g, b, _]| u32::from_le_bytes([*r, *g, *b, 255]))
            .collect()
    }

    /// The picture as a tensor `[1, 3, h, w]`: channels red, green, blue, values 0 to 255.
    ///
    /// # Errors
    /// `Limit` if the host has no memory for it.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let (data, stride) = match &self.0 {
            Pixels::Rgb(image) => (image.as_raw(), 3),
            Pixels::Rgba { bytes, .. } => (bytes, 4),
        };
        let Size { height, width } = self.size();
        Tensor::from_fn(Shape::new(1, 3, height, width), |_, c, y, x| {
            f32::from(data[(y * width + x) * stride + c])
        })
    }

    /// The bytes of a PNG file.
    ///
    /// # Errors
    /// `Picture` if it cannot be encoded.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut bytes = Cursor::new(Vec::new());
        self.image()
            .write_to(&mut bytes, ImageFormat::Png)
            .map_err(not_encoded)?;
        Ok(bytes.into_inner())
    }

    /// Saves the picture in the format of the extension of `path`: `.png`, `.jpg` or `.jpeg`.
    ///
    /// The file appears whole or not at all.
    ///
    /// # Errors
    /// `Request` if `path` ends in something else; `Io` if it cannot be written; `Picture` if JPEG
    /// does not allow the size (65,535 pixels a side).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let bytes = match extension(path).as_deref() {
            Some("png") => self.to_png(),
            Some("jpg" | "jpeg") => self.to_jpeg(),
            _ => bail!(
                Request,
                "cannot save {}: the name of a picture ends in .png, .jpg or .jpeg",
                path.display()
            ),
        };
        files::write_atomically(path, &bytes.map_err(|error| error.at(path.display()))?)
    }

    fn to_jpeg(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY)
            .encode_image(self.image())
            .map_err(not_encoded)?;
        Ok(bytes)
    }
}

impl TryFrom<RgbImage> for Picture {
    type Error = Error;

    /// # Errors
    /// `Picture` if the image has no pixel.
    fn try_from(image: RgbImage) -> Result<Self> {
        let size = size_of(&image);
        if size.height == 0 || size.width == 0 {
            bail!(
                Picture,
                "a picture of {size} pixels (height x width) has nothing in it"
            );
        }
        Ok(Self(Pixels::Rgb(image)))
    }
}

impl TryFrom<DynamicImage> for Picture {
    type Error = Error;

    /// Converts as [`Picture::open`] does.
    ///
    /// # Errors
    /// `Picture` if the image has no pixel.
    fn try_from(image: DynamicImage) -> Result<Self> {
        Self::try_from(image.into_rgb8())
    }
}

/// Equal size and equal red, green and blue; the fourth byte is ignored.
impl PartialEq for Picture {
    fn eq(&self, other: &Self) -> bool {
        self.size() == other.size() && self.rgb() == other.rgb()
    }
}

impl Eq for Picture {}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Picture({})", self.size())
    }
}

/// The extension of a file's name, in lower case.
pub(crate) fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

fn size_of(image: &RgbImage) -> Size {
    Size::new(image.height() as usize, image.width() as usize)
}

/// An error unless both sides fit `u32`, and the data of a picture of `bytes` bytes a pixel has the right `length`.
fn check_length(size: Size, bytes: usize, length: usize) -> Result<()> {
    let needed = size.pixels().and_then(|n| n.checked_mul(bytes));
    let fits = size.axes().iter().all(|side| u32::try_from(*side).is_ok());
    if !fits || length == 0 || needed != Some(length) {
        return Err(wrong_length(size, bytes, length));
    }
    Ok(())
}

fn wrong_length(size: Size, bytes: usize, length: usize) -> Error {
    Error::new(
        ErrorKind::Picture,
        format!(
            "a picture of {size} pixels (height x width) takes {bytes} bytes for each, not {length} in all"
        ),
    )
}

fn not_encoded(reason: ImageError) -> Error {
    let text = format!("the picture cannot be encoded: {reason}");
    Error::new(ErrorKind::Picture, text).with_source(reason)
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
fn decode(
    bytes: &[u8],
    name: &dyn fmt::Display,
    limits: Option<&PictureLimits>,
) -> Result<Picture> {
    let format = format_of(bytes, name)?;
    if format == ImageFormat::Jpeg && !jpeg_has_end(bytes) {
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

/// Whether an end-of-image marker follows the first scan of a JPEG. If a file is cut short, the decoder fills the
/// missing part with grey, without an error.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    // The thumbnail in an EXIF segment has an end marker of its own: the search begins after the segments. Scan data
    // has no marker: a byte 0xFF in it is followed by 0.
    first_scan(bytes).is_some_and(|scan| {
        let mut pairs = bytes[scan..].windows(2).rev();
        pairs.any(|pair| pair == [0xFF, 0xD9])
    })
}

/// Where the first start-of-scan segment of a JPEG begins (ITU-T T.81, annex B).
fn first_scan(bytes: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        match *bytes.get(at..at + 2)? {
            [0xFF, 0xDA] => return Some(at),
            // Markers without a segment.
            [0xFF, 0x01 | 0xD0..=0xD8] => at += 2,
            [0xFF, marker] if marker != 0 && marker != 0xFF => {
                let length = bytes.get(at + 2..at + 4)?;
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
            // Fill bytes between segments.
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, ImageBuffer, Luma, RgbaImage};
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
    fn words_and_tensor_hold_the_same_pixels() {
        let picture = Picture::from_rgb(Size::new(2, 1), vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(picture.to_rgba_words(), [0xFF03_0201, 0xFF06_0504]);
        let tensor = picture.to_tensor().unwrap();
        assert_eq!(tensor.shape(), Shape::new(1, 3, 2, 1));
        assert_eq!(tensor.data(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn a_fourth_byte_is_carried_along_and_does_not_matter() {
        let rgb = Picture::from_rgb(Size::new(2, 1), vec![1, 2, 3, 4, 5, 6]).unwrap();
        let rgba = Picture::from_rgba(Size::new(2, 1), vec![1, 2, 3, 0, 4, 5, 6, 9]).unwrap();
        assert!(rgba == rgb);
        assert_eq!(rgba.rgb(), rgb.rgb());
        assert_eq!(rgb.rgba()[..], [1, 2, 3, 255, 4, 5, 6, 255]);
        assert!(matches!(
            rgba.rgba(),
            Cow::Borrowed([1, 2, 3, 0, 4, 5, 6, 9])
        ));
        assert_eq!(rgba.to_rgba_words(), rgb.to_rgba_words());
        assert_eq!(rgba.to_tensor().unwrap(), rgb.to_tensor().unwrap());
        assert_eq!(rgba.to_png().unwrap(), rgb.to_png().unwrap());
        for (height, width, length) in [(1, 0, 0), (0, 1, 0), (2, 2, 12), (2, usize::MAX, 8)] {
            let size = Size::new(height, width);
            let error = Picture::from_rgba(size, vec![0; length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Picture);
            assert!(error.to_string().contains("takes 4 bytes"), "{error}");
        }
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

    #[test]
    fn a_picture_has_a_pixel_and_all_its_bytes() {
        let one = Picture::from_rgb(Size::square(1), vec![1, 2, 3]).unwrap();
        assert_eq!(Picture::decode(&one.to_png().unwrap()).unwrap(), one);
        for (height, width, length) in [(1, 0, 0), (0, 1, 0), (2, 2, 11), (2, usize::MAX, 6)] {
            let size = Size::new(height, width);
            let error = Picture::from_rgb(size, vec![0; length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Picture);
            assert!(error.to_string().contains(&size.to_string()), "{error}");
        }
    }

    #[test]
    fn saving_follows_the_extension() {
        let folder = tempfile::tempdir().unwrap();
        let picture = Picture::try_from(two_halves()).unwrap();
        for (name, start) in [("a.png", &b"\x89PNG"[..]), ("a.JPG", b"\xFF\xD8\xFF")] {
            let path = folder.path().join(name);
            picture.save(&path).unwrap();
            assert!(fs::read(&path).unwrap().starts_with(start));
            assert_eq!(Picture::open(&path).unwrap().width(), 32);
        }
        let error = picture.save(folder.path().join("a.webp")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}

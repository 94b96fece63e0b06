//! Pictures: files of many formats, upright, as RGB bytes or as bands.

mod chunks;
mod decode;
mod format;
mod jpeg;
mod limits;
mod npy;
#[cfg(not(target_arch = "wasm32"))]
mod pages;
mod samples;
mod upright;

pub use format::PictureFormat;
pub use limits::PictureLimits;
use samples::Bands;
pub use samples::Samples;

use crate::error::{Error, ErrorKind, Result, bail};
use crate::files;
use crate::size::Size;
use crate::tensor::{Shape, Tensor};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageError, ImageFormat, RgbImage};
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

/// A picture of at least one pixel, rows from the top. It is a colour picture of 8 bits a channel, or has bands: any
/// number of channels of 8 bits, 16 bits or `f32`, see [`Samples`].
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
pub struct Picture {
    pixels: Pixels,
    notes: Vec<PictureNote>,
}

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
    Bands {
        /// Both sides fit `u32`.
        size: Size,
        bands: Bands,
        /// The pixels as they are shown, made on first use.
        rgb: OnceLock<RgbImage>,
    },
}

/// What a reader of a picture should know about its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PictureNote {
    /// The file lacks its end, but no pixel.
    EndMissing,
    /// The file is an animation; the picture is its first frame.
    FirstFrame,
    /// The file has this many pages; the picture is the first.
    FirstPage(usize),
}

impl fmt::Display for PictureNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndMissing => f.write_str("the file lacks its end; every pixel is there"),
            Self::FirstFrame => f.write_str("the file is an animation; its first frame is taken"),
            Self::FirstPage(pages) => {
                write!(f, "the file has {pages} pages; the first is taken")
            }
        }
    }
}

impl Picture {
    /// Reads a picture file, known by its content, whatever its extension: JPEG, PNG, WebP, TIFF, BMP, GIF (the first
    /// frame), PNM, or a NumPy array (`.npy`) of `[h, w]`, `[h, w, bands]` or `[bands, h, w]`. In a browser only JPEG,
    /// PNG and arrays: the page decodes other formats.
    ///
    /// The picture is turned upright by its EXIF orientation; colour profiles are ignored. Colours of 16 bits become 8,
    /// except in a TIFF; grey of 16 bits and bands keep their precision. [`Picture::notes`] says what else there is to
    /// know.
    ///
    /// # Errors
    /// `Io` if the file cannot be read; `Picture` if it is empty, of another format, damaged, lacks pixels, or takes
    /// more than 1 GiB in memory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        decode::decode(&files::read(path, MAX_BYTES)?, &path.display(), None)
    }

    /// Reads a picture file from memory, as [`Picture::open`] does from a file.
    ///
    /// # Errors
    /// `Picture`, as for [`Picture::open`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode::decode(bytes, &"the picture", None)
    }

    /// As [`Picture::decode`], if the picture is within `limits`, which are checked before its pixels are decoded.
    ///
    /// # Errors
    /// `Limit` if the picture is beyond the limits; `Picture`, as for [`Picture::open`].
    pub fn decode_within(bytes: &[u8], limits: &PictureLimits) -> Result<Self> {
        decode::decode(bytes, &"the picture", Some(limits))
    }

    /// The size of the picture file in `bytes` when upright, from its header only: the pixels are not decoded, and may
    /// be damaged.
    ///
    /// # Errors
    /// `Picture` if it is empty, of no format that is read, or its header is damaged.
    pub fn size_of(bytes: &[u8]) -> Result<Size> {
        decode::upright_size(bytes, &"the picture")
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

    /// The picture of `size` whose pixels are `data`: red, green, blue and alpha of each, row by row. Only networks with
    /// a channel for alpha look at it. The bytes go to a device unchanged.
    ///
    /// # Errors
    /// `Picture` if there is no pixel, or `data` does not have 4 · height · width bytes.
    pub fn from_rgba(size: Size, data: Vec<u8>) -> Result<Self> {
        check_length(size, 4, data.len())?;
        Ok(Self::new(Pixels::Rgba {
            size,
            bytes: data,
            rgb: OnceLock::new(),
        }))
    }

    /// The picture of `size` with this number of `bands`, whose samples are `samples`: all bands of a pixel, pixel by
    /// pixel, row by row. Three bands of 8 bits are red, green and blue; no band is alpha.
    ///
    /// ```
    /// use fullconv::{Picture, Samples, Size};
    /// let size = Size::new(2, 3);
    /// let picture = Picture::from_bands(size, 12, Samples::U16(vec![1000; 72]))?;
    /// assert_eq!(picture.bands(), 12);
    /// # Ok::<(), fullconv::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Picture` if there is no pixel or band, there are not `bands` · height · width samples, or a sample is not
    /// finite.
    pub fn from_bands(size: Size, bands: usize, samples: Samples) -> Result<Self> {
        Self::of_bands(size, Bands::new(size, bands, samples, false)?)
    }

    fn of_bands(size: Size, bands: Bands) -> Result<Self> {
        match bands.into_rgb() {
            Ok(rgb) => Self::from_rgb(size, rgb),
            Err(bands) => Ok(Self::new(Pixels::Bands {
                size,
                bands,
                rgb: OnceLock::new(),
            })),
        }
    }

    fn new(pixels: Pixels) -> Self {
        Self {
            pixels,
            notes: Vec::new(),
        }
    }

    /// This picture with a note.
    fn noting(mut self, note: PictureNote) -> Self {
        self.notes.push(note);
        self
    }

    /// What a reader should know about the picture's file; empty for most.
    pub fn notes(&self) -> &[PictureNote] {
        &self.notes
    }

    /// The number of bands, alpha included: 1 for grey, 3 for a colour picture, 4 with alpha.
    pub fn bands(&self) -> usize {
        match &self.pixels {
            Pixels::Rgb(_) => 3,
            Pixels::Rgba { .. } => 4,
            Pixels::Bands { bands, .. } => bands.count(),
        }
    }

    /// The samples of a picture of bands; `None` for a colour picture, see [`Picture::rgba`].
    pub fn samples(&self) -> Option<&Samples> {
        match &self.pixels {
            Pixels::Bands { bands, .. } => Some(bands.samples()),
            Pixels::Rgb(_) | Pixels::Rgba { .. } => None,
        }
    }

    /// Whether the last band is alpha: the opacity of each pixel.
    pub fn has_alpha(&self) -> bool {
        match &self.pixels {
            Pixels::Rgb(_) => false,
            Pixels::Rgba { .. } => true,
            Pixels::Bands { bands, .. } => bands.has_alpha(),
        }
    }

    /// Whether a pixel is not opaque.
    pub fn is_transparent(&self) -> bool {
        match &self.pixels {
            Pixels::Rgb(_) => false,
            Pixels::Rgba { bytes, .. } => bytes.iter().skip(3).step_by(4).any(|a| *a < 255),
            Pixels::Bands { bands, .. } => bands.is_transparent(),
        }
    }

    /// The picture over a `background` of one colour (red, green, blue), as Pillow's `paste` with a mask computes it:
    /// opaque, 8 bits a channel. A picture without alpha stays as it is.
    #[must_use]
    pub fn over(&self, background: [u8; 3]) -> Self {
        if !self.has_alpha() {
            return self.clone();
        }
        let mut image = self.image().clone();
        let pixels = image.as_chunks_mut::<3>().0;
        for (pixel, alpha) in pixels.iter_mut().zip(self.alpha()) {
            for (channel, behind) in pixel.iter_mut().zip(background) {
                let [front, behind, alpha] = [*channel, behind, alpha].map(u32::from);
                let sum = front * alpha + behind * (255 - alpha) + 128;
                *channel = (((sum >> 8) + sum) >> 8) as u8;
            }
        }
        Self {
            pixels: Pixels::Rgb(image),
            notes: self.notes.clone(),
        }
    }

    /// The opacity of each pixel, row by row.
    fn alpha(&self) -> Vec<u8> {
        match &self.pixels {
            Pixels::Rgba { bytes, .. } => bytes.iter().skip(3).step_by(4).copied().collect(),
            Pixels::Bands { bands, .. } if bands.has_alpha() => bands.shown(bands.count() - 1),
            _ => vec![255; self.width() * self.height()],
        }
    }

    /// Whether it is grey or a colour picture of 8 bits a channel, of which [`Picture::rgba`] holds everything.
    pub(crate) fn is_colour(&self) -> bool {
        match &self.pixels {
            Pixels::Rgb(_) | Pixels::Rgba { .. } => true,
            Pixels::Bands { bands, .. } => bands.is_grey8(),
        }
    }

    /// The samples of band `band`, row by row, from 0 to 1 for those of 8 and 16 bits, as they are for `f32`.
    pub(crate) fn band(&self, band: usize) -> Vec<f64> {
        let bytes = |bytes: &[u8], count| {
            let of_band = bytes.iter().skip(band).step_by(count);
            of_band.map(|byte| f64::from(*byte) / 255.0).collect()
        };
        match &self.pixels {
            Pixels::Rgb(image) => bytes(image.as_raw(), 3),
            Pixels::Rgba { bytes: rgba, .. } => bytes(rgba, 4),
            Pixels::Bands { bands, .. } => bands.scaled(band),
        }
    }

    /// The size, at least one pixel a side.
    pub fn size(&self) -> Size {
        match &self.pixels {
            Pixels::Rgb(image) => size_of(image),
            Pixels::Rgba { size, .. } | Pixels::Bands { size, .. } => *size,
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

    /// Red, green and blue of each pixel, row by row: 3 · height · width bytes. A picture with alpha or bands makes them
    /// on the first call. Of bands they are the first three, or the first as grey if there are one or two; `f32` from 0
    /// to 1, or up to the largest sample if that is more.
    pub fn rgb(&self) -> &[u8] {
        self.image().as_raw()
    }

    /// Red, green, blue and a fourth byte of each pixel, row by row: 4 · height · width bytes, as in an `Rgba8Unorm`
    /// texture. The fourth byte is the original one, or 255 if there was none.
    pub fn rgba(&self) -> Cow<'_, [u8]> {
        if let Pixels::Rgba { bytes, .. } = &self.pixels {
            return Cow::Borrowed(bytes);
        }
        let pixels = self.rgb().as_chunks::<3>().0;
        let mut bytes = Vec::with_capacity(4 * pixels.len());
        bytes.extend(pixels.iter().flat_map(|[r, g, b]| [*r, *g, *b, 255]));
        if self.has_alpha() {
            for (pixel, alpha) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(self.alpha()) {
                pixel[3] = alpha;
            }
        }
        Cow::Owned(bytes)
    }

    /// The picture as an image of the `image` crate.
    pub fn image(&self) -> &RgbImage {
        match &self.pixels {
            Pixels::Rgb(image) => image,
            Pixels::Rgba { size, bytes, rgb } => rgb.get_or_init(|| {
                let mut image = RgbImage::new(size.width as u32, size.height as u32);
                let pixels = image.as_chunks_mut::<3>().0;
                for ([r, g, b], from) in pixels.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    [*r, *g, *b] = [from[0], from[1], from[2]];
                }
                image
            }),
            Pixels::Bands { size, bands, rgb } => rgb.get_or_init(|| {
                let mut image = RgbImage::new(size.width as u32, size.height as u32);
                let shown = if bands.count() < 3 { [0; 3] } else { [0, 1, 2] };
                for (channel, band) in shown.into_iter().enumerate() {
                    let pixels = image.as_chunks_mut::<3>().0;
                    for (pixel, value) in pixels.iter_mut().zip(bands.shown(band)) {
                        pixel[channel] = value;
                    }
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
        let data = self.rgb();
        let Size { height, width } = self.size();
        Tensor::from_fn(Shape::new(1, 3, height, width), |_, c, y, x| {
            f32::from(data[(y * width + x) * 3 + c])
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
        Ok(Self::new(Pixels::Rgb(image)))
    }
}

impl TryFrom<DynamicImage> for Picture {
    type Error = Error;

    /// Converts as [`Picture::open`] does.
    ///
    /// # Errors
    /// `Picture` if the image has no pixel.
    fn try_from(image: DynamicImage) -> Result<Self> {
        let size = Size::new(image.height() as usize, image.width() as usize);
        let bands =
            |count, samples, alpha| Self::of_bands(size, Bands::new(size, count, samples, alpha)?);
        match image {
            DynamicImage::ImageRgba8(image) => Self::from_rgba(size, image.into_raw()),
            DynamicImage::ImageRgba16(_) => Self::from_rgba(size, image.into_rgba8().into_raw()),
            DynamicImage::ImageLuma8(image) => bands(1, Samples::U8(image.into_raw()), false),
            DynamicImage::ImageLumaA8(image) => bands(2, Samples::U8(image.into_raw()), true),
            DynamicImage::ImageLuma16(image) => bands(1, Samples::U16(image.into_raw()), false),
            DynamicImage::ImageLumaA16(image) => bands(2, Samples::U16(image.into_raw()), true),
            DynamicImage::ImageRgb32F(image) => bands(3, Samples::F32(image.into_raw()), false),
            DynamicImage::ImageRgba32F(image) => bands(4, Samples::F32(image.into_raw()), true),
            other => Self::try_from(other.into_rgb8()),
        }
    }
}

/// Equal size and equal samples of equal bands; alpha and notes are ignored. Grey equals red, green and blue of its
/// value.
impl PartialEq for Picture {
    fn eq(&self, other: &Self) -> bool {
        let equal = match (&self.pixels, &other.pixels) {
            _ if self.is_colour() && other.is_colour() => self.rgb() == other.rgb(),
            (Pixels::Bands { bands, .. }, Pixels::Bands { bands: others, .. }) => bands == others,
            _ => false,
        };
        self.size() == other.size() && equal
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Red on the left, blue on the right: 32 wide, 16 high.
    fn two_halves() -> RgbImage {
        RgbImage::from_fn(32, 16, |x, _| {
            image::Rgb(if x < 16 { [255, 0, 0] } else { [0, 0, 255] })
        })
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

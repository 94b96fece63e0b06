//! Labels for evaluation, in the forms that data sets have them in: ids or colours, as PNG, TIFF, BMP or `.npy`.

mod npy;
mod png_file;

use crate::error::{Error, ErrorKind, Result, bail};
use crate::files;
use crate::npy::SIGNATURE;
use crate::picture::MAX_BYTES;
use crate::size::Size;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use std::path::Path;

/// The requirements on a file of 8-bit labels.
const LABELS: &str =
    "labels must be an 8-bit indexed or greyscale PNG whose pixel value is the class id";

/// A file of labels as it is, before its values are given a meaning.
///
/// ```
/// use fullconv::{LabelImage, LabelValues, Picture, Size};
/// let png = Picture::from_rgb(Size::new(1, 2), vec![128, 0, 0, 0, 128, 0])?.to_png()?;
/// let labels = LabelImage::decode(&png)?;
/// assert_eq!(labels.values(), &LabelValues::Colours(vec![[128, 0, 0], [0, 128, 0]]));
/// # Ok::<(), fullconv::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelImage {
    size: Size,
    values: LabelValues,
    /// The colours of an indexed file's indices; empty for other files.
    palette: Vec<[u8; 3]>,
}

/// The values of a file of labels, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelValues {
    /// An id a pixel: the index of an indexed file, the value of a grey one, of up to 16 bits; from `.npy` also
    /// negative ones.
    Ids(Vec<i32>),
    /// Red, green and blue of each pixel.
    Colours(Vec<[u8; 3]>),
}

impl LabelImage {
    /// Reads a file of labels, whatever its extension: PNG, indexed, grey (1 to 16 bits) or RGB; TIFF and BMP, grey or
    /// RGB; NumPy's `.npy`, integers `[h, w]`. Transparency is dropped. Nothing is turned by EXIF.
    ///
    /// # Errors
    /// `Io` if the file cannot be read; `Picture` if it is of another kind, damaged, cut short or larger than 1 GiB in
    /// memory.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::decode(&files::read(path, MAX_BYTES)?).map_err(|error| error.at(path.display()))
    }

    /// Reads labels from memory, as [`LabelImage::read`] does from a file.
    ///
    /// # Errors
    /// `Picture`, as for [`LabelImage::read`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() {
            bail!(Picture, "the file of labels is empty");
        }
        if bytes.starts_with(png_file::SIGNATURE) {
            return png_file::decode(bytes);
        }
        if bytes.starts_with(SIGNATURE) {
            return npy::decode(bytes);
        }
        match image::guess_format(bytes) {
            Ok(ImageFormat::Jpeg | ImageFormat::WebP) => bail!(
                Picture,
                "JPEG and WebP change pixel values, and so the ids: save the labels as PNG, from the original"
            ),
            Ok(format @ (ImageFormat::Tiff | ImageFormat::Bmp)) => other(bytes, format),
            _ => bail!(
                Picture,
                "labels are PNG, TIFF, BMP or .npy files; this file is none of them"
            ),
        }
    }

    /// The size.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The values, one a pixel.
    pub fn values(&self) -> &LabelValues {
        &self.values
    }

    /// The colours of an indexed file in place of its indices. `None` if it is not indexed, or an index has no colour.
    pub fn indexed_colours(&self) -> Option<Vec<[u8; 3]>> {
        match &self.values {
            LabelValues::Ids(ids) if !self.palette.is_empty() => {
                let colour = |id: &i32| self.palette.get(usize::try_from(*id).ok()?).copied();
                ids.iter().map(colour).collect()
            }
            _ => None,
        }
    }

    /// Labels of `size`, which has as many pixels as there are values.
    fn of_ids(size: Size, ids: impl Iterator<Item = i32>) -> Self {
        Self {
            size,
            values: LabelValues::Ids(ids.collect()),
            palette: Vec::new(),
        }
    }

    fn of_colours(size: Size, colours: Vec<[u8; 3]>) -> Self {
        Self {
            size,
            values: LabelValues::Colours(colours),
            palette: Vec::new(),
        }
    }
}

fn cannot_decode(reason: impl std::error::Error + Send + Sync + 'static) -> Error {
    let said = reason.to_string();
    let said: Vec<_> = said.split_whitespace().collect();
    let text = format!("the labels cannot be decoded: {}", said.join(" "));
    Error::new(ErrorKind::Picture, text).with_source(reason)
}

/// Labels in a format of the `image` crate.
fn other(bytes: &[u8], format: ImageFormat) -> Result<LabelImage> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let image = reader.decode().map_err(cannot_decode)?;
    let size = Size::new(image.height() as usize, image.width() as usize);
    Ok(match image {
        DynamicImage::ImageLuma8(grey) => {
            LabelImage::of_ids(size, grey.into_raw().into_iter().map(i32::from))
        }
        DynamicImage::ImageLuma16(grey) => {
            LabelImage::of_ids(size, grey.into_raw().into_iter().map(i32::from))
        }
        DynamicImage::ImageRgb8(_) | DynamicImage::ImageRgba8(_) => {
            let rgb = image.into_rgb8();
            LabelImage::of_colours(size, rgb.pixels().map(|pixel| pixel.0).collect())
        }
        found => bail!(
            Picture,
            "labels have ids of up to 16 bits or colours of 8; these are {:?}",
            found.color()
        ),
    })
}

/// Reads the class ids of labels for evaluation: the size, and one id a pixel, row by row.
///
/// The file is an indexed PNG, whose indices are the ids whatever their colours, or a greyscale PNG, whose pixel
/// values are the ids, at most 255. Values of 1, 2 or 4 bits are unpacked, not scaled. [`LabelImage::read`] reads other forms.
///
/// # Errors
/// `Io` if the file cannot be read; `Picture` if it is not such a PNG, damaged, cut short or larger than
/// 1 GiB in memory.
pub fn read_labels(path: impl AsRef<Path>) -> Result<(Size, Vec<u8>)> {
    let path = path.as_ref();
    decode_labels(&files::read(path, MAX_BYTES)?).map_err(|error| error.at(path.display()))
}

/// Reads labels from memory, as [`read_labels`] does from a file.
///
/// # Errors
/// `Picture`, as for [`read_labels`].
pub fn decode_labels(bytes: &[u8]) -> Result<(Size, Vec<u8>)> {
    if !bytes.starts_with(png_file::SIGNATURE) {
        let found = if bytes.is_empty() {
            "is empty"
        } else {
            "is no PNG"
        };
        bail!(Picture, "{LABELS}; this file {found}");
    }
    let labels = png_file::decode(bytes)?;
    let LabelValues::Ids(ids) = labels.values else {
        bail!(Picture, "{LABELS}; this one has colours");
    };
    let byte = |id: i32| u8::try_from(id).ok();
    match ids.into_iter().map(byte).collect() {
        Some(ids) => Ok((labels.size, ids)),
        None => bail!(Picture, "{LABELS}; this one has ids beyond 255"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::{Mask, Palette};

    fn encoded(colour: png::ColorType, depth: png::BitDepth, width: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, 2);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == png::ColorType::Indexed {
            encoder.set_palette(vec![99; 3 * 256.min(1 << depth as usize)]);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        bytes
    }

    #[test]
    fn labels_of_fewer_bits_are_unpacked_and_not_scaled() {
        use png::BitDepth::{Eight, Four, One, Two};
        use png::ColorType::{Grayscale, Indexed};
        for colour in [Grayscale, Indexed] {
            for (depth, data, expected) in [
                (One, &[0b1010_0000, 0b0100_0000][..], [1, 0, 1, 0, 1, 0]),
                (Two, &[0b0011_1000, 0b0100_0100], [0, 3, 2, 1, 0, 1]),
                (Four, &[0x0F, 0x10, 0x23, 0x40], [0, 15, 1, 2, 3, 4]),
                (Eight, &[5, 6, 7, 8, 255, 0], [5, 6, 7, 8, 255, 0]),
            ] {
                let read = decode_labels(&encoded(colour, depth, 3, data)).unwrap();
                assert_eq!(read, (Size::new(2, 3), expected.to_vec()));
            }
        }
    }

    #[test]
    fn the_error_for_other_files_describes_label_files() {
        let rgb = encoded(png::ColorType::Rgb, png::BitDepth::Eight, 1, &[0; 6]);
        let deep = encoded(
            png::ColorType::Grayscale,
            png::BitDepth::Sixteen,
            1,
            &[1, 0, 1, 0],
        );
        for bytes in [&rgb[..], &deep, b"", b"text"] {
            let error = decode_labels(bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Picture);
            assert!(error.to_string().contains(LABELS), "{error}");
        }
    }

    #[test]
    fn every_form_of_pixel_is_ids_or_colours() {
        use png::BitDepth::{Eight, Sixteen};
        use png::ColorType::{Grayscale, GrayscaleAlpha, Rgb, Rgba};
        let ids = |ids: &[i32]| LabelValues::Ids(ids.to_vec());
        for (colour, depth, data, expected) in [
            (Grayscale, Sixteen, &[1, 0, 0, 7][..], ids(&[256, 7])),
            (GrayscaleAlpha, Eight, &[5, 255, 6, 0], ids(&[5, 6])),
            (
                Rgb,
                Eight,
                &[1, 2, 3, 4, 5, 6],
                LabelValues::Colours(vec![[1, 2, 3], [4, 5, 6]]),
            ),
            (
                Rgba,
                Eight,
                &[1, 2, 3, 0, 4, 5, 6, 255],
                LabelValues::Colours(vec![[1, 2, 3], [4, 5, 6]]),
            ),
            (
                Rgb,
                Sixteen,
                &[1, 0, 1, 0, 1, 0, 0, 2, 0, 2, 0, 2],
                ids(&[256, 2]),
            ),
        ] {
            let labels = LabelImage::decode(&encoded(colour, depth, 1, data)).unwrap();
            assert_eq!(labels.values(), &expected);
            assert_eq!(labels.indexed_colours(), None);
        }
        let deep = encoded(Rgb, Sixteen, 1, &[1, 0, 1, 0, 1, 1, 0, 2, 0, 2, 0, 2]);
        let error = LabelImage::decode(&deep).unwrap_err().to_string();
        assert!(error.contains("colours of 16"), "{error}");
    }

    #[test]
    fn an_indexed_file_keeps_the_colours_of_its_indices() {
        let palette = Palette::new([[9, 8, 7], [6, 5, 4]]);
        let mask = Mask::new(Size::new(1, 2), vec![1, 0], [].into(), palette).unwrap();
        let labels = LabelImage::decode(&mask.to_png().unwrap()).unwrap();
        assert_eq!(labels.values(), &LabelValues::Ids(vec![1, 0]));
        assert_eq!(labels.indexed_colours(), Some(vec![[6, 5, 4], [9, 8, 7]]));
    }

    #[test]
    fn tiff_and_bmp_are_read_and_jpeg_is_not() {
        let grey = image::GrayImage::from_raw(2, 1, vec![3, 250]).unwrap();
        let written = |format| {
            let mut bytes = Cursor::new(Vec::new());
            grey.write_to(&mut bytes, format).unwrap();
            bytes.into_inner()
        };
        let tiff = LabelImage::decode(&written(ImageFormat::Tiff)).unwrap();
        assert_eq!(tiff.values(), &LabelValues::Ids(vec![3, 250]));
        assert_eq!(tiff.size(), Size::new(1, 2));
        // A grey BMP is one of equal channels.
        let bmp = LabelImage::decode(&written(ImageFormat::Bmp)).unwrap();
        assert_eq!(bmp.values(), &LabelValues::Colours(vec![[3; 3], [250; 3]]));
        for (bytes, part) in [
            (written(ImageFormat::Jpeg), "JPEG"),
            (b"text".to_vec(), "PNG, TIFF, BMP"),
            (Vec::new(), "empty"),
            (
                written(ImageFormat::Tiff)[..40].to_vec(),
                "cannot be decoded",
            ),
        ] {
            let error = LabelImage::decode(&bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Picture);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

//! Masks: a class for every pixel, as ids, colours and PNG.

mod polygons;
mod rle;

pub use rle::CocoRle;

use crate::error::{Error, ErrorKind, Result, bail};
use crate::files;
use crate::picture::{Picture, extension};
use crate::size::Size;
use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The colours of the classes. Cheap to clone.
///
/// ```
/// use fullconv::Palette;
/// let palette = Palette::new(vec![[0, 0, 0], [255, 255, 0]]);
/// assert_eq!(palette.colour(1), [255, 255, 0]);
/// assert_eq!(palette.colour(2), Palette::voc(21).colour(2));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Palette(Arc<[[u8; 3]]>);

impl Palette {
    /// The colours of classes 0, 1, 2 …, each red, green, blue.
    pub fn new(colours: impl Into<Arc<[[u8; 3]]>>) -> Self {
        Self(colours.into())
    }

    /// The first `n` colours of the PASCAL VOC colour map (`VOClabelcolormap` of its development
    /// kit), at most 256: 0 is black, 255, the void around objects, is cream.
    pub fn voc(n: usize) -> Self {
        (0..=u8::MAX).take(n).map(voc_colour).collect()
    }

    /// The colour of `class`: red, green, blue. Classes beyond the palette have the colour of PASCAL VOC.
    pub fn colour(&self, class: u8) -> [u8; 3] {
        match self.0.get(usize::from(class)) {
            Some(&colour) => colour,
            None => voc_colour(class),
        }
    }

    /// The colours given, of class 0 onwards.
    pub fn colours(&self) -> &[[u8; 3]] {
        &self.0
    }
}

impl FromIterator<[u8; 3]> for Palette {
    fn from_iter<I: IntoIterator<Item = [u8; 3]>>(colours: I) -> Self {
        Self(colours.into_iter().collect())
    }
}

/// The bits of `class` go to red, green and blue in turn, the lowest to the highest bit of each.
fn voc_colour(class: u8) -> [u8; 3] {
    [0, 1, 2].map(|channel| {
        (0..3)
            .filter(|bit| 3 * bit + channel < 8)
            .fold(0, |colour, bit| {
                colour | ((class >> (3 * bit + channel)) & 1) << (7 - bit)
            })
    })
}

/// A class id for every pixel of a picture, with the names and colours of the classes.
///
/// ```
/// use fullconv::{Mask, Palette, Picture, Size};
/// let classes = ["sky", "road"].map(String::from);
/// let size = Size::square(2);
/// let mask = Mask::new(size, vec![0, 1, 1, 1], classes.into(), Palette::voc(2))?;
/// assert_eq!(mask.shares(), [(1, 0.75), (0, 0.25)]);
/// assert_eq!(mask.class_name(1), "road");
/// let picture = Picture::from_rgb(size, vec![100; 12])?;
/// assert_eq!(mask.overlay(&picture, 0.5)?.rgb()[..6], [50, 50, 50, 114, 50, 50]);
/// # Ok::<(), fullconv::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Mask {
    size: Size,
    labels: Vec<u8>,
    classes: Arc<[String]>,
    palette: Palette,
}

impl Mask {
    /// A mask of `size` whose class ids are `labels`, row by row. `classes` are the names of classes 0, 1, 2 …; there
    /// may be fewer than ids.
    ///
    /// # Errors
    /// `Shape` if there is no pixel, or `labels` does not have height · width elements.
    pub fn new(
        size: Size,
        labels: Vec<u8>,
        classes: Arc<[String]>,
        palette: Palette,
    ) -> Result<Self> {
        if labels.is_empty() || size.pixels() != Some(labels.len()) {
            bail!(
                Shape,
                "a mask of {size} pixels (height x width) cannot be made of {} class ids",
                labels.len()
            );
        }
        Ok(Self {
            size,
            labels,
            classes,
            palette,
        })
    }

    /// The size, at least one pixel a side.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> usize {
        self.size.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> usize {
        self.size.height
    }

    /// The class id of each pixel, row by row.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The names of classes 0, 1, 2 …
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The colours of the classes.
    pub fn palette(&self) -> &Palette {
        &self.palette
    }

    /// The same mask in the colours of `palette`.
    #[must_use]
    pub fn with_palette(self, palette: Palette) -> Self {
        Self { palette, ..self }
    }

    /// The name of class `id`, or for instance `class 7` if it has none.
    pub fn class_name(&self, id: u8) -> Cow<'_, str> {
        match self.classes.get(usize::from(id)) {
            Some(name) if !name.is_empty() => Cow::Borrowed(name),
            _ => Cow::Owned(format!("class {id}")),
        }
    }

    /// The classes found, each with its share of all pixels (0 to 1, together 1), the most frequent
    /// first.
    pub fn shares(&self) -> Vec<(u8, f64)> {
        let mut counts = [0_usize; 256];
        for &label in &self.labels {
            counts[usize::from(label)] += 1;
        }
        let mut found: Vec<_> = (0..=u8::MAX)
            .zip(counts)
            .filter(|&(_, count)| count > 0)
            .collect();
        // A stable sort: equally frequent classes stay in the order of their ids.
        found.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        let all = self.labels.len() as f64;
        found
            .into_iter()
            .map(|(id, count)| (id, count as f64 / all))
            .collect()
    }

    /// The bytes of an indexed PNG, 8 bits a pixel: the value of a pixel is its class id, the colour
    /// table the palette, as in the masks of PASCAL VOC. [`decode_labels`](crate::decode_labels) reads the ids back.
    ///
    /// # Errors
    /// `Picture` if it cannot be encoded.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        self.encode().map_err(|reason| {
            let text = format!("the mask cannot be encoded: {reason}");
            Error::new(ErrorKind::Picture, text).with_source(reason)
        })
    }

    fn encode(&self) -> Result<Vec<u8>, png::EncodingError> {
        // A side beyond u32 becomes 0, which the encoder refuses.
        let [height, width] = self.size.axes().map(|s| u32::try_from(s).unwrap_or(0));
        let colours: Vec<u8> = (0..=u8::MAX)
            .flat_map(|class| self.palette.colour(class))
            .collect();
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_palette(colours);
        // The difference of two ids means nothing: filters would only make the file larger.
        encoder.set_filter(png::Filter::NoFilter);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.labels)?;
        writer.finish()?;
        Ok(bytes)
    }

    /// Saves [`Mask::to_png`] at `path`, which ends in `.png`. The file appears whole or not at all.
    ///
    /// # Errors
    /// `Request` if `path` ends in something else, `Io` if it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if extension(path).as_deref() != Some("png") {
            bail!(
                Request,
                "cannot save {}: the name of a mask ends in .png",
                path.display()
            );
        }
        let bytes = self.to_png().map_err(|error| error.at(path.display()))?;
        files::write_atomically(path, &bytes)
    }

    /// The picture with the colours of the mask over it: each channel of each pixel becomes
    /// picture · (1 − opacity) + colour · opacity. `opacity` 0 is the picture, 1 the colours alone.
    ///
    /// # Errors
    /// `Shape` if the picture has another size than the mask, `Request` if `opacity` is not 0 to 1.
    pub fn overlay(&self, picture: &Picture, opacity: f32) -> Result<Picture> {
        if picture.size() != self.size {
            bail!(
                Shape,
                "a mask of {} pixels (height x width) does not fit a picture of {}",
                self.size,
                picture.size()
            );
        }
        if !(0.0..=1.0).contains(&opacity) {
            bail!(Request, "an opacity is 0 to 1, not {opacity}");
        }
        let mut blended = picture.rgb().to_vec();
        for (pixel, &label) in blended.chunks_exact_mut(3).zip(&self.labels) {
            for (channel, colour) in pixel.iter_mut().zip(self.palette.colour(label)) {
                let mixed = f32::from(*channel) * (1.0 - opacity) + f32::from(colour) * opacity;
                *channel = mixed.round() as u8;
            }
        }
        Picture::from_rgb(self.size, blended)
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({})", self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{decode_labels, read_labels};
    use std::io::Cursor;

    fn mask(height: usize, width: usize, labels: &[u8]) -> Mask {
        let classes = ["background", "aeroplane", ""].map(String::from);
        let size = Size::new(height, width);
        Mask::new(size, labels.to_vec(), classes.into(), Palette::voc(21)).unwrap()
    }

    #[test]
    fn the_voc_palette_begins_as_published() {
        let palette = Palette::voc(21);
        assert_eq!(palette.colours().len(), 21);
        for (class, colour) in [
            (0, [0, 0, 0]),
            (1, [128, 0, 0]),
            (2, [0, 128, 0]),
            (8, [64, 0, 0]),
            (15, [192, 128, 128]),
            (20, [0, 64, 128]),
            (255, [224, 224, 192]),
        ] {
            assert_eq!(palette.colour(class), colour);
        }
        assert_eq!(Palette::voc(1000).colours().len(), 256);
        let mine = Palette::new([[1, 2, 3]]);
        assert_eq!((mine.colour(0), mine.colour(1)), ([1, 2, 3], [128, 0, 0]));
    }

    #[test]
    fn names_and_shares() {
        let mask = mask(3, 2, &[1, 1, 7, 1, 0, 7]);
        let shares = mask.shares();
        assert_eq!(shares.iter().map(|s| s.0).collect::<Vec<_>>(), [1, 7, 0]);
        assert_eq!(shares[0].1, 0.5);
        assert!((shares.iter().map(|s| s.1).sum::<f64>() - 1.0).abs() < 1e-12);
        let names = [1, 2, 7].map(|id| mask.class_name(id).into_owned());
        assert_eq!(names, ["aeroplane", "class 2", "class 7"]);
    }

    #[test]
    fn the_length_must_fit() {
        for (height, width, length) in [(2, 2, 3), (5, 0, 0), (2, usize::MAX, 4)] {
            let size = Size::new(height, width);
            let mask = Mask::new(size, vec![0; length], [].into(), Palette::voc(0));
            let error = mask.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Shape);
            assert!(error.to_string().contains(&size.to_string()), "{error}");
        }
    }

    #[test]
    fn a_png_holds_ids_and_palette() {
        let labels: Vec<u8> = (0..=255).collect();
        let bytes = mask(2, 128, &labels).to_png().unwrap();
        assert_eq!(decode_labels(&bytes).unwrap(), (Size::new(2, 128), labels));
        let reader = png::Decoder::new(Cursor::new(&bytes)).read_info().unwrap();
        let info = reader.info();
        assert_eq!(info.color_type, png::ColorType::Indexed);
        assert_eq!(info.bit_depth, png::BitDepth::Eight);
        let palette = info.palette.as_deref().unwrap();
        assert_eq!(palette.len(), 3 * 256);
        assert_eq!(palette[..9], [0, 0, 0, 128, 0, 0, 0, 128, 0]);
        // Any other reader sees a picture in the colours of the palette.
        let picture = Picture::decode(&bytes).unwrap();
        assert_eq!(picture.rgb()[3 * 15..][..3], [192, 128, 128]);
    }

    #[test]
    fn one_pixel_is_a_mask() {
        let bytes = mask(1, 1, &[3]).to_png().unwrap();
        assert_eq!(decode_labels(&bytes).unwrap(), (Size::square(1), vec![3]));
    }

    #[test]
    fn overlay_mixes_in_proportion() {
        let picture = Picture::from_rgb(Size::new(1, 2), vec![100, 200, 0, 8, 8, 8]).unwrap();
        let mask = mask(1, 2, &[1, 0]);
        let rgb = |opacity| mask.overlay(&picture, opacity).unwrap().rgb().to_vec();
        assert_eq!(rgb(0.0), picture.rgb());
        assert_eq!(rgb(1.0), [128, 0, 0, 0, 0, 0]);
        assert_eq!(rgb(0.25), [107, 150, 0, 6, 6, 6]);
        for opacity in [-0.1, 1.1, f32::NAN] {
            let error = mask.overlay(&picture, opacity).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Request);
        }
        let turned = Picture::from_rgb(Size::new(2, 1), vec![0; 6]).unwrap();
        let error = mask.overlay(&turned, 0.5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert_eq!(
            error.to_string(),
            "a mask of 1x2 pixels (height x width) does not fit a picture of 2x1"
        );
        assert_eq!(format!("{mask:?} {turned:?}"), "Mask(1x2) Picture(2x1)");
    }

    #[test]
    fn labels_cut_short_or_damaged_never_panic() {
        let png = mask(2, 16, &[3; 32]).to_png().unwrap();
        for length in 0..png.len() - 12 {
            assert!(decode_labels(&png[..length]).is_err());
        }
        for at in 0..png.len() {
            let mut damaged = png.clone();
            damaged[at] ^= 0xFF;
            let _ = decode_labels(&damaged);
        }
    }

    #[test]
    fn saving_and_reading_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        let mask = mask(1, 2, &[1, 2]);
        mask.save(&path).unwrap();
        assert_eq!(read_labels(&path).unwrap(), (Size::new(1, 2), vec![1, 2]));
        let error = mask.save(folder.path().join("mask.jpg")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        std::fs::write(&path, b"").unwrap();
        let error = read_labels(&path).unwrap_err().to_string();
        assert!(
            error.contains("mask.png") && error.contains("is empty"),
            "{error}"
        );
        let error = read_labels(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}

//! TIFF: grey, colours and any number of bands, of 8 bits, 16 bits or floating point.

use super::limits::check_limits;
use super::samples::{Bands, interleaved};
use super::upright::{turn, upright};
use super::{MAX_BYTES, Picture, PictureLimits, PictureNote, Samples};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::size::Size;
use image::metadata::Orientation;
use std::borrow::Cow;
use std::fmt;
use std::io::Cursor;
use tiff::decoder::{ChunkType, Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError, TiffResult};

/// Values of the tag PhotometricInterpretation.
const BLACK_IS_ZERO: u8 = 1;
const RGB: u32 = 2;
const PALETTE: u32 = 3;
const YCBCR: u32 = 6;

/// The first page of a file.
struct Page<'a> {
    decoder: Decoder<Cursor<Cow<'a, [u8]>>>,
    size: Size,
    /// Samples of a pixel.
    samples: usize,
    bits: usize,
    photometric: u32,
    orientation: Orientation,
    alpha: Alpha,
    /// Pages of their own, not overviews or masks.
    pages: usize,
}

/// The last sample of a pixel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alpha {
    /// A band like the others.
    None,
    /// Opacity.
    Plain,
    /// Opacity; the colours are multiplied by it.
    Multiplied,
}

/// The size of the picture when upright.
pub(super) fn upright_size(bytes: &[u8], name: &dyn fmt::Display) -> Result<Size> {
    let page = Page::read(bytes).map_err(|e| damaged(name, e))?;
    Ok(upright(page.size, page.orientation))
}

/// Decodes the first page of the TIFF in `bytes`, if it is within `limits`; errors call it `name`.
pub(super) fn decode(
    bytes: &[u8],
    name: &dyn fmt::Display,
    limits: Option<&PictureLimits>,
) -> Result<Picture> {
    let mut page = Page::read(bytes).map_err(|e| damaged(name, e))?;
    let pixels = page.size.height as u64 * page.size.width as u64;
    let taken = pixels.saturating_mul((page.samples * page.bits.max(8)) as u64) / 8;
    check_limits(name, page.size, taken, limits)?;
    if page.is_preview() {
        bail!(
            Picture,
            "{name} begins with a preview: it is a camera raw file; export it as PNG"
        );
    }
    let samples = page.pixels().map_err(|e| damaged(name, e))?;
    let picture = page.picture(samples).map_err(|e| e.at(name))?;
    Ok(match page.pages {
        0 | 1 => picture,
        pages => picture.noting(PictureNote::FirstPage(pages)),
    })
}

fn damaged(name: &dyn fmt::Display, reason: TiffError) -> Error {
    let text = format!("{name} cannot be decoded: {reason}");
    Error::new(ErrorKind::Picture, text).with_source(reason)
}

fn decoder(bytes: Cow<'_, [u8]>) -> TiffResult<Decoder<Cursor<Cow<'_, [u8]>>>> {
    let mut limits = Limits::default();
    let most = usize::try_from(MAX_BYTES).unwrap_or(usize::MAX);
    limits.decoding_buffer_size = most;
    limits.intermediate_buffer_size = most;
    Ok(Decoder::new(Cursor::new(bytes))?.with_limits(limits))
}

impl<'a> Page<'a> {
    fn read(bytes: &'a [u8]) -> TiffResult<Self> {
        let mut first = decoder(Cow::Borrowed(bytes))?;
        let (width, height) = first.dimensions()?;
        let mut number = |tag| first.find_tag_unsigned::<u32>(tag);
        let samples = number(Tag::SamplesPerPixel)?.unwrap_or(1) as usize;
        let photometric = number(Tag::PhotometricInterpretation)?.unwrap_or(0);
        let orientation = number(Tag::Orientation)?.unwrap_or(1);
        let bits = first.find_tag_unsigned_vec::<u32>(Tag::BitsPerSample)?;
        let bits = bits.and_then(|bits| bits.first().copied()).unwrap_or(1) as usize;
        let extra = first.find_tag_unsigned_vec::<u32>(Tag::ExtraSamples)?;
        let alpha = match extra.and_then(|extra| extra.last().copied()) {
            Some(1) => Alpha::Multiplied,
            Some(2) => Alpha::Plain,
            _ => Alpha::None,
        };
        let mut pages = 0;
        let mut of_pages = decoder(Cow::Borrowed(bytes))?;
        loop {
            let kind: Option<u32> = of_pages.find_tag_unsigned(Tag::NewSubfileType)?;
            pages += usize::from(kind.unwrap_or(0) & 5 == 0);
            if !of_pages.more_images() || of_pages.next_image().is_err() {
                break;
            }
        }
        // The decoder drops bands that are no colours, and reads no palettes: as bands of grey it reads all samples.
        let as_bands = photometric == PALETTE || (photometric == RGB && samples > 3);
        let decoder = match as_bands
            .then(|| with_photometric(bytes, BLACK_IS_ZERO))
            .flatten()
        {
            Some(changed) => decoder(Cow::Owned(changed))?,
            None => first,
        };
        Ok(Self {
            decoder,
            size: Size::new(height as usize, width as usize),
            samples,
            bits,
            photometric,
            orientation: u8::try_from(orientation)
                .ok()
                .and_then(Orientation::from_exif)
                .unwrap_or(Orientation::NoTransforms),
            alpha,
            pages,
        })
    }

    /// Whether the first page is a reduced version of another: camera raw files begin with one.
    fn is_preview(&mut self) -> bool {
        let kind = self.decoder.find_tag_unsigned::<u32>(Tag::NewSubfileType);
        let dng = self.decoder.find_tag(Tag::Unknown(50_706));
        kind.is_ok_and(|kind| kind.unwrap_or(0) & 1 == 1) || dng.is_ok_and(|tag| tag.is_some())
    }

    /// The samples of all pixels, `[h, w, samples]`. Samples of less than 8 bits are unpacked, not scaled.
    fn pixels(&mut self) -> TiffResult<DecodingResult> {
        let chunk_count = match self.decoder.get_chunk_type() {
            ChunkType::Strip => self.decoder.strip_count()?,
            ChunkType::Tile => self.decoder.tile_count()?,
        };
        let (chunk_width, chunk_height) = self.decoder.chunk_dimensions();
        let (chunk_width, chunk_height) = (chunk_width as usize, chunk_height as usize);
        let Size { height, width } = self.size;
        let across = width.div_ceil(chunk_width.max(1));
        let of_plane = across * height.div_ceil(chunk_height.max(1));
        let planar = self
            .decoder
            .find_tag_unsigned::<u32>(Tag::PlanarConfiguration)?;
        let planes = match planar {
            Some(2) => self.samples,
            _ => 1,
        };
        if chunk_count as usize != of_plane * planes {
            return Err(TiffError::IntSizeError);
        }
        let place = Place {
            row: width * self.samples / planes,
            plane: height * width * self.samples / planes,
            packed: (self.bits < 8).then_some(self.bits),
        };
        let mut all: Option<DecodingResult> = None;
        for i in 0..chunk_count {
            let chunk = self.decoder.read_chunk(i)?;
            let (wide, high) = self.decoder.chunk_data_dimensions(i);
            let part = Part {
                plane: i as usize / of_plane,
                top: i as usize % of_plane / across * chunk_height,
                left: i as usize % across * chunk_width * self.samples / planes,
                wide: wide as usize * self.samples / planes,
                high: high as usize,
            };
            all = Some(place.put(all, chunk, &part, planes)?);
        }
        let all = all.ok_or(TiffError::IntSizeError)?;
        Ok(match (planes, all) {
            (1, all) => all,
            (n, DecodingResult::U8(all)) => DecodingResult::U8(interleaved(&all, n)),
            (n, DecodingResult::U16(all)) => DecodingResult::U16(interleaved(&all, n)),
            (n, DecodingResult::F32(all)) => DecodingResult::F32(interleaved(&all, n)),
            (_, other) => other,
        })
    }

    /// The picture of `samples`, upright.
    fn picture(&mut self, samples: DecodingResult) -> Result<Picture> {
        let colour = self.decoder.colortype().ok();
        let mut samples = match samples {
            DecodingResult::U8(all) => Samples::U8(all),
            DecodingResult::U16(all) => Samples::U16(all),
            DecodingResult::F32(all) => Samples::F32(all),
            _ => bail!(
                Picture,
                "its samples are signed, or wider than 32 bits: save it as unsigned 8 or 16 bits, or as float32"
            ),
        };
        let mut count = self.samples;
        match (self.photometric, colour, &samples) {
            (PALETTE, _, Samples::U8(indices)) => {
                samples = Samples::U8(self.paletted(indices)?);
                count = 3;
            }
            (_, Some(ColorType::CMYK(8)), Samples::U8(cmyk)) if count == 4 => {
                samples = Samples::U8(rgb_of_cmyk(cmyk));
                count = 3;
            }
            (YCBCR, _, Samples::U8(ycbcr)) if count == 3 => {
                samples = Samples::U8(rgb_of_ycbcr(ycbcr))
            }
            (_, Some(ColorType::Gray(1 | 2 | 4)), Samples::U8(packed)) => {
                let full = 255 / ((1 << self.bits) - 1);
                samples = Samples::U8(packed.iter().map(|value| value * full).collect());
            }
            (0..=2, Some(_), _) => {}
            (_, colour, _) => bail!(
                Picture,
                "its colours ({}) are not read: save it as RGB",
                colour.map_or("unknown".into(), |colour| format!("{colour:?}"))
            ),
        }
        let alpha = self.alpha != Alpha::None && count == self.samples && count > 1;
        if let (Alpha::Multiplied, Samples::U8(all), true) = (self.alpha, &mut samples, alpha) {
            divide_by_alpha(all, count);
        }
        let (size, samples) = turn(self.size, count, samples, self.orientation);
        match samples {
            Samples::U8(rgba) if count == 4 && alpha && self.photometric == RGB => {
                Picture::from_rgba(size, rgba)
            }
            samples => Picture::of_bands(size, Bands::new(size, count, samples, alpha)?),
        }
    }

    /// The colours of `indices`.
    fn paletted(&mut self, indices: &[u8]) -> Result<Vec<u8>> {
        // All reds, then all greens and all blues, of 16 bits each.
        let map = self.decoder.get_tag_u16_vec(Tag::ColorMap);
        let map = map.map_err(|e| {
            Error::new(ErrorKind::Picture, "its palette cannot be read").with_source(e)
        })?;
        let length = map.len() / 3;
        if indices.iter().any(|index| usize::from(*index) >= length) {
            bail!(Picture, "a pixel has a colour beyond its palette");
        }
        let colour =
            |index: &u8| [0, 1, 2].map(|c| (map[c * length + usize::from(*index)] >> 8) as u8);
        Ok(indices.iter().flat_map(colour).collect())
    }
}

/// The layout of all samples: planes of rows.
struct Place {
    row: usize,
    plane: usize,
    /// The bits of a sample, if a byte holds several.
    packed: Option<usize>,
}

/// Where the samples of a chunk belong.
struct Part {
    plane: usize,
    top: usize,
    left: usize,
    /// Samples of a row.
    wide: usize,
    high: usize,
}

impl Place {
    /// Puts `chunk` into `all`, which is made if missing.
    fn put(
        &self,
        all: Option<DecodingResult>,
        chunk: DecodingResult,
        part: &Part,
        planes: usize,
    ) -> TiffResult<DecodingResult> {
        let length = self.plane * planes;
        Ok(match (all, chunk) {
            (None, DecodingResult::U8(chunk)) => {
                let mut all = vec![0; length];
                self.copy(&mut all, &self.unpacked(chunk, part), part)?;
                DecodingResult::U8(all)
            }
            (Some(DecodingResult::U8(mut all)), DecodingResult::U8(chunk)) => {
                self.copy(&mut all, &self.unpacked(chunk, part), part)?;
                DecodingResult::U8(all)
            }
            (None, DecodingResult::U16(chunk)) => {
                let mut all = vec![0; length];
                self.copy(&mut all, &chunk, part)?;
                DecodingResult::U16(all)
            }
            (Some(DecodingResult::U16(mut all)), DecodingResult::U16(chunk)) => {
                self.copy(&mut all, &chunk, part)?;
                DecodingResult::U16(all)
            }
            (None, DecodingResult::F32(chunk)) => {
                let mut all = vec![0.0; length];
                self.copy(&mut all, &chunk, part)?;
                DecodingResult::F32(all)
            }
            (Some(DecodingResult::F32(mut all)), DecodingResult::F32(chunk)) => {
                self.copy(&mut all, &chunk, part)?;
                DecodingResult::F32(all)
            }
            (None, DecodingResult::F64(chunk)) => {
                let mut all = vec![0.0; length];
                self.copy(&mut all, &narrow(chunk), part)?;
                DecodingResult::F32(all)
            }
            (Some(DecodingResult::F32(mut all)), DecodingResult::F64(chunk)) => {
                self.copy(&mut all, &narrow(chunk), part)?;
                DecodingResult::F32(all)
            }
            // A kind of samples that is refused later.
            (_, other) => other,
        })
    }

    fn copy<T: Copy>(&self, all: &mut [T], chunk: &[T], part: &Part) -> TiffResult<()> {
        for (y, line) in chunk
            .chunks_exact(part.wide.max(1))
            .take(part.high)
            .enumerate()
        {
            let at = part.plane * self.plane + (part.top + y) * self.row + part.left;
            match all.get_mut(at..at + part.wide) {
                Some(to) => to.copy_from_slice(line),
                None => return Err(TiffError::IntSizeError),
            }
        }
        match chunk.len() < part.wide * part.high {
            true => Err(TiffError::IntSizeError),
            false => Ok(()),
        }
    }

    /// One sample a byte: the first is in the highest bits, and each row begins a new byte.
    fn unpacked(&self, chunk: Vec<u8>, part: &Part) -> Vec<u8> {
        let Some(bits) = self.packed else {
            return chunk;
        };
        let rows = chunk.chunks_exact((part.wide * bits).div_ceil(8).max(1));
        let sample = |row: &[u8], x: usize| {
            let first = x * bits;
            (row[first / 8] >> (8 - bits - first % 8)) & ((1 << bits) - 1)
        };
        rows.flat_map(|row| (0..part.wide).map(move |x| sample(row, x)))
            .collect()
    }
}

fn narrow(wide: Vec<f64>) -> Vec<f32> {
    wide.into_iter().map(|x| x as f32).collect()
}

/// As Pillow.
fn rgb_of_cmyk(cmyk: &[u8]) -> Vec<u8> {
    let pixels = cmyk.as_chunks::<4>().0.iter();
    let colour = |[cyan, magenta, yellow, black]: &[u8; 4]| {
        let white = 255 - u32::from(*black);
        [cyan, magenta, yellow].map(|ink| {
            let product = u32::from(*ink) * white + 128;
            (white - (((product >> 8) + product) >> 8).min(white)) as u8
        })
    };
    pixels.flat_map(colour).collect()
}

/// ITU-R BT.601, full range, as in JPEG.
fn rgb_of_ycbcr(ycbcr: &[u8]) -> Vec<u8> {
    let pixels = ycbcr.as_chunks::<3>().0.iter();
    let colour = |[y, cb, cr]: &[u8; 3]| {
        let (y, cb, cr) = (
            f64::from(*y),
            f64::from(*cb) - 128.0,
            f64::from(*cr) - 128.0,
        );
        let rgb = [
            y + 1.402 * cr,
            y - 0.344_136 * cb - 0.714_136 * cr,
            y + 1.772 * cb,
        ];
        rgb.map(|value| value.round() as u8)
    };
    pixels.flat_map(colour).collect()
}

/// Colours that are multiplied by alpha, the last of `count` samples, as plain ones; as Pillow.
fn divide_by_alpha(all: &mut [u8], count: usize) {
    for pixel in all.chunks_exact_mut(count) {
        if let Some((alpha, colours)) = pixel.split_last_mut()
            && ![0, 255].contains(alpha)
        {
            for colour in colours {
                *colour = (255 * u32::from(*colour) / u32::from(*alpha)).min(255) as u8;
            }
        }
    }
}

/// The file with another photometric interpretation of its first page; `None` if the tag is not found.
fn with_photometric(bytes: &[u8], value: u8) -> Option<Vec<u8>> {
    const PHOTOMETRIC: u64 = 262;
    let big_endian = bytes.starts_with(b"MM");
    let number = |at: usize, length: usize| {
        let bytes = bytes.get(at..at.checked_add(length)?)?.iter();
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(match big_endian {
            true => bytes.fold(0, add),
            false => bytes.rev().fold(0, add),
        })
    };
    // In BigTIFF, offsets and counts have 8 bytes.
    let (directory, head, entry) = match number(2, 2)? {
        43 => (number(8, 8)?, 8, 20),
        _ => (number(4, 4)?, 2, 12),
    };
    let directory = usize::try_from(directory).ok()?;
    let count = usize::try_from(number(directory, head)?).ok()?;
    let begin = directory.checked_add(head)?;
    let entries = (0..count).map_while(|i| begin.checked_add(i.checked_mul(entry)?));
    let mut entries = entries.take_while(|at| at + entry <= bytes.len());
    let at = entries.find(|at| number(*at, 2) == Some(PHOTOMETRIC))?;
    // A SHORT, after tag, kind and count.
    let field = at + entry - if entry == 20 { 8 } else { 4 };
    let mut changed = bytes.to_vec();
    let low = usize::from(big_endian);
    changed[field..field + 2].fill(0);
    changed[field + low] = value;
    Some(changed)
}

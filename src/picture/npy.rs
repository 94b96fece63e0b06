//! Pictures in NumPy's array files, `.npy`.

use super::Samples;
use crate::error::{Result, bail};
use crate::npy::Header;
use crate::size::Size;
use std::fmt;

/// An array of three axes, `[h, w, bands]` in memory.
#[derive(Debug)]
pub(super) struct Array {
    pub size: Size,
    pub bands: usize,
    kind: Kind,
    /// Bytes are in the order of the other kind of machine.
    big_endian: bool,
    /// The file's axes are bands, height, width.
    planes: bool,
    /// Where the elements begin.
    begin: usize,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    U8,
    U16,
    F32,
    F64,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

impl Array {
    /// Reads the header of the file `bytes`; errors call it `name`.
    ///
    /// # Errors
    /// `Picture` if the header is damaged, or the array is no picture.
    pub(super) fn read(bytes: &[u8], name: &dyn fmt::Display) -> Result<Self> {
        let header = match Header::read(bytes) {
            Ok(header) => header,
            Err(reason) => bail!(Picture, "{name} is damaged: {reason}"),
        };
        if header.is_fortran {
            bail!(
                Picture,
                "{name} has Fortran's order of axes: save numpy.ascontiguousarray(a)"
            );
        }
        let (kind, shape) = (header.descr, header.shape);
        let (big_endian, kind) = match (kind, kind.strip_prefix('>')) {
            (_, Some(kind)) => (true, kind),
            _ => (false, kind.trim_start_matches(['<', '|', '='])),
        };
        let kind = match kind {
            "u1" => Kind::U8,
            "u2" => Kind::U16,
            "f4" => Kind::F32,
            "f8" => Kind::F64,
            other => bail!(
                Picture,
                "{name} holds numbers of type {other:?}: a picture's are uint8, uint16, float32 or float64"
            ),
        };
        let (planes, [height, width, bands]) = match header.axes().as_deref() {
            Some([h, w]) => (false, [*h, *w, 1]),
            // The bands are the fewer of the first and the last axis: pictures are larger than they have bands.
            Some([a, b, c]) if a < c => (true, [*b, *c, *a]),
            Some([a, b, c]) if c < a => (false, [*a, *b, *c]),
            Some([_, _, _]) => bail!(
                Picture,
                "{name} has shape {shape}: which axis are the bands? An array is [h, w], [h, w, bands] or \
                 [bands, h, w], with fewer bands than pixels a side"
            ),
            _ => bail!(
                Picture,
                "{name} has shape {shape}; a picture is [h, w], [h, w, bands] or [bands, h, w]"
            ),
        };
        let array = Self {
            size: Size::new(height, width),
            bands,
            kind,
            big_endian,
            planes,
            begin: bytes.len() - header.data.len(),
        };
        match array.bytes() {
            Some(needed) if header.data.len() == needed => Ok(array),
            Some(needed) => bail!(
                Picture,
                "{name} is damaged: its array takes {needed} bytes, and the file has {}",
                header.data.len()
            ),
            None => bail!(Picture, "{name} is too large: its array has shape {shape}"),
        }
    }

    /// The bytes of all elements.
    pub(super) fn bytes(&self) -> Option<usize> {
        let pixels = self.size.pixels()?.checked_mul(self.bands)?;
        pixels.checked_mul(self.kind.bytes())
    }

    /// The elements of the file `bytes`, whose header this is.
    pub(super) fn samples(&self, bytes: &[u8]) -> Samples {
        let data = &bytes[self.begin..];
        match self.kind {
            Kind::U8 => Samples::U8(self.pixel_by_pixel(data.to_vec())),
            Kind::U16 => Samples::U16(self.of(data, u16::from_le_bytes)),
            Kind::F32 => Samples::F32(self.of(data, f32::from_le_bytes)),
            Kind::F64 => Samples::F32(self.of(data, |bytes| f64::from_le_bytes(bytes) as f32)),
        }
    }

    fn of<const N: usize, T: Copy>(&self, data: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
        let elements = data.as_chunks::<N>().0.iter().map(|bytes| {
            let mut bytes = *bytes;
            if self.big_endian {
                bytes.reverse();
            }
            number(bytes)
        });
        self.pixel_by_pixel(elements.collect())
    }

    fn pixel_by_pixel<T: Copy>(&self, elements: Vec<T>) -> Vec<T> {
        if !self.planes {
            return elements;
        }
        super::samples::interleaved(&elements, self.bands)
    }
}

#[cfg(test)]
mod tests {
    use crate::picture::{Picture, Samples};
    use crate::size::Size;

    fn file(kind: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
        let length = (text.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\0", &length[..], text.as_bytes(), data].concat()
    }

    #[test]
    fn bands_are_the_fewer_of_the_first_and_the_last_axis() {
        let data: Vec<u8> = (0..24).collect();
        let last = Picture::decode(&file("|u1", "4, 3, 2", &data)).unwrap();
        assert_eq!((last.size(), last.bands()), (Size::new(4, 3), 2));
        let first = Picture::decode(&file("|u1", "2, 3, 4", &data)).unwrap();
        assert_eq!((first.size(), first.bands()), (Size::new(3, 4), 2));
        assert_eq!(first.band(1)[0], 12.0 / 255.0);
        let grey = Picture::decode(&file("|u1", "4, 6", &data)).unwrap();
        assert_eq!((grey.size(), grey.bands()), (Size::new(4, 6), 1));
        let rgb = Picture::decode(&file("|u1", "4, 2, 3", &data)).unwrap();
        assert_eq!(rgb.rgb(), data);
        let wide = Picture::decode(&file(">u2", "2, 6, 1", &data)).unwrap();
        let samples: Vec<u16> = (0..12).map(|i| 512 * i + 2 * i + 1).collect();
        let expected = Picture::from_bands(Size::new(2, 6), 1, Samples::U16(samples)).unwrap();
        assert_eq!(wide, expected);
    }

    #[test]
    fn what_is_unclear_is_refused() {
        let data = [0; 16];
        for (kind, shape, said) in [
            ("|u1", "2, 4, 2", "which axis are the bands?"),
            ("|u1", "16,", "a picture is [h, w]"),
            ("|u1", "2, 2, 2, 2", "a picture is [h, w]"),
            ("<i2", "2, 4", "type \"i2\""),
            ("|u1", "4, 5", "takes 20 bytes, and the file has 16"),
            ("|u1", "4, -4", "a picture is [h, w]"),
            ("|u1", "99999999999, 99999999999", "too large"),
            ("|u1", "0, 4", "the file has 16"),
        ] {
            let error = Picture::decode(&file(kind, shape, &data)).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        let whole = file("<f4", "2, 2", &f32::NAN.to_le_bytes().repeat(4));
        let error = Picture::decode(&whole).unwrap_err().to_string();
        assert!(error.contains("band 1 is NaN at pixel (0, 0)"), "{error}");
        for length in 0..whole.len() {
            assert!(Picture::decode(&whole[..length]).is_err());
        }
    }
}

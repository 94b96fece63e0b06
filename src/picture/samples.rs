//! The samples of a picture of bands.

use crate::error::{Result, bail};
use crate::size::Size;

/// The samples of all bands of a picture, pixel by pixel. A full channel is 255, 65535, or 1 for `f32`, whose values may
/// lie beyond it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Samples {
    /// 8 bits.
    U8(Vec<u8>),
    /// 16 bits.
    U16(Vec<u16>),
    /// `f32`.
    F32(Vec<f32>),
}

impl Samples {
    /// The number of samples.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::U8(samples) => samples.len(),
            Self::U16(samples) => samples.len(),
            Self::F32(samples) => samples.len(),
        }
    }
}

/// Samples in bands.
#[derive(Clone, Debug)]
pub(super) struct Bands {
    count: usize,
    samples: Samples,
    /// The last band is alpha.
    alpha: bool,
    /// The scaled sample that is shown as white.
    white: f64,
}

/// Alpha is ignored.
impl PartialEq for Bands {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.samples == other.samples
    }
}

impl Bands {
    /// # Errors
    /// `Picture` if there is no pixel or band, the number of samples is wrong, or one is not finite.
    pub(super) fn new(size: Size, count: usize, samples: Samples, alpha: bool) -> Result<Self> {
        let needed = size.pixels().and_then(|n| n.checked_mul(count));
        let fits = size.axes().iter().all(|side| u32::try_from(*side).is_ok());
        if !fits || samples.len() == 0 || needed != Some(samples.len()) {
            bail!(
                Picture,
                "a picture of {size} pixels (height x width) and {count} bands takes a sample for each, not {} in all",
                samples.len()
            );
        }
        if let Samples::F32(samples) = &samples
            && let Some(i) = samples.iter().position(|x| !x.is_finite())
        {
            let (pixel, band) = (i / count, i % count);
            bail!(
                Picture,
                "band {} is {} at pixel ({}, {}): fill what has no value before",
                band + 1,
                samples[i],
                pixel % size.width,
                pixel / size.width
            );
        }
        let white = match &samples {
            Samples::U8(_) | Samples::U16(_) => 1.0,
            Samples::F32(samples) => f64::from(samples.iter().copied().fold(1.0, f32::max)),
        };
        Ok(Self {
            count,
            samples,
            alpha,
            white,
        })
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn samples(&self) -> &Samples {
        &self.samples
    }

    pub(super) fn has_alpha(&self) -> bool {
        self.alpha
    }

    /// Three bands of 8 bits as red, green and blue; else the bands themselves.
    pub(super) fn into_rgb(self) -> Result<Vec<u8>, Self> {
        match self.samples {
            Samples::U8(samples) if self.count == 3 => Ok(samples),
            _ => Err(self),
        }
    }

    /// Whether it is grey of 8 bits, with alpha or without.
    pub(super) fn is_grey8(&self) -> bool {
        let is_grey = self.count == 1 || (self.count == 2 && self.alpha);
        is_grey && matches!(self.samples, Samples::U8(_))
    }

    pub(super) fn is_transparent(&self) -> bool {
        self.alpha && self.scaled(self.count - 1).iter().any(|alpha| *alpha < 1.0)
    }

    /// Band `band`, a full channel as 1.
    pub(super) fn scaled(&self, band: usize) -> Vec<f64> {
        let of_band = |i: usize| i * self.count + band;
        let pixels = 0..self.samples.len() / self.count;
        match &self.samples {
            Samples::U8(all) => pixels.map(|i| f64::from(all[of_band(i)]) / 255.0).collect(),
            Samples::U16(all) => pixels
                .map(|i| f64::from(all[of_band(i)]) / 65535.0)
                .collect(),
            Samples::F32(all) => pixels.map(|i| f64::from(all[of_band(i)])).collect(),
        }
    }

    /// Band `band` as it is shown: bytes.
    pub(super) fn shown(&self, band: usize) -> Vec<u8> {
        let scaled = self.scaled(band).into_iter();
        scaled
            .map(|x| (x / self.white * 255.0).round() as u8)
            .collect()
    }
}

/// The elements of planes, one plane a band, pixel by pixel.
pub(super) fn interleaved<T: Copy>(planes: &[T], bands: usize) -> Vec<T> {
    let pixels = planes.len() / bands.max(1);
    let of_pixel = |i: usize| (0..bands).map(move |band| planes[band * pixels + i]);
    (0..pixels).flat_map(of_pixel).collect()
}

//! Preprocessing: the channels of a network's input, range, mean, standard deviation, and the scale at which a network
//! works well.

mod input;

use crate::error::{Result, bail};
pub use crate::ops::preprocess::Channels;
use crate::size::Size;
pub(crate) use input::{Form, PictureInput};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// How a picture becomes a network's input, the same for every size of picture.
///
/// A channel value `v` of 255 becomes `(v / 255 · range − mean) / std`; of 16 bits, `v / 65535` takes the place of
/// `v / 255`, of `f32` the value itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// The channels and their order, which is also that of `mean` and `std`.
    pub channels: Channels,
    /// The value of a full channel, 1 or 255.
    pub range: f32,
    /// Subtracted; as many numbers as the network's input has channels.
    pub mean: Cow<'static, [f32]>,
    /// Divided by; as many numbers as the network's input has channels.
    pub std: Cow<'static, [f32]>,
    /// Resize every picture to this many pixels on its longer side. Without a side or a size, pictures keep their size. A
    /// network works well only near the scale that it was trained at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_side: Option<usize>,
    /// Resize every picture to this many pixels on its shorter side, the longer one rounded down, as by torchvision's
    /// `Resize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_side: Option<usize>,
    /// Resize every picture to this height and width, whatever its shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
}

/// The longest side that a model file may ask for.
const MAX_SIDE: usize = 1 << 14;

impl Preprocessing {
    /// The preprocessing of networks trained with Caffe: BGR, 0 to 255, minus the mean of their training pictures
    /// (Long, Shelhamer, Darrell 2015).
    pub const CAFFE: Self = Self {
        channels: Channels::Bgr,
        range: 255.0,
        mean: Cow::Borrowed(&[104.00699, 116.66877, 122.67892]),
        std: Cow::Borrowed(&[1.0; 3]),
        ..Self::UNSCALED
    };

    /// The preprocessing of torchvision's networks: RGB, 0 to 1, normalised by ImageNet's mean and standard deviation.
    pub const TORCHVISION: Self = Self {
        channels: Channels::Rgb,
        range: 1.0,
        mean: Cow::Borrowed(&[0.485, 0.456, 0.406]),
        std: Cow::Borrowed(&[0.229, 0.224, 0.225]),
        ..Self::UNSCALED
    };

    /// RGB, 0 to 1, at the picture's size.
    const UNSCALED: Self = Self {
        channels: Channels::Rgb,
        range: 1.0,
        mean: Cow::Borrowed(&[0.0; 3]),
        std: Cow::Borrowed(&[1.0; 3]),
        long_side: None,
        short_side: None,
        size: None,
    };

    /// What is assumed of a network of `channels` input channels, if its file does not say: 0 to 1, mean 0, std 1, at
    /// the picture's size. 1 channel is grey, 2 are grey and alpha, 3 RGB, 4 RGBA; any other number of channels are
    /// bands.
    pub fn assumed(channels: usize) -> Self {
        Self {
            channels: match channels {
                1 | 2 => Channels::Grey,
                3 => Channels::Rgb,
                4 => Channels::Rgba,
                _ => Channels::Bands,
            },
            mean: vec![0.0; channels].into(),
            std: vec![1.0; channels].into(),
            ..Self::UNSCALED
        }
    }

    /// An error unless the numbers can be used, for a network of `channels` input channels.
    pub(crate) fn validate(&self, channels: usize) -> Result<()> {
        let finite = |values: &[f32]| values.iter().all(|v| v.is_finite());
        if !finite(&self.mean) || !finite(&[self.range]) || !self.std.iter().all(|s| s.is_normal())
        {
            bail!(
                ModelFile,
                "preprocess: range and mean must be finite, std finite and not 0"
            );
        }
        let fits = match self.channels {
            Channels::Rgb | Channels::Bgr => channels == 3,
            Channels::Grey => channels == 1 || channels == 2,
            Channels::Rgba => channels == 4,
            Channels::Bands => true,
        };
        if !fits {
            bail!(
                ModelFile,
                "preprocess: channels is {:?}, but the network's input has {channels} channels",
                self.name()
            );
        }
        if [self.mean.len(), self.std.len()] != [channels; 2] {
            bail!(
                ModelFile,
                "preprocess: mean has {} numbers and std {}; the network's input has {channels} channels",
                self.mean.len(),
                self.std.len()
            );
        }
        let sides = self.long_side.iter().chain(&self.short_side);
        let sides = sides.chain(self.size.iter().flatten());
        if sides.copied().any(|side| side == 0 || side > MAX_SIDE) {
            bail!(
                ModelFile,
                "preprocess: a side of long_side, short_side or size must be 1 to {MAX_SIDE}"
            );
        }
        let scales = [
            self.long_side.is_some(),
            self.short_side.is_some(),
            self.size.is_some(),
        ];
        if scales.iter().filter(|is_given| **is_given).count() > 1 {
            bail!(
                ModelFile,
                "preprocess: at most one of long_side, short_side and size can be given"
            );
        }
        Ok(())
    }

    /// The channels' name in a model file.
    fn name(&self) -> &'static str {
        match self.channels {
            Channels::Rgb => "rgb",
            Channels::Bgr => "bgr",
            Channels::Grey => "grey",
            Channels::Rgba => "rgba",
            Channels::Bands => "bands",
        }
    }

    /// The size at which the network gets a picture of `size`.
    ///
    /// ```
    /// use fullconv::{Preprocessing, Size};
    /// let at_480 = Preprocessing { long_side: Some(480), ..Preprocessing::CAFFE };
    /// let size = Size::new(563, 751);
    /// assert_eq!(at_480.network_size(size), Size::new(360, 480));
    /// assert_eq!(Preprocessing::CAFFE.network_size(size), size);
    /// ```
    pub fn network_size(&self, size: Size) -> Size {
        let Size { height, width } = size;
        if let Some([height, width]) = self.size {
            return Size::new(height, width);
        }
        let (longer, shorter) = (height.max(width).max(1), height.min(width).max(1));
        let share = |side: usize, of: usize, longest: usize, doubled: bool| {
            let (side, of, longest) = (side as u128, of as u128, longest as u128);
            let scaled = match doubled {
                true => (side * of * 2 + longest) / (2 * longest),
                false => side * of / longest,
            };
            // Beyond any device's limits, but a number.
            scaled.clamp(1, 1 << 30) as usize
        };
        if let Some(long) = self.long_side {
            return Size::new(
                share(height, long, longer, true),
                share(width, long, longer, true),
            );
        }
        match self.short_side {
            Some(short) => Size::new(
                share(height, short, shorter, false),
                share(width, short, shorter, false),
            ),
            None => size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_and_sizes() {
        let size = Size::new(100, 301);
        let at = |p: Preprocessing| p.network_size(size);
        let base = Preprocessing::TORCHVISION;
        let short = Preprocessing {
            short_side: Some(33),
            ..base.clone()
        };
        // torchvision: int(33 * 301 / 100).
        assert_eq!(at(short.clone()), Size::new(33, 99));
        let fixed = Preprocessing {
            size: Some([64, 32]),
            ..base.clone()
        };
        assert_eq!(at(fixed.clone()), Size::new(64, 32));
        for wrong in [
            Preprocessing {
                long_side: Some(3),
                ..short
            },
            Preprocessing {
                size: Some([0, 4]),
                ..fixed
            },
            Preprocessing {
                channels: Channels::Grey,
                ..base.clone()
            },
            Preprocessing {
                mean: vec![0.0].into(),
                ..base
            },
        ] {
            assert!(wrong.validate(3).is_err(), "{wrong:?}");
        }
    }
}

//! Preprocessing: the channels of a network's input, range, mean, standard deviation, and the scale at which a network
//! works well.

use crate::error::{Result, bail};
use crate::ops;
pub use crate::ops::preprocess::Channels;
use crate::picture::Picture;
use crate::size::Size;
use crate::tensor::{Shape, Tensor};
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

/// The form in which a picture goes to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// A word a pixel, red, green, blue and alpha. The device makes the network's channels of it.
    Words,
    /// The network's channels, scaled and centred on the host. The device resizes them.
    Values,
}

/// Pictures of one size and form as the input of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PictureInput {
    /// `[n, c, h, w]`.
    pub shape: Shape,
    pub form: Form,
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

    /// The number of the network's input channels.
    pub(crate) fn channel_count(&self) -> usize {
        self.mean.len()
    }

    /// The form in which most pictures for the network go to a device.
    pub(crate) fn usual_form(&self) -> Form {
        match self.channels {
            Channels::Bands => Form::Values,
            _ => Form::Words,
        }
    }

    /// The form in which `picture` goes to a device.
    ///
    /// # Errors
    /// `Picture` if the network's channels cannot be made of the picture's bands.
    pub(crate) fn form_of(&self, picture: &Picture) -> Result<Form> {
        let colour = picture.is_colour() && self.channels != Channels::Bands;
        if colour {
            return Ok(Form::Words);
        }
        self.sources(picture)?;
        Ok(Form::Values)
    }

    /// `n` pictures of `size` in `form`, as the input of a graph.
    pub(crate) fn input(&self, n: usize, size: Size, form: Form) -> PictureInput {
        let channels = match (form, self.channels) {
            (Form::Values, _) => self.channel_count(),
            (Form::Words, Channels::Rgba) => 4,
            (Form::Words, Channels::Grey) if self.channel_count() == 2 => 4,
            (Form::Words, _) => 3,
        };
        PictureInput {
            shape: Shape::new(n, channels, size.height, size.width),
            form,
        }
    }

    /// The pictures in `form`, as the tensor that the graph's input is.
    ///
    /// # Errors
    /// As [`Preprocessing::form_of`]; `Limit` if the host has no memory for it.
    pub(crate) fn tensor(&self, pictures: &[Picture], form: Form) -> Result<Tensor> {
        let size = pictures.first().map_or(Size::square(0), Picture::size);
        let PictureInput { shape, .. } = self.input(pictures.len(), size, form);
        let mut data: Vec<f32> = Vec::new();
        if data.try_reserve_exact(shape.elements()).is_err() {
            bail!(Limit, "the host has no memory for a tensor {shape}");
        }
        for picture in pictures {
            match form {
                Form::Words => {
                    let rgba = picture.rgba();
                    for channel in 0..shape.c {
                        let of_channel = rgba.iter().skip(channel).step_by(4);
                        data.extend(of_channel.map(|byte| f32::from(*byte)));
                    }
                }
                Form::Values => {
                    for (channel, source) in self.sources(picture)?.into_iter().enumerate() {
                        let (range, mean) = (f64::from(self.range), f64::from(self.mean[channel]));
                        let std = f64::from(self.std[channel]);
                        let values = source.values(picture).into_iter();
                        data.extend(values.map(|v| ((v * range - mean) / std) as f32));
                    }
                }
            }
        }
        Tensor::new(shape, data)
    }

    /// Where each of the network's channels comes from in `picture`.
    fn sources(&self, picture: &Picture) -> Result<Vec<Source>> {
        let (bands, channels) = (picture.bands(), self.channel_count());
        // Alpha is a band like any other for a network of as many channels.
        let is_whole = bands == channels && !matches!(self.channels, Channels::Rgb | Channels::Bgr);
        if is_whole {
            return Ok((0..bands).map(Source::Band).collect());
        }
        let colours = bands - usize::from(picture.has_alpha());
        let alpha = match picture.has_alpha() {
            true => Source::Band(bands - 1),
            false => Source::Opaque,
        };
        let colour = |i: usize| match colours {
            1 => Source::Band(0),
            _ => Source::Band(i),
        };
        let grey = match colours {
            1 => Source::Band(0),
            _ => Source::Luma,
        };
        Ok(match (self.channels, colours) {
            (Channels::Rgb, 1 | 3) => [0, 1, 2].map(colour).to_vec(),
            (Channels::Bgr, 1 | 3) => [2, 1, 0].map(colour).to_vec(),
            (Channels::Rgba, 1 | 3) => vec![colour(0), colour(1), colour(2), alpha],
            (Channels::Grey, 1 | 3) if channels == 1 => vec![grey],
            (Channels::Grey, 1 | 3) => vec![grey, alpha],
            // A band that is not needed is alpha.
            (Channels::Bands, _) if colours == channels => (0..colours).map(Source::Band).collect(),
            _ => bail!(
                Picture,
                "the picture has {bands} bands{}; the network takes {channels} ({})",
                if picture.has_alpha() {
                    ", alpha among them"
                } else {
                    ""
                },
                self.name()
            ),
        })
    }

    /// The op that makes pictures in `form` an input of `size`.
    pub(crate) fn op(&self, size: Size, form: Form) -> ops::Preprocess {
        let (channels, mean, std) = match form {
            Form::Words => (self.channels, self.mean.to_vec(), self.std.to_vec()),
            Form::Values => (Channels::Bands, Vec::new(), Vec::new()),
        };
        ops::Preprocess {
            size: size.axes(),
            channels,
            range: self.range,
            mean,
            std,
        }
    }
}

/// Where a channel comes from in a picture of bands.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// Band `.0`.
    Band(usize),
    /// The luma of the first three bands, not rounded.
    Luma,
    /// 1: alpha of an opaque picture.
    Opaque,
}

impl Source {
    /// The values of `picture`, a full channel as 1.
    fn values(self, picture: &Picture) -> Vec<f64> {
        match self {
            Self::Band(band) => picture.band(band),
            Self::Luma => {
                let [red, green, blue] = [0, 1, 2].map(|band| picture.band(band));
                let pixels = red.iter().zip(&green).zip(&blue);
                pixels
                    .map(|((r, g), b)| 0.299 * r + 0.587 * g + 0.114 * b)
                    .collect()
            }
            Self::Opaque => vec![1.0; picture.width() * picture.height()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Samples;

    fn bands(count: usize, samples: Vec<u16>) -> Picture {
        let width = samples.len() / count;
        Picture::from_bands(Size::new(1, width), count, Samples::U16(samples)).unwrap()
    }

    #[test]
    fn a_full_channel_is_the_range() {
        let p = Preprocessing {
            range: 255.0,
            mean: vec![55.0; 5].into(),
            std: vec![2.0; 5].into(),
            ..Preprocessing::assumed(5)
        };
        let picture = bands(5, vec![0, 65535, 257, 514, 65535]);
        assert_eq!(p.form_of(&picture).unwrap(), Form::Values);
        let tensor = p.tensor(&[picture], Form::Values).unwrap();
        assert_eq!(tensor.shape(), Shape::new(1, 5, 1, 1));
        assert_eq!(tensor.data(), [-27.5, 100.0, -27.0, -26.5, 100.0]);
    }

    #[test]
    fn channels_are_made_of_bands_or_refused() {
        let of = |channels: usize, picture: &Picture| {
            let p = Preprocessing::assumed(channels);
            let tensor = p.form_of(picture).and_then(|form| {
                let picture = std::slice::from_ref(picture);
                p.tensor(picture, form)
            });
            tensor.map(|t| t.into_data()).map_err(|e| e.to_string())
        };
        let grey = bands(1, vec![65535, 0]);
        assert_eq!(of(1, &grey).unwrap(), [1.0, 0.0]);
        assert_eq!(of(2, &grey).unwrap(), [1.0, 0.0, 1.0, 1.0]);
        assert_eq!(of(3, &grey).unwrap(), [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        let colour = bands(3, vec![65535, 0, 0]);
        assert!((of(1, &colour).unwrap()[0] - 0.299).abs() < 1e-6);
        assert_eq!(of(4, &colour).unwrap(), [1.0, 0.0, 0.0, 1.0]);
        let four = bands(4, vec![65535, 0, 0, 0]);
        assert_eq!(of(4, &four).unwrap(), [1.0, 0.0, 0.0, 0.0]);
        for channels in [1, 2, 3, 5, 12] {
            let refusal = of(channels, &four).unwrap_err();
            assert!(
                refusal.starts_with("the picture has 4 bands; the network takes"),
                "{refusal}"
            );
        }
    }

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

//! Pictures as the input of a graph: words that the device preprocesses, or values of bands.

use super::{Channels, Preprocessing};
use crate::error::{Result, bail};
use crate::ops;
use crate::picture::Picture;
use crate::size::Size;
use crate::tensor::{Shape, Tensor};

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

impl Preprocessing {
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
}

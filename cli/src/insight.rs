//! `segment`'s further results: probabilities, the heat map of a class, and the stages of a network.

use crate::jobs::Job;
use crate::tensors::{Stored, encode};
use crate::{Failure, Outcome};
use clap::ValueEnum;
use fullconv::{
    Error, ErrorKind, Model, Palette, Picture, Result, Segmenter, Size, StageMask, Tensor, heatmap,
    png16,
};
use std::path::PathBuf;

/// Pixels between the pictures of `--stages`.
const GAP: usize = 8;

/// The results to write besides mask and overlay.
#[derive(Debug, clap::Args)]
pub struct InsightOptions {
    /// Write the probability of each class too (softmax, or sigmoid): one 16-bit NAME.probability.ID.png a class, or
    /// NAME.probabilities.safetensors
    #[arg(long, value_enum, value_name = "FORMAT")]
    probabilities: Option<Format>,
    /// Write a heat map of a class's probability, the class given by name or id: NAME.heatmap.png
    #[arg(long, value_name = "CLASS")]
    heatmap: Option<String>,
    /// Write the picture and its labels at each stride of the network, such as 32, 16 and 8, side by side: NAME.stages.png
    #[arg(long)]
    stages: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// 65535 is 1
    Png,
    /// `probabilities` f32 [classes, h, w]
    Safetensors,
}

/// [`InsightOptions`] for a model.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    probabilities: Option<Format>,
    heatmap: Option<usize>,
    stages: bool,
}

/// A picture's further results.
#[derive(Debug)]
pub struct Insight {
    probabilities: Option<Tensor>,
    stages: Vec<StageMask>,
}

impl InsightOptions {
    /// The options, checked against `model`.
    pub fn of(&self, model: &Model) -> Outcome<Wanted> {
        if self.stages && model.stages().is_empty() {
            let text = format!(
                "--stages: {model} has no coarser stages; FCN-8s and FCN-16s have, and graphs whose file names them"
            );
            return Err(Failure::Failed(Error::new(ErrorKind::Request, text)));
        }
        Ok(Wanted {
            probabilities: self.probabilities,
            heatmap: self
                .heatmap
                .as_deref()
                .map(|c| class(c, model))
                .transpose()?,
            stages: self.stages,
        })
    }
}

/// The id of a class, given by its name or id.
fn class(text: &str, model: &Model) -> Result<usize> {
    let names = model.classes();
    let by_name = names
        .iter()
        .position(|name| name.eq_ignore_ascii_case(text));
    let by_id = || text.parse().ok().filter(|id| *id < model.class_count());
    by_name.or_else(by_id).ok_or_else(|| {
        let there = match names.len() {
            0 => String::new(),
            _ => format!(", and names: {}", names.join(", ")),
        };
        let last = model.class_count() - 1;
        let text = format!("--heatmap: no class is {text:?}; there are ids 0 to {last}{there}");
        Error::new(ErrorKind::Request, text)
    })
}

impl Wanted {
    /// Whether any further result is wanted.
    pub fn anything(&self) -> bool {
        self.stages || self.needs_probabilities()
    }

    /// The endings of the files that [`Wanted::files`] makes for a network of so many classes.
    pub fn endings(&self, classes: usize) -> Vec<String> {
        let mut endings = Vec::new();
        endings.extend(self.heatmap.map(|_| ".heatmap.png".to_owned()));
        match self.probabilities {
            Some(Format::Png) => {
                endings.extend((0..classes).map(|id| format!(".probability.{id}.png")));
            }
            Some(Format::Safetensors) => endings.push(".probabilities.safetensors".to_owned()),
            None => {}
        }
        endings.extend(self.stages.then(|| ".stages.png".to_owned()));
        endings
    }

    fn needs_probabilities(&self) -> bool {
        self.probabilities.is_some() || self.heatmap.is_some()
    }

    /// Runs the network for these results.
    pub fn find(&self, segmenter: &Segmenter, picture: &Picture) -> Result<Insight> {
        let probabilities = self.needs_probabilities();
        let probabilities = probabilities.then(|| segmenter.probabilities(picture));
        Ok(Insight {
            probabilities: probabilities.map(pollster::block_on).transpose()?,
            stages: match self.stages {
                true => pollster::block_on(segmenter.stages(picture))?,
                false => Vec::new(),
            },
        })
    }

    /// The result files, encoded; labels in the colours of `palette`.
    pub fn files(
        &self,
        job: &Job,
        picture: &Picture,
        found: &Insight,
        palette: &Palette,
    ) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let mut files = Vec::new();
        let size = picture.size();
        if let Some(probabilities) = &found.probabilities {
            if let Some(id) = self.heatmap {
                let heat = heatmap(probabilities.plane(0, id), size)?;
                files.push((job.result(".heatmap.png"), heat.to_png()?));
            }
            let classes = probabilities.shape().c;
            match self.probabilities {
                Some(Format::Png) => {
                    for id in 0..classes {
                        let png = png16(probabilities.plane(0, id), size)?;
                        files.push((job.result(&format!(".probability.{id}.png")), png));
                    }
                }
                Some(Format::Safetensors) => {
                    let shape = vec![classes, size.height, size.width];
                    let stored = Stored::floats("probabilities", probabilities.data(), shape);
                    files.push((job.result(".probabilities.safetensors"), encode(&[stored])?));
                }
                None => {}
            }
        }
        if !found.stages.is_empty() {
            files.push((
                job.result(".stages.png"),
                side_by_side(picture, &found.stages, palette)?.to_png()?,
            ));
        }
        Ok(files)
    }
}

/// The picture and the colours of the labels at each stage, from left to right.
fn side_by_side(picture: &Picture, stages: &[StageMask], palette: &Palette) -> Result<Picture> {
    let size = picture.size();
    let colours = stages.iter().map(|stage| {
        let mask = stage.mask.clone().with_palette(palette.clone());
        mask.overlay(picture, 1.0)
    });
    let colours: Vec<Picture> = colours.collect::<Result<_>>()?;
    let all: Vec<&Picture> = [picture].into_iter().chain(&colours).collect();
    let width = all.len() * (size.width + GAP) - GAP;
    let mut rgb = Vec::with_capacity(3 * size.height * width);
    for y in 0..size.height {
        for (i, part) in all.iter().enumerate() {
            if i > 0 {
                rgb.extend([255; 3 * GAP]);
            }
            rgb.extend_from_slice(&part.rgb()[3 * size.width * y..][..3 * size.width]);
        }
    }
    Picture::from_rgb(Size::new(size.height, width), rgb)
}

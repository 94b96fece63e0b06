//! `fullconv eval`: a model's accuracy on labelled pictures.

use crate::jobs::pictures_in;
use crate::options::{DeviceOptions, ModelOptions, ModelSummary, TuneOptions, describe};
use crate::{Outcome, terminal};
use fullconv::{ConfusionMatrix, Error, ErrorKind, Model, Picture, Result, Segmenter, read_labels};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Labels are 8-bit indexed or greyscale PNGs whose pixel value is the class id. Other values \
                  (255, say)\nare ignored. IoU is intersection over union."
)]
pub struct Args {
    /// The folder of the pictures
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// The folder of their labels: NAME.png for picture NAME.jpg
    #[arg(long, value_name = "DIR")]
    labels: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    device: DeviceOptions,
    #[command(flatten)]
    tune: TuneOptions,
}

/// What is printed with `--json`: shares from 0 to 1, `null` if there are no pixels to measure.
#[derive(Serialize)]
struct Output {
    device: String,
    model: ModelSummary,
    images: usize,
    /// Pictures without labels, and labels without a picture.
    unmatched: Vec<String>,
    /// Pixels whose label is a class of the model.
    pixels: u64,
    ignored_pixels: u64,
    milliseconds: f64,
    pixel_accuracy: Option<f64>,
    mean_accuracy: Option<f64>,
    mean_iou: Option<f64>,
    frequency_weighted_iou: Option<f64>,
    classes: Vec<Class>,
}

#[derive(Serialize)]
struct Class {
    id: usize,
    name: String,
    iou: Option<f64>,
    accuracy: Option<f64>,
    /// Pixels of the class in the labels.
    pixels: u64,
}

/// A picture and its labels.
struct Pair {
    picture: PathBuf,
    labels: PathBuf,
}

/// The counts over all pictures.
struct Counted {
    matrix: ConfusionMatrix,
    ignored: u64,
    time: Duration,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let (pairs, unmatched) = pairs(&args.images, &args.labels)?;
    let model = args.model.open()?;
    let matrix = ConfusionMatrix::new(model.class_count())?;
    let segmenter = args.device.segmenter(&model, &args.model)?;
    for file in &unmatched {
        terminal::report(format!("{file} has no counterpart; it is left out"));
    }
    if !args.json {
        terminal::say(describe(&segmenter))?;
    }
    let first = pairs.first().map(|pair| pair.picture.as_path());
    args.tune.tune_for(&segmenter, first, args.json)?;
    let counted = count(args, &segmenter, &pairs, matrix)?;
    if counted.matrix.pixels() == 0 {
        let message = format!(
            "no pixel of the labels in {} is one of the {} classes of the model",
            args.labels.display(),
            model.class_count()
        );
        return Err(Error::new(ErrorKind::Picture, message).into());
    }
    let output = output(&segmenter, &counted, pairs.len(), unmatched);
    if args.json {
        terminal::json(&output)?;
    } else {
        terminal::say(shown(&output, counted.time))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The pictures with labels, sorted by name, and the files without a counterpart.
fn pairs(images: &Path, labels: &Path) -> Result<(Vec<Pair>, Vec<String>)> {
    let pictures = by_stem(pictures_in(images)?.pictures)?;
    let label_files = pictures_in(labels)?.pictures.into_iter();
    let is_png = |path: &PathBuf| {
        path.extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("png"))
    };
    let mut label_files = by_stem(label_files.filter(is_png).collect())?;
    let (mut pairs, mut unmatched) = (Vec::new(), Vec::new());
    for (stem, picture) in pictures {
        match label_files.remove(&stem) {
            Some(labels) => pairs.push(Pair { picture, labels }),
            None => unmatched.push(picture.display().to_string()),
        }
    }
    unmatched.extend(label_files.values().map(|path| path.display().to_string()));
    if pairs.is_empty() {
        let message = format!(
            "no picture in {} has labels in {}: NAME.jpg needs NAME.png",
            images.display(),
            labels.display()
        );
        return Err(Error::new(ErrorKind::Request, message));
    }
    Ok((pairs, unmatched))
}

/// Files by their names without ending.
fn by_stem(files: Vec<PathBuf>) -> Result<BTreeMap<OsString, PathBuf>> {
    let mut stems: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for path in files {
        let stem = path.file_stem().unwrap_or_default().to_owned();
        if let Some(other) = stems.insert(stem, path.clone()) {
            let message = format!(
                "{} and {} have the same name: only one can match a file of the other folder",
                other.display(),
                path.display()
            );
            return Err(Error::new(ErrorKind::Request, message));
        }
    }
    Ok(stems)
}

/// Runs every picture. The first failure ends the run: figures over some of the pictures would mislead.
fn count(
    args: &Args,
    segmenter: &Segmenter,
    pairs: &[Pair],
    mut matrix: ConfusionMatrix,
) -> Result<Counted> {
    let (mut ignored, mut time) = (0, Duration::ZERO);
    let bar = terminal::progress(pairs.len());
    for Pair {
        picture: path,
        labels,
    } in pairs
    {
        bar.set_message(path.display().to_string());
        let picture = Picture::open(path)?;
        let (size, truth) = read_labels(labels)?;
        if size != picture.size() {
            let message = format!(
                "{} has {size} pixels (height x width), its picture {} has {}",
                labels.display(),
                path.display(),
                picture.size()
            );
            return Err(Error::new(ErrorKind::Shape, message));
        }
        let start = Instant::now();
        let at = |error| args.model.blame_or(path, error);
        let mask = segmenter.segment_blocking(&picture).map_err(at)?;
        time += start.elapsed();
        matrix.add(&truth, mask.labels()).map_err(at)?;
        let is_void = |label: &&u8| usize::from(**label) >= matrix.classes();
        ignored += truth.iter().filter(is_void).count() as u64;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Counted {
        matrix,
        ignored,
        time,
    })
}

fn output(
    segmenter: &Segmenter,
    counted: &Counted,
    images: usize,
    unmatched: Vec<String>,
) -> Output {
    let Counted {
        matrix,
        ignored,
        time,
    } = counted;
    let model = segmenter.model();
    let class = |id| Class {
        id,
        name: class_name(model, id),
        iou: matrix.iou(id),
        accuracy: matrix.accuracy(id),
        pixels: (0..matrix.classes()).map(|p| matrix.count(id, p)).sum(),
    };
    Output {
        device: segmenter.device(),
        model: ModelSummary::from(model),
        images,
        unmatched,
        pixels: matrix.pixels(),
        ignored_pixels: *ignored,
        milliseconds: terminal::milliseconds(*time),
        pixel_accuracy: matrix.pixel_accuracy(),
        mean_accuracy: matrix.mean_accuracy(),
        mean_iou: matrix.mean_iou(),
        frequency_weighted_iou: matrix.frequency_weighted_iou(),
        classes: (0..matrix.classes()).map(class).collect(),
    }
}

fn class_name(model: &Model, id: usize) -> String {
    let named = model.classes().get(id).filter(|name| !name.is_empty());
    named.cloned().unwrap_or_else(|| format!("class {id}"))
}

fn shown(output: &Output, time: Duration) -> String {
    let share = |share: Option<f64>| share.map_or("-".to_owned(), |s| format!("{s:.4}"));
    let row = |class: &Class| {
        vec![
            class.id.to_string(),
            class.name.clone(),
            share(class.iou),
            share(class.accuracy),
            class.pixels.to_string(),
        ]
    };
    let rows: Vec<_> = output.classes.iter().map(row).collect();
    let table = terminal::table(&["id", "class", "IoU", "accuracy", "pixels"], &rows);
    let time = terminal::time(time);
    format!(
        "{table}\n\npixel accuracy          {}\nmean accuracy           {}\nmean IoU                {}\n\
         frequency weighted IoU  {}\n{} pictures, {} pixels counted, {} not; {time} on the device",
        share(output.pixel_accuracy),
        share(output.mean_accuracy),
        share(output.mean_iou),
        share(output.frequency_weighted_iou),
        output.images,
        output.pixels,
        output.ignored_pixels,
    )
}

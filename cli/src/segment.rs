//! `fullconv segment`: pictures in, masks and overlays out.

use crate::folders::LeftOut;
use crate::insight::{Insight, InsightOptions, Wanted};
use crate::jobs::{Job, jobs};
use crate::options::{
    DeviceOptions, ModelOptions, ModelSummary, TuneOptions, describe, report_multi_label,
};
use crate::pipeline::{self, Inbox, Outbox};
use crate::{Outcome, interrupt, terminal};
use fullconv::low_level::files;
use fullconv::{
    Channels, Error, ErrorKind, Frames, Mask, Model, Picture, PictureNote, Result, Segmenter, Size,
};
use indicatif::ProgressBar;
use serde::Serialize;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The value of a pixel in NAME.mask.png is its class id; the colours are only its \
                        palette.\nA picture's time runs from decoded pixels to class ids, without the wait for \
                        earlier pictures."
)]
pub struct Args {
    /// Pictures (JPEG, PNG, WebP, TIFF, BMP, GIF, PNM, .npy), and folders of them
    #[arg(required = true, value_name = "IMAGE|FOLDER")]
    inputs: Vec<PathBuf>,
    /// The folder for the results, made if missing [default: beside each picture]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Opacity of the overlay's colours, from 0 (only the picture) to 1 (only the colours)
    #[arg(long, default_value = "0.5", value_parser = opacity)]
    opacity: f32,
    /// Take the pictures in the folders of a folder too
    #[arg(long)]
    recursive: bool,
    /// Put a colour behind transparent pixels: `white`, `black`, or red, green and blue as #RRGGBB [default: their own
    /// colour, as if opaque]
    #[arg(long, value_name = "COLOUR", value_parser = colour)]
    background: Option<[u8; 3]>,
    #[command(flatten)]
    insight: InsightOptions,
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

fn opacity(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(opacity) if (0.0..=1.0).contains(&opacity) => Ok(opacity),
        _ => Err("an opacity is a number from 0 to 1".into()),
    }
}

fn colour(text: &str) -> Result<[u8; 3], String> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    let channel = |i: usize| u8::from_str_radix(digits.get(2 * i..2 * i + 2)?, 16).ok();
    match (text, channel(0), channel(1), channel(2)) {
        ("white", ..) => Ok([255; 3]),
        ("black", ..) => Ok([0; 3]),
        (_, Some(red), Some(green), Some(blue)) if digits.len() == 6 => Ok([red, green, blue]),
        _ => Err("a colour is white, black, or #RRGGBB".into()),
    }
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Output {
    device: String,
    model: ModelSummary,
    images: Vec<Image>,
    failed: Vec<Failed>,
    /// Files of folders, counted by kind.
    left_out: LeftOut,
}

#[derive(Serialize)]
struct Image {
    input: String,
    /// Absent, like the overlay, if the network has more classes than a mask has ids.
    mask: Option<String>,
    overlay: Option<String>,
    /// The files with probabilities, heat map and stages.
    further: Vec<String>,
    width: usize,
    height: usize,
    milliseconds: f64,
    classes: Vec<Class>,
}

#[derive(Serialize)]
struct Class {
    id: u8,
    name: String,
    /// Share of all pixels, 0 to 1.
    share: f64,
}

#[derive(Serialize)]
struct Failed {
    input: String,
    error: String,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let (jobs, left_out) = jobs(&args.inputs, args.output.as_deref(), args.recursive)?;
    let model = args.model.open()?;
    let wanted = args.insight.of(&model)?;
    if !model.has_labels() && !wanted.anything() {
        let text = format!(
            "{model} has {} classes, more than a mask has ids: --heatmap CLASS and --probabilities show them",
            model.class_count()
        );
        return Err(Error::new(ErrorKind::Unsupported, text).into());
    }
    report_multi_label(&model);
    let segmenter = args.device.segmenter(&model, &args.model)?;
    if let Some(folder) = &args.output {
        make_folder(folder)?;
    }
    if !args.json {
        terminal::say(describe(&segmenter))?;
        if let Some(line) = left_out.line() {
            terminal::say(line)?;
        }
    }
    let first = jobs.first().map(|job| job.input.as_path());
    args.tune.tune_for(&segmenter, first, args.json)?;
    let mut output = Output {
        device: segmenter.device(),
        model: ModelSummary::from(&model),
        images: Vec::with_capacity(jobs.len()),
        failed: Vec::new(),
        left_out,
    };
    let bar = terminal::progress(jobs.len());
    let outcome = segment_all(args, (&segmenter, wanted), &jobs, &bar, &mut output);
    bar.finish_and_clear();
    outcome?;
    if args.json {
        terminal::json(&output)?;
    } else if jobs.len() > 1 {
        let (done, all) = (output.images.len(), jobs.len());
        let place = match &args.output {
            Some(folder) => format!("in {}", folder.display()),
            None => "beside the pictures".into(),
        };
        terminal::say(format!(
            "{done} of {all} pictures done; masks and overlays are {place}"
        ))?;
    }
    Ok(conclude(&output, jobs.len()))
}

/// Segments the pictures until Ctrl-C: some are read and others written while the device works. A picture's failure
/// is noted; a model's failure ends the run, as every picture would fail.
fn segment_all(
    args: &Args,
    (segmenter, wanted): (&Segmenter, Wanted),
    jobs: &[Job],
    bar: &ProgressBar,
    output: &mut Output,
) -> Result<()> {
    interrupt::stop_when_asked()?;
    let mut transparent = 0;
    let report = |job: &Job, done: Result<Done>| {
        match done {
            Ok(done) => {
                transparent += usize::from(done.is_transparent);
                for note in &done.notes {
                    bar.suspend(|| terminal::report(format!("{}: {note}", job.input.display())));
                }
                if let Some(text) = done.text {
                    bar.suspend(|| terminal::say(text))?;
                }
                output.images.push(done.image);
            }
            Err(error) if error.kind() == ErrorKind::ModelFile => {
                return Err(args.model.blame(error));
            }
            Err(error) => output.failed.push(Failed {
                input: job.input.display().to_string(),
                error: error.to_string(),
            }),
        }
        bar.set_message(job.input.display().to_string());
        bar.inc(1);
        Ok(())
    };
    let many = jobs.len() > 1;
    pipeline::run(
        jobs,
        |job| {
            let picture = Picture::open(&job.input)?;
            Ok(match args.background {
                Some(colour) => picture.over(colour),
                None => picture,
            })
        },
        |pictures, labelled| label(segmenter, wanted, pictures, labelled),
        |job, labelled| finish(args, wanted, job, labelled?, many),
        report,
    )?;
    let model = segmenter.model();
    if transparent > 0 && !takes_alpha(model) {
        terminal::report(format!(
            "{transparent} of {} pictures have transparent pixels, whose colours count as if opaque: --background \
             COLOUR puts a colour behind them",
            jobs.len()
        ));
    }
    Ok(())
}

/// Whether the network has a channel for alpha.
fn takes_alpha(model: &Model) -> bool {
    match model.preprocessing().channels {
        Channels::Rgb | Channels::Bgr => false,
        Channels::Grey => model.input_channels() == 2,
        _ => true,
    }
}

/// Reports the failures on stderr and returns the exit status.
fn conclude(output: &Output, all: usize) -> ExitCode {
    for failed in &output.failed {
        terminal::report(&failed.error);
    }
    let (done, failed) = (output.images.len(), output.failed.len());
    if all > 1 && failed > 0 {
        terminal::report(format!("{failed} of {all} pictures failed"));
    }
    if interrupt::is_asked() {
        terminal::report(format!("stopped; {done} of {all} pictures are done"));
        interrupt::status()
    } else if failed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// A picture with its results from the device.
struct Labelled {
    picture: Picture,
    /// `None` if the network has more classes than a mask has ids.
    mask: Result<Option<Mask>>,
    insight: Option<Result<Insight>>,
    time: Duration,
}

/// Pictures on the device, the oldest first, and the outbox for their results.
struct OnDevice<'a> {
    segmenter: &'a Segmenter,
    wanted: Wanted,
    frames: Frames,
    pictures: VecDeque<Picture>,
    labelled: Outbox<Result<Labelled>>,
}

impl OnDevice<'_> {
    /// Gives the device a picture. False if the next stage has ended.
    fn push(&mut self, picture: Picture) -> bool {
        if !self.segmenter.model().has_labels() {
            self.pictures.push_back(picture);
            return self.hand_on(Ok(None));
        }
        let mask = pollster::block_on(self.frames.push(&picture));
        self.pictures.push_back(picture);
        mask.is_none_or(|mask| self.hand_on(mask.map(Some)))
    }

    /// Waits for all pictures. False if the next stage has ended.
    fn finish(&mut self) -> bool {
        while let Some(mask) = pollster::block_on(self.frames.next()) {
            if !self.hand_on(mask.map(Some)) {
                return false;
            }
        }
        true
    }

    fn hand_on(&mut self, mask: Result<Option<Mask>>) -> bool {
        let Some(picture) = self.pictures.pop_front() else {
            return false;
        };
        let time = self.frames.time().unwrap_or_default();
        let insight = self.wanted.anything() && mask.is_ok();
        let insight = insight.then(|| self.wanted.find(self.segmenter, &picture));
        self.labelled.send(Ok(Labelled {
            picture,
            mask,
            insight,
            time,
        }))
    }
}

/// Gives the pictures to the device, several at a time, until Ctrl-C, and sends them on with their masks.
/// The error of an unreadable picture is sent on in its turn.
fn label(
    segmenter: &Segmenter,
    wanted: Wanted,
    mut pictures: Inbox<Result<Picture>>,
    labelled: Outbox<Result<Labelled>>,
) {
    let mut device = OnDevice {
        segmenter,
        wanted,
        frames: segmenter.frames(),
        pictures: VecDeque::new(),
        labelled,
    };
    while !interrupt::is_asked()
        && let Some(picture) = pictures.next()
    {
        let is_taken = match picture {
            Ok(picture) => device.push(picture),
            Err(error) => device.finish() && device.labelled.send(Err(error)),
        };
        if !is_taken {
            return;
        }
    }
    device.finish();
}

/// The report on a finished picture.
struct Done {
    image: Image,
    text: Option<String>,
    notes: Vec<PictureNote>,
    is_transparent: bool,
}

/// Writes the results of a picture. Errors name the picture or the result.
fn finish(args: &Args, wanted: Wanted, job: &Job, labelled: Labelled, many: bool) -> Result<Done> {
    let at = |error: Error| match error.kind() {
        ErrorKind::ModelFile => error,
        _ => error.at(job.input.display()),
    };
    let Labelled { picture, time, .. } = labelled;
    let mask = labelled.mask.map_err(at)?;
    // All results are encoded before the first is written: an encoding error leaves no file.
    let mut results = Vec::new();
    if let Some(mask) = &mask {
        let overlay = mask.overlay(&picture, args.opacity).map_err(at)?;
        results.push((job.mask.clone(), mask.to_png().map_err(at)?));
        results.push((job.overlay.clone(), overlay.to_png().map_err(at)?));
    }
    if let Some(insight) = labelled.insight {
        let further = insight.and_then(|found| wanted.files(job, &picture, &found));
        results.extend(further.map_err(at)?);
    }
    for (path, bytes) in &results {
        files::write_atomically(path, bytes)?;
    }
    let written = results.iter().map(|(path, _)| path.display().to_string());
    let image = image(job, picture.size(), written.collect(), mask.as_ref(), time);
    let text = (!args.json).then(|| shown(&image, time, many));
    Ok(Done {
        image,
        text,
        notes: picture.notes().to_vec(),
        is_transparent: picture.is_transparent(),
    })
}

/// The report's entry. `written`: mask and overlay if there is a mask, then the further results.
fn image(
    job: &Job,
    size: Size,
    mut written: Vec<String>,
    mask: Option<&Mask>,
    time: Duration,
) -> Image {
    let shares = mask.map_or(Vec::new(), Mask::shares).into_iter();
    let class = |(id, share)| Class {
        id,
        name: mask.map_or(String::new(), |mask| mask.class_name(id).into_owned()),
        share,
    };
    let mut labels = written.drain(..if mask.is_some() { 2 } else { 0 });
    let (mask_path, overlay) = (labels.next(), labels.next());
    drop(labels);
    Image {
        input: job.input.display().to_string(),
        mask: mask_path,
        overlay,
        further: written,
        width: size.width,
        height: size.height,
        milliseconds: terminal::milliseconds(time),
        classes: shares.map(class).collect(),
    }
}

/// The printed report on a picture: one line if there are many, a list if it is the only one.
fn shown(image: &Image, time: Duration, many: bool) -> String {
    let time = terminal::time(time);
    let input = &image.input;
    let classes = image.classes.iter();
    if many {
        let shares = classes.map(|class| format!("{} {}", class.name, percent(class.share)));
        let shares: Vec<_> = shares.collect();
        return format!("{input}: {} ({time})", shares.join(", "));
    }
    let shares = classes.map(|class| format!("{:>9}  {}\n", percent(class.share), class.name));
    let files = image
        .mask
        .iter()
        .chain(&image.overlay)
        .chain(&image.further);
    let files: Vec<_> = files.map(String::as_str).collect();
    format!(
        "{input}: {} (height x width), {time}\n{}{}",
        Size::new(image.height, image.width),
        shares.collect::<String>(),
        files.join("\n")
    )
}

/// `12.3 %`; a class that occurs never shows as `0.0 %`.
fn percent(share: f64) -> String {
    if share < 0.0005 {
        "<0.1 %".into()
    } else {
        format!("{:.1} %", 100.0 * share)
    }
}

/// Makes the folder for the results and checks that files can be written there.
fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .and_then(|()| tempfile::tempfile_in(folder))
        .map_err(|reason| {
            Error::new(
                ErrorKind::Io,
                format!("cannot write to folder {}: {reason}", folder.display()),
            )
        })?;
    Ok(())
}

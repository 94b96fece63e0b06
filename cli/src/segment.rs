//! `fullconv segment`: pictures in, masks and overlays out.

use crate::insight::{Insight, InsightOptions, Wanted};
use crate::jobs::Job;
use crate::manifest::{Manifest, Rows};
use crate::names::check_apart;
use crate::options::{
    DeviceOptions, ModelOptions, ModelSummary, TuneOptions, describe, report_multi_label,
};
use crate::outputs::{Only, Parts, Place, is_done};
use crate::pictures::{PictureOptions, report_transparent};
use crate::pipeline::{self, Inbox, Outbox};
use crate::report::{Failed, Image, Output, conclude, image, shown};
use crate::shard::Shard;
use crate::{Failure, Outcome, interrupt, terminal, text_files};
use fullconv::low_level::files;
use fullconv::{
    Error, ErrorKind, Frames, Mask, Model, Palette, Picture, PictureNote, Result, Segmenter,
};
use indicatif::ProgressBar;
use std::collections::VecDeque;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most bytes that are read from standard input.
const MOST_BYTES: u64 = 1 << 30;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The value of a pixel in NAME.mask.png is its class id; the colours are only its palette.\n\
                  Pictures whose results would have the same name keep their endings (a.jpg.mask.png and \
                  a.png.mask.png),\nand those of the same name their folders (left_a.jpg.mask.png).\n\
                  A picture's time runs from decoded pixels to class ids, without the wait for earlier pictures."
)]
pub struct Args {
    /// Pictures (JPEG, PNG, WebP, TIFF, BMP, GIF, PNM, .npy), and folders of them; `-` is the picture on standard input,
    /// whose mask goes to standard output
    #[arg(required = true, value_name = "IMAGE|FOLDER")]
    inputs: Vec<PathBuf>,
    /// The folder for the results, made if missing, or FILE.png for the mask (or overlay) of one picture [default:
    /// beside each picture]
    #[arg(short, long, value_name = "DIR|FILE.png")]
    output: Option<PathBuf>,
    /// Write only the mask, or only the overlay
    #[arg(long, value_enum, value_name = "WHAT")]
    only: Option<Only>,
    /// Leave out pictures whose results are there, whole and newer than the picture and the model file, and in the
    /// manifest if one is written
    #[arg(long)]
    resume: bool,
    /// Take only this share of the pictures: I of N, counted from 0. The shares are disjoint and together all pictures,
    /// on every machine that sees the folder
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Write a line of JSON for each picture to FILE: its results, size and classes, or its error. With --shard, the
    /// share is a part of the name (FILE.0-of-8.jsonl)
    #[arg(long, value_name = "FILE.jsonl")]
    manifest: Option<PathBuf>,
    /// The colours of the classes, in the order of the ids: a file, or voc, cityscapes, camvid [default: the model's]
    #[arg(long, value_name = "FILE|PRESET")]
    palette: Option<PathBuf>,
    /// Opacity of the overlay's colours, from 0 (only the picture) to 1 (only the colours)
    #[arg(long, default_value = "0.5", value_parser = opacity)]
    opacity: f32,
    #[command(flatten)]
    pictures: PictureOptions,
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

/// Reads an opacity, 0 to 1.
pub fn opacity(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(opacity) if (0.0..=1.0).contains(&opacity) => Ok(opacity),
        _ => Err("an opacity is a number from 0 to 1".into()),
    }
}

/// What is made of each picture.
struct Task<'a> {
    args: &'a Args,
    wanted: Wanted,
    parts: Parts,
    /// Mask or overlay goes to standard output, and nothing else does.
    to_stdout: bool,
    palette: Palette,
    /// Whether there are several pictures.
    many: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let place = Place::of(args.output.as_deref(), &args.inputs)?;
    let (mut jobs, left_out) = place.jobs(&args.inputs, args.pictures.recursive)?;
    let palette = args.palette.as_deref().map(text_files::palette);
    let palette = palette.transpose()?;
    let model = args.model.open()?;
    let task = task(args, place, &model, palette, jobs.len() > 1)?;
    if let Some(shard) = args.shard {
        jobs.retain(|job| shard.has(job));
    }
    let manifest = manifest_path(args)?;
    let (skipped, lines) = take_done(&task, &model, manifest.as_deref(), &mut jobs)?;
    report_multi_label(&model);
    let segmenter = args.device.segmenter(&model, &args.model)?;
    if let Some(folder) = place.folder() {
        make_folder(folder)?;
    }
    let manifest = manifest.map(|path| Manifest::create(&path, &lines));
    let mut manifest = manifest.transpose()?;
    if !task.is_quiet() {
        terminal::say(describe(&segmenter))?;
        if let Some(line) = left_out.line() {
            terminal::say(line)?;
        }
        if args.resume {
            terminal::say(format!("{} pictures are done already", skipped.len()))?;
        }
    }
    let first = jobs.first().map(|job| job.input.as_path());
    args.tune.tune_for(&segmenter, first, task.is_quiet())?;
    let mut output = Output {
        device: segmenter.device(),
        model: ModelSummary::from(&model),
        images: Vec::new(),
        done: 0,
        skipped,
        failed: Vec::new(),
        left_out,
    };
    let bar = terminal::progress(jobs.len());
    let outcome = segment_all(&task, &segmenter, &jobs, &bar, &mut output, &mut manifest);
    bar.finish_and_clear();
    outcome?;
    if args.json {
        terminal::json(&output)?;
    } else if jobs.len() > 1 {
        let (done, all) = (output.done, jobs.len());
        let place = match place.folder() {
            Some(folder) => format!("in {}", folder.display()),
            None => "beside the pictures".into(),
        };
        terminal::say(format!(
            "{done} of {all} pictures done; results are {place}"
        ))?;
    }
    Ok(conclude(&output, jobs.len()))
}

/// The path of the manifest.
///
/// # Errors
/// `Request` if it is that of a picture, or could be that of a result.
fn manifest_path(args: &Args) -> Result<Option<PathBuf>> {
    let Some(path) = args.manifest.as_deref() else {
        return Ok(None);
    };
    check_apart([path], &args.inputs)?;
    let extension = path.extension().unwrap_or_default();
    if ["png", "safetensors"]
        .iter()
        .any(|of_results| extension.eq_ignore_ascii_case(of_results))
    {
        let text = format!(
            "--manifest {}: a manifest is lines of JSON, and this the name of a result: name it FILE.jsonl",
            path.display()
        );
        return Err(Error::new(ErrorKind::Request, text));
    }
    Ok(Some(match args.shard {
        Some(shard) => shard.named(path),
        None => path.to_owned(),
    }))
}

/// With `--resume`, takes the pictures that are done out of `jobs` and returns them with their lines in `manifest`.
fn take_done(
    task: &Task,
    model: &Model,
    manifest: Option<&Path>,
    jobs: &mut Vec<Job>,
) -> Result<(Vec<String>, String)> {
    let mut skipped = Vec::new();
    // A file that is no manifest is refused, whether it would be continued or overwritten.
    let rows = manifest.map(Rows::read).transpose()?;
    if !task.args.resume {
        return Ok((skipped, String::new()));
    }
    let endings = task.wanted.endings(model.class_count());
    let model_file = task.args.model.model.as_deref();
    jobs.retain(|job| {
        let input = job.input.display().to_string();
        let is_done = is_done(job, task.parts, &endings, model_file)
            && rows.as_ref().is_none_or(|rows| rows.has(&input));
        skipped.extend(is_done.then_some(input));
        !is_done
    });
    let lines = rows.map_or(String::new(), |rows| rows.of(&skipped));
    Ok((skipped, lines))
}

/// The task that the options give for `model`.
fn task<'a>(
    args: &'a Args,
    place: Place,
    model: &Model,
    palette: Option<Vec<[u8; 3]>>,
    many: bool,
) -> Outcome<Task<'a>> {
    let wanted = args.insight.of(model)?;
    let to_stdout = place == Place::Stdout;
    if to_stdout && (args.json || args.resume || args.manifest.is_some() || wanted.anything()) {
        return Err(Failure::Usage(
            "standard output takes one PNG: --json, --resume, --manifest, --probabilities, --heatmap and --stages need -o",
        ));
    }
    if !model.has_labels() && (!wanted.anything() || to_stdout) {
        let text = format!(
            "{model} has {} classes, more than a mask has ids: --heatmap CLASS and --probabilities show them",
            model.class_count()
        );
        return Err(Error::new(ErrorKind::Unsupported, text).into());
    }
    let palette = text_files::palette_for(model, palette)?;
    let parts = place.parts(args.only);
    Ok(Task {
        args,
        wanted,
        parts: Parts {
            mask: parts.mask && model.has_labels(),
            overlay: parts.overlay && model.has_labels(),
        },
        to_stdout,
        palette,
        many,
    })
}

impl Task<'_> {
    /// Whether nothing is said on standard output.
    fn is_quiet(&self) -> bool {
        self.args.json || self.to_stdout
    }
}

/// The picture of a job.
fn read(job: &Job) -> Result<Picture> {
    if !job.is_stdin() {
        return Picture::open(&job.input);
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin()
        .take(MOST_BYTES + 1)
        .read_to_end(&mut bytes);
    let text = match read {
        Err(reason) => format!("cannot read standard input: {reason}"),
        Ok(length) if length as u64 > MOST_BYTES => {
            format!("cannot read standard input: it is larger than {MOST_BYTES} bytes")
        }
        Ok(_) => return Picture::decode(&bytes).map_err(|error| error.at("standard input")),
    };
    Err(Error::new(ErrorKind::Io, text))
}

/// Segments the pictures until Ctrl-C: some are read and others written while the device works. A picture's failure
/// is noted; a model's failure ends the run, as every picture would fail.
fn segment_all(
    task: &Task,
    segmenter: &Segmenter,
    jobs: &[Job],
    bar: &ProgressBar,
    output: &mut Output,
    manifest: &mut Option<Manifest>,
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
                if let Some(manifest) = manifest {
                    manifest.add(&done.image)?;
                }
                output.done += 1;
                output.images.extend(task.args.json.then_some(done.image));
            }
            Err(error) if error.kind() == ErrorKind::ModelFile => {
                return Err(task.args.model.blame(error));
            }
            Err(error) => {
                let failed = Failed {
                    input: job.input.display().to_string(),
                    error: error.to_string(),
                };
                if let Some(manifest) = manifest {
                    manifest.add(&failed)?;
                }
                output.failed.push(failed);
            }
        }
        bar.set_message(job.input.display().to_string());
        bar.inc(1);
        Ok(())
    };
    pipeline::run(
        jobs,
        |job| Ok(task.args.pictures.prepared(read(job)?)),
        |pictures, labelled| label(segmenter, task.wanted, pictures, labelled),
        |job, labelled| finish(task, job, labelled?),
        report,
    )?;
    report_transparent(transparent, jobs.len(), segmenter.model());
    Ok(())
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
fn finish(task: &Task, job: &Job, labelled: Labelled) -> Result<Done> {
    let at = |error: Error| match error.kind() {
        ErrorKind::ModelFile => error,
        _ => error.at(job.input.display()),
    };
    let Labelled { picture, time, .. } = labelled;
    let mask = labelled.mask.map_err(at)?;
    let mask = mask.map(|mask| mask.with_palette(task.palette.clone()));
    // All results are encoded before the first is written: an encoding error leaves no file.
    let mut results = Vec::new();
    let mut image = image(job, picture.size(), mask.as_ref(), time);
    if let Some(mask) = mask.as_ref().filter(|_| task.parts.mask) {
        results.push((job.mask.clone(), mask.to_png().map_err(at)?));
        image.mask = Some(job.mask.display().to_string());
    }
    if let Some(mask) = mask.as_ref().filter(|_| task.parts.overlay) {
        let overlay = mask.overlay(&picture, task.args.opacity).map_err(at)?;
        results.push((job.overlay.clone(), overlay.to_png().map_err(at)?));
        image.overlay = Some(job.overlay.display().to_string());
    }
    if let Some(insight) = labelled.insight {
        let files = |found| task.wanted.files(job, &picture, &found, &task.palette);
        for (path, bytes) in insight.and_then(files).map_err(at)? {
            image.further.push(path.display().to_string());
            results.push((path, bytes));
        }
    }
    for (path, bytes) in &results {
        match task.to_stdout {
            true => terminal::bytes_out(bytes)?,
            false => files::write_atomically(path, bytes)?,
        }
    }
    let text = (!task.is_quiet()).then(|| shown(&image, time, task.many));
    Ok(Done {
        image,
        text,
        notes: picture.notes().to_vec(),
        is_transparent: picture.is_transparent(),
    })
}

/// Makes the folder for the results and checks that files can be written there.
fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .and_then(|()| tempfile::tempfile_in(folder))
        .map_err(|reason| {
            let reason = files::without_path(&reason);
            let text = format!("cannot write to folder {}: {reason}", folder.display());
            Error::new(ErrorKind::Io, text)
        })?;
    Ok(())
}

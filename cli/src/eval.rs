//! `fullconv eval`: a model's accuracy on labelled pictures.

mod map;
mod pairs;
mod report;
mod survey;

use crate::inputs::read_picture;
use crate::options::{DeviceOptions, ModelOptions, TuneOptions, describe, report_multi_label};
use crate::pictures::{PictureOptions, report_transparent};
use crate::presets::Colour;
use crate::{Outcome, terminal, text_files};
use fullconv::{
    BoundaryIou, ConfusionMatrix, Error, ErrorKind, LabelImage, Model, Result, Segmenter, Size,
};
use map::{Label, LabelMap, Meaning};
use pairs::{Pair, Pairs, pairs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use survey::{Reading, Survey};

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Labels are PNG, TIFF, BMP or .npy files. An indexed file has its indices as ids, a grey one its values (1 to 16 bits), an
RGB one R = G = B as ids or the colours of the palette. Ids are class ids, 255 is void; a binary model takes masks of 0
and 255, too. Everything else is left out, with a warning.

A label map has lines `label = class`, or is a JSON object or list: a label is an id, a range (0-6) or a colour
(#804080), a class an id, a name or `void`. Presets: voc; cityscapes, 34 ids of which 19 are classes; camvid; ade20k, 0
is other and class = id - 1.

The labels of NAME.jpg are NAME.png, or of the one kind of name that is found for the pictures, such as NAME_L.png; of
NAME_leftImg8bit.png, those of NAME. With --recursive, the labels of FOLDER/NAME.jpg are in the FOLDER of the labels.

IoU is intersection over union, Dice 2·hits / (labelled + predicted); boundary IoU looks only at pixels within 2 % of
the picture's diagonal from the edge of a class.")]
pub struct Args {
    /// The folder of the pictures
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// The folder of their labels: NAME.png for picture NAME.jpg
    #[arg(long, value_name = "DIR")]
    labels: PathBuf,
    /// The name of the labels of picture {stem}.jpg, such as `{stem}_L.png`
    #[arg(long, value_name = "NAME")]
    pattern: Option<String>,
    /// The class of each label: a file, or voc, cityscapes, camvid, ade20k
    #[arg(long, value_name = "FILE|PRESET")]
    label_map: Option<PathBuf>,
    /// The colours of RGB and indexed labels, in the order of the ids: a file, or voc, cityscapes, camvid [default:
    /// the label map's, else the model's]
    #[arg(long, value_name = "FILE|PRESET")]
    palette: Option<PathBuf>,
    /// Leave out pixels with this label, an id or a colour; may be given more than once
    #[arg(long, value_name = "ID", value_parser = Label::parse, allow_hyphen_values = true)]
    ignore: Vec<Label>,
    #[command(flatten)]
    pictures: PictureOptions,
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

/// The counts over all pictures.
struct Counted {
    matrix: ConfusionMatrix,
    boundary: BoundaryIou,
    time: Duration,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let palette = args
        .palette
        .as_deref()
        .map(text_files::palette)
        .transpose()?;
    let Pairs {
        pairs,
        unmatched,
        left_out: files_left_out,
    } = pairs(
        &args.images,
        &args.labels,
        args.pattern.as_deref(),
        args.pictures.recursive,
    )?;
    let model = args.model.open()?;
    let classes = model.class_count();
    // Before anything is read, so that too many classes are an error at once.
    let counted = Counted {
        matrix: ConfusionMatrix::new(classes)?,
        boundary: BoundaryIou::new(classes)?,
        time: Duration::ZERO,
    };
    report_multi_label(&model);
    for file in &unmatched {
        terminal::report(format!("{file} has no counterpart; it is left out"));
    }
    let (reading, survey) = survey(args, &model, palette.as_deref(), &pairs)?;
    let segmenter = args.device.segmenter(&model, &args.model)?;
    if !args.json {
        terminal::say(describe(&segmenter))?;
        if let Some(line) = files_left_out.line() {
            terminal::say(line)?;
        }
    }
    let first = pairs.first().map(|pair| pair.picture.as_path());
    args.tune.tune_for(&segmenter, first, args.json)?;
    let counted = count(args, &segmenter, &pairs, &reading, counted)?;
    let left_out = survey.left_out(&reading.map);
    let files = report::Files {
        images: pairs.len(),
        unmatched,
        files_left_out,
    };
    let output = report::Output::new(&segmenter, &counted, files, &left_out);
    if args.json {
        terminal::json(&output)?;
    } else {
        terminal::say(output.shown(counted.time))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Finds what the labels mean, and warns of what does not count.
fn survey(
    args: &Args,
    model: &Model,
    palette: Option<&[Colour]>,
    pairs: &[Pair],
) -> Result<(Reading, Survey)> {
    let classes = model.class_count();
    let map = label_map(args, model, palette)?;
    let (mut reading, survey) = Reading::new(map, palette.is_some(), pairs)?;
    let is_mapped = args.label_map.is_some();
    let void = Label::Id(255);
    let mut warnings = Vec::new();
    if survey.is_0_and_255() && !is_mapped && !args.ignore.contains(&void) {
        match model.head().is_binary() {
            true => drop(reading.map.0.insert(void, Meaning::Class(1))),
            false => warnings.push(survey.two_values()),
        }
    }
    if is_preset(args, "cityscapes") {
        survey.check_cityscapes()?;
    }
    warnings.extend(survey.warnings(&reading.map, classes, is_mapped));
    let left_out = survey.left_out(&reading.map);
    if left_out.iter().map(|left| left.pixels).sum::<u64>() == survey.pixels() {
        let mut message = format!(
            "no pixel of the labels in {} is one of the {classes} classes of the model",
            args.labels.display(),
        );
        for warning in warnings {
            message += &format!("; {warning}");
        }
        return Err(Error::new(ErrorKind::Picture, message));
    }
    for warning in warnings {
        terminal::report(warning);
    }
    Ok((reading, survey))
}

fn is_preset(args: &Args, name: &str) -> bool {
    args.label_map.as_deref() == Some(Path::new(name))
}

/// The meaning of labels as the options give it.
fn label_map(args: &Args, model: &Model, palette: Option<&[Colour]>) -> Result<LabelMap> {
    let classes = model.class_count();
    let mut map = match &args.label_map {
        None => LabelMap::of(model, classes, palette)?,
        Some(given) => {
            let mut map = LabelMap::given(given, model, classes)?;
            map.add_palette(palette.unwrap_or_default())?;
            map
        }
    };
    for label in &args.ignore {
        map.0.insert(*label, Meaning::Void);
    }
    Ok(map)
}

/// Runs every picture. The first failure ends the run: figures over some of the pictures would mislead.
fn count(
    args: &Args,
    segmenter: &Segmenter,
    pairs: &[Pair],
    reading: &Reading,
    mut counted: Counted,
) -> Result<Counted> {
    let bar = terminal::progress(pairs.len());
    let mut transparent = 0;
    for Pair {
        picture: path,
        labels,
    } in pairs
    {
        bar.set_message(path.display().to_string());
        let picture = args.pictures.prepared(read_picture(path)?);
        transparent += usize::from(picture.is_transparent());
        let (size, truth) = reading.classes(&LabelImage::read(labels)?);
        if size != picture.size() {
            return Err(other_size((labels, size), (path, picture.size())));
        }
        let start = Instant::now();
        let at = |error| args.model.blame_or(path, error);
        let mask = segmenter.segment_blocking(&picture).map_err(at)?;
        counted.time += start.elapsed();
        counted.matrix.add(&truth, mask.labels()).map_err(at)?;
        let boundary = &mut counted.boundary;
        boundary.add(size, &truth, mask.labels()).map_err(at)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    report_transparent(transparent, pairs.len(), segmenter.model());
    Ok(counted)
}

/// The error for labels of another size than their picture's.
fn other_size((labels, size): (&Path, Size), (picture, of_picture): (&Path, Size)) -> Error {
    let turned = match size == Size::new(of_picture.width, of_picture.height) {
        true => {
            "; pictures are turned upright by their EXIF orientation, labels have to be upright"
        }
        false => "",
    };
    let message = format!(
        "{} has {size} pixels (height x width), its picture {} has {of_picture}{turned}",
        labels.display(),
        picture.display(),
    );
    Error::new(ErrorKind::Shape, message)
}

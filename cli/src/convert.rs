//! `fullconv convert`: a checkpoint into a model file.

use crate::{Outcome, interrupt, terminal, text_files};
use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use fullconv::convert::{Conversion, Converted, Origin};
use fullconv::models::{self, ArchitectureOverride};
use fullconv::{Activation, ErrorKind, Preprocessing, Result, TensorFile, Values};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The most names that are listed.
const LISTED: usize = 12;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A prefix that all names share (`module.`) is removed; tensors that the network does not use are \
                        left out.\nThe new file is opened as a model, to check it, before it replaces OUT."
)]
pub struct Args {
    /// The checkpoint: a state dict saved as safetensors
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The model file to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Replace the prefix OLD of tensor names by NEW; may be given several times
    #[arg(long, value_name = "OLD=NEW", value_parser = rename)]
    rename: Vec<(String, String)>,
    /// The architecture, if the tensor names do not determine it
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(models::architectures()))]
    arch: Option<String>,
    /// The geometry of an FCN on VGG16: padding, pooling and cropping
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(models::geometries()))]
    geometry: Option<String>,
    /// Turn a VGG16 classifier into an FCN to train: zero score layers, bilinear upsampling
    #[arg(long, value_name = "NAME", requires = "class_count", conflicts_with = "arch",
        value_parser = PossibleValuesParser::new(["fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce"]))]
    start: Option<String>,
    /// The number of classes of the FCN of --start
    #[arg(long, value_name = "N", requires = "start")]
    class_count: Option<usize>,
    /// Store weights in f16
    #[arg(long)]
    half: bool,
    /// The network's preprocessing
    #[arg(long, value_enum, value_name = "NAME")]
    preprocess: Option<Wanted>,
    /// What makes probabilities of the scores, if the network does not end in it
    #[arg(long, value_enum, value_name = "NAME")]
    activation: Option<ActivationChoice>,
    /// What the network's output holds, if its graph does not tell
    #[arg(long, value_enum, value_name = "NAME")]
    values: Option<ValuesChoice>,
    /// The probability from which a pixel is class 1 of a binary network
    #[arg(long, value_name = "P")]
    threshold: Option<f32>,
    /// A text file with one class name a line, in the order of the ids
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Named preprocessing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// BGR, 0 to 255, minus ImageNet's mean
    Caffe,
    /// RGB, 0 to 1, normalised by ImageNet's mean and deviation
    Torchvision,
}

/// The activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ActivationChoice {
    /// The classes exclude each other
    Softmax,
    /// Every channel for itself; a network of one channel is binary
    Sigmoid,
}

/// What an output may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ValuesChoice {
    /// Class scores
    Scores,
    /// Probabilities
    Probabilities,
    /// The natural logarithms of probabilities
    #[value(name = "log_probabilities")]
    LogProbabilities,
}

fn rename(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() => Ok((old.into(), new.into())),
        _ => Err("a renaming is OLD=NEW, such as net.trunk.=features.".into()),
    }
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Output<'a> {
    output: String,
    model: &'a str,
    written: Vec<Written<'a>>,
    left_out: &'a [String],
}

#[derive(Serialize)]
struct Written<'a> {
    name: &'a str,
    from: &'a str,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let conversion = Conversion {
        renames: args.rename.clone(),
        overrides: ArchitectureOverride {
            architecture: args.arch.clone(),
            geometry: args.geometry.clone(),
        },
        start: args.start.clone().zip(args.class_count),
        half: args.half,
        preprocess: args.preprocess.map(|wanted| match wanted {
            Wanted::Caffe => Preprocessing::CAFFE,
            Wanted::Torchvision => Preprocessing::TORCHVISION,
        }),
        activation: args.activation.map(|choice| match choice {
            ActivationChoice::Softmax => Activation::Softmax,
            ActivationChoice::Sigmoid => Activation::Sigmoid,
        }),
        values: args.values.map(|choice| match choice {
            ValuesChoice::Scores => Values::Scores,
            ValuesChoice::Probabilities => Values::Probabilities,
            ValuesChoice::LogProbabilities => Values::LogProbabilities,
        }),
        threshold: args.threshold,
        classes: args.classes.as_deref().map_or(Ok(Vec::new()), classes)?,
    };
    let file = TensorFile::open(&args.input)?;
    interrupt::stop_unless_writing()?;
    let guard = interrupt::writing();
    let converted = conversion
        .run(&file, &args.output)
        .map_err(|error| match error.kind() {
            ErrorKind::Io => error,
            _ => error.at(args.input.display()),
        })?;
    drop(guard);
    match args.json {
        true => terminal::json(&output(args, &converted))?,
        false => say(args, &converted)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The lines of a file of class names.
fn classes(path: &Path) -> Result<Vec<String>> {
    let text = text_files::text(path)?;
    let names = text.lines().map(str::trim).filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

fn from(origin: &Origin) -> &str {
    match origin {
        Origin::Tensor(name) => name,
        Origin::Zeros => "zeros",
        Origin::Bilinear => "bilinear",
    }
}

fn output<'a>(args: &Args, converted: &'a Converted) -> Output<'a> {
    let written = converted.written.iter().map(|(name, origin)| Written {
        name,
        from: from(origin),
    });
    Output {
        output: args.output.display().to_string(),
        model: &converted.model,
        written: written.collect(),
        left_out: &converted.left_out,
    }
}

fn say(args: &Args, converted: &Converted) -> Result<()> {
    let Converted {
        written,
        left_out,
        model,
        ..
    } = converted;
    let count = |origin: &Origin| written.iter().filter(|(_, o)| o == origin).count();
    let renamed = written
        .iter()
        .filter(|(name, o)| !matches!(o, Origin::Tensor(old) if old == name));
    let made = [
        (count(&Origin::Zeros), "zero"),
        (count(&Origin::Bilinear), "bilinear"),
    ];
    let mut line = format!("{model}: {} tensors", written.len());
    for (count, what) in made.into_iter().filter(|(count, _)| *count > 0) {
        line += &format!(", {count} {what}");
    }
    terminal::say(line)?;
    let renamed: Vec<_> = renamed
        .map(|(name, o)| format!("{} → {name}", from(o)))
        .collect();
    list("new names", &renamed)?;
    list("left out", left_out)?;
    terminal::say(args.output.display())
}

fn list(what: &str, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let more = match names.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let first = names[..names.len().min(LISTED)].join(", ");
    terminal::say(format!("{what:<10} {first}{more}"))
}

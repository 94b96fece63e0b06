//! `fullconv run`: tensor in, scores out, for comparison with other frameworks.

use crate::inputs::read_tensor;
use crate::options::{DeviceOptions, ModelOptions, ModelSummary, TuneOptions, describe};
use crate::tensors::{Stored, encode};
use crate::{Outcome, interrupt, terminal};
use fullconv::low_level::files;
use fullconv::{Error, ErrorKind, Model, Result, Shape, Size, Tensor};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// The names that every output file uses.
const OUTPUT: &str = "output";
const LABELS: &str = "labels";

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The output file holds `output` f32 [n, channels, h, w], the network's output (scores; probabilities if \
                        it ends in a softmax or sigmoid), `labels` u8 [n, h, w], and each node of --fetch under its \
                        own name."
)]
pub struct Args {
    /// The safetensors file with the preprocessed tensor `input` [n, c, h, w], c the network's input channels
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// The safetensors file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Nodes to write too; `fullconv compare` lists them
    #[arg(long, value_name = "NODE,...", value_delimiter = ',')]
    fetch: Vec<String>,
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

/// What is printed with `--json`.
#[derive(Serialize)]
struct Output<'a> {
    device: String,
    model: ModelSummary,
    input: [usize; 4],
    output: String,
    milliseconds: f64,
    tensors: Vec<Stored<'a>>,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let model = args.model.open()?;
    let fetch = fetched(&args.fetch, &model)?;
    check_output(args)?;
    let input = read_tensor(&args.input, &model)?;
    let segmenter = args.device.segmenter(&model, &args.model)?;
    let Shape { n, h, w, .. } = input.shape();
    args.tune.tune(&segmenter, n, Size::new(h, w), args.json)?;
    interrupt::stop_unless_writing()?;
    let start = Instant::now();
    let run = pollster::block_on(segmenter.run(&input, &fetch))
        .map_err(|error| args.model.blame_or(&args.input, error))?;
    let time = start.elapsed();

    let mut tensors = vec![scores(OUTPUT, &run.output)];
    tensors.extend(run.labels.as_ref().map(labels));
    tensors.extend(run.fetched.iter().map(|(name, value)| scores(name, value)));
    write(&args.output, &tensors)?;

    if args.json {
        terminal::json(&Output {
            device: segmenter.device(),
            model: ModelSummary::from(&model),
            input: dimensions(input.shape()),
            output: args.output.display().to_string(),
            milliseconds: terminal::milliseconds(time),
            tensors,
        })?;
    } else {
        terminal::say(describe(&segmenter))?;
        let (shape, time) = (input.shape(), terminal::time(time));
        terminal::say(format!("input {shape}, {time}"))?;
        for tensor in &tensors {
            let Stored {
                name, dtype, shape, ..
            } = tensor;
            terminal::say(format!("{name} {dtype} {shape:?}"))?;
        }
        terminal::say(args.output.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The nodes to fetch, without duplicates, checked before the network runs.
fn fetched<'a>(asked: &'a [String], model: &Model) -> Result<Vec<&'a str>> {
    let mut names: Vec<&str> = Vec::with_capacity(asked.len());
    for name in asked.iter().map(String::as_str) {
        if [OUTPUT, LABELS].contains(&name) {
            let but = match model.graph().find_op(name) {
                Ok(node) if node != model.graph().output() => {
                    "; the network's own node of this name cannot be written beside them"
                }
                _ => "",
            };
            let text =
                format!("--fetch {name}: the output file always holds {OUTPUT} and {LABELS}{but}");
            return Err(Error::new(ErrorKind::Request, text));
        }
        model.graph().find_op(name).map_err(|e| e.at("--fetch"))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Checks before the network runs that the output can be written and replaces no input.
fn check_output(args: &Args) -> Result<()> {
    let output = &args.output;
    let same = |file: &Path| {
        let real = std::fs::canonicalize;
        matches!((real(file), real(output)), (Ok(a), Ok(b)) if a == b)
    };
    let model = args.model.model.as_deref();
    let folder = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let fault = if output.is_dir() {
        "it is a folder, not a file".to_owned()
    } else if !folder.is_dir() {
        format!("there is no folder {}", folder.display())
    } else if same(&args.input) || model.is_some_and(same) {
        "it is one of the files to read".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(
        ErrorKind::Io,
        format!("cannot write {}: {fault}", output.display()),
    ))
}

fn scores<'a>(name: &'a str, value: &'a Tensor) -> Stored<'a> {
    Stored::floats(name, value.data(), dimensions(value.shape()).to_vec())
}

fn labels(value: &Tensor) -> Stored<'static> {
    let Shape { n, h, w, .. } = value.shape();
    let labels = value.data().iter().map(|label| *label as u8);
    Stored::bytes(LABELS, labels.collect(), vec![n, h, w])
}

fn dimensions(shape: Shape) -> [usize; 4] {
    [shape.n, shape.c, shape.h, shape.w]
}

fn write(path: &Path, tensors: &[Stored]) -> Result<()> {
    let bytes = encode(tensors).map_err(|error| error.at(path.display()))?;
    let _guard = interrupt::writing();
    files::write_atomically(path, &bytes)
}

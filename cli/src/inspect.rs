//! `fullconv inspect`: a model file's contents and its plan.

use crate::options::{DeviceOptions, ModelOptions};
use crate::{Failure, Outcome, terminal};
use fullconv::gpu::check_kernel_names;
use fullconv::low_level::plan::{Choices, Plan};
use fullconv::low_level::target::Target;
use fullconv::{
    Activation, Channels, ErrorKind, Head, Model, Precision, Preprocessing, Shape, Size, Values,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// The default picture's size: a street scene at CamVid's scale.
const NOMINAL_SIZE: Size = Size::new(360, 480);

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model file; the same as --model
    #[arg(value_name = "FILE", conflicts_with = "model")]
    file: Option<PathBuf>,
    /// Height and width of the network's input [default: its input size for a picture of 360x480]
    #[arg(long, value_name = "HxW")]
    size: Option<Size>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    device: DeviceOptions,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Output<'a> {
    architecture: &'a str,
    geometry: Option<&'a str>,
    input_channels: usize,
    /// Height and width, if the network takes no other.
    input_size: Option<[usize; 2]>,
    preprocessing: &'a Preprocessing,
    /// The file does not say how pictures are preprocessed.
    preprocessing_is_assumed: bool,
    head: HeadOutput,
    class_count: usize,
    classes: &'a [String],
    palette: &'a [[u8; 3]],
    description: &'a str,
    license: &'a str,
    tensors: Vec<Tensor<'a>>,
    unused_tensors: Vec<&'a str>,
    bilinear: Vec<&'a str>,
    plan: PlanOutput<'a>,
}

/// What the channels of the network's output mean.
#[derive(Serialize)]
struct HeadOutput {
    channels: usize,
    activation: Activation,
    /// `scores`, `probabilities` or `log_probabilities`.
    values: &'static str,
    /// Absent unless the network is binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f32>,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    dtype: String,
    shape: &'a [usize],
}

#[derive(Serialize)]
struct PlanOutput<'a> {
    device: &'a str,
    input: [usize; 4],
    output: [usize; 4],
    flops: u64,
    dispatches: usize,
    activation_bytes: u64,
    parameter_bytes: u64,
    peak_device_bytes: u64,
    layers: Vec<LayerOutput<'a>>,
    bands: Vec<BandsOutput<'a>>,
}

/// Consecutive layers that run band by band.
#[derive(Serialize)]
struct BandsOutput<'a> {
    first_layer: &'a str,
    last_layer: &'a str,
    bands: usize,
    recomputed_flops: u64,
}

#[derive(Serialize)]
struct LayerOutput<'a> {
    name: &'a str,
    kernel: &'static str,
    shape: [usize; 4],
    dispatches: usize,
    flops: u64,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    if args.device.is_cpu()? {
        return Err(Failure::Usage(
            "--backend cpu has no plan to show: the CPU reference runs the graph node by node",
        ));
    }
    let file = args.file.as_deref().or(args.model.model.as_deref());
    let model = args.model.open_file(file)?;
    let size = match args.size {
        Some(size) => size,
        None => model.network_size(NOMINAL_SIZE)?,
    };
    let (device, target, choices) = target(&args.device)?;
    let outputs = [model.graph().output()];
    let input = Shape::new(1, model.input_channels(), size.height, size.width);
    let plan = Plan::with_choices(model.graph(), input, &outputs, &target, &choices)?;
    if args.json {
        terminal::json(&output(&model, &plan, &device))?;
    } else {
        terminal::say(about(&model))?;
        terminal::say(format!(
            "\nplan for an input of {size} (height x width) on {device}"
        ))?;
        terminal::say(&plan)?;
        let peak = terminal::bytes(plan.peak_device_bytes());
        terminal::say(format!(
            "peak device memory {peak}, with the scores that are read back"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The device to plan for: its name, the target, and the kernels tuned on it. Without an adapter, WebGPU's default
/// limits.
fn target(options: &DeviceOptions) -> Outcome<(String, Target, Arc<Choices>)> {
    let defaults = |why: &str| {
        let without_kernels = options.without_kernels();
        check_kernel_names(&without_kernels)?;
        let device = format!("WebGPU's default limits{why}");
        let memory = options.memory_bytes().unwrap_or(u64::MAX);
        let mut target = Target::WEBGPU_DEFAULTS.within(memory);
        target.options.without_kernels = without_kernels;
        Ok((device, target, Arc::default()))
    };
    if options.default_limits() && !options.names_a_device() {
        return defaults("");
    }
    match options.gpu() {
        Ok(gpu) if options.precision() == Precision::F16 => {
            pollster::block_on(gpu.check_matrices())?;
            Ok((format!("{gpu} in f16"), gpu.half_target()?, gpu.choices()))
        }
        Ok(gpu) => Ok((gpu.to_string(), gpu.target().clone(), gpu.choices())),
        Err(e) if e.kind() == ErrorKind::NoAdapter && !options.names_a_device() => {
            defaults(", as no adapter was found")
        }
        Err(e) => Err(Failure::Failed(e)),
    }
}

/// The model in words.
fn about(model: &Model) -> String {
    let mut lines = vec![format!("{model}, {} classes", model.class_count())];
    let mut say = |head: &str, text: String| {
        if !text.is_empty() {
            lines.push(format!("{head:<14} {text}"));
        }
    };
    say("description", model.description().to_owned());
    say("license", model.license().to_owned());
    say("output", model.head().to_string());
    say("classes", model.classes().join(", "));
    say("input", input(model));
    say("preprocessing", preprocessing(model));
    say("tensors", tensors(model));
    say("not used", model.unused_tensors().join(", "));
    say("bilinear", bilinear(model).join(", "));
    lines.join("\n")
}

/// The bilinear upsampling weights that the file leaves out.
fn bilinear(model: &Model) -> Vec<&str> {
    let made = model.parameters().bilinear();
    made.filter(|name| model.graph().find(name).is_some())
        .collect()
}

fn input(model: &Model) -> String {
    let channels = model.input_channels();
    match model.input_size() {
        Some(size) => format!("{channels} channels, {size} (height x width) only"),
        None => format!("{channels} channels"),
    }
}

fn preprocessing(model: &Model) -> String {
    let p = model.preprocessing();
    let channels = match (p.channels, model.input_channels()) {
        (Channels::Rgb, _) => "RGB".into(),
        (Channels::Bgr, _) => "BGR".into(),
        (Channels::Grey, 1) => "grey".into(),
        (Channels::Grey, _) => "grey and alpha".into(),
        (Channels::Rgba, _) => "RGBA".into(),
        (Channels::Bands, count) => format!("{count} bands"),
    };
    let scale = match (model.input_size(), p.size, p.long_side, p.short_side) {
        (Some(size), ..) => format!("resized to {size}"),
        (_, Some([height, width]), ..) => format!("resized to {}", Size::new(height, width)),
        (_, _, Some(side), _) => format!("long side {side}"),
        (_, _, _, Some(side)) => format!("short side {side}"),
        _ => "original size".into(),
    };
    let range = p.range;
    let numbers = |numbers: &[f32]| match numbers {
        // One number for many equal ones.
        [first, rest @ ..] if numbers.len() > 4 && rest.iter().all(|n| n == first) => {
            format!("{first}")
        }
        numbers => format!("{numbers:?}"),
    };
    let (mean, std) = (numbers(&p.mean), numbers(&p.std));
    let assumed = match model.assumes_preprocessing() {
        true => " (assumed: the file does not say)",
        false => "",
    };
    format!("{channels}, 0 to {range}, mean {mean}, std {std}, {scale}{assumed}")
}

/// The number of tensors of each type, and the file's size.
fn tensors(model: &Model) -> String {
    let file = model.parameters().file();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (name, _) in file.tensors() {
        *counts
            .entry(file.dtype(name).unwrap_or_default())
            .or_default() += 1;
    }
    let counts: Vec<_> = counts
        .iter()
        .map(|(dtype, n)| format!("{n} {dtype}"))
        .collect();
    format!(
        "{}; file of {}",
        counts.join(", "),
        terminal::bytes(file.len() as u64)
    )
}

fn output<'a>(model: &'a Model, plan: &'a Plan, device: &'a str) -> Output<'a> {
    let file = model.parameters().file();
    let tensor = |(name, shape)| Tensor {
        name,
        dtype: file.dtype(name).unwrap_or_default(),
        shape,
    };
    Output {
        architecture: model.architecture(),
        geometry: model.geometry(),
        input_channels: model.input_channels(),
        input_size: model.input_size().map(|size| [size.height, size.width]),
        preprocessing: model.preprocessing(),
        preprocessing_is_assumed: model.assumes_preprocessing(),
        head: head(model.head()),
        class_count: model.class_count(),
        classes: model.classes(),
        palette: model.palette().colours(),
        description: model.description(),
        license: model.license(),
        tensors: file.tensors().map(tensor).collect(),
        unused_tensors: model.unused_tensors(),
        bilinear: bilinear(model),
        plan: plan_output(plan, device),
    }
}

fn head(head: &Head) -> HeadOutput {
    HeadOutput {
        channels: head.channels,
        activation: head.activation,
        values: match head.values {
            Values::Probabilities => "probabilities",
            Values::LogProbabilities => "log_probabilities",
            _ => "scores",
        },
        threshold: head.threshold,
    }
}

fn plan_output<'a>(plan: &'a Plan, device: &'a str) -> PlanOutput<'a> {
    let dimensions = |s: Shape| [s.n, s.c, s.h, s.w];
    let layer = |(i, layer): (usize, &'a fullconv::low_level::plan::Layer)| LayerOutput {
        name: &layer.name,
        kernel: layer.kernel,
        shape: dimensions(layer.shape),
        dispatches: plan.steps.iter().filter(|step| step.layer == i).count(),
        flops: layer.flops,
    };
    let bands = |group: &'a fullconv::low_level::plan::BandGroup| BandsOutput {
        first_layer: &plan.layers[group.layers.start].name,
        last_layer: &plan.layers[group.layers.end - 1].name,
        bands: group.bands,
        recomputed_flops: group.recomputed_flops,
    };
    let output = plan.outputs.first().map_or(&plan.input, |(_, place)| place);
    PlanOutput {
        device,
        input: dimensions(plan.input.shape),
        output: dimensions(output.shape),
        flops: plan.flops(),
        dispatches: plan.steps.len(),
        activation_bytes: plan.activation_bytes(),
        parameter_bytes: plan.parameter_bytes(),
        peak_device_bytes: plan.peak_device_bytes(),
        layers: plan.layers.iter().enumerate().map(layer).collect(),
        bands: plan.groups.iter().map(bands).collect(),
    }
}

//! `fullconv profile`: the time of each layer.

use crate::options::{DeviceOptions, ModelOptions, ModelSummary, TuneOptions, describe};
use crate::{Failure, Outcome, terminal};
use fullconv::gpu::{Measured, Outcome as Found, Timer, TunedLayer};
use fullconv::{Profile, Size};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Instant;

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A run is everything from pixels to labels: upload, preprocessing, network, argmax, readback.\nA \
                  layer's bytes count each input, weight and output once: the least it has to move."
)]
pub struct Args {
    /// Height and width of the pictures
    #[arg(long, value_name = "HxW", default_value = "500x500")]
    size: Size,
    /// Pictures in one run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Runs after the first
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
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
    /// Height and width.
    size: [usize; 2],
    batch: u16,
    load_ms: f64,
    first_ms: f64,
    median_ms: f64,
    run_ms: &'a [f64],
    flops: u64,
    peak_device_bytes: u64,
    /// `timestamps` (of the device) or `host` (its clock).
    timer: &'static str,
    steps: Vec<Step<'a>>,
    /// The results of `--tune`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tuned: Option<Vec<Tuned<'a>>>,
}

/// A layer and its candidate kernels.
#[derive(Serialize)]
struct Tuned<'a> {
    name: &'a str,
    kernel: Option<&'a str>,
    candidates: Vec<Candidate<'a>>,
}

#[derive(Serialize)]
struct Candidate<'a> {
    kernel: &'a str,
    /// `null` if the candidate was not timed.
    ms: Option<f64>,
    /// Why the candidate was dropped, if it was.
    trouble: Option<&'a str>,
}

impl<'a> From<&'a TunedLayer> for Tuned<'a> {
    fn from(layer: &'a TunedLayer) -> Self {
        let candidate = |found: &'a Measured| Candidate {
            kernel: &found.kernel,
            ms: found.outcome.milliseconds(),
            trouble: match &found.outcome {
                Found::Dropped(why) => Some(why),
                _ => None,
            },
        };
        let chosen = layer.chosen.and_then(|i| layer.candidates.get(i));
        Self {
            name: &layer.name,
            kernel: chosen.map(|chosen| chosen.kernel.as_str()),
            candidates: layer.candidates.iter().map(candidate).collect(),
        }
    }
}

#[derive(Serialize)]
struct Step<'a> {
    name: &'a str,
    kernel: &'static str,
    shape: [usize; 4],
    ms: f64,
    flops: u64,
    bytes: u64,
    /// Share of the time of all steps, 0 to 1.
    share: f64,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    if args.device.is_cpu()? {
        return Err(Failure::Usage(
            "--backend cpu has no kernels to time: profile is for devices",
        ));
    }
    let begin = Instant::now();
    let model = args.model.open()?;
    let gpu = args.device.gpu()?;
    let segmenter = args.device.on(&gpu, &model, &args.model)?;
    let load_ms = terminal::milliseconds(begin.elapsed());
    let network_size = model.network_size(args.size)?;
    let (batch, runs) = (usize::from(args.batch), usize::from(args.runs));
    let tuned = args.tune.tune(&segmenter, batch, network_size, args.json)?;
    let profile = pollster::block_on(segmenter.profile(args.size, batch, runs))?;
    let output = Output {
        device: segmenter.device(),
        model: ModelSummary::from(&model),
        size: [args.size.height, args.size.width],
        batch: args.batch,
        load_ms,
        first_ms: profile.first_ms,
        median_ms: profile.median_ms(),
        run_ms: &profile.run_ms,
        flops: profile.plan.flops(),
        peak_device_bytes: profile.plan.peak_device_bytes(),
        timer: match profile.layers.timer {
            Timer::Timestamps => "timestamps",
            Timer::Host => "host",
        },
        steps: steps(&profile),
        tuned: args
            .tune
            .is_wanted()
            .then(|| tuned.iter().map(Tuned::from).collect()),
    };
    if args.json {
        terminal::json(&output)?;
    } else {
        terminal::say(describe(&segmenter))?;
        if let Some(tuned) = output.tuned.as_ref().filter(|tuned| !tuned.is_empty()) {
            terminal::say(tuned_table(tuned))?;
        }
        terminal::say(table(&output))?;
        terminal::say(totals(&output))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn steps(profile: &Profile) -> Vec<Step<'_>> {
    let all: f64 = profile.layers.milliseconds.iter().sum();
    let layers = profile.plan.layers.iter().zip(&profile.layers.milliseconds);
    layers
        .map(|(layer, ms)| Step {
            name: &layer.name,
            kernel: layer.kernel,
            shape: [layer.shape.n, layer.shape.c, layer.shape.h, layer.shape.w],
            ms: *ms,
            flops: layer.flops,
            bytes: layer.bytes,
            share: if all > 0.0 { ms / all } else { 0.0 },
        })
        .collect()
}

/// `amount` per nanosecond, that is, 10⁹ units per second.
fn giga_per_second(amount: u64, ms: f64) -> String {
    if ms > 0.0 {
        format!("{:.1}", amount as f64 / (ms * 1e6))
    } else {
        "-".into()
    }
}

fn table(output: &Output<'_>) -> String {
    let rows: Vec<_> = output
        .steps
        .iter()
        .map(|step| {
            let [n, c, h, w] = step.shape;
            vec![
                step.name.to_owned(),
                step.kernel.to_owned(),
                format!("[{n}, {c}, {h}, {w}]"),
                format!("{:.3}", step.ms),
                giga_per_second(step.flops, step.ms),
                giga_per_second(step.bytes, step.ms),
                format!("{:.1} %", 100.0 * step.share),
            ]
        })
        .collect();
    let heads = [
        "layer", "kernel", "output", "ms", "GFLOP/s", "GB/s", "share",
    ];
    terminal::table(&heads, &rows)
}

/// A line a layer: the chosen kernel, its time and the default kernel's.
fn tuned_table(tuned: &[Tuned<'_>]) -> String {
    let shown = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.3}"));
    let row = |layer: &Tuned<'_>| {
        let usual = layer.candidates.first();
        let chosen = layer
            .candidates
            .iter()
            .find(|c| Some(c.kernel) == layer.kernel);
        let right = layer
            .candidates
            .iter()
            .filter(|c| c.trouble.is_none())
            .count();
        vec![
            layer.name.to_owned(),
            layer.kernel.unwrap_or("-").to_owned(),
            shown(chosen.and_then(|c| c.ms)),
            shown(usual.and_then(|c| c.ms)),
            format!("{right} of {}", layer.candidates.len()),
        ]
    };
    let rows: Vec<_> = tuned.iter().map(row).collect();
    terminal::table(&["layer", "chosen", "ms", "usual ms", "right"], &rows)
}

fn totals(output: &Output<'_>) -> String {
    let steps: f64 = output.steps.iter().map(|step| step.ms).sum();
    let clock = match output.timer {
        "timestamps" => "by the device's timestamps",
        _ => "by the host's clock, each layer submitted by itself",
    };
    let [height, width] = output.size;
    let size = Size::new(height, width);
    format!(
        "all layers {steps:.1} ms, {clock}; {:.2} GFLOP, {} GFLOP/s\n\
         a run of {} picture(s) of {size} (height x width): median {:.1} ms of {}, {} GFLOP/s; first {:.1} ms; load {:.1} ms\n\
         peak device memory {}",
        output.flops as f64 / 1e9,
        giga_per_second(output.flops, steps),
        output.batch,
        output.median_ms,
        output.run_ms.len(),
        giga_per_second(output.flops, output.median_ms),
        output.first_ms,
        output.load_ms,
        terminal::bytes(output.peak_device_bytes),
    )
}

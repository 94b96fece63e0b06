//! `fullconv compare`: every node on the device against the CPU reference.

use crate::inputs::{read_picture, read_tensor};
use crate::options::{DeviceOptions, ModelOptions, ModelSummary, TuneOptions, describe};
use crate::{Failure, Outcome, terminal};
use fullconv::compare::{LabelReport, NodeReport, Report, compare_picture, compare_tensor};
use fullconv::{
    Channels, Error, ErrorKind, Model, Picture, Result, Samples, Segmenter, Shape, Size,
};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The default picture.
const PHOTOGRAPH: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/street.jpg"));

/// The arguments.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A node's error bound follows from the reduction lengths up to it. A label may differ only where \
                  the\ntwo best scores lie within rounding error. `segment` fuses some nodes into others; here \
                  each is\ncomputed by itself.\n\nComparisons, floor, sign, threshold, hardshrink, where and \
                  the indices of a pooling jump. An element\nmay be on another side of a jump than the CPU's only \
                  where the device's own input is, within its\nbound. Such elements are counted; what follows is \
                  compared for the device's side."
)]
pub struct Args {
    /// A picture, or a safetensors file with a preprocessed tensor `input` [n, c, h, w] [default: a photograph of a
    /// street, or as many bands as the network takes, made of it]
    #[arg(long, value_name = "IMAGE|FILE")]
    input: Option<PathBuf>,
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

/// What is printed with `--json`; an infinite error is `null`.
#[derive(Serialize)]
struct Output<'a> {
    device: String,
    model: ModelSummary,
    within_bounds: bool,
    first_outside: Option<&'a str>,
    nodes: Vec<Node<'a>>,
    labels: Option<Labels>,
}

#[derive(Serialize)]
struct Node<'a> {
    name: &'a str,
    op: &'static str,
    shape: [usize; 4],
    max_abs_error: f64,
    relative_error: f64,
    bound: f64,
    worst: [usize; 4],
    within_bound: bool,
    fused_into: Option<&'a str>,
    jumped: usize,
    jumped_at: &'a [[usize; 4]],
    wrong: usize,
}

#[derive(Serialize)]
struct Labels {
    pixels: usize,
    equal: usize,
    share_equal: f64,
    within_margin: usize,
    outside_margin: usize,
    margin: f64,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    if args.device.is_cpu()? {
        return Err(Failure::Usage(
            "--backend cpu is the reference itself: compare needs a device to check against it",
        ));
    }
    let model = args.model.open()?;
    let given = Given::read(args.input.as_deref(), &model)?;
    let gpu = args.device.gpu()?;
    let segmenter = args.device.on(&gpu, &model, &args.model)?;
    match &given {
        Given::Picture(picture) => args.tune.tune_for_picture(&segmenter, picture, args.json)?,
        Given::Tensor(tensor) => {
            let Shape { n, h, w, .. } = tensor.shape();
            args.tune.tune(&segmenter, n, Size::new(h, w), args.json)?;
        }
    }
    let report = pollster::block_on(async {
        match &given {
            Given::Picture(picture) => compare_picture(&segmenter, picture).await,
            Given::Tensor(tensor) => compare_tensor(&segmenter, tensor).await,
        }
    });
    let report = report.map_err(|error| args.model.blame(error))?;
    if args.json {
        terminal::json(&output(&segmenter, &report))?;
    } else {
        terminal::say(describe(&segmenter))?;
        terminal::say(table(&report))?;
        if let Some(jumps) = jumps(&report) {
            terminal::say(jumps)?;
        }
        if let Some(labels) = &report.labels {
            terminal::say(sentence(labels))?;
        }
    }
    if report.is_within_bounds() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(verdict(&report).into())
    }
}

/// The default picture for `model`. Bands are the photograph's channels in turn, each moved to the left by some columns
/// more than the one before.
fn photograph(model: &Model) -> Result<Picture> {
    let photograph = Picture::decode(PHOTOGRAPH)?;
    let bands = model.input_channels();
    if model.preprocessing().channels != Channels::Bands {
        return Ok(photograph);
    }
    let (size, rgb) = (photograph.size(), photograph.rgb());
    let sample = |i: usize, band: usize| {
        let (y, x) = (i / size.width, (i + 5 * band) % size.width);
        rgb[3 * (y * size.width + x) + band % 3]
    };
    let pixels = 0..size.height * size.width;
    let samples = pixels.flat_map(|i| (0..bands).map(move |band| sample(i, band)));
    Picture::from_bands(size, bands, Samples::U8(samples.collect()))
}

/// The network's input.
enum Given {
    Picture(Picture),
    Tensor(fullconv::Tensor),
}

impl Given {
    fn read(path: Option<&Path>, model: &Model) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::Picture(photograph(model)?));
        };
        if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("safetensors"))
        {
            Ok(Self::Tensor(read_tensor(path, model)?))
        } else {
            Ok(Self::Picture(read_picture(path)?))
        }
    }
}

fn output<'a>(segmenter: &Segmenter, report: &'a Report) -> Output<'a> {
    let labels = |labels: &LabelReport| Labels {
        pixels: labels.pixels,
        equal: labels.equal,
        share_equal: share_equal(labels),
        within_margin: labels.within_margin,
        outside_margin: labels.outside_margin(),
        margin: labels.margin,
    };
    Output {
        device: segmenter.device(),
        model: ModelSummary::from(segmenter.model()),
        within_bounds: report.is_within_bounds(),
        first_outside: report.first_outside().map(|node| node.name.as_str()),
        nodes: report.nodes.iter().map(node).collect(),
        labels: report.labels.as_ref().map(labels),
    }
}

fn node(report: &NodeReport) -> Node<'_> {
    let shape = report.shape;
    Node {
        name: &report.name,
        op: report.op,
        shape: [shape.n, shape.c, shape.h, shape.w],
        max_abs_error: report.max_abs_error,
        relative_error: report.relative_error,
        bound: report.bound,
        worst: report.worst,
        within_bound: report.is_within_bound(),
        fused_into: report.fused_into.as_deref(),
        jumped: report.jumped,
        jumped_at: &report.jumped_at,
        wrong: report.wrong,
    }
}

fn table(report: &Report) -> String {
    let heads = [
        "node",
        "op",
        "shape",
        "max abs error",
        "relative error",
        "bound",
        "worst at",
        "",
    ];
    let row = |node: &NodeReport| {
        let verdict = if node.is_within_bound() {
            "ok"
        } else {
            "OUTSIDE"
        };
        let fused = node.fused_into.as_ref();
        let fused = fused.map_or(String::new(), |into| format!(", fused into {into}"));
        let jumped = node.jumped_at.first().map_or(String::new(), |first| {
            format!(", {} at a jump, the first at {first:?}", node.jumped)
        });
        vec![
            node.name.clone(),
            node.op.to_owned(),
            node.shape.to_string(),
            format!("{:.2e}", node.max_abs_error),
            format!("{:.2e}", node.relative_error),
            format!("{:.2e}", node.bound),
            format!("{:?}", node.worst),
            format!("{verdict}{fused}{jumped}"),
        ]
    };
    let rows: Vec<_> = report.nodes.iter().map(row).collect();
    terminal::table(&heads, &rows)
}

/// What is claimed where elements jumped.
fn jumps(report: &Report) -> Option<String> {
    let nodes = report.nodes.iter().filter(|node| node.jumped > 0);
    let elements: usize = nodes.clone().map(|node| node.jumped).sum();
    (elements > 0).then(|| {
        let nodes = match nodes.count() {
            1 => "one node".to_owned(),
            count => format!("{count} nodes"),
        };
        format!(
            "jumps: {elements} elements of {nodes} are on another side of a jump than on the CPU, as near to it as \
             their inputs may err; what follows is compared for the device's side"
        )
    })
}

fn share_equal(labels: &LabelReport) -> f64 {
    labels.equal as f64 / labels.pixels as f64
}

fn sentence(labels: &LabelReport) -> String {
    format!(
        "labels: {:.4} % of {} equal; {} differ within the margin of {:.2e}, {} outside it",
        100.0 * share_equal(labels),
        labels.pixels,
        labels.within_margin,
        labels.margin,
        labels.outside_margin()
    )
}

/// The first fault: a node outside its bound, else labels outside their margin.
fn verdict(report: &Report) -> Error {
    let message = match (report.first_outside(), &report.labels) {
        (Some(node), _) => {
            let all = report.nodes.iter().filter(|n| !n.is_within_bound());
            let why = match node.wrong {
                0 => format!(
                    "relative error {:.2e}, bound {:.2e}",
                    node.relative_error, node.bound
                ),
                wrong => format!(
                    "{wrong} of its elements differ, and no jump within the bound of its inputs explains it; the \
                     largest difference is at {:?}",
                    node.worst
                ),
            };
            format!(
                "{} ({}) is the first node outside its bound, of {}: {why}",
                node.name,
                node.op,
                all.count()
            )
        }
        (None, Some(labels)) => format!(
            "{} of {} labels differ outside the margin of {:.2e}",
            labels.outside_margin(),
            labels.pixels,
            labels.margin
        ),
        (None, None) => "the device differs from the reference".to_owned(),
    };
    Error::new(ErrorKind::Device, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fullconv::Shape;

    fn node(name: &str, relative_error: f64) -> NodeReport {
        NodeReport {
            name: name.into(),
            op: "relu",
            shape: Shape::new(1, 2, 3, 4),
            max_abs_error: 0.5,
            relative_error,
            bound: 1e-6,
            worst: [0, 1, 2, 3],
            fused_into: None,
            jumped: 0,
            jumped_at: Vec::new(),
            wrong: 0,
        }
    }

    #[test]
    fn elements_at_a_jump_are_counted_and_wrong_ones_are_the_verdict() {
        let mut jumped = node("mask", 0.0);
        (jumped.jumped, jumped.jumped_at) = (3, vec![[0, 1, 0, 2], [0, 1, 1, 0], [0, 1, 2, 3]]);
        let mut report = Report {
            nodes: vec![node("a", 1e-7), jumped],
            labels: None,
        };
        let table = table(&report);
        let last = table.lines().last().unwrap();
        assert!(
            last.ends_with("ok, 3 at a jump, the first at [0, 1, 0, 2]"),
            "{table}"
        );
        let said = jumps(&report).unwrap();
        assert!(
            said.starts_with("jumps: 3 elements of one node are on another side"),
            "{said}"
        );
        assert!(report.is_within_bounds());
        report.nodes[1].wrong = 2;
        let said = verdict(&report).to_string();
        let expected =
            "mask (relu) is the first node outside its bound, of 1: 2 of its elements differ";
        assert!(said.starts_with(expected), "{said}");
        report.nodes.truncate(1);
        assert_eq!(jumps(&report), None);
    }

    #[test]
    fn the_first_node_outside_is_named_before_the_labels() {
        let mut report = Report {
            nodes: vec![node("a", 1e-7), node("b", 1e-3), node("c", f64::INFINITY)],
            labels: Some(LabelReport {
                pixels: 10,
                equal: 7,
                within_margin: 1,
                margin: 0.25,
            }),
        };
        let expected = "b (relu) is the first node outside its bound, of 2: relative error 1.00e-3";
        assert!(verdict(&report).to_string().starts_with(expected));
        let table = table(&report);
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[1].ends_with("[0, 1, 2, 3]  ok"), "{table}");
        assert!(
            lines[2].ends_with("OUTSIDE") && lines[3].contains("inf"),
            "{table}"
        );
        report.nodes.truncate(1);
        let message = verdict(&report).to_string();
        assert!(
            message.starts_with("2 of 10 labels differ outside the margin"),
            "{message}"
        );
    }
}

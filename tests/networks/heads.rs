//! What the last layer of a network means: binary networks, networks that end in a softmax or sigmoid, and multi-label
//! networks. Labels and probabilities are compared with plain code in f64, from the network's output on the CPU.

use super::embed;
use crate::common::{Random, all_gpus, serialize};
use fullconv::compare::compare_picture;
use fullconv::{Activation, ErrorKind, Model, Picture, Precision, Segmenter, Shape, Size, Values};
use pollster::block_on;

/// Pictures reach the network as they are, from 0 to 1.
const PREPROCESS: &str =
    r#""preprocess": {"channels": "rgb", "range": 1.0, "mean": [0, 0, 0], "std": [1, 1, 1]}"#;

/// A convolution `score` of stride 2, with sums around zero, and then `rest`, the nodes up to `output`; `further` is
/// further metadata.
fn try_model(channels: usize, output: &str, rest: &str, further: &str) -> fullconv::Result<Model> {
    let metadata = format!(
        r#"{{"version": 1, {PREPROCESS}, "graph": {{"output": "{output}", "nodes": [
            {{"name": "score", "op": "conv2d", "inputs": ["input", "score.weight"],
              "attributes": {{"stride": 2, "padding": 1}}}} {rest}]}} {further}}}"#
    );
    let mut random = Random::new(7);
    let tensors = [
        ("score.weight", Shape::new(channels, 3, 3, 3)),
        ("up.weight", Shape::new(channels, channels, 4, 4)),
    ];
    let tensors = tensors.map(|(name, shape)| (name.to_owned(), random.tensor(shape)));
    Model::from_bytes(serialize(&tensors, Some(&metadata)))
}

fn model(channels: usize, output: &str, rest: &str, further: &str) -> Model {
    try_model(channels, output, rest, further).unwrap()
}

const SIGMOID: &str = r#", {"name": "p", "op": "sigmoid", "inputs": ["score"]}"#;
const SOFTMAX: &str = r#", {"name": "p", "op": "softmax", "inputs": ["score"]}"#;
/// The size of the picture, from `p`.
const RESIZED: &str = r#", {"name": "q", "op": "interpolate", "inputs": ["p", "input"],
    "attributes": {"mode": "bilinear"}}"#;
/// A pixel less at the top and on the left, from `p`.
const CROPPED: &str = r#", {"name": "padded", "op": "pad", "inputs": ["p"],
    "attributes": {"padding": [0, 3, 0, 3], "mode": "replicate"}},
    {"name": "q", "op": "crop", "inputs": ["padded", "score"], "attributes": {"offset": [1, 1]}}"#;
/// `q`, of the negative scores by the function of `p`; and `mean`, the mean of both.
const MEAN: &str = r#", {"name": "less", "op": "scale", "inputs": ["score"], "attributes": {"factor": -1.5}},
    {"name": "q", "op": "FUNCTION", "inputs": ["less"]}, {"name": "sum", "op": "add", "inputs": ["p", "q"]},
    {"name": "mean", "op": "scale", "inputs": ["sum"], "attributes": {"factor": 0.5}}"#;
const UPSAMPLED: &str = r#", {"name": "up", "op": "conv_transpose2d", "inputs": ["score", "up.weight"],
    "attributes": {"stride": 2, "padding": 1}}"#;

fn noise() -> Picture {
    let mut random = Random::new(3);
    let size = Size::new(22, 30);
    let data = (0..3 * size.height * size.width).map(|_| (random.float() * 127.5 + 127.5) as u8);
    Picture::from_rgb(size, data.collect()).unwrap()
}

/// `plane` of `from`, resized bilinearly to `to`; pixel centres correspond.
fn resized(plane: &[f32], from: Size, to: Size) -> Vec<f64> {
    let position = |i: usize, from: usize, to: usize| {
        let at = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let low = (at as usize).min(from - 1);
        (low, (low + 1).min(from - 1), at - low as f64)
    };
    let value = |y: usize, x: usize| f64::from(plane[y * from.width + x]);
    let pixels = (0..to.height).flat_map(|y| (0..to.width).map(move |x| (y, x)));
    let one = |(y, x)| {
        let (y0, y1, down) = position(y, from.height, to.height);
        let (x0, x1, right) = position(x, from.width, to.width);
        let row = |y| value(y, x0) * (1.0 - right) + value(y, x1) * right;
        row(y0) * (1.0 - down) + row(y1) * down
    };
    pixels.map(one).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The function that makes the probabilities of all classes of the channels of a pixel's output.
type Classes = fn(&[f64]) -> Vec<f64>;

fn binary(score: &[f64]) -> Vec<f64> {
    vec![1.0 - sigmoid(score[0]), sigmoid(score[0])]
}

fn binary_as_it_is(p: &[f64]) -> Vec<f64> {
    vec![1.0 - p[0], p[0]]
}

fn as_it_is(p: &[f64]) -> Vec<f64> {
    p.to_vec()
}

fn each_sigmoid(scores: &[f64]) -> Vec<f64> {
    scores.iter().copied().map(sigmoid).collect()
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let sum: f64 = scores.iter().map(|score| score.exp()).sum();
    scores.iter().map(|score| score.exp() / sum).collect()
}

/// The probabilities of all classes at each pixel of `picture`.
fn expected(model: &Model, picture: &Picture, classes: Classes) -> Vec<Vec<f64>> {
    let output = block_on(Segmenter::on_cpu(model).scores(picture)).unwrap();
    let shape = output.shape();
    let planes = (0..shape.c).map(|c| {
        let plane = output.plane(0, c);
        resized(plane, Size::new(shape.h, shape.w), picture.size())
    });
    let planes: Vec<_> = planes.collect();
    let pixels = 0..picture.size().height * picture.size().width;
    let of_pixel = |i| planes.iter().map(|plane| plane[i]).collect::<Vec<_>>();
    pixels.map(|i| classes(&of_pixel(i))).collect()
}

/// Panics unless labels and probabilities of `picture` are right.
fn check(segmenter: &Segmenter, picture: &Picture, classes: Classes, what: &str) {
    let model = segmenter.model();
    let expected = expected(model, picture, classes);
    let found = block_on(segmenter.probabilities(picture)).unwrap();
    let count = model.class_count();
    let Size { height, width } = picture.size();
    assert_eq!(found.shape(), Shape::new(1, count, height, width), "{what}");
    let mask = segmenter.segment_blocking(picture).unwrap();
    let mut seen = vec![false; count];
    for (i, all) in expected.iter().enumerate() {
        for (class, p) in all.iter().enumerate() {
            let found = f64::from(found.plane(0, class)[i]);
            assert!((found - p).abs() < 1e-5, "{what}: {found}, not {p}");
        }
        let label = usize::from(mask.labels()[i]);
        let distance = match model.head().threshold {
            Some(t) if label == 1 => f64::from(t) - all[1],
            Some(t) => all[1] - f64::from(t),
            None => all.iter().fold(0.0, |max: f64, p| max.max(*p)) - all[label],
        };
        assert!(distance < 1e-5, "{what}: class {label} of {all:?}");
        seen[label] = true;
    }
    // The picture tells the labels of one class from right ones.
    let classes = seen.iter().filter(|seen| **seen).count();
    assert!(classes > 1, "{what}: {seen:?}");
    let two = [picture.clone(), picture.clone()];
    let batch = block_on(segmenter.segment_batch(&two)).unwrap();
    assert!(batch == [mask.clone(), mask], "{what}");
}

/// Each kind of head: its name, its model, and its classes.
fn heads() -> Vec<(&'static str, Model, Classes)> {
    let bilinear = [SIGMOID, RESIZED].concat();
    let cropped = [SOFTMAX, CROPPED].concat();
    let joined = r#", {"name": "less", "op": "scale", "inputs": ["score"], "attributes": {"factor": -1}},
        {"name": "q", "op": "sigmoid", "inputs": ["less"]}, {"name": "both", "op": "cat", "inputs": ["q", "p"]}"#;
    let joined = [SIGMOID, joined].concat();
    let mean_of = |function: &str, name: &str| [function, &MEAN.replace("FUNCTION", name)].concat();
    let [softmaxes, sigmoids_too] = [mean_of(SOFTMAX, "softmax"), mean_of(SIGMOID, "sigmoid")];
    let larger = r#", {"name": "larger", "op": "maximum", "inputs": ["p", "q"]}"#;
    let larger = [&sigmoids_too, larger].concat();
    let as_probabilities = r#", "values": "probabilities""#;
    let threshold = |p: f32| format!(r#", "threshold": {p}"#);
    let sigmoids = r#", "activation": "sigmoid""#;
    vec![
        ("binary", model(1, "score", "", ""), binary),
        (
            "binary, 0.3",
            model(1, "score", "", &threshold(0.3)),
            binary,
        ),
        (
            "binary, upsampled",
            model(1, "up", UPSAMPLED, &threshold(0.8)),
            binary,
        ),
        (
            "binary, sigmoid",
            model(1, "p", SIGMOID, ""),
            binary_as_it_is,
        ),
        (
            "binary, sigmoid, 0.6",
            model(1, "q", &bilinear, &threshold(0.6)),
            binary_as_it_is,
        ),
        ("softmax", model(3, "score", "", ""), softmax),
        (
            "softmax inside",
            model(3, "p", SOFTMAX, r#", "activation": "softmax""#),
            as_it_is,
        ),
        (
            "softmax inside, cropped",
            model(3, "q", &cropped, ""),
            as_it_is,
        ),
        ("sigmoids", model(3, "score", "", sigmoids), each_sigmoid),
        ("sigmoids inside", model(3, "q", &bilinear, ""), as_it_is),
        ("sigmoids joined", model(1, "both", &joined, ""), as_it_is),
        (
            "softmax inside, the mean of two",
            model(3, "mean", &softmaxes, ""),
            as_it_is,
        ),
        (
            "sigmoids inside, the mean of two",
            model(3, "mean", &sigmoids_too, ""),
            as_it_is,
        ),
        (
            "binary, sigmoid, the mean of two",
            model(1, "mean", &sigmoids_too, ""),
            binary_as_it_is,
        ),
        (
            "softmax of a sum, as declared",
            model(3, "sum", &softmaxes, r#", "values": "scores""#),
            softmax,
        ),
        (
            "sigmoids inside, the larger, as declared",
            model(3, "larger", &larger, as_probabilities),
            as_it_is,
        ),
    ]
}

#[test]
fn labels_and_probabilities_follow_from_the_head_on_the_cpu() {
    for (name, model, classes) in heads() {
        check(&Segmenter::on_cpu(&model), &noise(), classes, name);
    }
}

#[test]
fn labels_and_probabilities_follow_from_the_head_on_the_device() {
    for (device, gpu) in all_gpus() {
        for (name, model, classes) in heads() {
            let what = format!("{name} {device}");
            let segmenter = block_on(Segmenter::new(&gpu, &model)).unwrap();
            check(&segmenter, &noise(), classes, &what);
            embed::check(&segmenter, &gpu, &noise(), &what);
            let report = block_on(compare_picture(&segmenter, &noise())).unwrap();
            assert!(report.is_within_bounds(), "{what}: {:?}", report.labels);
            assert!(report.labels.is_some());
            if gpu.half_target().is_ok() {
                let half = Segmenter::builder(&model).gpu(&gpu);
                let half = block_on(half.precision(Precision::F16).build()).unwrap();
                let report = block_on(compare_picture(&half, &noise())).unwrap();
                assert!(
                    report.is_within_bounds(),
                    "{what}, f16: {:?}",
                    report.labels
                );
            }
        }
    }
}

/// As for several classes, the scores at the picture's size are never written.
#[test]
fn labels_of_binary_networks_are_fused_with_the_resize_and_the_upsampling() {
    for (_, gpu) in all_gpus() {
        for (output, rest, kernel) in [
            ("score", "", "argmax_resized"),
            ("up", UPSAMPLED, "argmax_upsampled"),
        ] {
            let segmenter = block_on(Segmenter::new(&gpu, &model(1, output, rest, ""))).unwrap();
            let pass = block_on(segmenter.texture_pass(noise().size())).unwrap();
            let last = pass.plan().layers.last().unwrap();
            assert!(last.kernel.starts_with(kernel), "{}", pass.plan());
        }
    }
}

#[test]
fn a_binary_network_has_two_classes_for_people_and_one_channel_of_scores() {
    let names = r#", "classes": ["tumour"], "palette": [[255, 0, 9]]"#;
    let model = model(1, "score", "", names);
    assert_eq!(model.class_count(), 2);
    assert_eq!(**model.classes(), ["background", "tumour"]);
    assert_eq!(model.palette().colours(), [[0, 0, 0], [255, 0, 9]]);
    assert!(model.head().is_binary() && !model.head().is_multi_label());
    let text = "1 channel, sigmoid, class 1 from 0.5";
    assert_eq!(model.head().to_string(), text);
    let segmenter = Segmenter::on_cpu(&model);
    let run = block_on(segmenter.run(&noise().to_tensor().unwrap(), &[])).unwrap();
    assert_eq!(run.output.shape(), Shape::new(1, 1, 11, 15));
    let labels = run.labels.unwrap();
    let expected = run.output.map(|x| f32::from(u8::from(x >= 0.0)));
    assert_eq!(labels, expected);

    let two = try_model(1, "score", "", r#", "classes": ["road", "rail"]"#).unwrap();
    assert_eq!(**two.classes(), ["road", "rail"]);
    let three = try_model(1, "score", "", r#", "classes": ["a", "b", "c"]"#);
    let said = three.unwrap_err().to_string();
    assert!(
        said.contains("names 3 classes, the network has 2 classes (one output channel"),
        "{said}"
    );
}

#[test]
fn a_higher_threshold_makes_fewer_pixels_class_1() {
    let (low, picture) = (model(1, "score", "", ""), noise());
    let shares = [0.1, 0.5, 0.9].map(|threshold| {
        let model = low.clone().with_threshold(threshold).unwrap();
        assert_eq!(model.head().threshold, Some(threshold));
        let mask = Segmenter::on_cpu(&model)
            .segment_blocking(&picture)
            .unwrap();
        mask.labels().iter().filter(|label| **label == 1).count()
    });
    assert!(shares[0] > shares[1] && shares[1] > shares[2], "{shares:?}");
    assert_eq!(low.head().threshold, Some(0.5));
    for threshold in [0.0, 1.0, -1.0, f32::NAN] {
        let error = low.clone().with_threshold(threshold).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request, "{error}");
    }
    let error = model(3, "score", "", "").with_threshold(0.5).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a threshold is for binary networks, which have one output channel; this one has 3"
    );
}

#[test]
fn the_end_of_a_network_is_seen() {
    for (name, model, _) in heads() {
        let head = model.head();
        let is_inside =
            name.contains("inside") || name.contains("joined") || name.contains("binary, sigmoid");
        assert_eq!(head.values == Values::Probabilities, is_inside, "{name}");
        let is_softmax = name.contains("softmax");
        assert_eq!(head.activation == Activation::Softmax, is_softmax, "{name}");
        assert_eq!(head.is_multi_label(), name.contains("sigmoids"), "{name}");
    }
    // A sigmoid that is only a part of the last layer is no activation.
    let gate = r#", {"name": "gate", "op": "mul", "inputs": ["p", "score"]}"#;
    let gated = model(3, "gate", &[SIGMOID, gate].concat(), "");
    assert_eq!(gated.head().values, Values::Scores);
    let mixed = r#", {"name": "mixed", "op": "cat", "inputs": ["p", "score"]}"#;
    let mixed = model(3, "mixed", &[SIGMOID, mixed].concat(), "");
    assert_eq!(mixed.head().values, Values::Scores);
}

#[test]
fn what_contradicts_the_network_or_is_unclear_is_refused() {
    let sum = [SOFTMAX, &MEAN.replace("FUNCTION", "softmax")].concat();
    let cases = [
        (
            3,
            "p",
            SOFTMAX,
            r#", "activation": "sigmoid""#,
            "the activation is sigmoid, but the network ends in softmax",
        ),
        (
            3,
            "p",
            SIGMOID,
            r#", "activation": "softmax""#,
            "the activation is softmax, but the network ends in sigmoid",
        ),
        (
            1,
            "p",
            SOFTMAX,
            "",
            "a softmax of one channel, which is 1 everywhere",
        ),
        (
            3,
            "sum",
            &sum,
            "",
            "softmax probabilities that are summed with weights of 2 together, not 1",
        ),
        (
            3,
            "sum",
            &sum,
            r#", "activation": "softmax""#,
            "(fullconv convert IN OUT --values probabilities|scores)",
        ),
        (
            3,
            "p",
            SOFTMAX,
            r#", "values": "scores""#,
            "the values are scores, but the network ends in softmax",
        ),
        (
            3,
            "score",
            "",
            r#", "values": "logits""#,
            "unknown variant `logits`",
        ),
        (
            1,
            "score",
            "",
            r#", "activation": "softmax""#,
            "softmax is 1 everywhere",
        ),
        (
            3,
            "score",
            "",
            r#", "activation": "tanh""#,
            "unknown variant `tanh`, expected `softmax` or `sigmoid`",
        ),
        (
            3,
            "score",
            "",
            r#", "threshold": 0.5"#,
            "a threshold is for binary networks",
        ),
        (
            1,
            "score",
            "",
            r#", "threshold": 1.5"#,
            "a probability between 0 and 1, not 1.5",
        ),
    ];
    for (channels, output, rest, further, expected) in cases {
        let error = try_model(channels, output, rest, further).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModelFile);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
}

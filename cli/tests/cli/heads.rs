//! Binary and multi-label networks in every command.

use super::program::*;
use fullconv::{Size, TensorFile, read_labels};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// A network of 1 × 1 convolutions: each channel's score is `weight` · (red + green + blue) + `bias`, for colours from
/// 0 to 1. `further` is further metadata.
fn write_model(path: &Path, channels: &[(f32, f32)], further: &str) {
    write_network(path, channels, "score", "", further);
}

/// The same, and then `rest`, the nodes up to `output`.
fn write_network(path: &Path, channels: &[(f32, f32)], output: &str, rest: &str, further: &str) {
    let metadata = format!(
        r#"{{"version": 1, "preprocess": {{"channels": "rgb", "range": 1, "mean": [0, 0, 0], "std": [1, 1, 1]}},
            "graph": {{"output": "{output}", "nodes": [
            {{"name": "score", "op": "conv2d", "inputs": ["input", "weight", "bias"]}}{rest}]}}{further}}}"#
    );
    let weights: Vec<f32> = channels.iter().flat_map(|(w, _)| [*w; 3]).collect();
    let biases: Vec<f32> = channels.iter().map(|(_, bias)| *bias).collect();
    let view = |shape, values| TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(values));
    let n = channels.len();
    let tensors = [
        ("weight", view(vec![n, 3, 1, 1], &weights).unwrap()),
        ("bias", view(vec![n], &biases).unwrap()),
    ];
    let metadata = [("fullconv".to_owned(), metadata)].into();
    fs::write(path, serialize(tensors, Some(metadata)).unwrap()).unwrap();
}

/// A picture of greys; the score of the binary model is about −0.3 and 0.3 for the last two.
const GREYS: [u8; 4] = [0, 255, 125, 130];

fn write_picture(path: &Path) {
    let grey = |x: u32, y: u32| image::Rgb([GREYS[(2 * y + x) as usize]; 3]);
    image::RgbImage::from_fn(2, 2, grey).save(path).unwrap();
}

fn score(grey: u8) -> f32 {
    30.0 * f32::from(grey) / 255.0 - 15.0
}

/// A folder with `binary.safetensors`, whose only class name is that of class 1, and `a.png`.
fn folder() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let [model, picture] = ["binary.safetensors", "a.png"].map(|name| folder.path().join(name));
    write_model(&model, &[(10.0, -15.0)], r#", "classes": ["bright"]"#);
    write_picture(&picture);
    (folder, model, picture)
}

/// The labels of a.mask.png.
fn labels(folder: &Path) -> Vec<u8> {
    let (size, labels) = read_labels(folder.join("a.mask.png")).unwrap();
    assert_eq!(size, Size::square(2));
    labels
}

#[test]
fn a_binary_network_is_segmented_into_two_classes() {
    let (folder, model, picture) = folder();
    for backend in if has_adapter() {
        vec!["auto", "cpu"]
    } else {
        vec!["cpu"]
    } {
        let line =
            format!("segment {{}} -m {{}} --backend {backend} --probabilities safetensors --json");
        let done = fullconv_with(&line, &[&picture, &model]).expect(0);
        assert_eq!(done.stderr, "");
        let json = done.json();
        assert_eq!(json["model"]["classes"], 2);
        let classes = json["images"][0]["classes"].as_array().unwrap();
        let names: Vec<_> = classes.iter().map(|class| &class["name"]).collect();
        assert_eq!(names, ["background", "bright"]);
        assert_eq!(labels(folder.path()), [0, 1, 0, 1]);
        let file = folder.path().join("a.probabilities.safetensors");
        let file = TensorFile::open(&file).unwrap();
        let found = file.tensor("probabilities").unwrap();
        assert_eq!(file.tensors().next().unwrap().1, [2, 2, 2]);
        for (i, grey) in GREYS.into_iter().enumerate() {
            let p = 1.0 / (1.0 + (-score(grey)).exp());
            let [of0, of1] = [0, 4].map(|plane| found.data()[plane + i]);
            assert!(
                (of1 - p).abs() < 1e-5 && (of0 - (1.0 - p)).abs() < 1e-5,
                "{of0} {of1} {p}"
            );
        }

        let line =
            format!("segment {{}} -m {{}} --backend {backend} --threshold 0.9 --heatmap bright");
        fullconv_with(&line, &[&picture, &model]).expect(0);
        assert_eq!(labels(folder.path()), [0, 1, 0, 0]);
        let heat = image::open(folder.path().join("a.heatmap.png"))
            .unwrap()
            .to_rgb8();
        assert_eq!(heat.get_pixel(0, 0).0, [0, 0, 4]);
        // The probability is 1 − 3·10⁻⁷.
        let light = heat.get_pixel(1, 0).0;
        assert!(
            light
                .iter()
                .zip([251, 254, 163])
                .all(|(found, least)| *found >= least),
            "{light:?}"
        );
    }
}

#[test]
fn run_inspect_compare_and_eval_know_a_binary_network() {
    let (folder, model, picture) = folder();
    let [input, output] = ["in.safetensors", "out.safetensors"].map(|n| folder.path().join(n));
    let values: Vec<f32> = (0..3)
        .flat_map(|_| GREYS.map(|g| f32::from(g) / 255.0))
        .collect();
    write_tensors(&input, &[("input", &[1, 3, 2, 2], &values)]);
    let line = "run --input {} --output {} -m {} --backend cpu";
    fullconv_with(line, &[&input, &output, &model]).expect(0);
    let bytes = fs::read(&output).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("output").unwrap().shape(), [1, 1, 2, 2]);
    assert_eq!(file.tensor("labels").unwrap().data(), [0, 1, 0, 1]);

    let said = fullconv_with("inspect {} --default-limits --threshold 0.25", &[&model]).expect(0);
    let line = said
        .stdout
        .lines()
        .find(|line| line.starts_with("output"))
        .unwrap();
    assert_eq!(line, "output         1 channel, sigmoid, class 1 from 0.25");
    let json = fullconv_with("inspect {} --default-limits --json", &[&model])
        .expect(0)
        .json();
    let head = serde_json::json!({
        "channels": 1, "activation": "sigmoid", "values": "scores", "threshold": 0.5
    });
    assert_eq!((&json["head"], &json["class_count"]), (&head, &2.into()));

    if has_adapter() {
        let json = fullconv_with("compare --input {} -m {} --json", &[&picture, &model]);
        assert_eq!(json.expect(0).json()["labels"]["equal"], 4);
    }

    // Of class 1, one pixel is right and one is missed; of class 0, two are right and one is too much.
    let [images, truths] = ["images", "labels"].map(|name| folder.path().join(name));
    fs::create_dir(&images).unwrap();
    fs::create_dir(&truths).unwrap();
    fs::copy(&picture, images.join("a.png")).unwrap();
    let truth = image::GrayImage::from_vec(2, 2, vec![0, 1, 0, 1]).unwrap();
    truth.save(truths.join("a.png")).unwrap();
    let line = "eval --images {} --labels {} -m {} --backend cpu --threshold 0.9 --json";
    let json = fullconv_with(line, &[&images, &truths, &model])
        .expect(0)
        .json();
    let iou = |id: usize| json["classes"][id]["iou"].as_f64().unwrap();
    assert!(
        (iou(0) - 2.0 / 3.0).abs() < 1e-9 && (iou(1) - 0.5).abs() < 1e-9,
        "{json}"
    );
}

#[test]
fn a_threshold_that_does_not_suit_is_refused() {
    let (_folder, model, picture) = folder();
    for (threshold, expected) in [
        (
            "1",
            "--threshold: a threshold is a probability between 0 and 1, not 1",
        ),
        ("nan", "not NaN"),
        ("half", "invalid value 'half'"),
    ] {
        let line = format!("segment {{}} -m {{}} --backend cpu --threshold {threshold}");
        let done = fullconv_with(&line, &[&picture, &model]);
        assert!(
            done.status != Some(0) && done.stderr.contains(expected),
            "{}",
            done.stderr
        );
    }
    let done = fullconv_with("segment {} --backend cpu --threshold 0.5", &[&picture]).expect(1);
    assert!(done.stderr.contains("binary networks"), "{}", done.stderr);
}

#[test]
fn convert_keeps_and_writes_activation_and_threshold() {
    let (folder, model, picture) = folder();
    let [stricter, kept] =
        ["stricter.safetensors", "kept.safetensors"].map(|n| folder.path().join(n));
    let line = "convert {} {} --activation sigmoid --threshold 0.9";
    fullconv_with(line, &[&model, &stricter]).expect(0);
    fullconv_with("convert {} {}", &[&stricter, &kept]).expect(0);
    fullconv_with("segment {} -m {} --backend cpu", &[&picture, &kept]).expect(0);
    assert_eq!(labels(folder.path()), [0, 1, 0, 0]);
    let file = TensorFile::open(&kept).unwrap();
    let metadata: serde_json::Value =
        serde_json::from_str(file.metadata("fullconv").unwrap()).unwrap();
    assert_eq!(metadata["activation"], "sigmoid");
    let done = fullconv_with(
        "convert {} {} --activation softmax",
        &[&model, &folder.path().join("no")],
    );
    assert!(done.expect(1).stderr.contains("softmax is 1 everywhere"));
    assert!(!folder.path().join("no").exists());
}

#[test]
fn convert_says_what_the_output_holds_where_the_graph_does_not() {
    let (folder, _, picture) = folder();
    let [sum, said] = ["sum.safetensors", "said.safetensors"].map(|n| folder.path().join(n));
    let rest = r#", {"name": "p", "op": "sigmoid", "inputs": ["score"]},
        {"name": "larger", "op": "maximum", "inputs": ["p", "p"]}"#;
    write_network(&sum, &[(10.0, -15.0)], "larger", rest, "");
    let line = "segment {} -m {} --backend cpu --probabilities safetensors";
    let done = fullconv_with(line, &[&picture, &sum]).expect(1);
    let expected = "sigmoid probabilities that are changed by larger (maximum)";
    assert!(done.stderr.contains(expected), "{}", done.stderr);
    assert_eq!(done.stderr.lines().count(), 1);
    let convert = "convert {} {} --values probabilities";
    fullconv_with(convert, &[&sum, &said]).expect(0);
    let inspected = fullconv_with("inspect {} --default-limits", &[&said]).expect(0);
    let expected = "output         1 channel, sigmoid in the network, class 1 from 0.5\n";
    assert!(inspected.stdout.contains(expected), "{}", inspected.stdout);
    fullconv_with(line, &[&picture, &said]).expect(0);
    let file = folder.path().join("a.probabilities.safetensors");
    let found = TensorFile::open(&file).unwrap().tensor("probabilities");
    for (grey, found) in GREYS.into_iter().zip(&found.unwrap().data()[4..]) {
        let p = 1.0 / (1.0 + (-score(grey)).exp());
        assert!((found - p).abs() < 1e-5, "{found}, not {p}");
    }
}

#[test]
fn a_multi_label_network_gives_each_class_by_itself_and_says_what_a_mask_is() {
    let (folder, _, picture) = folder();
    let model = folder.path().join("multi.safetensors");
    write_model(
        &model,
        &[(10.0, -15.0), (0.0, 1.0)],
        r#", "activation": "sigmoid""#,
    );
    let line = "segment {} -m {} --backend cpu --probabilities safetensors";
    let done = fullconv_with(line, &[&picture, &model]).expect(0);
    assert_eq!(done.stderr.matches("do not exclude each other").count(), 1);
    assert_eq!(labels(folder.path()), [1, 0, 1, 1]);
    let file = folder.path().join("a.probabilities.safetensors");
    let found = TensorFile::open(&file)
        .unwrap()
        .tensor("probabilities")
        .unwrap();
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    for (i, grey) in GREYS.into_iter().enumerate() {
        assert!((found.data()[i] - sigmoid(score(grey))).abs() < 1e-5);
        assert!((found.data()[4 + i] - sigmoid(1.0)).abs() < 1e-5);
    }
}

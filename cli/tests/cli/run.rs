//! `fullconv run` and `fullconv compare`.

use super::program::*;
use fullconv::TensorFile;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::fs;
use std::path::Path;

#[test]
fn run_gives_what_pytorch_gives() {
    let goldens = TensorFile::open(&golden("models")).unwrap();
    let models: Value = serde_json::from_str(goldens.metadata("models").unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (x, y) = (
        folder.path().join("x.safetensors"),
        folder.path().join("y.safetensors"),
    );
    for model in models.as_array().unwrap() {
        let name = model["name"].as_str().unwrap();
        for size in model["inputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| s.as_str().unwrap())
        {
            let prefix = format!("{name}/{size}");
            let input = goldens.tensor(&format!("{prefix}/input")).unwrap();
            let s = input.shape();
            write_tensors(&x, &[("input", &[s.n, s.c, s.h, s.w], input.data())]);
            let nodes = model["nodes"][size].as_array().cloned().unwrap_or_default();
            let nodes: Vec<_> = nodes.iter().map(|n| n.as_str().unwrap()).collect();
            let fetch = format!("--fetch={}", nodes.join(","));
            let line = match nodes.as_slice() {
                [] => "run -m {} --input {} --output {}".to_owned(),
                _ => format!("run -m {{}} --input {{}} --output {{}} {fetch}"),
            };
            fullconv_with(&line, &[&golden(name), &x, &y]).expect(0);
            let got = TensorFile::open(&y).unwrap();
            assert_close(&goldens, &format!("{prefix}/output"), &got, "output");
            for node in nodes {
                assert_close(&goldens, &format!("{prefix}/node:{node}"), &got, node);
            }
            check_labels(&y);
        }
    }
}

#[track_caller]
fn assert_close(goldens: &TensorFile, golden: &str, got: &TensorFile, name: &str) {
    let (expected, got) = (goldens.tensor(golden).unwrap(), got.tensor(name).unwrap());
    assert_eq!(got.shape(), expected.shape(), "{golden}");
    let (mut squares, mut norm) = (0.0, 0.0);
    for (e, g) in expected.data().iter().zip(got.data()) {
        squares += f64::from(e - g).powi(2);
        norm += f64::from(*e).powi(2);
    }
    let error = (squares / norm).sqrt();
    assert!(error < 1e-5, "{golden}: relative L2 error {error:e}");
}

/// Checks that the labels are u8 `[n, h, w]`, each the argmax of its scores.
fn check_labels(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let labels = file.tensor("labels").unwrap();
    let scores = TensorFile::open(path).unwrap().tensor("output").unwrap();
    let s = scores.shape();
    assert_eq!(
        (labels.dtype(), labels.shape()),
        (Dtype::U8, &[s.n, s.h, s.w][..])
    );
    for (i, label) in labels.data().iter().enumerate() {
        let (n, y, x) = (i / (s.h * s.w), i / s.w % s.h, i % s.w);
        let best = (0..s.c)
            .map(|c| scores.at(n, c, y, x))
            .fold(f32::MIN, f32::max);
        assert_eq!(scores.at(n, usize::from(*label), y, x), best);
    }
}

#[test]
fn run_says_in_json_what_it_wrote_and_refuses_before_it_works() {
    let folder = tempfile::tempdir().unwrap();
    let (x, y) = (
        folder.path().join("x.safetensors"),
        folder.path().join("y.safetensors"),
    );
    write_tensors(&x, &[("input", &[2, 3, 8, 9], &[0.5; 2 * 3 * 8 * 9])]);
    let model = golden("fcn32s-same");
    let line = "run -m {} --input {} --output {} --backend cpu";
    let paths: [&Path; 3] = [&model, &x, &y];
    for (fetch, reason) in [("nothing", "no node is called"), ("labels", "always holds")] {
        let done = fullconv_with(&format!("{line} --fetch pool1,{fetch}"), &paths).expect(1);
        assert!(done.stderr.contains(reason), "{}", done.stderr);
    }
    let done = fullconv_with(line, &[&model, &x, &x]).expect(1);
    assert!(
        done.stderr.contains("one of the files to read"),
        "{}",
        done.stderr
    );
    assert_eq!(names(folder.path()), ["x.safetensors"]);
    let done = fullconv_with(&format!("{line} --json --fetch pool1,pool1"), &paths).expect(0);
    let tensors = &done.json()["tensors"];
    assert_eq!(tensors.as_array().unwrap().len(), 3);
    assert_eq!(tensors[0]["shape"], serde_json::json!([2, 2, 8, 9]));
    assert_eq!(tensors[1]["shape"], serde_json::json!([2, 8, 9]));
    assert_eq!(tensors[2]["name"], "pool1");
}

#[test]
fn a_node_called_labels_is_no_obstacle_and_is_fetched_by_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let [m, x, y] =
        ["m", "x", "y"].map(|name| folder.path().join(name).with_extension("safetensors"));
    let metadata = r#"{"version": 1, "graph": {"output": "score", "nodes": [
        {"name": "labels", "op": "relu", "inputs": ["input"]},
        {"name": "score", "op": "scale", "inputs": ["labels"], "attributes": {"factor": 2}}]}}"#;
    let metadata = [("fullconv".to_owned(), metadata.to_owned())].into();
    let nothing: [(&str, safetensors::tensor::TensorView); 0] = [];
    fs::write(&m, safetensors::serialize(nothing, Some(metadata)).unwrap()).unwrap();
    write_tensors(&x, &[("input", &[1, 3, 2, 2], &[0.25; 12])]);
    let line = "run -m {} --input {} --output {} --backend cpu";
    fullconv_with(line, &[&m, &x, &y]).expect(0);
    check_labels(&y);
    let done = fullconv_with(&format!("{line} --fetch labels"), &[&m, &x, &y]).expect(1);
    let expected = "always holds output and labels; the network's own node of this name cannot be";
    assert!(done.stderr.contains(expected), "{}", done.stderr);
}

#[test]
fn compare_finds_every_node_within_its_bound() {
    if !has_adapter() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (picture, x) = (
        folder.path().join("x.jpg"),
        folder.path().join("x.safetensors"),
    );
    fs::write(&picture, jpeg(3)).unwrap();
    write_tensors(&x, &[("input", &[1, 3, 20, 31], &[0.25; 3 * 20 * 31])]);
    let model = golden("fcn16s-same");
    let line = "compare -m {} --input {}";
    let done = fullconv_with(line, &[&model, &picture]).expect(0);
    assert!(
        done.stdout.contains("fused into relu1_1"),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("labels: "), "{}", done.stdout);
    let line = format!("{line} --json --default-limits");
    let json = fullconv_with(&line, &[&model, &x]).expect(0).json();
    assert_eq!(json["within_bounds"], true);
    assert_eq!(json["labels"]["outside_margin"], 0);
    let nodes = json["nodes"].as_array().unwrap();
    assert_eq!(nodes.last().unwrap()["name"], "score");
    assert_eq!(nodes[0]["shape"], serde_json::json!([1, 4, 20, 31]));
}

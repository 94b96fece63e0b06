//! Networks whose graph is in their file: from the bytes of the file to the labels, on the device and on the CPU.

use crate::common::{Random, gpu, serialize};
use fullconv::compare::{compare_picture, compare_tensor};
use fullconv::{GpuOptions, Model, Picture, Segmenter, Shape, Size};
use pollster::block_on;

/// A small network with two normalisations that are fused and one that is not, a skip, and scores at half the picture's
/// size.
const GRAPH: &str = r#"{
  "version": 1,
  "graph": {
    "output": "score",
    "nodes": [
      {"name": "score", "op": "conv2d", "inputs": ["sum", "score.weight", "score.bias"]},
      {"name": "conv1", "op": "conv2d", "inputs": ["input", "conv1.weight"],
       "attributes": {"stride": 2, "padding": [1, 1]}},
      {"name": "bn1", "op": "batch_norm2d",
       "inputs": ["conv1", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"]},
      {"name": "relu1", "op": "relu", "inputs": ["bn1"]},
      {"name": "bn2", "op": "batch_norm2d", "attributes": {"eps": 0.001},
       "inputs": ["relu1", "bn2.weight", "bn2.bias", "bn2.running_mean", "bn2.running_var"]},
      {"name": "conv2", "op": "conv2d", "inputs": ["bn2", "conv2.weight", "conv2.bias"],
       "attributes": {"padding": 2, "dilation": 2}},
      {"name": "bn3", "op": "batch_norm2d",
       "inputs": ["conv2", "bn3.weight", "bn3.bias", "bn3.running_mean", "bn3.running_var"]},
      {"name": "sum", "op": "add", "inputs": ["bn3", "relu1"]}
    ]
  },
  "classes": ["a", "b", "c"]
}"#;

fn model() -> Model {
    let mut random = Random::new(5);
    let mut tensors = Vec::new();
    for (name, shape) in [
        ("conv1.weight", Shape::new(10, 3, 3, 3)),
        ("conv2.weight", Shape::new(10, 10, 3, 3)),
        ("conv2.bias", Shape::vector(10)),
        ("score.weight", Shape::new(3, 10, 1, 1)),
        ("score.bias", Shape::vector(3)),
    ] {
        tensors.push((name.to_owned(), random.tensor(shape)));
    }
    for norm in ["bn1", "bn2", "bn3"] {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            let value = random.tensor(Shape::vector(10));
            let value = value.map(|x| {
                if part == "running_var" {
                    0.5 + x.abs()
                } else {
                    x
                }
            });
            tensors.push((format!("{norm}.{part}"), value));
        }
    }
    Model::from_bytes(serialize(&tensors, Some(GRAPH))).unwrap()
}

#[test]
fn a_described_network_agrees_with_the_reference_on_the_device() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let model = model();
    assert_eq!((model.architecture(), model.class_count()), ("graph", 3));
    let segmenter = block_on(Segmenter::new(&gpu, &model)).unwrap();
    let mut random = Random::new(6);
    for size in [[1, 1], [17, 30], [64, 33]] {
        let input = random.tensor(Shape::new(2, 3, size[0], size[1]));
        let report = block_on(compare_tensor(&segmenter, &input)).unwrap();
        assert!(report.is_within_bounds(), "{:?}", report.first_outside());
        // The first and the last normalisation are fused with the convolution before them.
        let taken_in = |name: &str| {
            let node = report.nodes.iter().find(|node| node.name == name);
            node.unwrap().fused_into.as_deref()
        };
        assert_eq!(taken_in("conv1"), Some("relu1"));
        assert_eq!(taken_in("bn1"), Some("relu1"));
        assert_eq!(taken_in("conv2"), Some("bn3"));
        assert_eq!(taken_in("bn2"), None);
    }
}

#[test]
fn scores_smaller_than_the_picture_are_resized() {
    let model = model();
    let size = Size::new(22, 31);
    let pixels = (0..3 * 22 * 31).map(|i| (i * 7 % 251) as u8);
    let picture = Picture::from_rgb(size, pixels.collect()).unwrap();
    let on_cpu = Segmenter::on_cpu(&model);
    let mask = on_cpu.segment_blocking(&picture).unwrap();
    assert_eq!(mask.size(), size);
    assert_eq!(
        block_on(on_cpu.scores(&picture)).unwrap().shape(),
        Shape::new(1, 3, 11, 16)
    );
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let segmenter = block_on(Segmenter::new(&gpu, &model)).unwrap();
    let report = block_on(compare_picture(&segmenter, &picture)).unwrap();
    assert!(
        report.is_within_bounds(),
        "{:?} {:?}",
        report.first_outside(),
        report.labels
    );
}

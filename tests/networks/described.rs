//! Networks whose graph is in their file: from the bytes of the file to the labels, on the device and on the CPU.

use crate::common::{Random, gpu, serialize};
use fullconv::compare::{compare_picture, compare_tensor};
use fullconv::{GpuOptions, Model, Picture, Segmenter, Shape, Size, Tensor};
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

/// A network of the colours themselves, at every second and at every fourth pixel. The scores at stride `s` lie at the
/// pixels i · s, whatever `align` says.
fn colours(align: &str) -> Model {
    let weight = (0..9).map(|i| f32::from(u8::from(i % 4 == 0))).collect();
    let weight = Tensor::new(Shape::new(3, 3, 1, 1), weight).unwrap();
    let metadata = serde_json::json!({
        "version": 1,
        "graph": {
            "output": "score",
            "stages": {"align": align, "scores": [
                {"node": "fourth", "stride": 4}, {"node": "sum", "stride": 2}]},
            "nodes": [
                {"name": "half", "op": "conv2d", "inputs": ["input", "w"], "attributes": {"stride": 2}},
                {"name": "fourth", "op": "conv2d", "inputs": ["half", "w"], "attributes": {"stride": 2}},
                {"name": "up", "op": "interpolate", "inputs": ["fourth", "half"]},
                {"name": "sum", "op": "add", "inputs": ["half", "up"]},
                {"name": "score", "op": "interpolate", "inputs": ["sum", "input"], "attributes": {"mode": "bilinear"}},
            ],
        },
        "preprocess": {"channels": "rgb", "range": 255, "mean": [0, 0, 0], "std": [1, 1, 1]},
    });
    Model::from_bytes(serialize(
        &[("w".to_owned(), weight)],
        Some(&metadata.to_string()),
    ))
    .unwrap()
}

/// The colours at every fourth pixel, moved by `offset` pixels and interpolated bilinearly, at pixel (y, x) of a picture
/// of 19×14 pixels. Beyond the last of them they fade.
fn interpolated(picture: &[u8], offset: f32, [y, x]: [usize; 2]) -> [f32; 3] {
    let mut sum = [0.0; 3];
    for (row, column) in (0..14)
        .step_by(4)
        .flat_map(|r| (0..19).step_by(4).map(move |c| (r, c)))
    {
        let share = |at: usize, from: usize| 1.0 - (at as f32 - from as f32 - offset).abs() / 4.0;
        let weight = share(y, row).max(0.0) * share(x, column).max(0.0);
        for (c, sum) in sum.iter_mut().enumerate() {
            *sum += weight * f32::from(picture[3 * (row * 19 + column) + c]);
        }
    }
    sum
}

#[test]
fn the_stages_of_a_graph_lie_where_its_file_says() {
    let pixels: Vec<u8> = (0..3 * 14 * 19_u32)
        .map(|i| (i * i * 31 % 251) as u8)
        .collect();
    let picture = Picture::from_rgb(Size::new(14, 19), pixels.clone()).unwrap();
    for (align, offset) in [("start", 0.0), ("center", 1.5)] {
        let model = colours(align);
        assert_eq!(model.stride(), Some(2));
        let mut segmenters = vec![Segmenter::on_cpu(&model)];
        segmenters.extend(
            gpu(GpuOptions::default()).map(|gpu| block_on(Segmenter::new(&gpu, &model)).unwrap()),
        );
        for segmenter in segmenters {
            let stages = block_on(segmenter.stages(&picture)).unwrap();
            let strides: Vec<_> = stages.iter().map(|stage| stage.stride).collect();
            assert_eq!(strides, [4, 2]);
            assert_eq!(
                stages[1].mask.labels(),
                segmenter.segment_blocking(&picture).unwrap().labels()
            );
            for (i, label) in stages[0].mask.labels().iter().enumerate() {
                let scores = interpolated(&pixels, offset, [i / 19, i % 19]);
                let best = scores.iter().copied().fold(f32::MIN, f32::max);
                // Equal scores may round differently.
                assert!(
                    scores[usize::from(*label)] > best - 1e-3,
                    "{align}, pixel {i}: {scores:?}"
                );
            }
        }
    }
}

//! Networks with ops whose output jumps, at values that lie on the edge: device and CPU round to different sides of it.

use crate::common::{Random, all_gpus, serialize};
use fullconv::compare::{NodeReport, Report, compare_tensor};
use fullconv::{Model, Precision, Segmenter, Shape, Tensor};
use pollster::block_on;

/// A mean of 75 values, which is fused, in four channels; all ops that jump, at `edge`; and a layer that is fused after
/// them.
const GRAPH: &str = r#"{"version": 1, "graph": {"output": "score", "nodes": [
    {"name": "conv", "op": "conv2d", "inputs": ["input", "conv.weight"]},
    {"name": "bn", "op": "batch_norm2d", "inputs": ["conv", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]},
    {"name": "mean", "op": "relu", "inputs": ["bn"]},
    {"name": "edge", "op": "full", "inputs": ["mean"], "attributes": {"channels": 1, "fill_value": EDGE}},
    {"name": "gt", "op": "gt", "inputs": ["mean", "edges"]},
    {"name": "ge", "op": "ge", "inputs": ["mean", "edge"]},
    {"name": "lt", "op": "lt", "inputs": ["mean", "edge"]},
    {"name": "le", "op": "le", "inputs": ["edge", "mean"]},
    {"name": "eq", "op": "eq", "inputs": ["mean", "edge"]},
    {"name": "ne", "op": "ne", "inputs": ["mean", "edge"]},
    {"name": "same", "op": "eq", "inputs": ["mean", "mean"]},
    {"name": "rest", "op": "sub", "inputs": ["mean", "edge"]},
    {"name": "sign", "op": "sign", "inputs": ["rest"]},
    {"name": "scaled", "op": "scale", "inputs": ["mean"], "attributes": {"factor": FACTOR}},
    {"name": "floor", "op": "floor", "inputs": ["scaled"]},
    {"name": "threshold", "op": "threshold", "inputs": ["mean"], "attributes": {"threshold": EDGE, "value": -3.3}},
    {"name": "hardshrink", "op": "hardshrink", "inputs": ["mean"], "attributes": {"lambd": EDGE}},
    {"name": "where", "op": "where", "inputs": ["rest", "threshold", "hardshrink"]},
    {"name": "indices", "op": "max_pool2d_indices", "inputs": ["mean"], "attributes": {"kernel_size": 2}},
    {"name": "pooled", "op": "max_pool2d", "inputs": ["mean"], "attributes": {"kernel_size": 2}},
    {"name": "unpooled", "op": "max_unpool2d", "inputs": ["pooled", "indices", "mean"], "attributes": {"kernel_size": 2}},
    {"name": "all", "op": "cat", "inputs": ["gt", "ge", "lt", "le", "eq", "ne", "same", "sign", "floor", "threshold",
        "hardshrink", "where", "unpooled"]},
    {"name": "mixed", "op": "conv2d", "inputs": ["all", "mixed.weight"], "attributes": {"padding": 1}},
    {"name": "active", "op": "relu", "inputs": ["mixed"]},
    {"name": "score", "op": "conv2d", "inputs": ["active", "score.weight"]}
]}}"#;

const JUMPING: [&str; 13] = [
    "gt",
    "ge",
    "lt",
    "le",
    "eq",
    "ne",
    "same",
    "sign",
    "floor",
    "threshold",
    "hardshrink",
    "where",
    "indices",
];

/// The network with this edge.
fn model(edge: f32) -> Model {
    let vector = |value: f32| Tensor::new(Shape::vector(4), vec![value; 4]).unwrap();
    let mut random = Random::new(11);
    let mut of = |shape: Shape| random.tensor(shape).map(|x| x / 8.0);
    let tensors = [
        (
            "conv.weight",
            of(Shape::new(4, 3, 5, 5)).map(|_| 1.0 / 75.0),
        ),
        ("bn.weight", vector(0.7)),
        ("bn.bias", vector(0.1)),
        ("bn.running_mean", vector(0.3)),
        ("bn.running_var", vector(0.9)),
        ("edges", of(Shape::new(1, 4, 1, 1)).map(|_| edge)),
        ("mixed.weight", of(Shape::new(8, 52, 3, 3))),
        ("score.weight", of(Shape::new(3, 8, 1, 1))),
    ];
    let tensors = tensors.map(|(name, tensor)| (name.to_owned(), tensor));
    let metadata = GRAPH
        .replace("EDGE", &edge.to_string())
        .replace("FACTOR", &(3.0 / edge).to_string());
    Model::from_bytes(serialize(&tensors, Some(&metadata))).unwrap()
}

/// Every window of 5 × 5 pixels on the left has the same values, in another order. On the right they are larger.
fn input() -> Tensor {
    let of_window = Random::new(12).tensor(Shape::new(1, 3, 5, 5));
    let value = |_, c, y, x| {
        let value = of_window.at(0, c, y % 5, x % 5) + 2.0;
        if x < 24 { value } else { value * 1.7 }
    };
    Tensor::from_fn(Shape::new(1, 3, 31, 40), value).unwrap()
}

/// The network whose edge is the mean on the left, as the CPU rounds it.
fn on_the_edge() -> Model {
    let found = block_on(Segmenter::on_cpu(&model(1.0)).run(&input(), &["mean"])).unwrap();
    model(found.fetched[0].1.at(0, 0, 0, 0))
}

fn jumped(report: &Report) -> usize {
    report.nodes.iter().map(|node| node.jumped).sum()
}

fn node<'a>(report: &'a Report, name: &str) -> &'a NodeReport {
    report.nodes.iter().find(|node| node.name == name).unwrap()
}

#[test]
fn values_on_the_edge_may_jump_and_what_follows_is_compared() {
    let (model, input) = (on_the_edge(), input());
    let mut jumps = [0; 2];
    for (name, gpu) in all_gpus() {
        for (precision, jumps) in [Precision::F32, Precision::F16].into_iter().zip(&mut jumps) {
            if precision == Precision::F16 && gpu.half_target().is_err() {
                continue;
            }
            let builder = Segmenter::builder(&model).gpu(&gpu).precision(precision);
            let segmenter = block_on(builder.build()).unwrap();
            let report = block_on(compare_tensor(&segmenter, &input)).unwrap();
            assert!(
                report.is_within_bounds(),
                "{name}: {:#?}",
                report.first_outside()
            );
            *jumps += jumped(&report);
            for of in &report.nodes {
                assert_eq!(of.jumped_at.len(), of.jumped.min(8));
                assert!(of.jumped == 0 || JUMPING.contains(&of.name.as_str()));
                // Only the left half lies on the edge.
                assert!(of.jumped_at.iter().all(|at| at[3] < 24), "{name}: {of:?}");
            }
            assert_eq!(node(&report, "same").jumped, 0);
            let most = if precision == Precision::F32 {
                1e-6
            } else {
                1e-2
            };
            let score = node(&report, "score");
            assert!(score.relative_error < most, "{name}: {score:?}");
            assert_eq!(node(&report, "mixed").fused_into.as_deref(), Some("active"));
        }
    }
    assert!(
        jumps[0] > 100,
        "no device rounds otherwise than the CPU: {jumps:?}"
    );
}

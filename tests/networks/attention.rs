//! Networks with attention: a head as in DANet (attention between pixels and between channels) and a block as in
//! Segformer (heads, keys of a reduced size), on the device and on the CPU, whole and in bands.

use crate::common::plans::{check_limits, check_liveness};
use crate::common::{Random, another_gpu, relative_error, run_on, serialize, with_labels};
use fullconv::compare::compare_tensor;
use fullconv::low_level::device_profile::DeviceProfile;
use fullconv::low_level::gpu::Network;
use fullconv::low_level::graph::NodeId;
use fullconv::low_level::plan::Plan;
use fullconv::low_level::reference;
use fullconv::low_level::target::Target;
use fullconv::{ErrorKind, Gpu, GpuOptions, Model, Segmenter, Shape, Tensor};
use pollster::block_on;

const DANET: &str = r#"{"version": 1, "graph": {"output": "score", "nodes": [
    {"name": "stem", "op": "conv2d", "inputs": ["input", "stem.weight"], "attributes": {"padding": 1}},
    {"name": "conv", "op": "conv2d", "inputs": ["stem", "conv.weight"], "attributes": {"stride": 2, "padding": 1}},
    {"name": "x", "op": "relu", "inputs": ["conv"]},
    {"name": "query", "op": "conv2d", "inputs": ["x", "query.weight"]},
    {"name": "key", "op": "conv2d", "inputs": ["x", "key.weight"]},
    {"name": "value", "op": "conv2d", "inputs": ["x", "value.weight"]},
    {"name": "position", "op": "attention", "inputs": ["query", "key", "value"], "attributes": {"scale": 1.0}},
    {"name": "position_sum", "op": "add", "inputs": ["position", "x"]},
    {"name": "energy", "op": "gram", "inputs": ["x", "x"]},
    {"name": "negative", "op": "scale", "inputs": ["energy"], "attributes": {"factor": -0.01}},
    {"name": "shares", "op": "softmax", "inputs": ["negative"]},
    {"name": "channel", "op": "mix_channels", "inputs": ["x", "shares"]},
    {"name": "channel_sum", "op": "add", "inputs": ["channel", "x"]},
    {"name": "sum", "op": "add", "inputs": ["position_sum", "channel_sum"]},
    {"name": "score", "op": "conv2d", "inputs": ["sum", "score.weight"]}
]}, "classes": ["a", "b", "c"]}"#;

const SEGFORMER: &str = r#"{"version": 1, "graph": {"output": "score", "nodes": [
    {"name": "x", "op": "conv2d", "inputs": ["input", "embed.weight"], "attributes": {"stride": 4, "padding": 3}},
    {"name": "query", "op": "linear", "inputs": ["x", "query.weight", "query.bias"]},
    {"name": "reduced", "op": "conv2d", "inputs": ["x", "reduce.weight"], "attributes": {"stride": 2}},
    {"name": "key", "op": "linear", "inputs": ["reduced", "key.weight"]},
    {"name": "value", "op": "linear", "inputs": ["reduced", "value.weight"]},
    {"name": "heads", "op": "attention", "inputs": ["query", "key", "value"], "attributes": {"num_heads": 3}},
    {"name": "projected", "op": "linear", "inputs": ["heads", "project.weight"]},
    {"name": "attended", "op": "add", "inputs": ["x", "projected"]},
    {"name": "wide", "op": "linear", "inputs": ["attended", "wide.weight"]},
    {"name": "mixed", "op": "conv2d", "inputs": ["wide", "mix.weight"], "attributes": {"padding": 1, "groups": 96}},
    {"name": "active", "op": "silu", "inputs": ["mixed"]},
    {"name": "narrow", "op": "linear", "inputs": ["active", "narrow.weight"]},
    {"name": "block", "op": "add", "inputs": ["attended", "narrow"]},
    {"name": "score", "op": "conv2d", "inputs": ["block", "score.weight"]}
]}, "classes": ["a", "b", "c"]}"#;

/// A model of `graph` with random weights `[out, in, kh, kw]`, scaled so that activations keep their size.
fn model(graph: &str, weights: &[(&str, [usize; 4])]) -> Model {
    let mut random = Random::new(51);
    let tensor = |(name, [n, c, h, w]): &(&str, [usize; 4])| {
        let scale = 1.0 / ((c * h * w) as f32).sqrt();
        let value = random.tensor(Shape::new(*n, *c, *h, *w));
        ((*name).to_owned(), value.map(|x| x * scale))
    };
    let tensors: Vec<_> = weights.iter().map(tensor).collect();
    Model::from_bytes(serialize(&tensors, Some(graph))).unwrap()
}

fn danet() -> Model {
    let weights = [
        ("stem.weight", [13, 3, 3, 3]),
        ("conv.weight", [13, 13, 3, 3]),
        ("query.weight", [3, 13, 1, 1]),
        ("key.weight", [3, 13, 1, 1]),
        ("value.weight", [13, 13, 1, 1]),
        ("score.weight", [3, 13, 1, 1]),
    ];
    model(DANET, &weights)
}

/// Heads of 6 channels, which begin within a group of four.
fn segformer() -> Model {
    let weights = [
        ("embed.weight", [18, 3, 7, 7]),
        ("query.weight", [18, 18, 1, 1]),
        ("query.bias", [18, 1, 1, 1]),
        ("reduce.weight", [18, 18, 2, 2]),
        ("key.weight", [18, 18, 1, 1]),
        ("value.weight", [18, 18, 1, 1]),
        ("project.weight", [18, 18, 1, 1]),
        ("wide.weight", [96, 18, 1, 1]),
        ("mix.weight", [96, 1, 3, 3]),
        ("narrow.weight", [18, 96, 1, 1]),
        ("score.weight", [3, 18, 1, 1]),
    ];
    model(SEGFORMER, &weights)
}

fn devices() -> impl Iterator<Item = Gpu> {
    [(false, false), (true, false), (false, true)]
        .into_iter()
        .filter_map(|(default_limits, plan_as_gpu)| {
            another_gpu(GpuOptions {
                default_limits,
                plan_as_gpu,
                ..GpuOptions::default()
            })
        })
}

const SIZES: [Shape; 2] = [Shape::new(2, 3, 26, 37), Shape::new(1, 3, 96, 64)];

#[test]
fn every_node_agrees_with_the_reference() {
    for gpu in devices() {
        for model in [danet(), segformer()] {
            let segmenter = block_on(Segmenter::new(&gpu, &model)).unwrap();
            for shape in SIZES {
                let input = Random::new(52).tensor(shape);
                let report = block_on(compare_tensor(&segmenter, &input)).unwrap();
                assert!(report.is_within_bounds(), "{:?}", report.first_outside());
            }
        }
    }
}

/// Plans for less and less memory, and one for the smallest bindings that allow a plan.
fn cut(plan: impl Fn(&Target) -> fullconv::Result<Plan>, target: &Target) -> Vec<(Plan, Target)> {
    let mut plans: Vec<(Plan, Target)> = Vec::new();
    let mut memory_bytes = plan(target).unwrap().peak_device_bytes() - 1;
    loop {
        let small = target.within(memory_bytes);
        match plan(&small) {
            Ok(cut) => {
                memory_bytes = cut.peak_device_bytes() - cut.activation_bytes().div_ceil(10);
                plans.push((cut, small));
            }
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
                break;
            }
        }
    }
    assert!(!plans.is_empty(), "no plan in bands");
    let small = |log2: u32| Target {
        device: DeviceProfile {
            max_binding_bytes: 1 << log2,
            max_workgroups_per_dimension: 64,
            ..target.device.clone()
        },
        ..target.clone()
    };
    let smallest = (8..30).map(small).find(|small| plan(small).is_ok());
    let smallest = smallest.unwrap();
    plans.push((plan(&smallest).unwrap(), smallest));
    plans
}

#[test]
fn bands_give_the_same_as_whole() {
    for gpu in devices() {
        for (name, model) in [("DANet", danet()), ("Segformer", segformer())] {
            let graph = with_labels(&model);
            let outputs = [graph.node(graph.output()).inputs[0], graph.output()];
            for shape in SIZES {
                let plan = |target: &Target| Plan::new(&graph, shape, &outputs, target);
                let whole = plan(gpu.target()).unwrap();
                let network = Network::new(&gpu);
                let input = Random::new(53).tensor(shape);
                let run = |plan| run_on(&network, plan, &graph, model.parameters(), &input);
                let found = run(whole.clone());
                let expected = reference::run(&graph, model.parameters(), &input, &outputs);
                let expected = expected.unwrap();
                let check = |found: &[(NodeId, Tensor)], what: &str| {
                    let error = relative_error(&expected[0].1, &found[0].1);
                    assert!(error < 1e-5, "{what}: {error:e}");
                };
                check(&found, &format!("{name} {shape}"));
                let mut plans = cut(plan, gpu.target());
                let last_two = plans.split_off(plans.len() - 2);
                for (plan, target) in last_two {
                    check_limits(&plan, &target);
                    check_liveness(&plan, &graph);
                    assert!(plan.steps.len() > whole.steps.len(), "{name}: hardly cut");
                    let what = format!("{name} {shape} in {:?}", plan.slots);
                    // Where a weight's tile is larger than a binding, another kernel runs.
                    let same_kernels = plan.pipelines == whole.pipelines;
                    assert!(same_kernels || target.options == gpu.target().options);
                    let part = run(plan);
                    check(&part, &what);
                    let bits = |values: &[(NodeId, Tensor)]| -> Vec<u32> {
                        let all = values.iter().flat_map(|(_, value)| value.data());
                        all.map(|x| x.to_bits()).collect()
                    };
                    let is_same = bits(&found) == bits(&part);
                    assert!(is_same || !same_kernels, "{what} differs");
                }
            }
        }
    }
}

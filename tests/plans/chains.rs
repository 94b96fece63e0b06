//! Random chains of ops that are fused: from a model file with its graph, through all passes of the planner, against
//! the reference on each kind of device. Widths and heights are drawn at the edges of tiles and anywhere.

use crate::common::emulation::emulated_plan;
use crate::common::plans::{check_limits, check_liveness};
use crate::common::ways::{Setup, setups};
use crate::common::{Random, assert_labels, diagonal, relative_error, run_plan, serialize};
use fullconv::low_level::gpu::Network;
use fullconv::low_level::graph::{Graph, NodeId};
use fullconv::low_level::ops::Argmax;
use fullconv::low_level::plan::Plan;
use fullconv::low_level::reference;
use fullconv::{Model, Shape, Tensor};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The number of networks, each of which runs on two kinds of devices.
const NETWORKS: usize = 66;
/// The number of sizes at which each network runs.
const SIZES: usize = 4;
/// Classes of the networks that end in labels.
const CLASSES: usize = 5;

/// A network under construction, as in its file.
struct Net<'a> {
    random: &'a mut Random,
    tensors: Vec<(String, Tensor)>,
    nodes: Vec<Value>,
}

impl Net<'_> {
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.below(from.len())]
    }

    fn tensor(&mut self, name: String, shape: Shape, scale: f32) -> String {
        let values = self.random.tensor(shape).map(|x| x * scale);
        self.tensors.push((name.clone(), values));
        name
    }

    fn node(&mut self, op: &str, inputs: &[&str], attributes: Value) -> String {
        let name = format!("{op}{}", self.nodes.len());
        self.nodes
            .push(json!({"name": name, "op": op, "inputs": inputs, "attributes": attributes}));
        name
    }

    /// A convolution from `channels` to `out` channels, with weights that keep the magnitude of values.
    fn conv(
        &mut self,
        x: &str,
        [out, channels]: [usize; 2],
        kernel: usize,
        attributes: Value,
    ) -> String {
        let groups = attributes["groups"].as_u64().unwrap_or(1) as usize;
        let shape = Shape::new(out, channels / groups, kernel, kernel);
        let scale = (3.0 / (shape.c * kernel * kernel) as f32).sqrt();
        let i = self.nodes.len();
        let weight = self.tensor(format!("w{i}"), shape, scale);
        let mut inputs = vec![x.to_owned(), weight];
        if self.random.below(4) > 0 {
            inputs.push(self.tensor(format!("b{i}"), Shape::vector(out), 0.3));
        }
        let inputs: Vec<_> = inputs.iter().map(String::as_str).collect();
        self.node("conv2d", &inputs, attributes)
    }

    /// A convolution, perhaps a normalisation, perhaps ReLU, and, with `pool`, a pooling in either mode.
    fn stage(&mut self, x: &str, channels: [usize; 2], attributes: Value, pool: bool) -> String {
        let mut x = self.conv(x, channels, 3, attributes);
        if self.random.below(3) == 0 {
            x = self.norm(&x, channels[0]);
        }
        if self.random.below(5) > 0 {
            x = self.node("relu", &[&x], json!({}));
        }
        if pool {
            let ceil_mode = self.random.below(2) > 0;
            x = self.node(
                "max_pool2d",
                &[&x],
                json!({"kernel_size": 2, "ceil_mode": ceil_mode}),
            );
        }
        x
    }

    fn norm(&mut self, x: &str, channels: usize) -> String {
        let i = self.nodes.len();
        let vector = Shape::vector(channels);
        let mut inputs = vec![x.to_owned()];
        inputs.extend(
            ["gamma", "beta", "mean"].map(|part| self.tensor(format!("{part}{i}"), vector, 0.5)),
        );
        let variance = self.random.tensor(vector).map(|x| 0.5 + x.abs());
        self.tensors.push((format!("variance{i}"), variance));
        inputs.push(format!("variance{i}"));
        let inputs: Vec<_> = inputs.iter().map(String::as_str).collect();
        self.node("batch_norm2d", &inputs, json!({}))
    }

    /// Scores, upsampled to the size of the picture by a transposed convolution or a resize.
    fn tail(&mut self, x: &str, channels: usize, stride: usize) -> String {
        let x = self.conv(x, [CLASSES, channels], 1, json!({}));
        if self.random.below(3) == 0 {
            return self.node("interpolate", &[&x, "input"], json!({"mode": "bilinear"}));
        }
        let shape = Shape::new(CLASSES, CLASSES, 2 * stride, 2 * stride);
        let weight = self.random.tensor(shape).map(|x| x * 0.5);
        let is_diagonal = self.random.below(2) > 0;
        let weight = if is_diagonal {
            diagonal(&weight)
        } else {
            weight
        };
        let name = format!("up{}", self.nodes.len());
        self.tensors.push((name.clone(), weight));
        let x = self.node("conv_transpose2d", &[&x, &name], json!({"stride": stride}));
        let offset = self.random.below(stride);
        self.node("crop", &[&x, "input"], json!({"offset": [offset, offset]}))
    }

    fn model(self, output: &str) -> Model {
        let graph = json!({"input": "input", "output": output, "nodes": self.nodes});
        let metadata = json!({"version": 1, "graph": graph}).to_string();
        Model::from_bytes(serialize(&self.tensors, Some(&metadata))).unwrap()
    }
}

/// The kinds of networks.
const KINDS: [&str; 6] = [
    "pooled",
    "pooled wide",
    "geometry",
    "sums",
    "labels",
    "padded",
];

/// A network of one kind.
fn network(kind: &str, random: &mut Random) -> Model {
    let mut net = Net {
        random,
        tensors: Vec::new(),
        nodes: Vec::new(),
    };
    let channels = match kind {
        "pooled wide" => [64, 128],
        _ => [net.pick(&[3, 8, 12, 33]), net.pick(&[4, 20, 33, 66])],
    };
    let [c, out] = channels;
    let first = net.conv("input", [c, 3], 1, json!({}));
    let same = json!({"padding": 1});
    let output = match kind {
        "pooled" => {
            let x = net.stage(&first, [out, c], same.clone(), true);
            let x = net.stage(&x, [out, out], same.clone(), true);
            net.stage(&x, [c, out], same, false)
        }
        "pooled wide" => {
            let x = net.stage(&first, [out, c], same.clone(), true);
            let dilation = net.pick(&[1, 2, 4]);
            net.stage(
                &x,
                [out, out],
                json!({"padding": dilation, "dilation": dilation}),
                false,
            )
        }
        "geometry" => {
            // Ungrouped, groups of a multiple of 4 channels, groups of 9, and depthwise.
            let [groups, wide] = net.pick(&[[1, 20], [4, 16], [2, 18], [12, 12], [2, 18]]);
            let x = net.conv(&first, [wide, c], 1, json!({}));
            let (stride, dilation) = (net.pick(&[1, 2, 3]), net.pick(&[1, 2, 3]));
            let attributes =
                json!({"groups": groups, "stride": stride, "padding": 3, "dilation": dilation});
            let pool = net.random.below(2) > 0;
            net.stage(&x, [2 * wide, wide], attributes, pool)
        }
        "sums" => {
            let a = net.stage(&first, [out, c], same.clone(), false);
            let b = net.conv(&first, [out, c], 1, json!({}));
            let x = net.node("add", &[&a, &b], json!({}));
            let x = net.node("relu", &[&x], json!({}));
            net.stage(&x, [c, out], same, true)
        }
        "labels" => {
            let x = net.stage(&first, [out, c], same, true);
            let stride = net.pick(&[2, 4]);
            net.tail(&x, out, stride)
        }
        // Like FCN: a large padding at the beginning, and a large convolution at the end that uses it up.
        "padded" => {
            let padding = 26 + net.random.below(9);
            let x = net.stage("input", [8, 3], json!({"padding": padding}), true);
            let x = net.stage(&x, [out, 8], json!({"padding": 1}), true);
            let x = net.conv(&x, [12, out], 7, json!({}));
            let x = net.node("relu", &[&x], json!({}));
            net.tail(&x, 12, 8)
        }
        kind => panic!("{kind}"),
    };
    net.model(&output)
}

/// A side at an edge of tiles of 4, 8 or 16, or anywhere.
fn side(random: &mut Random) -> usize {
    let tile = 16 * (1 + random.below(3));
    match random.below(3) {
        0 => tile - 1 + random.below(3),
        1 => 4 * (1 + random.below(12)) - 1 + random.below(3),
        _ => 3 + random.below(60),
    }
}

/// Checks a model's scores, and in f32 its labels, on a target against the reference. Returns the kinds of layers.
fn check(model: &Model, input: &Tensor, setup: &Setup, what: &str) -> BTreeSet<String> {
    let mut graph = model.graph().clone();
    let scores = graph.output();
    graph.op("labels", Argmax {}, &[scores]).unwrap();
    let labels = graph.output();
    let expected = reference::run(&graph, model.parameters(), input, &[scores, labels]).unwrap();
    let mut layers = BTreeSet::new();
    // If only labels are requested, upsampled scores are never written.
    for outputs in [vec![scores], vec![labels]] {
        let plan = plan(&graph, input.shape(), &outputs, setup);
        let found = run_plan(
            &setup.gpu,
            emulated_plan(plan.clone()),
            &graph,
            model.parameters(),
            input,
        );
        let what = format!("{what}, {}, {}\n{plan}", input.shape(), setup.name);
        if outputs == [scores] {
            // f16 holds 11 binary digits.
            let most = if setup.target.options.half {
                4e-3
            } else {
                1e-5
            };
            let error = relative_error(&expected[0].1, &found[0].1);
            assert!(error < most, "{what}: {error:e}");
        } else if !setup.target.options.half {
            let scores = &expected[0].1;
            let largest = scores.data().iter().fold(0.0f32, |max, x| max.max(x.abs()));
            // Two scores are compared, so each may err by half of the bound.
            let bounds = scores.map(|_| 0.5e-5 * largest);
            assert_labels(&expected[1].1, &found[0].1, scores, &bounds, &what);
        }
        layers.extend(
            plan.layers
                .iter()
                .map(|layer| kinds(&layer.name, layer.kernel)),
        );
    }
    layers
}

/// The kind of a layer: its nodes' names without numbers, which are its ops, and its kernel.
fn kinds(name: &str, kernel: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_ascii_digit()).collect();
    let name = name
        .replace("convd", "conv")
        .replace("_transposed", "_transpose");
    format!(
        "{} by {kernel}",
        name.replace("poold", "pool").replace("normd", "norm")
    )
}

/// The plan for a target, by the first profile that allows one.
fn plan(graph: &Graph, input: Shape, outputs: &[NodeId], setup: &Setup) -> Plan {
    let targets = setup.profiles();
    let mut last = None;
    for target in targets {
        match Plan::new(graph, input, outputs, &target) {
            Ok(plan) => {
                check_limits(&plan, &target);
                check_liveness(&plan, graph);
                return plan;
            }
            Err(e) => last = Some(e),
        }
    }
    panic!("{}: {:?}", setup.name, last)
}

#[test]
fn fused_chains_agree_with_the_reference() {
    let setups = setups();
    if setups.is_empty() {
        return;
    }
    // The networks of a device share pipelines for as long as one network exists.
    let _kept: Vec<_> = setups
        .iter()
        .map(|setup| Network::new(&setup.gpu))
        .collect();
    let mut random = Random::new(61);
    let mut layers = BTreeSet::new();
    for i in 0..NETWORKS {
        let kind = KINDS[i % KINDS.len()];
        let model = network(kind, &mut random);
        // Large enough for two poolings, or for the crop of a padded map.
        let least = if kind == "padded" { 12 } else { 8 };
        let on = [i, i + i / KINDS.len() + 1].map(|j| &setups[j % setups.len()]);
        for _ in 0..SIZES {
            let [h, w] = [side(&mut random), side(&mut random)].map(|side| side.max(least));
            let images = 1 + random.below(3);
            let input = random.tensor(Shape::new(images, 3, h, w));
            for setup in on {
                layers.extend(check(&model, &input, setup, kind));
            }
        }
    }
    for layer in &layers {
        eprintln!("{layer}");
    }
    for fused in [
        "conv+relu+max_pool by conv2d_tiled",
        "conv+relu+max_pool by conv2d_texels",
        "max_pool by winograd_output",
        "conv+relu+max_pool by conv2d",
        "conv+batch_norm+relu+max_pool",
        "conv+max_pool",
        "add+relu by broadcast",
        "by conv2d_grouped",
        "conv+relu by conv2d_depthwise",
        "conv_transpose+crop+labels by argmax_upsampled",
        "conv_transpose+crop+labels by argmax_upsampled_diagonal",
        "conv_transpose+crop by conv_transpose2d",
        "interpolate+labels by argmax_resized",
        "by paste",
    ] {
        assert!(
            layers.iter().any(|layer| layer.contains(fused)),
            "no layer is {fused}: {layers:#?}"
        );
    }
}

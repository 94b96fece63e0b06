//! Whole networks against the reference at forty widths and forty heights in a row: FCN-32s, 16s, 8s and 8s at once in
//! all geometries, and VGG as a heat map. Layers have their published widths, except the fully connected ones. These
//! tests find errors that only some sizes show.
//!
//! They take minutes, mostly for the reference: `./check widths` runs them.

use crate::common::{Random, assert_labels, gpu, relative_error, run_on, serialize, with_labels};
use fullconv::low_level::gpu::Network;
use fullconv::low_level::graph::{Graph, NodeKind};
use fullconv::low_level::ops::{Argmax, Op};
use fullconv::low_level::plan::Plan;
use fullconv::{Gpu, GpuOptions, Model, Shape, Tensor};
use std::collections::HashMap;
use std::time::Instant;

/// The number of sizes in a row.
const SIZES: usize = 40;
/// Outputs of the fully connected layers.
const FC: usize = 16;
const CLASSES: usize = 6;

/// Sizes `[h, w]`: each side takes each of the [`SIZES`] values from `first` on once.
fn sizes(first: usize) -> impl Iterator<Item = [usize; 2]> {
    (0..SIZES).map(move |i| [first + i, first + 17 * i % SIZES])
}

/// The tensors of a network under construction.
struct Tensors {
    random: Random,
    tensors: Vec<(String, Tensor)>,
}

impl Tensors {
    /// A convolution with weights that keep the magnitude of values through a ReLU.
    fn conv(&mut self, name: &str, [out, c, kernel]: [usize; 3]) {
        let scale = (6.0 / (c * kernel * kernel) as f32).sqrt();
        let weight = self
            .random
            .tensor(Shape::new(out, c, kernel, kernel))
            .map(|x| x * scale);
        let bias = self.random.tensor(Shape::vector(out)).map(|x| x * 0.1);
        self.tensors.push((format!("{name}.weight"), weight));
        self.tensors.push((format!("{name}.bias"), bias));
    }
}

/// FCN's tensors under the original names or, if `numbered`, under the names of the numbered rewrites.
fn fcn(numbered: bool, scores: &[(&str, usize)]) -> Vec<(String, Tensor)> {
    let mut net = Tensors {
        random: Random::new(71),
        tensors: Vec::new(),
    };
    let (mut c, mut number) = (3, 0);
    let mut name = |of_caffe: String| {
        number += 1;
        if numbered {
            format!("conv{number}")
        } else {
            of_caffe
        }
    };
    for (stage, (convs, out)) in (1..).zip([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]) {
        for i in 1..=convs {
            net.conv(&name(format!("conv{stage}_{i}")), [out, c, 3]);
            c = out;
        }
    }
    net.conv(&name("fc6".into()), [FC, c, 7]);
    net.conv(&name("fc7".into()), [FC, FC, 1]);
    net.conv("score_fr", [CLASSES, FC, 1]);
    for (name, c) in scores {
        net.conv(name, [CLASSES, *c, 1]);
    }
    net.tensors
}

/// torchvision's vgg11. The inputs of its fully connected layers are 7×7 and 1×1.
fn vgg() -> Vec<(String, Tensor)> {
    let mut net = Tensors {
        random: Random::new(72),
        tensors: Vec::new(),
    };
    let convs = [
        (0, 64),
        (3, 128),
        (6, 256),
        (8, 256),
        (11, 512),
        (13, 512),
        (16, 512),
        (18, 512),
    ];
    let mut c = 3;
    for (i, out) in convs {
        net.conv(&format!("features.{i}"), [out, c, 3]);
        c = out;
    }
    for (i, [out, inputs]) in [(0, [FC, c * 49]), (3, [FC, FC]), (6, [CLASSES, FC])] {
        net.conv(&format!("classifier.{i}"), [out, inputs, 1]);
    }
    net.tensors
}

fn model(tensors: &[(String, Tensor)], architecture: &str, geometry: Option<&str>) -> Model {
    let mut metadata = serde_json::json!({"version": 1, "architecture": architecture});
    if let Some(geometry) = geometry {
        metadata["geometry"] = geometry.into();
    }
    let bytes = serialize(tensors, Some(&metadata.to_string()));
    Model::from_bytes(bytes).unwrap()
}

/// The reference's values for one picture. The networks of one geometry share a trunk, whose values are computed once.
struct Reference<'a> {
    input: &'a Tensor,
    trunk: HashMap<String, Tensor>,
}

impl Reference<'_> {
    /// The scores, computed by each op's reference.
    fn scores(&mut self, model: &Model) -> Tensor {
        let graph = model.graph();
        let is_of_trunk = |name: &str| {
            ["conv", "relu", "pool", "fc", "score_fr", "features"]
                .iter()
                .any(|p| name.starts_with(p))
        };
        let mut values: HashMap<_, Tensor> = HashMap::from([(graph.input(), self.input.clone())]);
        for (id, node) in graph.iter() {
            let value = match (&node.kind, self.trunk.get(&node.name)) {
                (NodeKind::Input, _) => continue,
                (NodeKind::Parameter(shape), _) => model
                    .parameters()
                    .get(&node.name, *shape)
                    .unwrap()
                    .tensor()
                    .unwrap(),
                (_, Some(known)) => known.clone(),
                (NodeKind::Op(op), None) => {
                    let inputs: Vec<_> = node.inputs.iter().map(|id| &values[id]).collect();
                    let value = op.reference(&inputs).unwrap();
                    if is_of_trunk(&node.name) {
                        self.trunk.insert(node.name.clone(), value.clone());
                    }
                    value
                }
            };
            values.insert(id, value);
        }
        values.remove(&graph.output()).unwrap()
    }
}

/// A network on the devices.
struct Tried {
    name: String,
    model: Model,
    graph: Graph,
    /// On the device with its own plan, and planned for as a GPU.
    networks: Vec<Network>,
}

impl Tried {
    fn new(name: &str, model: Model, gpus: &[Gpu]) -> Self {
        Self {
            name: name.to_owned(),
            graph: with_labels(&model),
            networks: gpus.iter().map(Network::new).collect(),
            model,
        }
    }

    /// Whether the network has an output for a picture of this shape.
    fn fits(&self, shape: Shape) -> bool {
        self.graph.shapes(shape).is_ok()
    }

    /// Panics unless scores and labels agree with the reference. The plan for labels does not write scores.
    fn check(&self, input: &Tensor, reference: &mut Reference, every_device: bool) {
        let expected = reference.scores(&self.model);
        let scores = self.model.graph().output();
        let networks = self.networks.iter().take(if every_device { 2 } else { 1 });
        for network in networks {
            for output in [scores, self.graph.output()] {
                let plan = Plan::new(
                    &self.graph,
                    input.shape(),
                    &[output],
                    network.gpu().target(),
                );
                let plan = plan.unwrap();
                let what = format!("{} at {}, {}", self.name, input.shape(), network.gpu());
                let found = run_on(network, plan, &self.graph, self.model.parameters(), input);
                let found = &found[0].1;
                if output == scores {
                    let error = relative_error(&expected, found);
                    assert!(error < 1e-5, "{what}: {error:e}");
                } else {
                    assert_labels_of(&expected, found, &what);
                }
            }
        }
    }
}

/// Panics if the score of a label is lower than the highest score by more than rounding.
fn assert_labels_of(scores: &Tensor, found: &Tensor, what: &str) {
    let largest = scores.data().iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let bounds = scores.map(|_| 1e-5 * largest);
    let expected = Argmax {}.reference(&[scores]).unwrap();
    assert_labels(&expected, found, scores, &bounds, what);
}

fn gpus() -> Vec<Gpu> {
    let as_gpu = GpuOptions {
        plan_as_gpu: true,
        ..GpuOptions::default()
    };
    [GpuOptions::default(), as_gpu]
        .into_iter()
        .filter_map(gpu)
        .collect()
}

/// One in this many pictures also runs planned for as a GPU, which is slow on a CPU.
const ON_A_GPU: usize = 8;

/// Runs networks with one trunk at all sizes from `first` on for which they have an output.
fn check_sizes(nets: &[Tried], first: usize) {
    let mut random = Random::new(73);
    let mut checked = 0;
    for (i, [h, w]) in sizes(first).enumerate() {
        let shape = Shape::new(1, 3, h, w);
        let input = random.tensor(shape);
        let begin = Instant::now();
        let mut reference = Reference {
            input: &input,
            trunk: HashMap::new(),
        };
        for net in nets.iter().filter(|net| net.fits(shape)) {
            net.check(&input, &mut reference, i % ON_A_GPU == 0);
            checked += 1;
        }
        eprintln!("{h}×{w}: {:.1?}", begin.elapsed());
    }
    assert!(checked > SIZES * nets.len() / 2, "{checked} pictures");
}

/// Checks the four FCNs in a geometry, with sides from `first` pixels on.
fn check_geometry(geometry: &str, numbered: bool, first: usize) {
    let gpus = gpus();
    if gpus.is_empty() {
        return;
    }
    let pools = [("score_pool4", 512), ("score_pool3", 256)];
    let nets = [
        ("fcn32s", 0),
        ("fcn16s", 1),
        ("fcn8s", 2),
        ("fcn8s-atonce", 2),
    ]
    .map(|(name, scores)| {
        let model = model(&fcn(numbered, &pools[..scores]), name, Some(geometry));
        Tried::new(&format!("{name}, {geometry}"), model, &gpus)
    });
    check_sizes(&nets, first);
}

#[test]
#[ignore = "takes minutes: ./check widths"]
fn fcn_in_geometry_caffe_agrees_with_the_reference_at_every_size() {
    check_geometry("caffe", false, 1);
}

/// This is the geometry of the numbered rewrites, so their names are used. Smaller pictures have no output.
#[test]
#[ignore = "takes minutes: ./check widths"]
fn fcn_in_geometry_floor_agrees_with_the_reference_at_every_size() {
    check_geometry("floor", true, 26);
}

#[test]
#[ignore = "takes minutes: ./check widths"]
fn fcn_in_geometry_same_agrees_with_the_reference_at_every_size() {
    check_geometry("same", false, 31);
}

/// Sides begin at 224, the size of the classifier's input.
#[test]
#[ignore = "takes minutes: ./check widths"]
fn vgg_as_a_heat_map_agrees_with_the_reference_at_every_size() {
    let gpus = gpus();
    if gpus.is_empty() {
        return;
    }
    check_sizes(
        &[Tried::new("vgg11", model(&vgg(), "vgg", None), &gpus)],
        224,
    );
}

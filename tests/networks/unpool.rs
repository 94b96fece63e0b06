//! A network like SegNet, which unpools by the indices of its poolings: every node against the reference, in f32, in
//! f16 (with indices in f32) and in bands. The reference of a node gets the device's own values as inputs: rounding may
//! decide which value of a window is the largest, and so change the indices.

use crate::common::plans::{check_limits, check_liveness};
use crate::common::{
    Random, all_gpus, assert_within, half_bounds, relative_error, run_on, tensor_file,
};
use fullconv::low_level::device_profile::DeviceProfile;
use fullconv::low_level::gpu::Network;
use fullconv::low_level::graph::{Graph, NodeId, NodeKind};
use fullconv::low_level::ops::kernel::Format;
use fullconv::low_level::ops::numerics;
use fullconv::low_level::ops::{Conv2d, MaxPool2d, MaxPool2dIndices, MaxUnpool2d, Relu};
use fullconv::low_level::plan::Plan;
use fullconv::low_level::reference;
use fullconv::low_level::target::{PlanOptions, Target};
use fullconv::{ErrorKind, Gpu, Parameters, Shape, Tensor};
use std::collections::{BTreeMap, HashMap};

/// A graph under construction and its weights.
struct SegNet {
    graph: Graph,
    tensors: Vec<(String, Tensor)>,
    random: Random,
}

impl SegNet {
    /// A convolution and ReLU.
    fn conv(&mut self, name: &str, from: NodeId, c: usize, out: usize) -> NodeId {
        let mut parameter = |part: &str, shape: Shape| {
            let name = format!("{name}.{part}");
            let scale = 2.0 / ((shape.c * shape.h * shape.w) as f32).sqrt();
            // Numbers that f16 holds.
            let value = self.random.tensor(shape).map(|x| narrow(x * scale));
            self.tensors.push((name.clone(), value));
            self.graph.parameter(name, shape).unwrap()
        };
        let weight = parameter("weight", Shape::new(out, c, 3, 3));
        let bias = parameter("bias", Shape::vector(out));
        let conv = self
            .graph
            .op(name, Conv2d::padded(1), &[from, weight, bias]);
        let relu = format!("{name}.relu");
        self.graph.op(relu, Relu {}, &[conv.unwrap()]).unwrap()
    }

    /// A pooling: its values and their indices.
    fn pool(&mut self, name: &str, from: NodeId, ceil_mode: bool) -> [NodeId; 2] {
        let pool = MaxPool2d::square(2, 2, ceil_mode);
        let indices = MaxPool2dIndices { pool: pool.clone() };
        let values = self.graph.op(name, pool, &[from]).unwrap();
        let indices = self.graph.op(format!("{name}.indices"), indices, &[from]);
        [values, indices.unwrap()]
    }

    fn new(size: [usize; 2]) -> Self {
        let graph = Graph::new("input");
        let mut net = Self {
            graph,
            tensors: Vec::new(),
            random: Random::new(31),
        };
        let conv1 = net.conv("conv1", net.graph.input(), 3, 6);
        let [pool1, indices1] = net.pool("pool1", conv1, false);
        let conv2 = net.conv("conv2", pool1, 6, 9);
        let [pool2, indices2] = net.pool("pool2", conv2, true);
        let middle = net.conv("middle", pool2, 9, 9);
        // One unpooling has the size of another node, the other a given size.
        let unpool2 = MaxUnpool2d::square(2, 2);
        let unpool2 = net.graph.op("unpool2", unpool2, &[middle, indices2, conv2]);
        let back2 = net.conv("back2", unpool2.unwrap(), 9, 6);
        let unpool1 = MaxUnpool2d {
            output_size: Some(size),
            ..MaxUnpool2d::square(2, 2)
        };
        let unpool1 = net.graph.op("unpool1", unpool1, &[back2, indices1]);
        net.conv("score", unpool1.unwrap(), 6, 5);
        net
    }

    fn parameters(&self) -> Parameters {
        Parameters::new(tensor_file(&self.tensors), BTreeMap::new())
    }
}

fn narrow(x: f32) -> f32 {
    half::f16::from_f32(x).to_f32()
}

fn ops(graph: &Graph) -> Vec<NodeId> {
    let ops = graph.iter().filter(|(_, node)| node.op().is_some());
    ops.map(|(id, _)| id).collect()
}

/// Panics unless each of `values` agrees with the reference on the values before it.
fn check_nodes(net: &SegNet, input: &Tensor, values: &[(NodeId, Tensor)], half: bool, what: &str) {
    let mut known: HashMap<NodeId, Tensor> = values.iter().cloned().collect();
    known.insert(net.graph.input(), input.clone());
    for (id, node) in net.graph.iter() {
        if let NodeKind::Parameter(_) = node.kind {
            let (_, value) = net
                .tensors
                .iter()
                .find(|(name, _)| *name == node.name)
                .unwrap();
            known.insert(id, value.clone());
        }
    }
    for (id, found) in values {
        let node = net.graph.node(*id);
        let op = node.op().unwrap();
        let inputs: Vec<_> = node.inputs.iter().map(|id| &known[id]).collect();
        let expected = op.reference(&inputs).unwrap();
        let bounds = match half {
            true => half_bounds(op.as_ref(), &inputs, &expected),
            false => numerics::bounds(op.as_ref(), &inputs, &expected).unwrap(),
        };
        assert_within(&expected, found, &bounds, &format!("{what}: {}", node.name));
    }
}

/// Plans for less and less memory.
fn in_bands(net: &SegNet, input: Shape, whole: &Plan, target: &Target) -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    let mut memory_bytes = whole.peak_device_bytes() - 1;
    loop {
        let small = Target {
            device: DeviceProfile {
                max_binding_bytes: 1 << 14,
                ..target.device.clone()
            },
            options: PlanOptions {
                memory_bytes,
                ..target.options.clone()
            },
        };
        match Plan::new(&net.graph, input, &[net.graph.output()], &small) {
            Ok(plan) => {
                check_limits(&plan, &small);
                check_liveness(&plan, &net.graph);
                memory_bytes = plan.peak_device_bytes() - plan.activation_bytes().div_ceil(32);
                plans.push(plan);
            }
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
                return plans;
            }
        }
    }
}

fn check(name: &str, gpu: &Gpu, target: &Target) {
    let shape = Shape::new(2, 3, 91, 38);
    let net = SegNet::new([shape.h, shape.w]);
    let (graph, parameters) = (&net.graph, net.parameters());
    let input = Random::new(32).tensor(shape).map(narrow);
    let network = Network::new(gpu);
    let run = |plan| run_on(&network, plan, graph, &parameters, &input);
    let what = format!(
        "{name}{}",
        if target.options.half { ", in f16" } else { "" }
    );

    let all = ops(graph);
    let plan = Plan::new(graph, shape, &all, target).unwrap();
    for (id, place) in &plan.outputs {
        let is_indices = graph.node(*id).name.ends_with("indices");
        let is_half = target.options.half && !is_indices;
        let format = if is_half {
            Format::Nhwc4Half
        } else {
            Format::Nhwc4
        };
        assert_eq!(place.format, format, "{what}: {}", graph.node(*id).name);
    }
    let values = run(plan);
    check_nodes(&net, &input, &values, target.options.half, &what);

    // With only its output requested, whole and in bands.
    let (_, expected) = values.last().unwrap();
    let whole = Plan::new(graph, shape, &[graph.output()], target).unwrap();
    assert!(whole.groups.is_empty());
    let bands = in_bands(&net, shape, &whole, target);
    let most = bands.iter().flat_map(|plan| &plan.groups).map(|g| g.bands);
    let (plans, most) = (bands.len(), most.max());
    assert!(
        plans >= 2 && most >= Some(2),
        "{what}: {plans} plans, {most:?} bands"
    );
    for plan in std::iter::once(whole).chain(bands) {
        let slots = plan.slots.clone();
        let found = run(plan).remove(0).1;
        assert!(found == *expected, "{what}: in buffers of {slots:?}");
    }
    if !target.options.half {
        let outputs = [graph.output()];
        let on_cpu = reference::run(graph, &parameters, &input, &outputs).unwrap();
        let error = relative_error(&on_cpu[0].1, expected);
        assert!(error < 1e-5, "{what}: {error:e}");
    }
}

#[test]
fn segnet_agrees_with_the_reference_whole_and_in_bands() {
    for (name, gpu) in all_gpus() {
        check(name, &gpu, gpu.target());
        match gpu.half_target() {
            Ok(half) => check(name, &gpu, &half),
            Err(e) => eprintln!("SKIP: {name}: {e}"),
        }
    }
}

/// An unpooling whose values are its indices: each index moves to the position that it names.
fn unpool() -> Graph {
    let mut graph = Graph::new("indices");
    let input = graph.input();
    graph
        .op("unpool", MaxUnpool2d::square(2, 2), &[input, input])
        .unwrap();
    graph
}

#[test]
fn an_index_outside_its_window_is_an_error_on_the_cpu_and_nan_on_the_device() {
    let right = [0.0, 3.0, 13.0, 10.0];
    for (place, wrong) in [
        (0, 2.0),
        (1, 0.0),
        (2, 4.0),
        (3, 16.0),
        (3, 1e9),
        (0, -1.0),
        (2, 8.5),
        (1, f32::NAN),
    ] {
        let mut indices = right;
        indices[place] = wrong;
        let input = Tensor::new(Shape::new(1, 1, 2, 2), indices.to_vec()).unwrap();
        let graph = unpool();
        let op = graph.node(graph.output()).op().unwrap();
        let error = op.reference(&[&input, &input]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(
            error
                .to_string()
                .contains(&format!("{wrong} at [0, 0, {}, {}]", place / 2, place % 2)),
            "{error}"
        );
        for (name, gpu) in all_gpus() {
            let parameters = Parameters::new(tensor_file(&[]), BTreeMap::new());
            let found = crate::common::run(&gpu, &graph, &parameters, &input, &[graph.output()]);
            for (i, value) in found[0].1.data().iter().enumerate() {
                let window = i / 8 * 2 + i % 4 / 2;
                let is_right = right[window] == i as f32;
                let expected = if is_right { right[window] } else { 0.0 };
                match window == place {
                    true => assert!(value.is_nan(), "{name}: {wrong} at {place}: {value} at {i}"),
                    false => assert_eq!(*value, expected, "{name}: {wrong} at {place}: at {i}"),
                }
            }
        }
    }
}

#[test]
fn a_plane_of_more_pixels_than_f32_can_index_is_an_error() {
    let op = MaxPool2dIndices {
        pool: MaxPool2d::square(2, 2, false),
    };
    let shape = |h, w| fullconv::low_level::ops::Op::output_shape(&op, &[Shape::new(1, 1, h, w)]);
    assert!(shape(4096, 4096).is_ok());
    let error = shape(4096, 4098).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    for part in ["16777216", "4096 × 4098"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

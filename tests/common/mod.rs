//! What the tests share: devices, random tensors, graphs of one op, and the bounds they answer to.
#![allow(dead_code)] // Each test program uses a part of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // These are tests.

use fullconv::gpu::{Executor, Network};
use fullconv::graph::{Graph, NodeId};
use fullconv::ops::Op;
use fullconv::plan::Plan;
use fullconv::{ErrorKind, Gpu, GpuOptions, Parameters, Shape, Tensor, TensorFile};
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Half the distance from 1 to the next `f32`: the relative error of one rounding.
pub const UNIT: f64 = 1.0 / (1u32 << 24) as f64;

/// A device with `options`, its buffers poisoned. Without any adapter the test is skipped, loudly, or
/// fails where `FULLCONV_REQUIRE_GPU` is 1.
pub fn gpu(options: GpuOptions) -> Option<Gpu> {
    let options = GpuOptions {
        poison: true,
        ..options
    };
    match pollster::block_on(Gpu::with_options(&options)) {
        Ok(gpu) => Some(gpu),
        Err(e) if e.kind() == ErrorKind::NoAdapter => {
            let required = std::env::var("FULLCONV_REQUIRE_GPU").is_ok_and(|v| v == "1");
            assert!(!required, "a GPU is required: {e}");
            eprintln!("SKIP: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// The ways a device is opened that lead to other kernels or other cuts of them.
pub fn all_gpus() -> Vec<(&'static str, Gpu)> {
    let options = |default_limits, checked_shaders| GpuOptions {
        default_limits,
        checked_shaders,
        ..GpuOptions::default()
    };
    [
        ("as it is", options(false, false)),
        ("with checked shaders", options(false, true)),
        ("with WebGPU's default limits", options(true, false)),
        (
            "with WebGPU's default limits and checked shaders",
            options(true, true),
        ),
    ]
    .into_iter()
    .filter_map(|(name, options)| Some((name, gpu(options)?)))
    .collect()
}

/// Random numbers, the same in every run.
pub struct Random(TestRng);

impl Random {
    pub fn new(seed: u8) -> Self {
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]))
    }

    /// Between −1 and 1.
    pub fn float(&mut self) -> f32 {
        use proptest::prelude::Rng as _;
        self.0.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0
    }

    pub fn tensor(&mut self, shape: Shape) -> Tensor {
        Tensor::from_fn(shape, |_, _, _, _| self.float()).unwrap()
    }

    /// A picture: whole numbers from 0 to 255.
    pub fn picture(&mut self, shape: Shape) -> Tensor {
        Tensor::from_fn(shape, |_, _, _, _| ((self.float() + 1.0) * 127.5).round()).unwrap()
    }
}

/// A safetensors file in memory.
pub fn tensor_file(tensors: &[(String, Tensor)]) -> TensorFile {
    TensorFile::from_bytes(serialize(tensors, None)).unwrap()
}

/// The bytes of a safetensors file of `f32` tensors; one of shape `[c, 1, 1, 1]` has one dimension.
pub fn serialize(tensors: &[(String, Tensor)], metadata: Option<&str>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, t)| {
        let Shape { n, c, h, w } = t.shape();
        let dimensions = match (c, h, w) {
            (1, 1, 1) => vec![n],
            _ => vec![n, c, h, w],
        };
        let bytes = bytemuck::cast_slice(t.data());
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, dimensions, bytes);
        (name.clone(), view.unwrap())
    });
    let metadata = metadata.map(|text| [("fullconv".to_owned(), text.to_owned())].into());
    safetensors::serialize(views, metadata).unwrap()
}

/// An op with its inputs, as a graph: the first input is the graph's, weights and biases are parameters,
/// and another activation is the first input resized.
pub struct OneOp {
    pub graph: Graph,
    pub parameters: Parameters,
    pub input: Tensor,
    /// Every input of the op.
    pub inputs: Vec<Tensor>,
    pub op: Arc<dyn Op>,
}

/// Delegates to an op that is shared.
#[derive(Debug)]
struct Shared(Arc<dyn Op>);

impl Op for Shared {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn output_shape(&self, inputs: &[Shape]) -> fullconv::Result<Shape> {
        self.0.output_shape(inputs)
    }
    fn reference(&self, inputs: &[&Tensor]) -> fullconv::Result<Tensor> {
        self.0.reference(inputs)
    }
    fn kernels(
        &self,
        inputs: &[Shape],
        device: &fullconv::device_profile::DeviceProfile,
    ) -> fullconv::Result<Vec<fullconv::ops::kernel::Kernel>> {
        self.0.kernels(inputs, device)
    }
    fn terms(&self, inputs: &[Shape]) -> usize {
        self.0.terms(inputs)
    }
}

impl OneOp {
    /// `op` on random inputs of these shapes.
    pub fn random(op: Arc<dyn Op>, shapes: &[Shape], random: &mut Random) -> Self {
        let is_picture = op.name() == "preprocess";
        let inputs = shapes.iter().map(|s| {
            if is_picture {
                random.picture(*s)
            } else {
                random.tensor(*s)
            }
        });
        Self::new(op, inputs.collect())
    }

    /// `op` on `inputs`; of an op on two activations, the second is made from the first.
    pub fn new(op: Arc<dyn Op>, mut inputs: Vec<Tensor>) -> Self {
        let has_parameters = op.name().starts_with("conv");
        let mut graph = Graph::new("input");
        let mut ids = vec![graph.input()];
        let mut tensors = Vec::new();
        for (i, value) in inputs.iter_mut().enumerate().skip(1) {
            let (name, shape) = (format!("input{i}"), value.shape());
            if has_parameters {
                ids.push(graph.parameter(&name, shape).unwrap());
                tensors.push((name, value.clone()));
            } else {
                let resize = fullconv::ops::ResizeBilinear {
                    size: [shape.h, shape.w],
                    align_corners: false,
                };
                ids.push(graph.op(&name, resize, &[graph.input()]).unwrap());
            }
        }
        if !has_parameters && inputs.len() > 1 {
            let second = graph
                .node(ids[1])
                .op()
                .unwrap()
                .reference(&[&inputs[0]])
                .unwrap();
            inputs[1] = second;
        }
        graph.op("op", Shared(op.clone()), &ids).unwrap();
        Self {
            graph,
            parameters: Parameters::new(tensor_file(&tensors), BTreeMap::new()),
            input: inputs[0].clone(),
            inputs,
            op,
        }
    }

    /// What the CPU twin says.
    pub fn expected(&self) -> Tensor {
        self.op
            .reference(&self.inputs.iter().collect::<Vec<_>>())
            .unwrap()
    }

    /// What the device says.
    pub fn run(&self, gpu: &Gpu) -> Tensor {
        let outputs = [self.graph.output()];
        run(gpu, &self.graph, &self.parameters, &self.input, &outputs)
            .remove(0)
            .1
    }

    /// How far an element may be off: (K + 16) roundings of the sum of its terms' magnitudes.
    pub fn bounds(&self) -> Tensor {
        let shapes: Vec<_> = self.inputs.iter().map(Tensor::shape).collect();
        let magnitudes: Vec<_> = self.inputs.iter().map(|t| t.map(f32::abs)).collect();
        let factor = ((self.op.terms(&shapes) + 16) as f64 * UNIT) as f32;
        match self.op.name() {
            // Sums of terms: the sum of their magnitudes is the op of magnitudes.
            "conv2d" | "conv_transpose2d" | "resize_bilinear" | "add" => {
                let refs: Vec<_> = magnitudes.iter().collect();
                self.op.reference(&refs).unwrap().map(|x| x * factor)
            }
            // The mean that is taken away is as large as what is left.
            "preprocess" => self.expected().map(|x| (x.abs() + 2.0) * factor),
            // `exp` on a device errs by up to 3 + 2 · |x| units, here |x| ≤ 2.
            "softmax" => self.expected().map(|x| x * 4.0 * factor),
            _ => self.expected().map(|x| x.abs() * UNIT as f32),
        }
    }

    /// Panics unless the device agrees with the twin, element by element.
    pub fn check(&self, gpu: &Gpu, what: &str) {
        let (expected, found, bounds) = (self.expected(), self.run(gpu), self.bounds());
        assert_eq!(found.shape(), expected.shape(), "{what}");
        for (i, ((e, f), b)) in expected
            .data()
            .iter()
            .zip(found.data())
            .zip(bounds.data())
            .enumerate()
        {
            assert!(
                (e - f).abs() <= *b,
                "{what}: {:?} on {:?}: at {:?} expected {e}, found {f}, bound {b:e}",
                self.op,
                self.inputs.iter().map(Tensor::shape).collect::<Vec<_>>(),
                expected.position(i),
            );
        }
    }
}

/// Runs a graph on a device.
pub fn run(
    gpu: &Gpu,
    graph: &Graph,
    parameters: &Parameters,
    input: &Tensor,
    outputs: &[NodeId],
) -> Vec<(NodeId, Tensor)> {
    let plan = Plan::new(graph, input.shape(), outputs, gpu.profile()).unwrap();
    run_plan(gpu, plan, graph, parameters, input)
}

/// Runs a plan on a device.
pub fn run_plan(
    gpu: &Gpu,
    plan: Plan,
    graph: &Graph,
    parameters: &Parameters,
    input: &Tensor,
) -> Vec<(NodeId, Tensor)> {
    pollster::block_on(async {
        let network = Network::new(gpu);
        let mut executor = Executor::new(&network, plan, graph, parameters).await?;
        executor.run(input).await
    })
    .unwrap()
}

/// ‖found − expected‖ / ‖expected‖; infinite where something is not finite.
pub fn relative_error(expected: &Tensor, found: &Tensor) -> f64 {
    assert_eq!(expected.shape(), found.shape());
    let (mut squares, mut norm) = (0.0, 0.0);
    for (e, f) in expected.data().iter().zip(found.data()) {
        let (e, f) = (f64::from(*e), f64::from(*f));
        squares += if f.is_finite() {
            (e - f) * (e - f)
        } else {
            f64::INFINITY
        };
        norm += e * e;
    }
    if squares == 0.0 {
        0.0
    } else {
        (squares / norm).sqrt()
    }
}

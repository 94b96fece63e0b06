//! What the tests share: devices, random tensors, graphs of one op, and the bounds they answer to.
#![allow(dead_code)] // Each test program uses a part of it.

pub mod emulation;
mod parts;
pub mod plans;
pub mod ways;
pub mod writes;

use fullconv::device_profile::{CooperativeMatrix, DeviceProfile};
use fullconv::gpu::{Backend, Executor, Network, wgpu};
use fullconv::graph::{Graph, NodeId};
use fullconv::ops::candidate::Candidate;
use fullconv::ops::interpolate::InterpolateMode;
use fullconv::ops::kernel::{Binding, Format, Kernel};
use fullconv::ops::numerics::{self, Numerics};
use fullconv::ops::{
    Argmax, Case, Interpolate, MaxPool2d, MaxPool2dIndices, MaxUnpool2d, Op, StageInput,
};
use fullconv::plan::Plan;
use fullconv::plan::lowered::{FusedArgmax, Scores, lower};
use fullconv::target::{PlanOptions, Target};
use fullconv::{ErrorKind, Gpu, GpuOptions, Model, Parameters, Shape, Tensor, TensorFile};
use parts::{Builder, Role, roles, side_by_side};
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The same of f16, and its least step above zero.
pub const HALF_UNIT: f32 = 1.0 / (1u32 << 11) as f32;
pub const HALF_STEP: f32 = 1.0 / (1u32 << 24) as f32;

/// The backend that `FULLCONV_TEST_BACKEND` names: tests run there, or fail. Without it, on any.
pub fn wanted_backend() -> Option<Backend> {
    let name = std::env::var("FULLCONV_TEST_BACKEND").ok()?;
    Some(name.parse().unwrap_or_else(|e| panic!("{e}")))
}

/// A device with `options`, its buffers poisoned. Without any adapter the test is skipped, loudly, or
/// fails where `FULLCONV_REQUIRE_GPU` is 1 or `FULLCONV_TEST_BACKEND` names a backend.
pub fn gpu(options: GpuOptions) -> Option<Gpu> {
    let wanted = wanted_backend();
    let options = GpuOptions {
        poison: true,
        backend: options.backend.or(wanted),
        ..options
    };
    match pollster::block_on(Gpu::with_options(&options)) {
        Ok(gpu) => {
            let found = gpu.info().backend.to_str();
            let asked = options.backend.map(|backend| backend.to_string());
            assert_eq!(found, asked.as_deref().unwrap_or(found), "{gpu}");
            Some(gpu)
        }
        Err(e) if e.kind() == ErrorKind::NoAdapter => {
            let required = std::env::var("FULLCONV_REQUIRE_GPU").is_ok_and(|v| v == "1");
            assert!(!required && wanted.is_none(), "a GPU is required: {e}");
            eprintln!("SKIP: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// A network of `tests/goldens`.
pub fn golden(file: &str) -> Model {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/");
    Model::read(format!("{folder}{file}.safetensors")).unwrap()
}

/// A model's own graph, with its labels.
pub fn with_labels(model: &Model) -> Graph {
    let mut graph = model.graph().clone();
    graph.op("labels", Argmax {}, &[graph.output()]).unwrap();
    graph
}

/// The ways a device is opened that lead to other kernels or other cuts of them.
pub fn all_gpus() -> Vec<(&'static str, Gpu)> {
    let options = |default_limits, checked_shaders, plan_as_gpu| GpuOptions {
        default_limits,
        checked_shaders,
        plan_as_gpu,
        ..GpuOptions::default()
    };
    [
        ("as it is", options(false, false, false)),
        ("with checked shaders", options(false, true, false)),
        ("with WebGPU's default limits", options(true, false, false)),
        (
            "with WebGPU's default limits and checked shaders",
            options(true, true, false),
        ),
        ("planned as a GPU", options(false, false, true)),
        (
            "planned as a GPU with WebGPU's default limits and checked shaders",
            options(true, true, true),
        ),
    ]
    .into_iter()
    .filter(|(_, options)| !(options.checked_shaders && compiles_slowly()))
    .filter_map(|(name, options)| Some((name, another_gpu(options)?)))
    .collect()
}

/// Whether shaders with checks, which the other backends run too, would take most of the time: Microsoft's FXC
/// unrolls and simulates what it can.
fn compiles_slowly() -> bool {
    wanted_backend() == Some(Backend::Dx12)
}

/// The same as [`gpu`], but for a device that would be planned for as a GPU in any case and is asked to be:
/// that one was opened already.
pub fn another_gpu(options: GpuOptions) -> Option<Gpu> {
    let asked = options.plan_as_gpu;
    let is_cpu = |gpu: &Gpu| gpu.info().device_type == wgpu::DeviceType::Cpu;
    gpu(options).filter(|gpu| !asked || is_cpu(gpu))
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

    /// Less than `end`.
    pub fn below(&mut self, end: usize) -> usize {
        use proptest::prelude::Rng as _;
        self.0.next_u32() as usize % end
    }

    pub fn tensor(&mut self, shape: Shape) -> Tensor {
        Tensor::from_fn(shape, |_, _, _, _| self.float()).unwrap()
    }

    /// A picture: whole numbers from 0 to 255.
    pub fn picture(&mut self, shape: Shape) -> Tensor {
        Tensor::from_fn(shape, |_, _, _, _| ((self.float() + 1.0) * 127.5).round()).unwrap()
    }
}

/// The kernels of an op on a device: its own, those that are worth a try, and those of its stages.
pub fn kernels(op: &dyn Op, inputs: &[Shape], target: &Target) -> Vec<Kernel> {
    let mut kernels = op.kernels(inputs, target).unwrap();
    kernels.extend(op.other_kernels(inputs, target).unwrap());
    let mut between: Vec<Shape> = Vec::new();
    for stage in op.stages(inputs, target) {
        let shapes = stage.inputs.iter().map(|input| match *input {
            StageInput::Op(i) => inputs[i],
            StageInput::Stage(i) => between[i],
        });
        let shapes: Vec<_> = shapes.collect();
        kernels.extend(stage.op.kernels(&shapes, target).unwrap());
        kernels.extend(stage.op.other_kernels(&shapes, target).unwrap());
        between.push(stage.op.output_shape(&shapes).unwrap());
    }
    assert!(!kernels.is_empty(), "{op:?} has no kernel");
    kernels
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

/// An op with its inputs, as a graph.
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
    fn candidates(&self, inputs: &[Shape], device: &Target) -> fullconv::Result<Vec<Candidate>> {
        self.0.candidates(inputs, device)
    }
    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        self.0.numerics(inputs)
    }
}

impl OneOp {
    /// `op` on random inputs of these shapes.
    pub fn random(op: Arc<dyn Op>, shapes: &[Shape], random: &mut Random) -> Self {
        let case = Case {
            op,
            inputs: shapes.to_vec(),
            diagonal: false,
        };
        Self::of_case(case, random)
    }

    /// A case on random inputs.
    pub fn of_case(case: Case, random: &mut Random) -> Self {
        let mut inputs: Vec<_> = case.inputs.iter().map(|s| random.tensor(*s)).collect();
        if case.op.name() == "preprocess" {
            inputs = case.inputs.iter().map(|s| random.picture(*s)).collect();
        }
        if case.diagonal {
            inputs[1] = diagonal(&inputs[1]);
        }
        Self::new(case.op, inputs)
    }

    /// `op`, lowered, on `inputs`. Of several activations, the graph's input holds all, side by side in its channels, and they
    /// are taken apart by operations that change no number. Where it cannot, since it has one batch and finite
    /// numbers, those but the first are tensors of the file.
    pub fn new(op: Arc<dyn Op>, inputs: Vec<Tensor>) -> Self {
        let op = lower(&op);
        if let Some(unpool) = (op.as_ref() as &dyn Any).downcast_ref() {
            return Self::of_unpool(unpool, op.clone(), &inputs);
        }
        let roles = roles(op.as_ref(), &inputs);
        let is_activation = |i: &usize| roles[*i] == Role::Activation;
        let activations: Vec<_> = (0..inputs.len()).filter(is_activation).collect();
        let of = |i: &usize| &inputs[*i];
        let first = activations.first().map(of);
        let together = activations.len() > 1
            && activations.iter().map(of).all(|t| {
                let finite = t.data().iter().all(|x| x.is_finite());
                finite && Some(t.shape().n) == first.map(|first| first.shape().n)
            });
        let mut builder = Builder::new();
        let input = match (together, first) {
            (true, _) => side_by_side(&activations.iter().map(of).collect::<Vec<_>>()),
            (_, Some(first)) => first.clone(),
            (_, None) => Tensor::zeros(Shape::new(1, 1, 1, 1)).unwrap(),
        };
        let (mut ids, mut begin) = (Vec::new(), 0);
        for (i, value) in inputs.iter().enumerate() {
            ids.push(match roles[i] {
                Role::Activation if together => {
                    let part = builder.part(i, &input, begin, value.shape());
                    begin += value.shape().c;
                    part
                }
                Role::Activation if Some(&i) == activations.first() => builder.graph.input(),
                _ => builder.parameter(format!("input{i}"), value.clone()),
            });
        }
        let Builder { mut graph, tensors } = builder;
        graph.op("op", Shared(op.clone()), &ids).unwrap();
        Self {
            graph,
            parameters: Parameters::new(tensor_file(&tensors), BTreeMap::new()),
            input,
            inputs,
            op,
        }
    }

    /// An unpooling of values and indices that are made, exactly, of one plane: the graph's input, as large as the
    /// output, of the numbers of `inputs`.
    fn of_unpool(unpool: &MaxUnpool2d, op: Arc<dyn Op>, inputs: &[Tensor]) -> Self {
        let shapes: Vec<_> = inputs.iter().map(Tensor::shape).collect();
        let (values, output) = (&inputs[0], op.output_shape(&shapes).unwrap());
        let plane = Tensor::from_fn(output, |n, c, y, x| {
            let plane = values.plane(n, c);
            plane[(7 * y + 3 * x + y * x) % plane.len()]
        });
        let plane = plane.unwrap();
        let resize = Interpolate {
            mode: InterpolateMode::Nearest,
            ..Interpolate::bilinear([shapes[0].h, shapes[0].w], false)
        };
        let pool = pool_of(unpool, shapes[0], output);
        let mut made = vec![
            resize.reference(&[&plane]).unwrap(),
            pool.reference(&[&plane]).unwrap(),
        ];
        let mut graph = Graph::new("input");
        let input = graph.input();
        let mut ids = vec![
            graph.op("input0", resize, &[input]).unwrap(),
            graph.op("input1", pool, &[input]).unwrap(),
        ];
        if inputs.len() > 2 {
            made.push(plane.clone());
            ids.push(input);
        }
        graph.op("op", Shared(op.clone()), &ids).unwrap();
        Self {
            graph,
            parameters: Parameters::new(tensor_file(&[]), BTreeMap::new()),
            input: plane,
            inputs: made,
            op,
        }
    }

    /// `tensor`, the op's input number `input`, with NaN in all rows but `rows`, which count through the batch; of
    /// indices, with others of the same windows.
    fn spoiled_outside(
        &self,
        input: usize,
        format: Format,
        rows: &std::ops::Range<usize>,
    ) -> Tensor {
        let tensor = &self.inputs[input];
        let shape = tensor.shape();
        let unpool = (self.op.as_ref() as &dyn Any).downcast_ref();
        let others = unpool
            .filter(|_| format == Format::Nhwc4Exact)
            .map(|unpool| {
                let pool = pool_of(unpool, shape, self.input.shape());
                pool.reference(&[&self.input.map(|x| -x)]).unwrap()
            });
        Tensor::from_fn(shape, |n, c, y, x| {
            match (rows.contains(&(n * shape.h + y)), &others) {
                (true, _) => tensor.at(n, c, y, x),
                (false, Some(others)) => others.at(n, c, y, x),
                (false, None) => f32::NAN,
            }
        })
        .unwrap()
    }

    /// The same op on inputs that f16 holds: as a device has them that keeps activations and weights so.
    pub fn in_half(&self) -> Self {
        let mut inputs = self.inputs.clone();
        let roles = roles(self.op.as_ref(), &inputs);
        for (input, role) in inputs.iter_mut().zip(roles) {
            if role != Role::Whole {
                *input = input.map(|x| half::f16::from_f32(x).to_f32());
            }
        }
        Self::new(self.op.clone(), inputs)
    }

    /// How far an element may be off that is kept in f16: as [`OneOp::bounds`], and one rounding more.
    pub fn half_bounds(&self) -> Tensor {
        let inputs: Vec<_> = self.inputs.iter().collect();
        half_bounds(self.op.as_ref(), &inputs, &self.expected())
    }

    /// Panics unless the device, keeping activations and weights in f16, agrees with the reference on what f16
    /// holds of the inputs, element by element, with each of `profiles`.
    pub fn check_half(&self, gpu: &Gpu, targets: &[Target], what: &str) {
        let one = self.in_half();
        let plans: Vec<_> = targets.iter().map(|p| one.plan(p)).collect();
        let plans = plans.into_iter().filter_map(|plan| match plan {
            Ok(plan) => Some(plan),
            // Even one row is larger than such a binding.
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Limit, "{what}: {e}");
                None
            }
        });
        let (expected, bounds) = (one.expected(), one.half_bounds());
        for found in one.run_plans(gpu, plans.collect()) {
            let shapes: Vec<_> = one.inputs.iter().map(Tensor::shape).collect();
            let what = format!("{what}, in f16: {:?} on {shapes:?}", one.op);
            assert_within(&expected, &found, &bounds, &what);
        }
    }

    /// What the reference implementation says.
    pub fn expected(&self) -> Tensor {
        self.op
            .reference(&self.inputs.iter().collect::<Vec<_>>())
            .unwrap()
    }

    /// The plan for a device with `profile`.
    pub fn plan(&self, target: &Target) -> fullconv::Result<Plan> {
        let outputs = [self.graph.output()];
        Plan::new(&self.graph, self.input.shape(), &outputs, target)
    }

    /// What the device says.
    pub fn run(&self, gpu: &Gpu) -> Tensor {
        self.run_plan(gpu, self.plan(gpu.target()).unwrap())
    }

    /// What the device says when it does what `plan` says.
    pub fn run_plan(&self, gpu: &Gpu, plan: Plan) -> Tensor {
        self.run_plans(gpu, vec![plan]).remove(0)
    }

    /// What the device says when it does what each of `plans` says, with kernels compiled once.
    pub fn run_plans(&self, gpu: &Gpu, plans: Vec<Plan>) -> Vec<Tensor> {
        let network = Network::new(gpu);
        plans
            .into_iter()
            .map(|plan| run_on(&network, plan, &self.graph, &self.parameters, &self.input))
            .map(|mut outputs| outputs.remove(0).1)
            .collect()
    }

    /// How far an element may be off where the device computes in f32, as the op says.
    pub fn bounds(&self) -> Tensor {
        let inputs: Vec<_> = self.inputs.iter().collect();
        numerics::bounds(self.op.as_ref(), &inputs, &self.expected()).unwrap()
    }

    /// Panics unless the device agrees with the reference, element by element, with each kernel that it may
    /// prefer.
    pub fn check(&self, gpu: &Gpu, what: &str) {
        let targets = preferences(gpu.target());
        let plans = targets.iter().map(|target| self.plan(target).unwrap());
        for (found, target) in self.run_plans(gpu, plans.collect()).iter().zip(&targets) {
            let busy = target.device.invocations_at_once;
            self.check_found(found, &format!("{what}, busy with {busy} invocations"));
        }
    }

    /// Panics unless `found` agrees with the reference, element by element.
    pub fn check_found(&self, found: &Tensor, what: &str) {
        let (expected, bounds) = (self.expected(), self.bounds());
        let shapes: Vec<_> = self.inputs.iter().map(Tensor::shape).collect();
        let what = format!("{what}: {:?} on {shapes:?}", self.op);
        assert_within(&expected, found, &bounds, &what);
    }

    /// Where the op makes labels: the scores of which they are, and how far those may be off.
    pub fn scores_of_labels(&self) -> Option<(Tensor, Tensor)> {
        let op: &dyn Any = self.op.as_ref();
        if op.is::<Argmax>() {
            return Some((self.input.clone(), self.input.map(|_| 0.0)));
        }
        let op: Arc<dyn Op> = match &op.downcast_ref::<FusedArgmax>()?.scores {
            Scores::Resized(resize) => Arc::new(resize.clone()),
            Scores::Upsampled(upsampling) => Arc::new(upsampling.clone()),
        };
        let one = Self::new(op, self.inputs.clone());
        Some((one.expected(), one.bounds()))
    }

    /// Panics unless the rows that the planner binds for a row of the output hold all that it is made of:
    /// the reference, with NaN in every other row, must say the same.
    pub fn check_rows(&self) {
        let shapes: Vec<_> = self.inputs.iter().map(Tensor::shape).collect();
        let kernels = self.op.kernels(&shapes, &Target::WEBGPU_DEFAULTS);
        let expected = self.expected();
        // An op may have stages alone, each of which is another op.
        let kernels = kernels.unwrap();
        for binding in kernels.first().iter().flat_map(|kernel| &kernel.bindings) {
            let Binding::Activation {
                input,
                rows,
                format,
            } = *binding
            else {
                continue;
            };
            for row in 0..expected.shape().n * expected.shape().h {
                let needed = rows.needed(row..row + 1, expected.shape(), shapes[input]);
                let mut inputs = self.inputs.clone();
                inputs[input] = self.spoiled_outside(input, format, &needed);
                let found = self
                    .op
                    .reference(&inputs.iter().collect::<Vec<_>>())
                    .unwrap();
                assert!(
                    row_of(&found, row).eq(row_of(&expected, row)),
                    "{:?} on {shapes:?}: row {row} needs more than rows {needed:?} of input {input}",
                    self.op,
                );
            }
        }
    }
}

/// How far each element of what `op` makes of `inputs` may be off where a device keeps it in f16: one rounding more,
/// unless the op passes values on.
pub fn half_bounds(op: &dyn Op, inputs: &[&Tensor], expected: &Tensor) -> Tensor {
    let shapes: Vec<_> = inputs.iter().map(|t| t.shape()).collect();
    let mut bounds = numerics::bounds(op, inputs, expected).unwrap();
    if !op.numerics(&shapes).is_exact() {
        for (bound, expected) in bounds.data_mut().iter_mut().zip(expected.data()) {
            *bound += (expected.abs() + *bound) * HALF_UNIT + HALF_STEP;
        }
    }
    bounds
}

/// A weight with zeros wherever the first two indices differ.
pub fn diagonal(weight: &Tensor) -> Tensor {
    Tensor::from_fn(weight.shape(), |i, o, y, x| match i == o {
        true => weight.at(i, o, y, x),
        false => 0.0,
    })
    .unwrap()
}

/// The pooling of planes as large as `output` whose indices `unpool` takes with values of shape `input`.
fn pool_of(unpool: &MaxUnpool2d, input: Shape, output: Shape) -> MaxPool2dIndices {
    let pool = |ceil_mode| MaxPool2dIndices {
        pool: MaxPool2d {
            kernel_size: unpool.kernel_size,
            stride: unpool.stride,
            padding: unpool.padding,
            ceil_mode,
            ..MaxPool2d::square(1, 1, false)
        },
    };
    let fits = |pool: &MaxPool2dIndices| pool.output_shape(&[output]).is_ok_and(|s| s == input);
    [false, true].map(pool).into_iter().find(fits).unwrap()
}

/// The elements of a row, which counts through the batch.
fn row_of(tensor: &Tensor, row: usize) -> impl Iterator<Item = &f32> {
    let Shape { c, h, w, .. } = tensor.shape();
    (0..c).flat_map(move |c| &tensor.plane(row / h, c)[row % h * w..][..w])
}

/// Panics unless every element of `found` is within its bound of `expected`.
pub fn assert_within(expected: &Tensor, found: &Tensor, bounds: &Tensor, what: &str) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let elements = expected.data().iter().zip(found.data()).zip(bounds.data());
    for (i, ((e, f), b)) in elements.enumerate() {
        assert!(
            (f64::from(*e) - f64::from(*f)).abs() <= f64::from(*b),
            "{what}: at {:?} expected {e}, found {f}, bound {b:e}",
            expected.position(i),
        );
    }
}

/// Panics unless `found` are the labels of `scores`: one may differ from what is expected where the scores of the
/// two are closer than both may err.
pub fn assert_labels(
    expected: &Tensor,
    found: &Tensor,
    scores: &Tensor,
    bounds: &Tensor,
    what: &str,
) {
    let classes = scores.shape().c;
    assert_eq!(found.shape(), expected.shape(), "{what}");
    for (i, label) in found.data().iter().enumerate() {
        let at = found.position(i);
        assert!(
            (*label as usize) < classes,
            "{what}: class {label} at {at:?}"
        );
    }
    let of_labels = |labels: &Tensor, values: &Tensor| {
        let value = |n, _, y, x| values.at(n, labels.at(n, 0, y, x) as usize, y, x);
        Tensor::from_fn(labels.shape(), value).unwrap()
    };
    let mut margin = of_labels(expected, bounds);
    for (m, b) in margin
        .data_mut()
        .iter_mut()
        .zip(of_labels(found, bounds).data())
    {
        *m += b;
    }
    let (expected, found) = (of_labels(expected, scores), of_labels(found, scores));
    assert_within(
        &expected,
        &found,
        &margin,
        &format!("scores of labels, {what}"),
    );
}

/// Runs a graph on a device.
pub fn run(
    gpu: &Gpu,
    graph: &Graph,
    parameters: &Parameters,
    input: &Tensor,
    outputs: &[NodeId],
) -> Vec<(NodeId, Tensor)> {
    let plan = Plan::new(graph, input.shape(), outputs, gpu.target()).unwrap();
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
    run_on(&Network::new(gpu), plan, graph, parameters, input)
}

/// Runs a plan with the kernels and weights that `network` has.
pub fn run_on(
    network: &Network,
    plan: Plan,
    graph: &Graph,
    parameters: &Parameters,
    input: &Tensor,
) -> Vec<(NodeId, Tensor)> {
    pollster::block_on(async {
        let mut executor = Executor::new(network, plan, graph, parameters).await?;
        executor.run(input).await
    })
    .unwrap()
}

/// The cooperative matrices that a kernel is written for.
pub fn matrices() -> Vec<CooperativeMatrix> {
    let matrix = |size, subgroup, vectors| CooperativeMatrix {
        size: [size; 3],
        subgroup,
        vectors,
    };
    let large = [8, 16, 32].map(|subgroup| matrix(16, subgroup, true));
    let small = [8, 16, 32].map(|subgroup| matrix(8, subgroup, true));
    [&large[..], &small, &[matrix(8, 32, false)]].concat()
}

/// `profile` with f16, these cooperative matrices and the workgroup memory that devices with such have.
pub fn with_matrices(target: &Target, cooperative: Vec<CooperativeMatrix>) -> Target {
    Target {
        device: DeviceProfile {
            cooperative,
            max_workgroup_bytes: target.device.max_workgroup_bytes.max(32 << 10),
            ..target.device.clone()
        },
        options: PlanOptions {
            half: true,
            ..target.options.clone()
        },
    }
}

/// What keeps a small GPU busy.
pub const FEW_INVOCATIONS: u32 = 128;

/// `profile` with the preferences that lead to other kernels: for devices that many invocations keep busy,
/// and for devices that few do, so that large tiles run at sizes that tests can afford.
pub fn preferences(target: &Target) -> Vec<Target> {
    let with = |invocations_at_once| Target {
        device: DeviceProfile {
            invocations_at_once,
            ..target.device.clone()
        },
        ..target.clone()
    };
    match target.device.is_cpu {
        true => vec![target.clone()],
        false => vec![target.clone(), with(1), with(FEW_INVOCATIONS)],
    }
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

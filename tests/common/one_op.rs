//! Graphs of one op, and checks of them against the reference.

use super::parts::{Builder, Role, roles, side_by_side};
use super::*;
use fullconv::low_level::gpu::Network;
use fullconv::low_level::graph::Graph;
use fullconv::low_level::ops::candidate::Candidate;
use fullconv::low_level::ops::interpolate::InterpolateMode;
use fullconv::low_level::ops::kernel::{Binding, Format};
use fullconv::low_level::ops::numerics::{self, Numerics};
use fullconv::low_level::ops::{
    Argmax, Binarize, Case, Interpolate, MaxPool2d, MaxPool2dIndices, MaxUnpool2d, Op,
};
use fullconv::low_level::plan::Plan;
use fullconv::low_level::plan::lowered::{FusedArgmax, Scores, lower};
use fullconv::low_level::target::Target;
use fullconv::{ErrorKind, Gpu, Parameters, Shape, Tensor};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An op with its inputs, as a graph.
pub struct OneOp {
    pub graph: Graph,
    pub parameters: Parameters,
    pub input: Tensor,
    /// All inputs of the op.
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
        // These have large values near 0, and no finite ones of some numbers.
        let away = |x: f32| 0.9 * x.abs() + 0.2;
        match case.op.name() {
            "log" | "sqrt" | "rsqrt" | "reciprocal" | "pow" => inputs[0] = inputs[0].map(away),
            "div" => inputs[1] = inputs[1].map(away),
            // Both are chosen.
            "where" => inputs[0] = inputs[0].map(|x| x.max(0.0)),
            // Stages, whose third input is a variance or a sum of exponentials.
            "normalize" | "softmax_of_pixels" => inputs[2] = inputs[2].map(away),
            _ => {}
        }
        if case.diagonal {
            inputs[1] = diagonal(&inputs[1]);
        }
        Self::new(case.op, inputs)
    }

    /// `op`, lowered, on `inputs`. Several activations are concatenated along the channels of the graph's input and
    /// separated by operations that change no number. If their batch sizes differ or a number is not finite, only the
    /// first is the graph's input; the others are tensors of the file.
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

    /// An unpooling whose values and indices are computed, exactly, from the graph's input. The input is as large as
    /// the output and holds numbers of `inputs`.
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

    /// `tensor`, the op's input number `input`, with NaN outside `rows`, which are counted over the batch. Indices
    /// outside `rows` are replaced by others of the same windows.
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

    /// The same op on inputs rounded to f16, as a device with f16 holds them.
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

    /// The error bound of each element in f16: as [`OneOp::bounds`], and one rounding.
    pub fn half_bounds(&self) -> Tensor {
        let inputs: Vec<_> = self.inputs.iter().collect();
        half_bounds(self.op.as_ref(), &inputs, &self.expected())
    }

    /// Panics unless the device in f16 agrees with the reference on the rounded inputs, element by element, for each of
    /// `targets`.
    pub fn check_half(&self, gpu: &Gpu, targets: &[Target], what: &str) {
        let one = self.in_half();
        let plans: Vec<_> = targets.iter().map(|p| one.plan(p)).collect();
        let plans = plans.into_iter().filter_map(|plan| match plan {
            Ok(plan) => Some(plan),
            // Even a single row is larger than the binding.
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

    /// The output of the reference implementation.
    pub fn expected(&self) -> Tensor {
        self.op
            .reference(&self.inputs.iter().collect::<Vec<_>>())
            .unwrap()
    }

    /// The plan for `target`.
    pub fn plan(&self, target: &Target) -> fullconv::Result<Plan> {
        let outputs = [self.graph.output()];
        Plan::new(&self.graph, self.input.shape(), &outputs, target)
    }

    /// The output of the device.
    pub fn run(&self, gpu: &Gpu) -> Tensor {
        self.run_plan(gpu, self.plan(gpu.target()).unwrap())
    }

    /// The output of the device for `plan`.
    pub fn run_plan(&self, gpu: &Gpu, plan: Plan) -> Tensor {
        self.run_plans(gpu, vec![plan]).remove(0)
    }

    /// The outputs of the device for each of `plans`; each kernel is compiled once.
    pub fn run_plans(&self, gpu: &Gpu, plans: Vec<Plan>) -> Vec<Tensor> {
        let network = Network::new(gpu);
        plans
            .into_iter()
            .map(|plan| run_on(&network, plan, &self.graph, &self.parameters, &self.input))
            .map(|mut outputs| outputs.remove(0).1)
            .collect()
    }

    /// The op's error bound of each element in f32.
    pub fn bounds(&self) -> Tensor {
        let inputs: Vec<_> = self.inputs.iter().collect();
        numerics::bounds(self.op.as_ref(), &inputs, &self.expected()).unwrap()
    }

    /// Panics unless the device agrees with the reference, element by element, with each of its preferred kernels.
    pub fn check(&self, gpu: &Gpu, what: &str) {
        let targets = preferences(gpu.target());
        let plans = targets.iter().map(|target| self.plan(target).unwrap());
        for (found, target) in self.run_plans(gpu, plans.collect()).iter().zip(&targets) {
            self.check_found(found, &format!("{what}, {}", preference(target)));
        }
    }

    /// Panics unless `found` agrees with the reference, element by element.
    pub fn check_found(&self, found: &Tensor, what: &str) {
        let (expected, bounds) = (self.expected(), self.bounds());
        let shapes: Vec<_> = self.inputs.iter().map(Tensor::shape).collect();
        let what = format!("{what}: {:?} on {shapes:?}", self.op);
        assert_within(&expected, found, &bounds, &what);
    }

    /// If the op computes labels: the scores of all classes, and the error bounds of these. Class 0 of binary labels has
    /// the threshold as its score.
    pub fn scores_of_labels(&self) -> Option<(Tensor, Tensor)> {
        let op: &dyn Any = self.op.as_ref();
        let exact = self.input.map(|_| 0.0);
        if op.is::<Argmax>() {
            return Some((self.input.clone(), exact));
        }
        if let Some(binary) = op.downcast_ref() {
            return Some(binary_scores(binary, &self.input, &exact));
        }
        let fused = op.downcast_ref::<FusedArgmax>()?;
        let op: Arc<dyn Op> = match &fused.scores {
            Scores::Resized(resize) => Arc::new(resize.clone()),
            Scores::Upsampled(upsampling) => Arc::new(upsampling.clone()),
        };
        let one = Self::new(op, self.inputs.clone());
        let (scores, bounds) = (one.expected(), one.bounds());
        Some(match &fused.binary {
            Some(binary) => binary_scores(binary, &scores, &bounds),
            None => (scores, bounds),
        })
    }

    /// Panics unless the rows that the planner binds for an output row suffice: the reference with NaN in all other
    /// rows must give the same output row.
    pub fn check_rows(&self) {
        let shapes: Vec<_> = self.inputs.iter().map(Tensor::shape).collect();
        let kernels = self.op.kernels(&shapes, &Target::WEBGPU_DEFAULTS);
        let expected = self.expected();
        // An op may have only stages, which are other ops.
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

/// The scores of both classes of `binary` labels, and their error bounds: the threshold is exact.
fn binary_scores(binary: &Binarize, scores: &Tensor, bounds: &Tensor) -> (Tensor, Tensor) {
    let both = |first: f32, second: &Tensor| {
        let value = |n, class, y, x| match class {
            0 => first,
            _ => second.at(n, 0, y, x),
        };
        Tensor::from_fn(second.shape().with_channels(2), value).unwrap()
    };
    (both(binary.threshold, scores), both(0.0, bounds))
}

/// A pooling of planes of shape `output` to `input`, whose indices suit `unpool`.
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

/// The elements of a row; rows are counted over the batch.
fn row_of(tensor: &Tensor, row: usize) -> impl Iterator<Item = &f32> {
    let Shape { c, h, w, .. } = tensor.shape();
    (0..c).flat_map(move |c| &tensor.plane(row / h, c)[row % h * w..][..w])
}

/// A weight with zeros wherever the first two indices differ.
pub fn diagonal(weight: &Tensor) -> Tensor {
    Tensor::from_fn(weight.shape(), |i, o, y, x| match i == o {
        true => weight.at(i, o, y, x),
        false => 0.0,
    })
    .unwrap()
}

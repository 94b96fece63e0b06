//! An op restricted to one of its kernels or stagings, and the devices for which tests plan.

use super::emulation::is_by_matrices;
use super::{OneOp, another_gpu, gpu, matrices, preference, preferences, with_matrices};
use fullconv::low_level::device_profile::DeviceProfile;
use fullconv::low_level::ops::candidate::{Candidate, input_shapes};
use fullconv::low_level::ops::kernel::Kernel;
use fullconv::low_level::ops::numerics::Numerics;
use fullconv::low_level::ops::{Op, Stage};
use fullconv::low_level::plan::Plan;
use fullconv::low_level::target::Target;
use fullconv::{ErrorKind, Gpu, GpuOptions, Shape, Tensor};
use std::sync::Arc;

/// One of the ways to compute an op.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// The kernel with this index.
    Kernel(usize),
    /// The staging with this index, each stage by its first kernel.
    Stages(usize),
}

/// An op with only one of its ways.
#[derive(Debug)]
struct By {
    op: Arc<dyn Op>,
    how: How,
}

/// The kernels of `op` that `device` can run, including kernels that a plan takes only if measured.
fn fitting_kernels(op: &dyn Op, inputs: &[Shape], device: &Target) -> Vec<Kernel> {
    let mut all = op.kernels(inputs, device).unwrap_or_default();
    all.extend(op.other_kernels(inputs, device).unwrap_or_default());
    all.retain(|kernel| kernel.fits(device));
    all
}

/// The stagings of `op` on `device`, including stagings that a plan takes only if measured.
fn stagings(op: &dyn Op, inputs: &[Shape], device: &Target) -> Vec<Vec<Stage>> {
    let mut all = vec![op.stages(inputs, device)];
    all.extend(op.other_stages(inputs, device));
    all.retain(|stages| !stages.is_empty());
    all
}

impl Op for By {
    fn name(&self) -> &'static str {
        self.op.name()
    }
    fn output_shape(&self, inputs: &[Shape]) -> fullconv::Result<Shape> {
        self.op.output_shape(inputs)
    }
    fn reference(&self, inputs: &[&Tensor]) -> fullconv::Result<Tensor> {
        self.op.reference(inputs)
    }
    /// If the way does not exist for these inputs, all kernels of the op, or its stages if it has no kernel for them;
    /// [`Way::is_of`] tells the ways apart.
    fn candidates(&self, inputs: &[Shape], device: &Target) -> fullconv::Result<Vec<Candidate>> {
        let op = self.op.as_ref();
        let (mut stages, mut picked) = (None, None);
        match self.how {
            How::Kernel(i) => picked = fitting_kernels(op, inputs, device).into_iter().nth(i),
            How::Stages(i) => stages = stagings(op, inputs, device).into_iter().nth(i),
        }
        let kernels =
            picked.map_or_else(|| op.kernels(inputs, device), |kernel| Ok(vec![kernel]))?;
        if stages.is_none() && kernels.is_empty() {
            return op.candidates(inputs, device);
        }
        let stages = stages.map(Candidate::stages).into_iter();
        Ok(stages
            .chain(kernels.into_iter().map(Candidate::kernel))
            .collect())
    }
    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        self.op.numerics(inputs)
    }
    fn flops(&self, inputs: &[Shape]) -> u64 {
        self.op.flops(inputs)
    }
}

/// A way to compute an op on inputs of these shapes.
#[derive(Clone, Debug)]
pub struct Way {
    pub op: Arc<dyn Op>,
    pub inputs: Vec<Shape>,
    pub how: How,
    /// The kernel of the op, or the kernel of each stage.
    pub kernels: Vec<Kernel>,
}

impl Way {
    /// The op with only this way. An op that has no other way stays the same.
    pub fn alone(&self, op: &Arc<dyn Op>, device: &Target) -> Arc<dyn Op> {
        let all = fitting_kernels(op.as_ref(), &self.inputs, device).len();
        match self.how {
            How::Kernel(_) if all == 1 && op.stages(&self.inputs, device).is_empty() => op.clone(),
            how => Arc::new(By {
                op: op.clone(),
                how,
            }),
        }
    }

    /// Whether the last layers of `plan` are this way's kernels.
    pub fn is_of(&self, plan: &Plan) -> bool {
        let names = || self.kernels.iter().map(|kernel| kernel.shader.name);
        let layers = plan.layers.len().checked_sub(names().count());
        layers.is_some_and(|first| plan.layers[first..].iter().map(|l| l.kernel).eq(names()))
    }
}

/// A way for each kernel of an op on a device, without stagings.
fn by_kernels(op: &Arc<dyn Op>, inputs: &[Shape], device: &Target) -> Vec<Way> {
    let all = fitting_kernels(op.as_ref(), inputs, device)
        .into_iter()
        .enumerate();
    let way = |(i, kernel)| Way {
        op: op.clone(),
        inputs: inputs.to_vec(),
        how: How::Kernel(i),
        kernels: vec![kernel],
    };
    all.map(way).collect()
}

/// Every way to compute an op on a device: its kernels and its stagings.
pub fn ways(op: &Arc<dyn Op>, inputs: &[Shape], device: &Target) -> Vec<Way> {
    let mut all = by_kernels(op, inputs, device);
    for (i, stages) in stagings(op.as_ref(), inputs, device)
        .into_iter()
        .enumerate()
    {
        let first = |(op, inputs): (Arc<dyn Op>, Vec<Shape>)| {
            fitting_kernels(op.as_ref(), &inputs, device)
                .into_iter()
                .next()
        };
        let kernels: Option<Vec<_>> = staged(&stages, inputs).into_iter().map(first).collect();
        all.extend(kernels.map(|kernels| Way {
            op: op.clone(),
            inputs: inputs.to_vec(),
            how: How::Stages(i),
            kernels,
        }));
    }
    all
}

/// A way for each kernel of an op and of its stages on a device. A stage's way computes the stage, not the op.
pub fn single_kernels(op: &Arc<dyn Op>, inputs: &[Shape], device: &Target) -> Vec<Way> {
    let mut all = by_kernels(op, inputs, device);
    for stages in stagings(op.as_ref(), inputs, device) {
        for (stage, inputs) in staged(&stages, inputs) {
            all.extend(by_kernels(&stage, &inputs, device));
        }
    }
    all
}

/// Whether a kernel of `way` takes seconds to compile: one with emulated matrices.
pub fn is_slow(way: &Way) -> bool {
    way.kernels
        .iter()
        .any(|kernel| is_by_matrices(kernel.shader.name))
}

/// The ops of the stages, with the shapes of their inputs.
fn staged(stages: &[Stage], inputs: &[Shape]) -> Vec<(Arc<dyn Op>, Vec<Shape>)> {
    let ops = stages.iter().map(|stage| stage.op.clone());
    ops.zip(input_shapes(stages, inputs).unwrap()).collect()
}

/// A device, and the target of the tests' plans.
pub struct Setup {
    pub name: String,
    pub gpu: Gpu,
    pub target: Target,
    /// Whether work is cut into the smallest possible parts.
    pub cut: bool,
}

impl Setup {
    /// The targets to try until one allows a plan. If work is to be cut, the smallest bindings come first.
    pub fn profiles(&self) -> Vec<Target> {
        let small = |log2: u32| Target {
            device: DeviceProfile {
                max_binding_bytes: 1 << log2,
                max_workgroups_per_dimension: 64,
                binding_alignment: 256,
                ..self.target.device.clone()
            },
            ..self.target.clone()
        };
        match self.cut {
            true => (8..24).map(small).collect(),
            false => vec![self.target.clone()],
        }
    }

    /// The plan of one op, or `None` if no binding is large enough.
    pub fn plan(&self, one: &OneOp) -> Option<Plan> {
        self.profiles()
            .iter()
            .find_map(|target| match one.plan(target) {
                Ok(plan) => Some(plan),
                Err(e) if self.cut && e.kind() == ErrorKind::Limit => None,
                Err(e) => panic!("{}: {e}", self.name),
            })
    }
}

/// The work of a dispatch on a device that is slow for its watchdog: sums of a few terms.
const SHORT_DISPATCH: u64 = 64;

/// `target` with the shortest dispatches: rows by themselves, and sums in runs of terms.
fn in_runs(target: &Target) -> Target {
    Target {
        device: DeviceProfile {
            dispatch_flops: SHORT_DISPATCH,
            ..target.device.clone()
        },
        ..target.clone()
    }
}

/// The kinds of devices: with its own limits, as a CPU without subgroups, planned for as a GPU, with WebGPU's default
/// limits, in f16, with the smallest bindings, and with the shortest dispatches.
pub fn setups() -> Vec<Setup> {
    let setup = |name: &str, gpu: &Gpu, target: Target, cut| Setup {
        name: name.to_owned(),
        gpu: gpu.clone(),
        target,
        cut,
    };
    let mut all = Vec::new();
    if let Some(gpu) = gpu(GpuOptions::default()) {
        let target = gpu.target().clone();
        let as_cpu = Target {
            device: DeviceProfile {
                is_cpu: true,
                subgroup_size: None,
                ..target.device.clone()
            },
            ..target.clone()
        };
        all.push(setup("as a CPU without subgroups", &gpu, as_cpu, false));
        all.push(setup("in small parts", &gpu, target.clone(), true));
        all.push(setup("in runs of terms", &gpu, in_runs(&target), true));
        all.push(setup("as it is", &gpu, target, false));
    }
    let limits = GpuOptions {
        default_limits: true,
        ..GpuOptions::default()
    };
    if let Some(gpu) = another_gpu(limits) {
        let target = gpu.target().clone();
        all.push(setup("with default limits", &gpu, target, false));
    }
    let as_gpu = GpuOptions {
        plan_as_gpu: true,
        ..GpuOptions::default()
    };
    // Not `another_gpu`: a device that is a GPU anyway also runs these targets.
    if let Some(gpu) = gpu(as_gpu) {
        for target in preferences(gpu.target()) {
            let name = format!("as a GPU {}", preference(&target));
            all.push(setup(&name, &gpu, target, false));
        }
        let target = gpu.target().clone();
        let runs = in_runs(&target);
        all.push(setup("as a GPU, in small parts", &gpu, target, true));
        all.push(setup("as a GPU, in runs of terms", &gpu, runs, true));
        match gpu.half_target() {
            Ok(target) => {
                all.push(setup("as a GPU, in f16", &gpu, target.clone(), false));
                let mut matrices = matrices();
                matrices.retain(|matrix| matrix.subgroup == 32);
                for matrix in &mut matrices {
                    matrix.checked = true;
                }
                let target = with_matrices(&target, matrices);
                all.push(setup("as a GPU, in f16 with matrices", &gpu, target, false));
            }
            Err(e) => eprintln!("SKIP: {e}"),
        }
    }
    all
}

/// Panics unless `reached` has every file in `shaders/`, except those for textures.
pub fn assert_all_kernels(reached: &std::collections::BTreeSet<&'static str>) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let of_textures =
        fullconv::low_level::gpu::texture_pipelines().map(|pipeline| pipeline.shader.name);
    let names = std::fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        path.file_stem().unwrap().to_str().unwrap().to_owned()
    });
    let missing: Vec<_> = names
        .filter(|name| !of_textures.contains(&name.as_str()) && !reached.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "not reached: {missing:?}");
}

/// The kernels of an op on a device: its own and those of its stages, also those that a plan takes only if measured.
pub fn kernels(op: &dyn Op, inputs: &[Shape], target: &Target) -> Vec<Kernel> {
    let mut kernels = op.kernels(inputs, target).unwrap();
    kernels.extend(op.other_kernels(inputs, target).unwrap());
    // Of stages that a plan takes only if measured, those of other ops: the others differ in the number of parts.
    let mut all = op.other_stages(inputs, target);
    all.retain(|stages| stages[0].op.name() != op.name());
    all.push(op.stages(inputs, target));
    for (op, shapes) in all.iter().flat_map(|stages| staged(stages, inputs)) {
        kernels.extend(op.kernels(&shapes, target).unwrap());
        kernels.extend(op.other_kernels(&shapes, target).unwrap());
    }
    assert!(!kernels.is_empty(), "{op:?} has no kernel");
    kernels
}

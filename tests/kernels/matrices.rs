//! Kernels with cooperative matrices, emulated with scalar arithmetic: devices with f16 but without matrices test all of
//! them but the matrices themselves.

use crate::common::emulation::{BY_MATRICES, emulated, emulated_plan, is_by_matrices};
use crate::common::faults::alter;
use crate::common::{OneOp, Random, another_gpu, assert_within, gpu, matrices, with_matrices};
use fullconv::low_level::device_profile::{CooperativeMatrix, DeviceProfile};
use fullconv::low_level::gpu::{CheckedMatrices, Fault, checked_matrices};
use fullconv::low_level::ops::candidate::Candidate;
use fullconv::low_level::ops::kernel::Kernel;
use fullconv::low_level::ops::numerics::Numerics;
use fullconv::low_level::ops::{Conv2d, MaxPool2d, Op};
use fullconv::low_level::plan::lowered::{self, Activation, Convolution};
use fullconv::low_level::plan::{Lowering, Plan, tunable};
use fullconv::low_level::target::{PlanOptions, Target};
use fullconv::{Gpu, GpuOptions, Shape, Tensor};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A convolution with one of its kernels with cooperative matrices, which are emulated.
#[derive(Debug)]
struct Emulated {
    conv: Arc<dyn Op>,
    matrix: CooperativeMatrix,
    /// The index of the kernel, each of which has a tile of its own.
    tile: usize,
}

impl Emulated {
    fn all(&self, inputs: &[Shape], device: &Target) -> Vec<Kernel> {
        let device = with_matrices(device, vec![self.matrix]);
        let device = Target {
            device: DeviceProfile {
                is_cpu: false,
                ..device.device
            },
            ..device
        };
        self.conv.other_kernels(inputs, &device).unwrap()
    }
}

impl Op for Emulated {
    fn name(&self) -> &'static str {
        "conv2d"
    }
    fn output_shape(&self, inputs: &[Shape]) -> fullconv::Result<Shape> {
        self.conv.output_shape(inputs)
    }
    fn reference(&self, inputs: &[&Tensor]) -> fullconv::Result<Tensor> {
        self.conv.reference(inputs)
    }
    fn candidates(&self, inputs: &[Shape], device: &Target) -> fullconv::Result<Vec<Candidate>> {
        let mut kernel = self.all(inputs, device).remove(self.tile);
        kernel.shader.source = emulated(&kernel.shader.source).into();
        Ok(vec![Candidate::kernel(kernel)])
    }
    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        self.conv.numerics(inputs)
    }
}

/// The matrices of GPUs, in subgroups of this size.
fn of_subgroup(subgroup: u32) -> CooperativeMatrix {
    let mut all = matrices().into_iter();
    all.find(|m| (m.size, m.subgroup) == ([16; 3], subgroup))
        .unwrap()
}

/// Every second convolution, each with the next tile, with the matrices of GPUs. On devices with matrices,
/// `tests/half.rs` runs every tile of the convolutions of model files.
#[test]
fn kernels_with_emulated_matrices_agree_with_the_reference() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let Ok(target) = gpu.half_target() else {
        eprintln!("SKIP: {gpu} has no f16");
        return;
    };
    let mut random = Random::new(25);
    let mut checked = BTreeSet::new();
    let convolutions = lowered::cases()
        .into_iter()
        .filter(|c| c.op.name() == "conv2d");
    for (i, case) in convolutions.step_by(2).enumerate() {
        let one = OneOp::of_case(case, &mut random);
        let shapes: Vec<_> = one.inputs.iter().map(Tensor::shape).collect();
        // The widest tile is for large subgroups.
        let mut op = Emulated {
            conv: one.op.clone(),
            matrix: of_subgroup([32, 64][i % 2]),
            tile: 0,
        };
        let tiles = op.all(&shapes, &target).len();
        if tiles == 0 {
            continue;
        }
        op.tile = i / 2 % tiles;
        let kernel = op.all(&shapes, &target).remove(op.tile);
        let is_pooled = kernel.shader.source.contains("const POOL = 2u;");
        checked.insert((kernel.grid.parts(), is_pooled));
        let what = format!("{:?}, tile {} of {tiles}", op.matrix, op.tile);
        let emulated = OneOp::new(Arc::new(op), one.inputs.clone());
        emulated.check_half(&gpu, std::slice::from_ref(&target), &what);
    }
    assert_eq!(
        checked,
        BTreeSet::from([(1, false), (1, true), (3, false)]),
        "whole sums, pooled and not, and sums in parts"
    );
}

/// Every tile pools, on maps that end within a tile and within a square.
#[test]
fn every_tile_pools_right() {
    let Some((gpu, target)) = planned_as_gpu() else {
        return;
    };
    let conv = Convolution {
        activation: Activation::Clamp(0.5),
        pool: Some(MaxPool2d::square(2, 2, true)),
        ..Conv2d::padded(1).into()
    };
    let shapes = [[2, 21, 11, 19], [136, 21, 3, 3], [136, 1, 1, 1]];
    let shapes = shapes.map(|[n, c, h, w]| Shape::new(n, c, h, w));
    let mut random = Random::new(26);
    let one = OneOp::random(Arc::new(conv), &shapes, &mut random);
    let mut blocks = BTreeSet::new();
    let small = matrices().into_iter().filter(|m| m.size == [8; 3]);
    for matrix in [32, 64].map(of_subgroup).into_iter().chain(small) {
        let mut op = Emulated {
            conv: one.op.clone(),
            matrix,
            tile: 0,
        };
        for tile in 0..op.all(&shapes, &target).len() {
            op.tile = tile;
            let kernel = op.all(&shapes, &target).remove(tile);
            // Each kernel takes seconds to compile.
            let own = kernel
                .shader
                .source
                .lines()
                .find(|l| l.contains("CHANNEL_TILES ="));
            if !blocks.insert((
                matrix.size,
                own.map(str::to_owned),
                format!("{:?}", kernel.grid),
            )) {
                continue;
            }
            let op = Emulated {
                conv: op.conv.clone(),
                ..op
            };
            let what = format!("{matrix:?}, {:?}", kernel.grid);
            let emulated = OneOp::new(Arc::new(op), one.inputs.clone());
            emulated.check_half(&gpu, std::slice::from_ref(&target), &what);
        }
    }
    assert_eq!(blocks.len(), 6, "{blocks:?}");
}

/// The kernel of Winograd's products.
const POINTS: &str = "winograd_product_coop";

/// The plans of a convolution by Winograd's algorithm with `matrix`, one for each tile of the products, where `bytes` are
/// the most of a binding.
fn transformed(one: &OneOp, target: &Target, matrix: CooperativeMatrix, bytes: u64) -> Vec<Plan> {
    let mut target = with_matrices(target, vec![matrix]);
    target.device.max_binding_bytes = bytes;
    let outputs = [one.graph.output()];
    let layers = tunable(&one.graph, one.input.shape(), &outputs, &target).unwrap();
    let mut plans = Vec::new();
    for layer in &layers {
        let is_transformed = |c: &&Lowering| {
            let mut kernels = c.kernels.iter();
            kernels.any(|k| k.shader.name == POINTS)
        };
        for candidate in layer.candidates.iter().filter(is_transformed) {
            let plan = layer.plan(candidate, one.input.shape(), &target);
            plans.extend(plan.unwrap());
        }
    }
    // Without transforms, if the weights of a tile of channels are larger than the binding.
    plans.retain(|plan| plan.layers.iter().any(|layer| layer.kernel == POINTS));
    plans
}

/// Every tile of Winograd's products, on maps that end within a tile and within a square, with work cut into bands of rows
/// and shards of the weight.
#[test]
fn products_of_points_agree_with_the_reference_if_work_is_cut() {
    let Some((gpu, target)) = planned_as_gpu() else {
        return;
    };
    let conv = Convolution {
        activation: Activation::Clamp(0.5),
        pool: Some(MaxPool2d::square(2, 2, true)),
        ..Conv2d::padded(1).into()
    };
    let shapes = [[2, 236, 11, 9], [150, 236, 3, 3], [150, 1, 1, 1]];
    let shapes = shapes.map(|[n, c, h, w]| Shape::new(n, c, h, w));
    let mut random = Random::new(27);
    let one = OneOp::random(Arc::new(conv), &shapes, &mut random).in_half();
    let (expected, bounds) = (one.expected(), one.half_bounds());
    let small = matrices().into_iter().filter(|m| m.size == [8; 3]);
    let (mut tiles, mut cut) = (BTreeSet::new(), [false; 2]);
    for matrix in [32, 64].map(of_subgroup).into_iter().chain(small) {
        // The narrow tiles, then the others.
        for bytes in [300 << 10, 1 << 20] {
            for plan in transformed(&one, &target, matrix, bytes) {
                let mut products = plan.pipelines.iter();
                let products = products.find(|p| is_by_matrices(p.shader.name)).unwrap();
                let names = ["TILES =", "QUADS =", "CHANNEL_MATRICES ="];
                let lines = products.shader.source.lines();
                let tile = lines.filter(|line| names.iter().any(|name| line.contains(name)));
                // Each kernel takes seconds to compile.
                if !tiles.insert((matrix.size, tile.collect::<String>())) {
                    continue;
                }
                cut[0] |= plan.steps.iter().any(|step| step.rows.start > 0);
                cut[1] |= plan.parameters.iter().any(|p| p.tiles.start > 0);
                let found = one.run_plan(&gpu, emulated_plan(plan));
                let what = format!("{matrix:?}, at most {bytes} bytes");
                assert_within(&expected, &found, &bounds, &what);
            }
        }
    }
    assert_eq!((tiles.len(), cut), (6, [true; 2]), "{tiles:?}");
}

/// A device planned for as a GPU, with its target in f16.
fn planned_as_gpu() -> Option<(Gpu, Target)> {
    let gpu = another_gpu(GpuOptions {
        plan_as_gpu: true,
        ..GpuOptions::default()
    })?;
    match gpu.half_target() {
        Ok(target) => Some((gpu, target)),
        Err(error) => {
            eprintln!("SKIP: {error}");
            None
        }
    }
}

/// The check of matrices, where `fault` changes every plan.
fn check(gpu: &Gpu, target: &Target, fault: fn(&mut Plan)) -> CheckedMatrices {
    gpu.set_fault(Some(Fault(Arc::new(fault))));
    let checked = pollster::block_on(checked_matrices(gpu, target));
    gpu.set_fault(None);
    checked.unwrap()
}

fn emulate(plan: &mut Plan) {
    *plan = emulated_plan(plan.clone());
    let used: BTreeSet<_> = plan.layers.iter().map(|layer| layer.kernel).collect();
    let is_known = |name: &str| is_by_matrices(name) || name.starts_with("winograd_");
    let all = BY_MATRICES.iter().all(|(name, _)| used.contains(name));
    assert!(all && used.iter().all(|name| is_known(name)), "{plan}");
}

fn emulate_with_an_error_in_convolutions(plan: &mut Plan) {
    emulate(plan);
    alter(plan, Some("conv2d_coop"), "* 1.01", "");
}

fn emulate_with_an_error_in_points(plan: &mut Plan) {
    emulate(plan);
    alter(plan, Some(POINTS), "* 1.01", "");
}

#[test]
fn matrices_are_used_only_if_the_device_computes_right_with_them() {
    let Some((gpu, target)) = planned_as_gpu() else {
        return;
    };
    let all = vec![of_subgroup(32), of_subgroup(64)];
    let target = with_matrices(&target, all.clone());
    let right = check(&gpu, &target, emulate);
    let usable = all.into_iter().map(|matrix| CooperativeMatrix {
        checked: true,
        ..matrix
    });
    assert_eq!((right.usable, right.trouble), (usable.collect(), None));

    let wrong = [
        emulate_with_an_error_in_convolutions,
        emulate_with_an_error_in_points,
    ];
    let mut troubles: Vec<_> = wrong
        .into_iter()
        .map(|wrong| check(&gpu, &target, wrong))
        .collect();
    // Only a device with matrices compiles the kernel as it is.
    if gpu.profile().cooperative.is_empty() {
        troubles.push(check(&gpu, &target, |_| ()));
    }
    for CheckedMatrices { usable, trouble } in troubles {
        assert_eq!(usable, []);
        let trouble = trouble.unwrap();
        let parts = [&gpu.to_string(), "conv2d_coop", "--without-kernel"];
        assert!(parts.iter().all(|part| trouble.contains(part)), "{trouble}");
    }

    // Left out, the kernels are not checked.
    let without = Target {
        options: PlanOptions {
            without_kernels: BY_MATRICES.iter().map(|(name, _)| (*name).into()).collect(),
            ..target.options.clone()
        },
        ..target
    };
    let unchecked = check(&gpu, &without, |_| panic!("nothing to run"));
    assert_eq!((unchecked.usable, unchecked.trouble), (Vec::new(), None));
}

//! The kernel with cooperative matrices, emulated with scalar arithmetic: devices with f16 but without matrices test
//! all of it but the matrices themselves.

use crate::common::emulation::emulated;
use crate::common::{OneOp, Random, gpu, matrices, with_matrices};
use fullconv::low_level::device_profile::{CooperativeMatrix, DeviceProfile};
use fullconv::low_level::ops::Op;
use fullconv::low_level::ops::candidate::Candidate;
use fullconv::low_level::ops::kernel::Kernel;
use fullconv::low_level::ops::numerics::Numerics;
use fullconv::low_level::plan::lowered;
use fullconv::low_level::target::Target;
use fullconv::{GpuOptions, Shape, Tensor};
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
    let matrix = matrices()
        .into_iter()
        .find(|m| (m.size, m.subgroup) == ([16; 3], 32));
    let matrix = matrix.unwrap();
    let mut random = Random::new(25);
    let mut checked = BTreeSet::new();
    let convolutions = lowered::cases()
        .into_iter()
        .filter(|c| c.op.name() == "conv2d");
    for (i, case) in convolutions.step_by(2).enumerate() {
        let one = OneOp::of_case(case, &mut random);
        let shapes: Vec<_> = one.inputs.iter().map(Tensor::shape).collect();
        let mut op = Emulated {
            conv: one.op.clone(),
            matrix,
            tile: 0,
        };
        let tiles = op.all(&shapes, &target).len();
        if tiles == 0 {
            continue;
        }
        op.tile = i % tiles;
        checked.insert(op.all(&shapes, &target)[op.tile].grid.parts());
        let what = format!("{matrix:?}, tile {} of {tiles}", op.tile);
        let emulated = OneOp::new(Arc::new(op), one.inputs.clone());
        emulated.check_half(&gpu, std::slice::from_ref(&target), &what);
    }
    assert_eq!(
        checked,
        BTreeSet::from([1, 3]),
        "whole sums, and sums in parts"
    );
}

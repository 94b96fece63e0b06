//! Ops with random attributes on random shapes. Shape rules are checked against PyTorch's formulas, and the device
//! against the reference implementations, with the largest bindings and with small ones.
//!
//! The cases are random but the same in every run.

mod convolutions;
mod elementwise;
mod labels;
mod moves;
mod poolings;
mod products;

use crate::common::{OneOp, Random, assert_labels, gpu, preferences};
use fullconv::low_level::device_profile::DeviceProfile;
use fullconv::low_level::ops::interpolate::InterpolateMode;
use fullconv::low_level::ops::preprocess::Channels;
use fullconv::low_level::ops::reduce::Dims;
use fullconv::low_level::ops::{
    AdaptiveAvgPool2d, AdaptiveMaxPool2d, Add, Amax, Amin, Argmax, AvgPool2d, BatchNorm2d,
    Binarize, Case, Cat, Celu, ChannelShuffle, Clamp, Conv1dChannels, Conv2d, ConvTranspose2d,
    Crop, Elu, Flip, Full, GroupNorm, Hardsigmoid, Hardswish, InstanceNorm, Interpolate, LayerNorm,
    LeakyRelu, Linear, Linspace, LocalResponseNorm, LogSoftmax, MaxPool2d, MaxPool2dIndices,
    MaxUnpool2d, Mean, Mul, Op, Pad, PixelShuffle, PixelUnshuffle, Pow, Prelu, Preprocess, Relu,
    Repeat, Scale, Sigmoid, Silu, Slice, Softmax, Softplus, Sub, Sum, Tanh, Unfold, Var, from_name,
    pad,
};
use fullconv::low_level::plan::lowered::{
    Activation, Convolution, FusedArgmax, Scores, TransposedConvolution,
};
use fullconv::low_level::target::Target;
use fullconv::{ErrorKind, Gpu, GpuOptions, Shape, Tensor};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::json;
use std::sync::{Arc, OnceLock};

/// Cases of each test on devices; each case compiles its own kernels.
const ON_DEVICE: u32 = 32;

/// Cases of each test of a shape rule, which needs no device.
const OF_SHAPES: u32 = 2000;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(8),
        ..ProptestConfig::default()
    }
}

/// The device opened in three ways, once for all tests: with its own limits, with WebGPU's default limits, and planned
/// for as a GPU.
fn devices() -> &'static [Gpu] {
    static DEVICES: OnceLock<Vec<Gpu>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let open = |(default_limits, plan_as_gpu)| {
            gpu(GpuOptions {
                default_limits,
                plan_as_gpu,
                ..GpuOptions::default()
            })
        };
        let ways = [(false, false), (true, false), (false, true)];
        ways.into_iter().filter_map(open).collect()
    })
}

/// An op, the shapes of its inputs, and the other parameters of a run.
#[derive(Debug)]
struct Sample {
    op: Arc<dyn Op>,
    shapes: Vec<Shape>,
    /// The weight is zero off its diagonal.
    diagonal: bool,
    seed: u8,
    /// The largest binding of the cut plan, in bytes, if the op has a plan with such bindings.
    binding: u64,
}

/// Samples from ops with their shapes.
fn samples<O: Op + 'static>(
    ops: impl Strategy<Value = (O, Vec<Shape>)>,
) -> impl Strategy<Value = Sample> {
    shared_samples(ops.prop_map(|(op, shapes)| (Arc::new(op) as Arc<dyn Op>, shapes)))
}

/// Samples from ops of several kinds with their shapes.
fn shared_samples(
    ops: impl Strategy<Value = (Arc<dyn Op>, Vec<Shape>)>,
) -> impl Strategy<Value = Sample> {
    (ops, any::<u8>(), 8u32..14).prop_map(|((op, shapes), seed, log2)| Sample {
        op,
        shapes,
        diagonal: false,
        seed,
        binding: 1 << log2,
    })
}

impl Sample {
    /// Checks every device, uncut and cut, against the reference.
    fn check(&self) {
        let case = Case {
            op: self.op.clone(),
            inputs: self.shapes.clone(),
            diagonal: self.diagonal,
        };
        let one = OneOp::of_case(case, &mut Random::new(self.seed));
        one.check_rows();
        for gpu in devices() {
            let mut plans = Vec::new();
            for target in preferences(gpu.target()) {
                let small = Target {
                    device: DeviceProfile {
                        max_binding_bytes: self.binding,
                        binding_alignment: target.device.binding_alignment.max(64),
                        ..target.device.clone()
                    },
                    ..target.clone()
                };
                plans.push(("uncut", one.plan(&target).unwrap()));
                match one.plan(&small) {
                    Ok(plan) => plans.push(("cut", plan)),
                    // Even a single row is larger than the binding.
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Limit, "{e}"),
                }
            }
            let (names, plans): (Vec<_>, Vec<_>) = plans.into_iter().unzip();
            for (found, what) in one.run_plans(gpu, plans).iter().zip(names) {
                one.check_found(found, what);
            }
            if let Ok(half) = gpu.half_target() {
                let small = Target {
                    device: DeviceProfile {
                        max_binding_bytes: self.binding,
                        binding_alignment: half.device.binding_alignment.max(64),
                        ..half.device.clone()
                    },
                    ..half.clone()
                };
                one.check_half(gpu, &[half, small], "random");
            }
        }
    }
}

/// Two numbers, for height and width.
fn pair(range: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = [usize; 2]> {
    [range.clone(), range]
}

/// `[n, c, h, w]`, odd and even, aligned and not.
fn tensors(most_channels: usize) -> impl Strategy<Value = Shape> {
    (1usize..=3, 1..=most_channels, pair(1..=14)).prop_map(|(n, c, [h, w])| Shape::new(n, c, h, w))
}

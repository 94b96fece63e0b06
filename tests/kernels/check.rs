//! The check of a device finds faults: in any kernel, and of a device that computes nothing.

use crate::common::faults::{alter, give_zeros, write_nothing};
use crate::common::{all_gpus, another_gpu, gpu};
use fullconv::gpu::{DeviceCheck, Finding, Verdict};
use fullconv::low_level::gpu::Fault;
use fullconv::low_level::plan::Plan;
use fullconv::{Gpu, GpuOptions};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The check of `gpu` with a fault.
fn check_with(gpu: &Gpu, fault: impl Fn(&mut Plan) + Send + Sync + 'static) -> DeviceCheck {
    gpu.set_fault(Some(Fault(Arc::new(fault))));
    let check = pollster::block_on(gpu.check());
    gpu.set_fault(None);
    check.unwrap()
}

/// The check of `gpu` where `kernel` errs by a percent, or in every label.
fn check_without_trust(gpu: &Gpu, kernel: &'static str) -> DeviceCheck {
    check_with(gpu, move |plan| alter(plan, Some(kernel), "* 1.01", "^ 1u"))
}

/// The kernels that the check reaches on `gpu`.
fn kernels(gpu: &Gpu) -> BTreeSet<&'static str> {
    let check = pollster::block_on(gpu.check()).unwrap();
    let kernels = check.layers.iter().flat_map(|layer| layer.kernels.clone());
    kernels.collect()
}

#[test]
fn this_device_is_right_however_it_is_opened() {
    for (name, gpu) in all_gpus() {
        let check = pollster::block_on(gpu.check()).unwrap();
        let wrong: Vec<_> = check.wrong().map(ToString::to_string).collect();
        assert_eq!(check.verdict(), Verdict::Right, "{name}: {wrong:?}");
        let known = |layer: &&fullconv::gpu::CheckedLayer| layer.finding == Finding::Right;
        assert_eq!(
            check.layers.iter().filter(known).count(),
            check.layers.len()
        );
    }
}

#[test]
fn it_reaches_the_kernels_of_segmentation() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let found = kernels(&gpu);
    let mut expected = vec![
        "preprocess",
        "conv2d_grouped",
        "conv_transpose2d",
        "conv_transpose2d_diagonal",
        "interpolate_bilinear",
        "max_pool2d",
        "max_pool2d_indices",
        "max_unpool2d",
        "avg_pool2d",
        "broadcast",
        "cat",
        "softmax",
        "unary",
        "argmax",
        "argmax_resized",
        "argmax_upsampled",
        "argmax_upsampled_diagonal",
    ];
    let profile = gpu.profile();
    match profile.is_cpu && profile.max_texture_side > 0 {
        true => expected.extend([
            "conv2d_texels",
            "conv2d_depthwise_texels",
            "winograd_input",
            "winograd_product",
            "winograd_output",
        ]),
        false if !profile.is_cpu => expected.push("conv2d_tiled"),
        false => {}
    }
    for kernel in expected {
        assert!(found.contains(kernel), "{kernel} is not among {found:?}");
    }
}

#[test]
fn an_error_of_a_percent_in_any_kernel_is_found_and_named() {
    let as_gpu = GpuOptions {
        plan_as_gpu: true,
        ..GpuOptions::default()
    };
    for gpu in [gpu(GpuOptions::default()), another_gpu(as_gpu)]
        .into_iter()
        .flatten()
    {
        for kernel in kernels(&gpu) {
            let check = check_without_trust(&gpu, kernel);
            assert_eq!(check.verdict(), Verdict::Wrong, "{kernel}");
            for layer in check.wrong() {
                assert!(layer.kernels.contains(&kernel), "{kernel}: {layer}");
            }
        }
    }
}

#[test]
fn a_device_that_gives_zeros_or_writes_nothing_does_not_compute() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    for check in [
        check_with(&gpu, give_zeros),
        check_with(&gpu, write_nothing),
    ] {
        assert_eq!(check.verdict(), Verdict::NotComputing);
    }
}

#[test]
fn a_kernel_at_fault_can_be_left_out() {
    let Some(healthy) = gpu(GpuOptions::default()) else {
        return;
    };
    let depthwise = kernels(&healthy).into_iter();
    let depthwise: Vec<_> = depthwise
        .filter(|name| name.contains("depthwise_"))
        .collect();
    for kernel in depthwise {
        let check = check_without_trust(&healthy, kernel);
        let wrong = check.wrong().next().unwrap();
        assert_eq!(
            (&*wrong.node, &*wrong.replaceable),
            ("depthwise.relu", &[kernel][..])
        );
        let options = GpuOptions {
            without_kernels: vec![kernel.to_owned()],
            ..GpuOptions::default()
        };
        let without = gpu(options).unwrap();
        let check = check_without_trust(&without, kernel);
        assert_eq!(check.verdict(), Verdict::Right);
    }
}

//! Plans keep their device's limits, however small, and work that is cut to fit them gives the same results.

use crate::common::plans::{check_limits, check_liveness, full_width};
use crate::common::{
    FEW_INVOCATIONS, OneOp, Random, golden, gpu, preferences, relative_error, run_plan, with_labels,
};
use fullconv::low_level::device_profile::DeviceProfile;
use fullconv::low_level::graph::{Graph, NodeId};
use fullconv::low_level::ops::kernel::Format;
use fullconv::low_level::ops::{
    Add, Argmax, Attention, Conv2d, ConvTranspose2d, Crop, Interpolate, Op, Relu, Softmax,
};
use fullconv::low_level::plan::Plan;
use fullconv::low_level::plan::lowered::{self, Activation, Convolution};
use fullconv::low_level::reference;
use fullconv::low_level::target::{PlanOptions, Target};
use fullconv::{ErrorKind, Gpu, GpuOptions, Parameters, Picture, Segmenter, Shape, Size, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most work of a dispatch and of a submission, which keeps both below a driver's timeout.
const DISPATCH_GFLOP: f64 = 8.0;
const SUBMIT_GFLOP: f64 = 50.0;

fn device(default_limits: bool) -> Option<Gpu> {
    gpu(GpuOptions {
        default_limits,
        ..GpuOptions::default()
    })
}

/// The device with its own limits, with default limits, and planned for as a GPU: their cuts or kernels differ.
fn devices() -> Vec<Gpu> {
    let as_gpu = gpu(GpuOptions {
        plan_as_gpu: true,
        ..GpuOptions::default()
    });
    let all = [device(false), device(true), as_gpu];
    all.into_iter().flatten().collect()
}

/// `profile` with limits that are small enough for tests to reach.
fn small(target: &Target, max_binding_bytes: u64) -> Target {
    Target {
        device: DeviceProfile {
            max_binding_bytes,
            max_workgroups_per_dimension: 16,
            binding_alignment: 256,
            ..target.device.clone()
        },
        ..target.clone()
    }
}

/// The plan for the smallest binding that allows one, and its profile.
fn smallest(target: &Target, plan: impl Fn(&Target) -> fullconv::Result<Plan>) -> (Plan, Target) {
    for log2 in 8..30 {
        let small = small(target, 1 << log2);
        match plan(&small) {
            Ok(plan) => return (plan, small),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Limit, "{e}"),
        }
    }
    panic!("no plan for any binding");
}

/// Whether layers run in several steps, and whether weights are cut into shards.
fn cuts(plan: &Plan) -> (bool, bool) {
    let weights = plan.parameters.iter().filter(|p| !p.packing.is_whole());
    (
        plan.steps.len() > plan.layers.len(),
        weights.count() > plan.layers.len(),
    )
}

#[test]
fn every_case_cut_as_small_as_possible_agrees_with_the_reference() {
    for gpu in devices() {
        let mut random = Random::new(2);
        let (mut in_steps, mut in_shards, mut cases) = (0, 0, 0);
        for case in lowered::cases() {
            let one = OneOp::of_case(case, &mut random);
            let smallest = preferences(gpu.target()).into_iter().map(|preferred| {
                let (plan, target) = smallest(&preferred, |target| one.plan(target));
                check_limits(&plan, &target);
                let (steps, shards) = cuts(&plan);
                in_steps += usize::from(steps);
                in_shards += usize::from(shards);
                cases += 1;
                plan
            });
            for found in one.run_plans(&gpu, smallest.collect()) {
                one.check_found(&found, "cut small");
            }
        }
        // Some cases are too small to cut, but more than half must be cut.
        assert!(2 * in_steps > cases, "{in_steps} of {cases} cases were cut");
        // On a CPU, most weights lie in textures, which are not cut.
        let least = if gpu.target().device.is_cpu { 1 } else { 3 };
        assert!(in_shards >= least, "{in_shards} weights were cut");
    }
}

#[test]
fn a_band_binds_every_row_that_it_needs() {
    let mut random = Random::new(3);
    for case in lowered::cases() {
        OneOp::of_case(case, &mut random).check_rows();
    }
}

#[test]
fn networks_cut_as_small_as_possible_agree_with_the_reference() {
    let sizes = [
        ("fcn8s-caffe", Shape::new(3, 3, 9, 14)),
        ("fcn16s-same", Shape::new(2, 3, 240, 201)),
    ];
    for gpu in devices() {
        for (file, shape) in sizes {
            let model = golden(file);
            let graph = with_labels(&model);
            let scores = graph.node(graph.output()).inputs[0];
            let outputs = [scores, graph.output()];
            let (plan, target) = smallest(gpu.target(), |target| {
                Plan::new(&graph, shape, &outputs, target)
            });
            check_limits(&plan, &target);
            check_liveness(&plan, &graph);
            assert!(
                2 * plan.steps.len() > 3 * plan.layers.len(),
                "{file}: hardly cut\n{plan}"
            );
            let input = Random::new(4).tensor(shape);
            let found = run_plan(&gpu, plan, &graph, model.parameters(), &input);
            let expected = reference::run(&graph, model.parameters(), &input, &outputs).unwrap();
            let error = relative_error(&expected[0].1, &found[0].1);
            assert!(error < 1e-5, "{file}: {error:e}");
            let labels = Argmax {}.reference(&[&found[0].1]).unwrap();
            assert_eq!(labels, found[1].1, "{file}");
        }
    }
}

/// A convolution with ReLU, a resize and labels. With `also`, other nodes read the convolution and the resize too.
fn fusible(also: bool) -> (Graph, Parameters) {
    let weight = Random::new(5).tensor(Shape::new(6, 3, 3, 3));
    let mut graph = Graph::new("input");
    let id = graph.parameter("weight", weight.shape()).unwrap();
    let inputs = [graph.input(), id];
    let conv = graph.op("conv", Conv2d::padded(1), &inputs).unwrap();
    let relu = graph.op("relu", Relu {}, &[conv]).unwrap();
    let sum = match also {
        true => graph.op("sum", Add {}, &[conv, relu]).unwrap(),
        false => relu,
    };
    let resize = Interpolate::bilinear([13, 9], false);
    let resized = graph.op("resized", resize, &[sum]).unwrap();
    if also {
        let soft = graph.op("soft", Softmax::default(), &[resized]).unwrap();
        graph.op("resized_soft", Add {}, &[resized, soft]).unwrap();
    }
    graph.op("labels", Argmax {}, &[resized]).unwrap();
    let file = crate::common::tensor_file(&[("weight".into(), weight)]);
    (graph, Parameters::new(file, BTreeMap::new()))
}

#[test]
fn nodes_are_fused_unless_another_node_reads_them() {
    let input = Random::new(6).tensor(Shape::new(2, 3, 7, 8));
    let layers = |graph: &Graph, outputs: &[NodeId]| {
        let target = Target::WEBGPU_DEFAULTS;
        let plan = Plan::new(graph, input.shape(), outputs, &target).unwrap();
        check_liveness(&plan, graph);
        plan.layers
            .into_iter()
            .map(|layer| layer.name)
            .collect::<Vec<_>>()
    };
    let (graph, _) = fusible(false);
    let named = |name: &str| graph.find(name).unwrap();
    let labels = named("labels");
    assert_eq!(layers(&graph, &[labels]), ["conv+relu", "resized+labels"]);
    let fetched = [labels, named("conv"), named("resized")];
    assert_eq!(
        layers(&graph, &fetched),
        ["conv", "relu", "resized", "labels"]
    );

    let (graph, parameters) = fusible(true);
    let outputs = ["labels", "resized_soft", "sum"].map(|name| graph.find(name).unwrap());
    let all = [
        "conv",
        "relu",
        "sum",
        "resized",
        "soft",
        "resized_soft",
        "labels",
    ];
    assert_eq!(layers(&graph, &outputs), all);
    let Some(gpu) = device(false) else { return };
    let found = crate::common::run(&gpu, &graph, &parameters, &input, &outputs);
    let expected = reference::run(&graph, &parameters, &input, &outputs).unwrap();
    for ((_, expected), (id, found)) in expected.iter().zip(&found).skip(1) {
        let error = relative_error(expected, found);
        assert!(error < 1e-5, "{}: {error:e}", graph.node(*id).name);
    }
}

/// Upsampling, a crop to the size of the convolution before a ReLU, and labels.
fn tail() -> (Graph, Parameters) {
    let mut random = Random::new(10);
    let tensors = [("conv.w", [5, 3, 3, 3]), ("up.w", [5, 6, 8, 8])]
        .map(|(name, [n, c, h, w])| (name.to_owned(), random.tensor(Shape::new(n, c, h, w))));
    let mut graph = Graph::new("input");
    let [conv, up] = tensors
        .each_ref()
        .map(|(name, weight)| graph.parameter(name, weight.shape()).unwrap());
    let inputs = [graph.input(), conv];
    let conv = graph.op("conv", Conv2d::padded(1), &inputs).unwrap();
    let relu = graph.op("relu", Relu {}, &[conv]).unwrap();
    let op = ConvTranspose2d::strided(2, 0);
    let up = graph.op("up", op, &[relu, up]).unwrap();
    let crop = Crop::at([3, 1]);
    let score = graph.op("score", crop, &[up, conv]).unwrap();
    graph.op("labels", Argmax {}, &[score]).unwrap();
    let file = crate::common::tensor_file(&tensors);
    (graph, Parameters::new(file, BTreeMap::new()))
}

#[test]
fn upsampling_crop_and_labels_are_fused_unless_one_is_requested() {
    let (graph, parameters) = tail();
    let input = Random::new(11).tensor(Shape::new(3, 3, 7, 9));
    let named = |name: &str| graph.find(name).unwrap();
    let plan = |outputs: &[&str], target: &Target| {
        let outputs: Vec<_> = outputs.iter().map(|name| named(name)).collect();
        let plan = Plan::new(&graph, input.shape(), &outputs, target).unwrap();
        check_limits(&plan, target);
        check_liveness(&plan, &graph);
        plan
    };
    let layers = |outputs: &[&str], target: &Target| {
        let layers = plan(outputs, target).layers.into_iter();
        layers.map(|layer| layer.name).collect::<Vec<_>>()
    };
    let whole = Target::WEBGPU_DEFAULTS;
    // The crop reads only the convolution's shape, so the convolution is fused with its ReLU.
    assert_eq!(
        layers(&["labels"], &whole),
        ["conv+relu", "up+score+labels"]
    );
    assert_eq!(
        layers(&["labels", "score"], &whole),
        ["conv+relu", "up+score", "labels"]
    );
    assert_eq!(
        layers(&["labels", "up"], &whole),
        ["conv+relu", "up", "score", "labels"]
    );
    // Labels need all classes at once: if the weight is cut, the scores are written.
    let cut = small(&whole, 8192);
    assert_eq!(
        layers(&["labels"], &cut),
        ["conv+relu", "up+score", "labels"]
    );

    let Some(gpu) = device(false) else { return };
    let labels = |plan| {
        let found = run_plan(&gpu, plan, &graph, &parameters, &input);
        found.into_iter().next().unwrap().1
    };
    let expected = reference::run(&graph, &parameters, &input, &[named("labels")]).unwrap();
    for outputs in [&["labels"][..], &["labels", "score"], &["labels", "up"]] {
        let found = labels(plan(outputs, gpu.target()));
        assert_eq!(found, expected[0].1, "{outputs:?}");
    }
    assert_eq!(
        labels(plan(&["labels"], &small(gpu.target(), 8192))),
        expected[0].1
    );
}

const PICTURE: Shape = Shape::new(1, 3, 500, 500);

#[test]
fn full_width_fcn8s_fits_webgpus_default_limits() {
    let graph = full_width();
    let target = Target {
        options: PlanOptions {
            whole_padding: true,
            ..PlanOptions::DEFAULT
        },
        ..Target::WEBGPU_DEFAULTS
    };
    let plan = Plan::new(&graph, PICTURE, &[graph.output()], &target).unwrap();
    check_limits(&plan, &target);
    check_liveness(&plan, &graph);
    let fc6 = plan
        .parameters
        .iter()
        .filter(|p| p.name.as_deref() == Some("fc6.weight"));
    let fc6: Vec<_> = fc6.collect();
    assert!(fc6.len() >= 4, "411 MB in {} parts", fc6.len());
    assert!(fc6.iter().map(|p| p.bytes).sum::<u64>() >= 512 * 49 * 4096 * 4);
    let gflop = plan.flops() as f64 / 1e9;
    assert!(
        gflop < 0.45 * 363.0,
        "{gflop} GFLOP with Winograd's transforms"
    );
    let target = target.without_transforms();
    let plan = Plan::new(&graph, PICTURE, &[graph.output()], &target).unwrap();
    check_limits(&plan, &target);
    let gflop = plan.flops() as f64 / 1e9;
    assert!((gflop / 363.0 - 1.0).abs() < 0.02, "{gflop} GFLOP");
}

#[test]
fn full_width_fcn8s_runs_in_at_most_six_buffers() {
    let graph = full_width();
    let target = Target::WEBGPU_DEFAULTS;
    let plan = Plan::new(&graph, PICTURE, &[graph.output()], &target).unwrap();
    assert!(plan.layers.len() > 20);
    assert!(
        plan.slots.len() <= 6,
        "{} buffers for {} layers",
        plan.slots.len(),
        plan.layers.len()
    );
    // All activations are 1.24 GB, but less than three of conv1's 698² maps of 64 channels live at once.
    let conv1 = Format::Nhwc4.bytes(Shape::new(1, 64, 698, 698));
    assert!(
        plan.activation_bytes() < 3 * conv1,
        "{} bytes",
        plan.activation_bytes()
    );
    // If all nodes are requested, each is written, and none is overwritten before its readback.
    let all: Vec<_> = graph
        .iter()
        .filter(|(_, n)| n.op().is_some())
        .map(|(id, _)| id)
        .collect();
    let plan = Plan::new(&graph, PICTURE, &all, &target).unwrap();
    check_liveness(&plan, &graph);
    let names = plan.layers.iter().map(|layer| &layer.name);
    let written: BTreeSet<_> = names
        .filter(|name| !name.starts_with("frame of "))
        .collect();
    assert_eq!(written.len(), all.len());
}

#[test]
fn dispatches_and_submissions_keep_their_bounds_of_work() {
    let graph = full_width();
    let cpu = Target {
        device: DeviceProfile {
            is_cpu: true,
            subgroup_size: Some(8),
            ..DeviceProfile::WEBGPU_DEFAULTS
        },
        ..Target::WEBGPU_DEFAULTS
    };
    let gpus = preferences(&Target::WEBGPU_DEFAULTS);
    for target in gpus.into_iter().chain([cpu]) {
        let plan = Plan::new(&graph, PICTURE, &[graph.output()], &target).unwrap();
        let gflop = |step: &fullconv::low_level::plan::Step| step.flops as f64 / 1e9;
        let longest = plan.steps.iter().map(gflop).fold(0.0, f64::max);
        // A dispatch is at least one row of its output.
        let rows = plan
            .layers
            .iter()
            .map(|l| l.flops as f64 / 1e9 / l.shape.h as f64);
        assert!(
            longest <= DISPATCH_GFLOP + rows.fold(0.0, f64::max),
            "{longest} GFLOP"
        );
        let submissions: Vec<f64> = plan
            .steps
            .split_inclusive(|step| step.ends_submit)
            .map(|steps| steps.iter().map(gflop).sum())
            .collect();
        assert!(
            submissions.iter().all(|s| *s <= SUBMIT_GFLOP + longest),
            "{submissions:?}"
        );
        let all: f64 = submissions.iter().sum();
        assert!(
            (all * 1e9 / plan.flops() as f64 - 1.0).abs() < 1e-3,
            "{all} GFLOP in all steps"
        );
    }
}

#[test]
fn a_picture_that_is_too_large_is_an_error_with_figures() {
    let graph = full_width();
    let target = Target {
        options: PlanOptions {
            whole_padding: true,
            ..PlanOptions::DEFAULT
        },
        ..Target::WEBGPU_DEFAULTS
    };
    let error = |h, w| {
        let input = Shape::new(1, 3, h, w);
        let error = Plan::new(&graph, input, &[graph.output()], &target).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        error.to_string()
    };
    // First the input is too large, then the rows that a single row of the output needs.
    let input = ["input", "[1, 3, 5000, 4000]", "306 MiB"];
    let row = [
        "relu1_1",
        "[1, 64, 214, 200198]",
        "10460 MiB, and the 214 rows",
    ];
    for (message, parts) in [(error(5000, 4000), input), (error(16, 200_000), row)] {
        for part in parts.into_iter().chain(["256 MiB", "smaller picture"]) {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
}

#[test]
fn a_row_that_is_too_wide_is_an_error_with_figures() {
    let mut graph = Graph::new("input");
    graph.op("wide", Relu {}, &[graph.input()]).unwrap();
    let target = small(&Target::WEBGPU_DEFAULTS, 1 << 20);
    let input = Shape::new(1, 64, 3, 5000);
    let error = Plan::new(&graph, input, &[graph.output()], &target).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    let message = error.to_string();
    for part in ["wide", "[1, 64, 3, 5000]", "1 MiB"] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn a_picture_that_is_too_large_is_a_limit_error_and_the_next_one_runs() {
    let Some(gpu) = device(true) else { return };
    let segmenter = pollster::block_on(Segmenter::new(&gpu, &golden("fcn32s-same"))).unwrap();
    let black =
        |side: usize| Picture::from_rgb(Size::square(side), vec![0; side * side * 3]).unwrap();
    let error = segmenter.segment_blocking(&black(8200)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    assert_eq!(
        segmenter
            .segment_blocking(&black(5))
            .unwrap()
            .labels()
            .len(),
        25
    );
}

/// An op on small whole numbers: their sums are exact in f32, in any order.
fn exact(op: impl Op + 'static, shapes: &[Shape]) -> OneOp {
    let whole = |i: usize| ((i * 2_654_435_761) >> 7) % 7;
    let tensor = |shape: &Shape| {
        let numbers = (0..shape.elements()).map(|i| whole(i) as f32 - 3.0);
        Tensor::new(*shape, numbers.collect()).unwrap()
    };
    let one = OneOp::new(Arc::new(op), shapes.iter().map(tensor).collect());
    assert!(9 * one.op.reduction_length(shapes) < 1 << 24);
    one
}

/// Panics unless the device's result is exact for each of its preferences, and one of these plans has at least `runs`
/// dispatches.
fn check_exact(gpu: &Gpu, one: &OneOp, runs: usize) {
    let targets = preferences(gpu.target());
    let plans: Vec<_> = targets
        .iter()
        .map(|target| one.plan(target).unwrap())
        .collect();
    let dispatches: Vec<_> = plans.iter().map(|plan| plan.steps.len()).collect();
    assert!(
        dispatches.iter().any(|count| *count >= runs),
        "{dispatches:?}"
    );
    let expected = one.expected();
    assert!(expected.data().iter().any(|x| *x != 0.0));
    for found in one.run_plans(gpu, plans) {
        assert_eq!(found, expected, "{:?}", one.op);
    }
}

/// lavapipe ends loops silently after 65,535 steps.
#[test]
fn a_sum_of_more_terms_than_loop_steps_is_complete() {
    for gpu in devices() {
        // On a CPU, 5 channels run without subgroups and 33 with them; 9 · 8192 steps take two dispatches.
        for out in [5, 33] {
            let shapes = [
                Shape::new(1, 32_768, 3, 4),
                Shape::new(out, 32_768, 3, 3),
                Shape::vector(out),
            ];
            check_exact(&gpu, &exact(Conv2d::default(), &shapes), 2);
        }
    }
}

/// So many channels that a kernel needs three dispatches: 131,072 groups of four, of which a dispatch sums 60,000.
const LONG: usize = 524_288;

#[test]
fn a_sum_too_long_for_one_dispatch_is_continued_by_the_next() {
    let conv = |groups, out| {
        let op = Conv2d {
            groups,
            ..Conv2d::default()
        };
        let input = Shape::new(1, LONG, 1, 2);
        let weight = Shape::new(out, LONG / groups, 1, 1);
        exact(op, &[input, weight, Shape::vector(out)])
    };
    let transposed = |groups, out| {
        let op = ConvTranspose2d {
            groups,
            ..ConvTranspose2d::default()
        };
        let input = Shape::new(1, LONG, 2, 1);
        let weight = Shape::new(LONG, out / groups, 1, 1);
        exact(op, &[input, weight, Shape::vector(out)])
    };
    // A GPU may sum two parts, each in several dispatches.
    let plan = conv(1, 3).plan(&Target {
        device: DeviceProfile {
            invocations_at_once: FEW_INVOCATIONS,
            ..DeviceProfile::WEBGPU_DEFAULTS
        },
        ..Target::WEBGPU_DEFAULTS
    });
    let plan = plan.unwrap();
    assert!(plan.layers.len() == 2 && plan.steps.len() >= 4, "{plan}");
    for gpu in devices() {
        for (groups, out) in [(1, 3), (1, 12), (2, 6)] {
            check_exact(&gpu, &conv(groups, out), 3);
        }
        for (groups, out) in [(1, 3), (2, 4)] {
            check_exact(&gpu, &transposed(groups, out), 3);
        }
    }
}

/// The sums are negative after the first dispatch and positive after the last one.
#[test]
fn relu_is_applied_after_the_last_dispatch_of_a_sum() {
    for gpu in devices() {
        for (groups, out) in [(1, 3), (1, 12), (2, 6)] {
            let conv = Conv2d {
                groups,
                ..Conv2d::default()
            };
            let op = Convolution {
                activation: Activation::Relu,
                ..conv.into()
            };
            let terms = LONG / groups;
            let rising = |c: usize| if c % terms < terms / 2 { -1.0 } else { 2.0 };
            let input = Tensor::from_fn(Shape::new(1, LONG, 1, 2), |_, c, _, _| rising(c));
            let weights = Shape::new(out, terms, 1, 1);
            let weight = Tensor::from_fn(weights, |o, _, _, _| (o + 1) as f32);
            let one = OneOp::new(Arc::new(op), vec![input.unwrap(), weight.unwrap()]);
            assert!(one.expected().data().iter().all(|x| *x > 0.0));
            check_exact(&gpu, &one, 3);
        }
        let rising = |c: usize| if c < 16_384 { -1.0 } else { 2.0 };
        let input = Tensor::from_fn(Shape::new(1, 32_768, 3, 4), |_, c, _, _| rising(c));
        let weight = Tensor::from_fn(Shape::new(33, 32_768, 3, 3), |o, _, _, _| (o + 1) as f32);
        let op = Convolution {
            activation: Activation::Relu,
            ..Conv2d::default().into()
        };
        let one = OneOp::new(Arc::new(op), vec![input.unwrap(), weight.unwrap()]);
        check_exact(&gpu, &one, 2);
    }
}

#[test]
fn too_many_workgroups_for_one_dimension_use_two() {
    let Some(gpu) = device(false) else { return };
    let shape = Shape::new(1, 4, 2100, 2048);
    let one = exact(Relu {}, &[shape]);
    let plan = one.plan(&Target::WEBGPU_DEFAULTS).unwrap();
    let [step] = &plan.steps[..] else {
        panic!("{} steps", plan.steps.len());
    };
    assert!(step.workgroups[1] > 1, "{:?}", step.workgroups);
    assert!(one.run_plan(&gpu, plan) == one.expected());
}

#[test]
fn a_loop_too_long_for_one_invocation_is_an_error() {
    let mut graph = Graph::new("picture");
    let preprocess = fullconv::low_level::ops::Preprocess {
        size: [1, 1],
        channels: fullconv::Channels::Rgb,
        range: 1.0,
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
    };
    graph.op("input", preprocess, &[graph.input()]).unwrap();
    let target = Target::WEBGPU_DEFAULTS;
    let input = Shape::new(1, 3, 200, 200);
    let error = Plan::new(&graph, input, &[graph.output()], &target).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("input"), "{error}");
}

/// Keys in tiles of 8, each tile of 4 steps: too many for the loops of one dispatch.
#[test]
fn attention_over_more_keys_than_loop_steps_is_complete() {
    let shapes = [[2, 3], [300, 430], [300, 430]].map(|[h, w]| Shape::new(1, 4, h, w));
    let one = OneOp::random(Arc::new(Attention::of(1)), &shapes, &mut Random::new(61));
    for gpu in devices() {
        let plan = one.plan(gpu.target()).unwrap();
        check_limits(&plan, gpu.target());
        let of_sums = plan.layers.len() - 2;
        let runs = plan.steps.iter().filter(|step| step.layer == of_sums);
        assert!(runs.count() >= 2, "{plan}");
        one.check_found(&one.run_plan(&gpu, plan), "in runs of keys");
    }
}

/// A picture of 1024² pixels at stride 8, and heads of many channels.
#[test]
fn attention_of_a_large_picture_keeps_the_bounds_of_work() {
    for [d, dv] in [[64, 64], [64, 512], [512, 512]] {
        let mut graph = Graph::new("input");
        let [query, value] = [d, dv].map(|channels| Shape::new(channels, 3, 8, 8));
        let conv = || Conv2d {
            stride: [8, 8],
            ..Conv2d::default()
        };
        let mut ids = Vec::new();
        for (name, shape) in [("query", query), ("key", query), ("value", value)] {
            let weight = graph.parameter(format!("{name}.weight"), shape).unwrap();
            let inputs = [graph.input(), weight];
            ids.push(graph.op(name, conv(), &inputs).unwrap());
        }
        graph.op("attention", Attention::of(1), &ids).unwrap();
        let target = Target::WEBGPU_DEFAULTS;
        let input = Shape::new(1, 3, 1024, 1024);
        let plan = Plan::new(&graph, input, &[graph.output()], &target).unwrap();
        check_limits(&plan, &target);
        let flops = plan.steps.iter().map(|step| step.flops).max().unwrap();
        assert!(flops as f64 <= DISPATCH_GFLOP * 1e9, "{flops}");
        // The matrix of scores would take 1 GiB.
        assert!(plan.activation_bytes() < 200 << 20, "{plan}");
    }
}

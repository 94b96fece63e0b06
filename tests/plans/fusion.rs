//! Pooling fused with convolution: the plans that fuse it, and equal results with and without.

use crate::common::plans::{check_limits, check_liveness, full_width};
use crate::common::{Random, golden, gpu, preferences, run_on, with_labels};
use fullconv::low_level::device_profile::DeviceProfile;
use fullconv::low_level::gpu::Network;
use fullconv::low_level::graph::{Graph, NodeId};
use fullconv::low_level::ops::{
    Argmax, Clamp, Conv2d, ConvTranspose2d, Interpolate, MaxPool2d, Op,
};
use fullconv::low_level::plan::Plan;
use fullconv::low_level::target::{PlanOptions, Target};
use fullconv::{Gpu, GpuOptions, Shape, Tensor};

/// The profiles with different plans: GPUs, also in f16, and CPUs with and without subgroups.
fn profiles() -> Vec<Target> {
    let defaults = Target::WEBGPU_DEFAULTS;
    let cpu = |subgroup_size| Target {
        device: DeviceProfile {
            is_cpu: true,
            subgroup_size,
            ..defaults.device.clone()
        },
        ..defaults.clone()
    };
    let half = defaults.in_half(true);
    let gpus = preferences(&defaults).into_iter();
    gpus.chain([half, cpu(None), cpu(Some(8))]).collect()
}

fn kernels<'a>(plan: &'a Plan, name: &str) -> Vec<&'a str> {
    let layers = plan.layers.iter().filter(|layer| layer.name == name);
    layers.map(|layer| layer.kernel).collect()
}

fn pools(plan: &Plan) -> usize {
    let is_pool = |kernel: &&str| *kernel == "max_pool2d";
    plan.layers.iter().map(|l| l.kernel).filter(is_pool).count()
}

#[test]
fn convolutions_fuse_with_relu6_and_with_no_other_clamp() {
    let layers = |clamp: Clamp| {
        let mut graph = Graph::new("input");
        let weight = graph.parameter("weight", Shape::new(8, 8, 3, 3)).unwrap();
        let conv = Conv2d::padded(1);
        let conv = graph.op("conv", conv, &[graph.input(), weight]).unwrap();
        let last = graph.op("clamp", clamp, &[conv]).unwrap();
        let input = Shape::new(1, 8, 6, 5);
        let plan = Plan::new(&graph, input, &[last], &Target::WEBGPU_DEFAULTS).unwrap();
        plan.layers.len()
    };
    let clamp = |min, max| Clamp { min, max };
    assert_eq!(layers(clamp(Some(0.0), Some(6.0))), 1);
    for other in [
        clamp(Some(0.0), None),
        clamp(None, Some(6.0)),
        clamp(Some(-1.0), Some(1.0)),
        clamp(Some(0.0), Some(0.0)),
        clamp(Some(0.0), Some(-2.0)),
        clamp(Some(0.0), Some(f32::INFINITY)),
    ] {
        assert_eq!(layers(other), 2);
    }
}

#[test]
fn full_width_fcn8s_fuses_every_pooling_for_every_profile() {
    let graph = full_width();
    let input = Shape::new(1, 3, 500, 500);
    for target in profiles() {
        let plan = Plan::new(&graph, input, &[graph.output()], &target).unwrap();
        check_limits(&plan, &target);
        check_liveness(&plan, &graph);
        assert_eq!(pools(&plan), 0, "{plan}");
        for last in ["conv1_2+relu1_2+pool1", "conv5_3+relu5_3+pool5"] {
            assert!(!kernels(&plan, last).is_empty(), "{last}\n{plan}");
        }
        // A requested map is pooled by a layer of its own.
        let relu5_3 = graph.find("relu5_3").unwrap();
        let asked = Plan::new(&graph, input, &[graph.output(), relu5_3], &target).unwrap();
        assert_eq!(pools(&asked), 1, "{asked}");
        assert!(!kernels(&asked, "conv5_3+relu5_3").is_empty(), "{asked}");
    }
}

/// The kernels of `op`, on the input and a weight if it has one, and argmax of its output.
fn labelled(op: impl Op + 'static, weight: Option<Shape>) -> Vec<&'static str> {
    let mut graph = Graph::new("input");
    let mut inputs = vec![graph.input()];
    inputs.extend(weight.map(|shape| graph.parameter("weight", shape).unwrap()));
    let scores = graph.op("scores", op, &inputs).unwrap();
    graph.op("labels", Argmax {}, &[scores]).unwrap();
    let input = Shape::new(1, 5, 9, 11);
    let plan = Plan::new(&graph, input, &[graph.output()], &Target::WEBGPU_DEFAULTS).unwrap();
    plan.layers.iter().map(|layer| layer.kernel).collect()
}

#[test]
fn labels_are_fused_only_with_what_their_kernels_compute() {
    let resize = Interpolate::bilinear([5, 7], false);
    let smooth = Interpolate {
        antialias: true,
        ..resize.clone()
    };
    assert_eq!(labelled(resize, None), ["argmax_resized"]);
    let one = "interpolate_antialiased";
    assert_eq!(labelled(smooth, None), [one, one, "argmax"]);
    let upsampling = ConvTranspose2d::strided(2, 0);
    let dilated = ConvTranspose2d {
        dilation: [2, 2],
        ..upsampling.clone()
    };
    let weight = Some(Shape::new(5, 5, 3, 3));
    assert_eq!(labelled(upsampling, weight), ["argmax_upsampled"]);
    assert_eq!(
        labelled(dilated, weight),
        ["conv_transpose2d_grouped", "argmax"]
    );
}

/// The plan with fused poolings, and a plan without: in it, every pooled map is requested too.
fn plans(graph: &Graph, input: Shape, outputs: &[NodeId], target: &Target) -> [Plan; 2] {
    let pooled = graph.iter().filter(|(_, node)| {
        let op = node.op().map(|op| op.name());
        op == Some("max_pool2d")
    });
    let maps = pooled.map(|(_, node)| node.inputs[0]);
    let all: Vec<_> = outputs.iter().copied().chain(maps).collect();
    // Requested nodes have whole padding, so both plans must have it.
    let target = Target {
        options: PlanOptions {
            whole_padding: true,
            ..target.options.clone()
        },
        ..target.clone()
    };
    [outputs, &all].map(|outputs| Plan::new(graph, input, outputs, &target).unwrap())
}

#[test]
fn scores_and_labels_equal_those_without_fusion() {
    let sizes = [
        ("fcn8s-caffe", Shape::new(2, 3, 21, 14)),
        ("fcn8s-floor", Shape::new(1, 3, 97, 64)),
        ("fcn8s-same", Shape::new(3, 3, 37, 50)),
        ("fcn32s-same", Shape::new(1, 3, 131, 45)),
    ];
    for gpu in devices() {
        for (name, input) in sizes {
            let network = Network::new(&gpu);
            let model = golden(name);
            let graph = with_labels(&model);
            let outputs = [graph.node(graph.output()).inputs[0], graph.output()];
            let values = Random::new(31).tensor(input);
            for target in preferences(gpu.target()) {
                let [one, apart] = plans(&graph, input, &outputs, &target);
                assert_eq!((pools(&one), pools(&apart)), (0, 5), "{name}\n{one}");
                let run = |plan| run_on(&network, plan, &graph, model.parameters(), &values);
                let (one, apart) = (run(one), run(apart));
                for ((id, found), (_, expected)) in one.iter().zip(&apart) {
                    let what = &graph.node(*id).name;
                    let bits =
                        |t: &Tensor| t.data().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert!(bits(found) == bits(expected), "{name}: {what} of {input}");
                }
            }
        }
    }
}

fn devices() -> Vec<Gpu> {
    let as_gpu = GpuOptions {
        plan_as_gpu: true,
        ..GpuOptions::default()
    };
    let all = [GpuOptions::default(), as_gpu];
    all.into_iter().filter_map(gpu).collect()
}

/// A convolution of `groups`, then `pool`.
fn conv_and_pool(groups: usize, pool: MaxPool2d) -> (Graph, NodeId) {
    let mut graph = Graph::new("input");
    let weight = graph
        .parameter("weight", Shape::new(8, 8 / groups, 3, 3))
        .unwrap();
    let op = Conv2d {
        groups,
        ..Conv2d::padded(1)
    };
    let conv = graph.op("conv", op, &[graph.input(), weight]).unwrap();
    graph.op("pool", pool, &[conv]).unwrap();
    (graph, conv)
}

#[test]
fn other_windows_groups_and_requested_maps_are_not_fused() {
    let square = MaxPool2d::square;
    let padded = MaxPool2d {
        padding: [1, 1],
        ..square(2, 2, true)
    };
    for target in profiles() {
        let pools = |graph: &Graph, outputs: &[NodeId]| {
            pools(&Plan::new(graph, Shape::new(1, 8, 12, 12), outputs, &target).unwrap())
        };
        for pool in [
            square(3, 2, true),
            square(2, 1, false),
            square(3, 3, false),
            padded.clone(),
        ] {
            let (graph, _) = conv_and_pool(1, pool);
            assert_eq!(pools(&graph, &[graph.output()]), 1, "{graph:?}");
        }
        // Kernels could pool grouped convolutions too, but networks pool those with other windows.
        let (grouped, _) = conv_and_pool(2, square(2, 2, true));
        assert_eq!(pools(&grouped, &[grouped.output()]), 1);
        let (graph, conv) = conv_and_pool(1, square(2, 2, false));
        assert_eq!(pools(&graph, &[graph.output()]), 0);
        assert_eq!(pools(&graph, &[graph.output(), conv]), 1);
    }
}

/// With rows this long, one dispatch for all terms would exceed the bound of work: sums take several dispatches and are
/// pooled afterwards.
#[test]
fn sums_too_long_for_one_dispatch_are_not_fused() {
    let mut graph = Graph::new("input");
    let weight = graph
        .parameter("weight", Shape::new(512, 4096, 3, 3))
        .unwrap();
    let conv = graph
        .op("conv", Conv2d::padded(1), &[graph.input(), weight])
        .unwrap();
    graph
        .op("pool", MaxPool2d::square(2, 2, true), &[conv])
        .unwrap();
    let input = Shape::new(1, 4096, 16, 200);
    let target = Target::WEBGPU_DEFAULTS.without_transforms();
    let plan = Plan::new(&graph, input, &[graph.output()], &target).unwrap();
    check_limits(&plan, &target);
    assert_eq!(pools(&plan), 1, "{plan}");
    assert!(
        plan.steps.iter().all(|step| step.flops <= 8_000_000_000),
        "{plan}"
    );
}

//! Plans cut large padding away without changing the results.

use crate::common::plans::{check_limits, check_liveness, full_width};
use crate::common::{Random, golden, gpu, relative_error, run_on, with_labels};
use fullconv::low_level::gpu::Network;
use fullconv::low_level::graph::{Graph, NodeId};
use fullconv::low_level::plan::Plan;
use fullconv::low_level::target::{PlanOptions, Target};
use fullconv::{Gpu, GpuOptions, Shape};

fn whole(target: &Target) -> Target {
    Target {
        options: PlanOptions {
            whole_padding: true,
            ..target.options.clone()
        },
        ..target.clone()
    }
}

fn is_cut(plan: &Plan) -> bool {
    plan.layers.iter().any(|layer| layer.kernel == "paste")
}

/// The plan with the padding cut away, and the plan with whole padding.
fn plans(graph: &Graph, input: Shape, outputs: &[NodeId], target: &Target) -> [Plan; 2] {
    [target.clone(), whole(target)].map(|target| {
        let plan = Plan::new(graph, input, outputs, &target).unwrap();
        check_limits(&plan, &target);
        check_liveness(&plan, graph);
        plan
    })
}

fn devices() -> Vec<Gpu> {
    let as_gpu = GpuOptions {
        plan_as_gpu: true,
        ..GpuOptions::default()
    };
    let all = [GpuOptions::default(), as_gpu];
    all.into_iter().filter_map(gpu).collect()
}

/// Sizes with every remainder by the strides of the first stages, and shapes that are not square.
#[test]
fn cutting_the_padding_changes_no_scores_or_labels_at_any_size() {
    let model = golden("fcn8s-caffe");
    let graph = with_labels(&model);
    let scores = graph.node(graph.output()).inputs[0];
    let outputs = [scores, graph.output()];
    for gpu in devices() {
        let network = Network::new(&gpu);
        let mut random = Random::new(12);
        for side in 1..=17 {
            let input = Shape::new(1 + side % 2, 3, side, 3 * (18 - side));
            let [cut, all] = plans(&graph, input, &outputs, gpu.target());
            assert!(is_cut(&cut) && !is_cut(&all), "{input}\n{cut}");
            assert!(
                4 * cut.flops() < 3 * all.flops(),
                "{input}: {} FLOP",
                cut.flops()
            );
            let values = random.tensor(input);
            let [cut, all] =
                [cut, all].map(|plan| run_on(&network, plan, &graph, model.parameters(), &values));
            let error = relative_error(&all[0].1, &cut[0].1);
            assert!(error < 1e-6, "{input}: {error:e}");
            let (expected, found) = (all[1].1.data(), cut[1].1.data());
            let differ = expected.iter().zip(found).filter(|(e, f)| e != f).count();
            assert_eq!(differ, 0, "{input}: labels");
        }
    }
}

#[test]
fn requested_nodes_are_whole() {
    let model = golden("fcn16s-caffe");
    let graph = model.graph().clone();
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let network = Network::new(&gpu);
    let input = Shape::new(2, 3, 21, 12);
    let values = Random::new(13).tensor(input);
    let names = [
        "conv1_1", "relu1_2", "pool1", "conv2_2", "pool2", "relu3_1", "pool3",
    ];
    for name in names {
        let outputs = [graph.find(name).unwrap(), graph.output()];
        let [cut, all] = plans(&graph, input, &outputs, gpu.target());
        let [cut, all] =
            [cut, all].map(|plan| run_on(&network, plan, &graph, model.parameters(), &values));
        for ((_, cut), (_, all)) in cut.iter().zip(&all) {
            assert_eq!(cut.shape(), all.shape(), "{name}");
            let error = relative_error(all, cut);
            assert!(error < 1e-6, "{name}: {error:e}");
        }
    }
}

/// In the first three stages of FCN-8s, the picture affects 0.7 of the work at 500×500, and a quarter at 64×64.
#[test]
fn full_width_fcn8s_saves_more_work_the_smaller_the_picture() {
    let graph = full_width();
    for (side, most) in [(500, 0.78), (224, 0.60), (64, 0.42)] {
        let input = Shape::new(1, 3, side, side);
        let [cut, all] = plans(&graph, input, &[graph.output()], &Target::WEBGPU_DEFAULTS);
        let stages = |plan: &Plan| -> u64 {
            let early = |name: &str| {
                ["conv1", "conv2", "conv3"]
                    .iter()
                    .any(|s| name.starts_with(s))
            };
            let layers = plan.layers.iter().filter(|layer| early(&layer.name));
            layers.map(|layer| layer.flops).sum()
        };
        let share = stages(&cut) as f64 / stages(&all) as f64;
        assert!(share < most, "{side}: {share}");
    }
}

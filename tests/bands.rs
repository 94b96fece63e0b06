//! Pictures whose activations are larger than any buffer of the device run band by band, and the result
//! does not depend on it, to the last bit.

mod common;

use common::plans::{check_limits, check_liveness, full_width};
use common::{Random, golden, gpu, run_on, with_labels};
use fullconv::device_profile::DeviceProfile;
use fullconv::gpu::Network;
use fullconv::graph::{Graph, NodeId};
use fullconv::ops::kernel::Format;
use fullconv::plan::Plan;
use fullconv::{ErrorKind, Gpu, GpuOptions, Model, Shape};

/// Plans for less and less memory, down to the least that anything fits.
fn in_bands(
    graph: &Graph,
    input: Shape,
    outputs: &[NodeId],
    whole: &Plan,
    profile: &DeviceProfile,
) -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    let beside = whole.peak_device_bytes() - whole.activation_bytes();
    let mut activations = whole.activation_bytes() - 1;
    loop {
        let small = DeviceProfile {
            memory_bytes: beside + activations,
            ..profile.clone()
        };
        match Plan::new(graph, input, outputs, &small) {
            Ok(plan) => {
                check_limits(&plan, &small);
                check_liveness(&plan, graph);
                assert!(plan.peak_device_bytes() <= small.memory_bytes);
                assert_eq!(plan.pipelines, whole.pipelines);
                activations = plan.activation_bytes() * 9 / 10;
                plans.push(plan);
            }
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
                return plans;
            }
        }
    }
}

/// Runs `model` on a batch whole and in bands of every size, and panics where one bit differs.
fn check_model(gpu: &Gpu, name: &str, model: &Model, input: Shape, fetch: &[&str]) {
    let graph = with_labels(model);
    let mut outputs = vec![graph.output(), graph.node(graph.output()).inputs[0]];
    outputs.extend(fetch.iter().map(|name| graph.find_op(name).unwrap()));
    let whole = Plan::new(&graph, input, &outputs, gpu.profile()).unwrap();
    assert!(whole.groups.is_empty());
    let plans = in_bands(&graph, input, &outputs, &whole, gpu.profile());
    assert!(plans.len() >= 3, "{name}: {} plans", plans.len());
    let most = plans.iter().flat_map(|plan| &plan.groups).map(|g| g.bands);
    assert!(most.max().unwrap() >= 4, "{name}: hardly cut");

    let network = Network::new(gpu);
    let values = Random::new(7).tensor(input);
    let run = |plan| run_on(&network, plan, &graph, model.parameters(), &values);
    let expected = run(whole);
    for plan in plans {
        let what = format!("{name} in buffers of {:?}", plan.slots);
        for ((id, expected), (_, found)) in expected.iter().zip(run(plan)) {
            let bits = |data: &[f32]| data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(expected.data().iter().all(|x| x.is_finite()));
            assert!(
                bits(expected.data()) == bits(found.data()),
                "{what}: {} differs",
                graph.node(*id).name
            );
        }
    }
}

fn devices() -> impl Iterator<Item = Gpu> {
    [false, true].into_iter().filter_map(|default_limits| {
        gpu(GpuOptions {
            default_limits,
            ..GpuOptions::default()
        })
    })
}

#[test]
fn networks_in_bands_are_bit_for_bit_what_they_are_whole() {
    let sizes = [
        ("fcn8s-caffe", Shape::new(2, 3, 21, 14)),
        ("fcn8s-floor", Shape::new(1, 3, 97, 64)),
        ("fcn8s-same", Shape::new(3, 3, 37, 50)),
        ("fcn8s-atonce-caffe", Shape::new(1, 3, 9, 33)),
        ("fcn16s-caffe", Shape::new(1, 3, 40, 7)),
        ("fcn16s-floor", Shape::new(2, 3, 64, 33)),
        ("fcn16s-same", Shape::new(1, 3, 131, 45)),
        ("fcn32s-caffe", Shape::new(2, 3, 3, 18)),
        ("fcn32s-floor", Shape::new(1, 3, 75, 39)),
        ("fcn32s-same", Shape::new(5, 3, 20, 31)),
    ];
    for gpu in devices() {
        for (file, shape) in sizes {
            check_model(&gpu, file, &golden(file), shape, &[]);
        }
    }
}

#[test]
fn values_asked_for_within_a_group_are_whole() {
    for gpu in devices() {
        let model = golden("fcn8s-same");
        let fetch = [
            "conv1_1", "relu1_2", "pool1", "conv3_3", "pool3", "upscore8",
        ];
        check_model(&gpu, "fetched", &model, Shape::new(2, 3, 43, 30), &fetch);
    }
}

#[test]
fn the_demo_model_in_bands_is_bit_for_bit_what_it_is_whole() {
    for gpu in devices() {
        let model = Model::demo().unwrap();
        check_model(&gpu, "demo", &model, Shape::new(1, 3, 150, 60), &["pool1"]);
    }
}

const PROFILE: DeviceProfile = DeviceProfile::WEBGPU_DEFAULTS;

/// Checks the plan, and that bands compute little twice.
fn check_real_size(graph: &Graph, input: Shape, outputs: &[NodeId], bands: &[usize]) -> Plan {
    let plan = Plan::new(graph, input, outputs, &PROFILE).unwrap();
    check_limits(&plan, &PROFILE);
    check_liveness(&plan, graph);
    let found: Vec<_> = plan.groups.iter().map(|g| g.bands).collect();
    assert_eq!(found, bands, "{plan}");
    let again: u64 = plan.groups.iter().map(|g| g.recomputed_flops).sum();
    assert!(100 * again < plan.flops(), "{plan}");
    let steps: u64 = plan.steps.iter().map(|s| s.flops).sum();
    assert!((steps as f64 / plan.flops() as f64 - 1.0).abs() < 1e-6);
    plan
}

/// Two buffers as large as they may be, for what a convolution reads and writes; beside them the maps before
/// and after its group, and the labels, which are held as a whole.
fn most_activations(input: Shape, before: Shape, after: Shape) -> u64 {
    let labels = Format::Labels8.bytes(input.with_channels(1));
    let whole = Format::Nhwc4.bytes(before) + Format::Nhwc4.bytes(after) + labels;
    2 * PROFILE.max_buffer_bytes + whole
}

#[test]
fn a_4k_picture_fits_webgpus_default_limits_in_the_demo_model() {
    let model = Model::demo().unwrap();
    let graph = with_labels(&model);
    let scores = graph.node(graph.output()).inputs[0];
    let input = Shape::new(1, 3, 2160, 3840);
    let most = most_activations(input, input, Shape::new(1, 16, 1080, 1920));

    let labels = Format::Labels8.bytes(Shape::new(1, 1, 2160, 3840));
    let plan = check_real_size(&graph, input, &[graph.output()], &[2, 2]);
    assert!(plan.activation_bytes() <= most, "{plan}");
    let peak = plan.activation_bytes() + plan.parameter_bytes() + labels;
    assert_eq!(plan.peak_device_bytes(), peak);
    assert_eq!(plan.read_backs.len(), 1);

    // 398 MB of scores, which no buffer holds, come to the host in two parts.
    let scores_bytes = Format::Nhwc4.bytes(Shape::new(1, 11, 2160, 3840));
    assert!(scores_bytes > PROFILE.max_buffer_bytes);
    let plan = check_real_size(&graph, input, &[scores, graph.output()], &[2, 2]);
    assert_eq!(plan.read_backs.len(), 3);
    assert_eq!(plan.peak_device_bytes(), peak + scores_bytes);
}

#[test]
fn a_full_hd_picture_fits_webgpus_default_limits_in_full_width_fcn8s() {
    let mut graph = full_width();
    let op = fullconv::ops::Argmax::default();
    let labels = graph.op("labels", op, &[graph.output()]).unwrap();
    let input = Shape::new(1, 3, 1080, 1920);
    let plan = check_real_size(&graph, input, &[labels], &[3, 2]);
    // Padded by 100 and convolved with 3: 1278 × 2118, pooled twice.
    let [pool1, pool2] = [(64, 639, 1059), (128, 320, 530)].map(|(c, h, w)| Shape::new(1, c, h, w));
    let most = most_activations(input, pool1, pool2);
    assert!(plan.activation_bytes() <= most, "{plan}");
}

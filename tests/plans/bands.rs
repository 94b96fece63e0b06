//! Pictures whose activations do not fit the device run in bands, with the same results to the last bit.

use crate::common::plans::{check_limits, check_liveness, full_width};
use crate::common::{Random, golden, gpu, run_on, serialize, with_labels};
use fullconv::low_level::device_profile::DeviceProfile;
use fullconv::low_level::gpu::Network;
use fullconv::low_level::graph::{Graph, NodeId};
use fullconv::low_level::ops::kernel::Format;
use fullconv::low_level::plan::Plan;
use fullconv::low_level::target::{PlanOptions, Target};
use fullconv::{ErrorKind, Gpu, GpuOptions, Model, Shape};
use serde_json::json;

/// Plans for less and less memory, down to the least memory with a plan.
fn in_bands(
    graph: &Graph,
    input: Shape,
    outputs: &[NodeId],
    whole: &Plan,
    target: &Target,
) -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    let mut memory_bytes = whole.peak_device_bytes() - 1;
    loop {
        let small = target.within(memory_bytes);
        match Plan::new(graph, input, outputs, &small) {
            Ok(plan) => {
                check_limits(&plan, &small);
                check_liveness(&plan, graph);
                assert!(plan.peak_device_bytes() <= small.options.memory_bytes);
                let is_without =
                    |plan: &Plan| plan.layers.iter().all(|l| l.kernel != "winograd_product");
                if is_without(&plan) && !is_without(whole) {
                    // Even the smallest bands leave no room for transformed weights: other kernels, other bits.
                    return plans;
                }
                assert_eq!(plan.pipelines, whole.pipelines);
                let activations = plan.activation_bytes() + plan.mirror_bytes;
                memory_bytes = plan.peak_device_bytes() - activations.div_ceil(10);
                plans.push(plan);
            }
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Limit, "{e}");
                return plans;
            }
        }
    }
}

/// `profile` with the smallest bindings that allow a plan.
fn smallest_bindings(target: &Target, plan: impl Fn(&Target) -> fullconv::Result<Plan>) -> Target {
    let small = |log2: u32| Target {
        device: DeviceProfile {
            max_binding_bytes: 1u64 << log2,
            max_workgroups_per_dimension: 64,
            ..target.device.clone()
        },
        ..target.clone()
    };
    (8..30)
        .map(small)
        .find(|small| plan(small).is_ok())
        .unwrap()
}

/// Runs `model` on a batch whole and in bands of several sizes, and panics if one bit differs. Returns whether small
/// bindings cut the bands further.
fn check_model(gpu: &Gpu, name: &str, model: &Model, input: Shape, fetch: &[&str]) -> bool {
    let graph = with_labels(model);
    let mut outputs = vec![graph.output(), graph.node(graph.output()).inputs[0]];
    outputs.extend(fetch.iter().map(|name| graph.find_op(name).unwrap()));
    let whole = Plan::new(&graph, input, &outputs, gpu.target()).unwrap();
    assert!(whole.groups.is_empty());
    let plans = in_bands(&graph, input, &outputs, &whole, gpu.target());
    assert!(plans.len() >= 3, "{name}: {} plans", plans.len());
    let most = plans.iter().flat_map(|plan| &plan.groups).map(|g| g.bands);
    assert!(most.max().unwrap() >= 4, "{name}: hardly cut");
    // The same with small bindings and small dispatches.
    let small = smallest_bindings(gpu.target(), |target| {
        Plan::new(&graph, input, &outputs, target)
    });
    let cut = in_bands(&graph, input, &outputs, &whole, &small);
    let is_cut = cut[0].steps.len() > plans[0].steps.len();
    let few = |mut plans: Vec<Plan>| {
        let last = plans.pop().into_iter();
        last.chain(plans.into_iter().step_by(4)).collect::<Vec<_>>()
    };

    let network = Network::new(gpu);
    let values = Random::new(7).tensor(input);
    let run = |plan| run_on(&network, plan, &graph, model.parameters(), &values);
    let expected = run(whole);
    for plan in few(plans).into_iter().chain(few(cut)) {
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
    is_cut
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
fn networks_in_bands_give_the_same_bits_as_whole() {
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
        let is_cut =
            |(file, shape): (&str, Shape)| check_model(&gpu, file, &golden(file), shape, &[]);
        let cut = sizes.into_iter().filter(|size| is_cut(*size)).count();
        assert!(2 * cut >= sizes.len(), "only {cut} are cut within bands");
    }
}

#[test]
fn requested_nodes_within_a_group_give_the_same_bits_as_whole() {
    for gpu in devices() {
        let model = golden("fcn8s-same");
        let fetch = [
            "conv1_1", "relu1_2", "pool1", "conv3_3", "pool3", "upscore8",
        ];
        check_model(&gpu, "fetched", &model, Shape::new(2, 3, 43, 30), &fetch);
    }
}

#[test]
fn a_map_larger_than_a_buffer_runs_in_bands() {
    for gpu in devices() {
        let model = golden("fcn8s-caffe");
        let graph = with_labels(&model);
        let (input, outputs) = (Shape::new(2, 3, 9, 14), [graph.output()]);
        let whole = Plan::new(&graph, input, &outputs, gpu.target()).unwrap();
        let bytes = whole.slots.iter().max().unwrap() / 2;
        let small = Target {
            device: DeviceProfile {
                max_buffer_bytes: bytes,
                max_binding_bytes: bytes / 2,
                ..gpu.target().device.clone()
            },
            ..gpu.target().clone()
        };
        let plan = Plan::new(&graph, input, &outputs, &small).unwrap();
        check_limits(&plan, &small);
        check_liveness(&plan, &graph);
        assert!(plan.groups.iter().all(|group| group.bands > 1), "{plan}");
        assert!(!plan.groups.is_empty(), "{plan}");
        let values = Random::new(8).tensor(input);
        let network = Network::new(&gpu);
        let run = |plan| run_on(&network, plan, &graph, model.parameters(), &values);
        assert!(run(whole)[0].1 == run(plan)[0].1);
    }
}

#[test]
fn too_little_memory_is_an_error_with_figures() {
    let graph = with_labels(&golden("fcn8s-same"));
    let target = profile().within(5 << 20);
    let input = Shape::new(1, 3, 700, 900);
    let error = Plan::new(&graph, input, &[graph.output()], &target).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    let message = error.to_string();
    for part in ["[1, 3, 700, 900]", "5 MiB", "smaller picture"] {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn the_demo_model_in_bands_gives_the_same_bits_as_whole() {
    for gpu in devices() {
        let model = Model::from_bytes(fullconv_demo::MODEL).unwrap();
        check_model(
            &gpu,
            "demo",
            &model,
            Shape::new(1, 3, 150, 60),
            &["blocks.1.project.conv"],
        );
    }
}

/// A small map whose rows are moved about, and then larger ones that are made of it row by row.
fn moving_model() -> Model {
    let mut random = Random::new(19);
    let weights = [("a", [7, 3, 3, 3]), ("b", [5, 14, 3, 3])].map(|(name, [o, i, h, w])| {
        let shape = Shape::new(o, i, h, w);
        (name.to_owned(), random.tensor(shape))
    });
    let node = |op: &str, inputs: &[&str], attributes: serde_json::Value| json!({"name": op, "op": op, "inputs": inputs, "attributes": attributes});
    let mut first = node(
        "conv2d",
        &["input", "a"],
        json!({"stride": 4, "padding": 1}),
    );
    first["name"] = json!("first");
    let nodes = [
        first,
        node("flip", &["first"], json!({"dims": [2, 3]})),
        node(
            "pad",
            &["flip"],
            json!({"padding": [2, 1, 3, 2], "mode": "circular"}),
        ),
        node("slice", &["pad"], json!({"dim": 2, "start": 1, "step": 2})),
        node("repeat", &["slice"], json!({"repeats": [2, 3, 1]})),
        node("channel_shuffle", &["repeat"], json!({"groups": 2})),
        node(
            "interpolate",
            &["channel_shuffle", "input"],
            json!({"mode": "bicubic"}),
        ),
        node("conv2d", &["interpolate", "b"], json!({"padding": 1})),
        node(
            "crop",
            &["conv2d", "interpolate"],
            json!({"offset": "center"}),
        ),
    ];
    let mut smooth = node(
        "interpolate",
        &["crop"],
        json!({"scale_factor": 0.7, "mode": "bilinear", "antialias": true}),
    );
    smooth["name"] = json!("smooth");
    let nodes: Vec<_> = nodes.into_iter().chain([smooth]).collect();
    let graph = json!({"input": "input", "output": "smooth", "nodes": nodes});
    let metadata = json!({"version": 1, "graph": graph}).to_string();
    Model::from_bytes(serialize(&weights, Some(&metadata))).unwrap()
}

#[test]
fn moved_rows_in_bands_give_the_same_bits_as_whole() {
    for gpu in devices() {
        let model = moving_model();
        check_model(&gpu, "moved", &model, Shape::new(2, 3, 91, 40), &["repeat"]);
    }
}

/// A device for which large padding is computed whole.
fn profile() -> Target {
    Target {
        options: PlanOptions {
            whole_padding: true,
            ..PlanOptions::DEFAULT
        },
        ..Target::WEBGPU_DEFAULTS
    }
}

/// Checks the plan for a real picture. Bands recompute less than `percent` of its work.
fn check_real_size(
    graph: &Graph,
    input: Shape,
    outputs: &[NodeId],
    percent: u64,
    target: &Target,
) -> Plan {
    let plan = Plan::new(graph, input, outputs, target).unwrap();
    check_limits(&plan, target);
    check_liveness(&plan, graph);
    assert!(
        plan.peak_device_bytes() <= target.options.memory_bytes,
        "{plan}"
    );
    let again: u64 = plan.groups.iter().map(|g| g.recomputed_flops).sum();
    assert!(100 * again < percent * plan.flops(), "{plan}");
    let steps: u64 = plan.steps.iter().map(|s| s.flops).sum();
    assert!((steps as f64 / plan.flops() as f64 - 1.0).abs() < 1e-6);
    plan
}

/// The most bytes of activations: two buffers of the largest size, which a convolution reads and writes, and the maps
/// before and after its group and the labels, which are held whole.
fn most_activations(input: Shape, before: Shape, after: Shape) -> u64 {
    let labels = Format::Labels8.bytes(input.with_channels(1));
    let whole = Format::Nhwc4.bytes(before) + Format::Nhwc4.bytes(after) + labels;
    2 * profile().device.max_buffer_bytes + whole
}

#[test]
fn a_4k_picture_fits_webgpus_default_limits_in_the_demo_model() {
    let model = Model::from_bytes(fullconv_demo::MODEL).unwrap();
    let graph = with_labels(&model);
    let scores = graph.node(graph.output()).inputs[0];
    let input = Shape::new(1, 3, 2160, 3840);
    let most = most_activations(input, input, Shape::new(1, 16, 1080, 1920));

    let labels = Format::Labels8.bytes(Shape::new(1, 1, 2160, 3840));
    let plan = check_real_size(&graph, input, &[graph.output()], 1, &profile());
    assert!(plan.activation_bytes() <= most, "{plan}");
    let peak = plan.activation_bytes() + plan.parameter_bytes() + labels;
    assert_eq!(plan.peak_device_bytes(), peak);
    assert_eq!(plan.read_backs.len(), 1);

    // The 398 MB of scores are larger than a buffer, so they are read back in two parts.
    let scores_bytes = Format::Nhwc4.bytes(Shape::new(1, 11, 2160, 3840));
    assert!(scores_bytes > profile().device.max_buffer_bytes);
    let plan = check_real_size(&graph, input, &[scores, graph.output()], 1, &profile());
    assert_eq!(plan.read_backs.len(), 3);
    assert_eq!(plan.peak_device_bytes(), peak + scores_bytes);
}

/// Published FCN-8s with its labels.
fn full_width_with_labels() -> Graph {
    let mut graph = full_width();
    let op = fullconv::low_level::ops::Argmax {};
    graph.op("labels", op, &[graph.output()]).unwrap();
    graph
}

#[test]
fn a_full_hd_picture_fits_webgpus_default_limits_in_full_width_fcn8s() {
    let graph = full_width_with_labels();
    let input = Shape::new(1, 3, 1080, 1920);
    // Tiles of Winograd's stages at the edges of bands are computed twice.
    check_real_size(&graph, input, &[graph.output()], 1, &profile());
    let direct = profile().without_transforms();
    let plan = check_real_size(&graph, input, &[graph.output()], 1, &direct);
    let cut = Target::WEBGPU_DEFAULTS.without_transforms();
    let cut = check_real_size(&graph, input, &[graph.output()], 1, &cut);
    assert!(cut.flops() < plan.flops(), "{cut}");
    let bands: Vec<_> = plan
        .groups
        .iter()
        .map(|g| (g.layers.clone(), g.bands))
        .collect();
    // Only two groups, each with the least bands: conv1_1 and conv1_2 with pool1; conv2_1 and conv2_2 with pool2.
    assert_eq!(bands, [(0..2, 3), (2..4, 2)], "{plan}");
    // Padding of 100 and a kernel of 3 make 1278 × 2118, which is pooled twice.
    let [pool1, pool2] = [(64, 639, 1059), (128, 320, 530)].map(|(c, h, w)| Shape::new(1, c, h, w));
    let most = most_activations(input, pool1, pool2);
    assert!(plan.activation_bytes() <= most, "{plan}");

    // With less memory, down to 750 MiB, of which weights take 513 MiB, some work is recomputed.
    for (mib, percent) in [(1100, 1), (900, 1), (750, 10)] {
        let less = direct.within(mib << 20);
        let direct = check_real_size(&graph, input, &[graph.output()], percent, &less);
        // Transformed weights leave less memory for bands, but their plans still have less work.
        let less = profile().within(mib << 20);
        let plan = check_real_size(&graph, input, &[graph.output()], 50, &less);
        assert!(plan.flops() <= direct.flops(), "{plan}");
    }
}

#[test]
fn a_photograph_of_12_megapixels_fits_webgpus_default_limits_in_full_width_fcn8s() {
    let graph = full_width_with_labels();
    let input = Shape::new(1, 3, 3024, 4032);
    check_real_size(&graph, input, &[graph.output()], 5, &profile());
    let direct = profile().without_transforms();
    let plan = check_real_size(&graph, input, &[graph.output()], 5, &direct);
    // The full-size scores need no bands: one kernel makes them and their labels.
    assert!(plan.groups.len() >= 2, "{plan}");
}

/// Winograd's output stage reads ten rows of tiles for each row of its blocks where the dilation is 4.
#[test]
fn wide_maps_of_dilated_convolutions_have_a_plan_on_cpu_devices() {
    let mut target = Target::WEBGPU_DEFAULTS;
    target.device.is_cpu = true;
    target.device.max_buffer_bytes = 1 << 30;
    for (dilation, width) in [(1, 2000), (2, 1000), (4, 170), (4, 240), (4, 500)] {
        let mut graph = Graph::new("input");
        let weight = graph
            .parameter("weight", Shape::new(512, 512, 3, 3))
            .unwrap();
        let op = fullconv::low_level::ops::Conv2d {
            dilation: [dilation; 2],
            ..fullconv::low_level::ops::Conv2d::padded(dilation)
        };
        graph.op("conv", op, &[graph.input(), weight]).unwrap();
        let input = Shape::new(1, 512, 135, width);
        let plan = Plan::new(&graph, input, &[graph.output()], &target);
        let plan = plan.unwrap_or_else(|e| panic!("dilation {dilation}, {width} wide: {e}"));
        check_limits(&plan, &target);
    }
}

//! Activations and weights in f16: every op against the reference, sums in f32, and errors that name the layer, weight
//! or element that f16 does not hold.

use crate::common::emulation::is_by_matrices;
use crate::common::{OneOp, Random, all_gpus, assert_within, gpu, preferences};
use fullconv::low_level::device_profile::DeviceProfile;
use fullconv::low_level::gpu::{Executor, Network};
use fullconv::low_level::graph::Graph;
use fullconv::low_level::ops::kernel::Format;
use fullconv::low_level::ops::{Add, Conv2d, Relu, Scale};
use fullconv::low_level::plan::lowered::{self, Convolution};
use fullconv::low_level::plan::{Lowering, Plan, tunable};
use fullconv::low_level::target::{PlanOptions, Target};
use fullconv::{
    Error, ErrorKind, Gpu, GpuOptions, Model, Parameters, Picture, Precision, Result, Segmenter,
    Shape, Size, Tensor, compare,
};
use pollster::block_on;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The devices with f16. If there is none, the test prints SKIP.
fn gpus() -> Vec<(&'static str, Gpu)> {
    let mut gpus = all_gpus();
    gpus.retain(|(name, gpu)| match gpu.half_target() {
        Ok(_) => true,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::Unsupported);
            assert!(e.to_string().contains("SHADER_F16"), "{e}");
            eprintln!("SKIP: {name}: {e}");
            false
        }
    });
    gpus
}

#[test]
fn every_case_agrees_with_the_reference() {
    for (name, gpu) in gpus() {
        let targets = preferences(&gpu.half_target().unwrap());
        let mut random = Random::new(21);
        for case in lowered::cases() {
            OneOp::of_case(case, &mut random).check_half(&gpu, &targets, name);
        }
    }
}

/// The devices with cooperative matrices, with profiles that use them. If there is none, the test prints SKIP: no
/// device has to have matrices. With checked shaders, matrices are loaded from arrays of scalars, which every such
/// device can.
fn with_matrices() -> Vec<(&'static str, Gpu, Target)> {
    let mut found = Vec::new();
    for (name, gpu) in gpus() {
        let mut target = gpu.half_target().unwrap();
        if target.device.cooperative.is_empty() {
            eprintln!(
                "SKIP: {name}: {gpu} reports no cooperative matrices of f16 with sums in f32"
            );
            continue;
        }
        // These are the same devices, only planned for as GPUs, as all are below.
        if name.starts_with("planned") {
            continue;
        }
        target.device.is_cpu = false;
        for matrix in &mut target.device.cooperative {
            matrix.vectors &= !name.contains("checked");
        }
        found.push((name, gpu, target));
    }
    found
}

/// A plan of one op for each of its candidates with cooperative matrices, with the candidate's name.
fn plans_by_matrices(one: &OneOp, target: &Target) -> Vec<(String, Plan)> {
    let outputs = [one.graph.output()];
    let layers = tunable(&one.graph, one.input.shape(), &outputs, target).unwrap();
    let mut plans = Vec::new();
    for layer in &layers {
        let has = |c: &&Lowering| c.kernels.iter().any(|k| is_by_matrices(k.shader.name));
        for candidate in layer.candidates.iter().filter(has) {
            let plan = layer.plan(candidate, one.input.shape(), target);
            let plan = plan.unwrap().expect("a candidate is one at its own size");
            assert!(plan.layers.iter().any(|layer| is_by_matrices(layer.kernel)));
            plans.push((candidate.description(), plan));
        }
    }
    plans
}

/// Panics unless all these plans agree with the reference.
fn check_by_matrices(one: &OneOp, gpu: &Gpu, plans: Vec<(String, Plan)>, what: &str) {
    let (expected, bounds) = (one.expected(), one.half_bounds());
    let (names, plans): (Vec<_>, Vec<_>) = plans.into_iter().unzip();
    for (name, found) in names.iter().zip(one.run_plans(gpu, plans)) {
        let shapes: Vec<_> = one.inputs.iter().map(Tensor::shape).collect();
        let what = format!("{what}, by {name}: {:?} on {shapes:?}", one.op);
        assert_within(&expected, &found, &bounds, &what);
    }
}

/// Every convolution, by each of its kernels with cooperative matrices.
#[test]
fn cooperative_matrices_agree_with_the_reference() {
    for (name, gpu, target) in with_matrices() {
        let mut random = Random::new(23);
        let (mut cases, mut checked, mut runs) = (0, 0, 0);
        for case in lowered::cases() {
            // Kernels with matrices are for convolutions without groups.
            let convolution: Option<&Convolution> = (case.op.as_ref() as &dyn Any).downcast_ref();
            if convolution.is_none_or(|c| c.conv.groups != 1) {
                continue;
            }
            let one = OneOp::of_case(case, &mut random).in_half();
            cases += 1;
            let plans = plans_by_matrices(&one, &target);
            checked += usize::from(!plans.is_empty());
            runs += plans.len();
            check_by_matrices(&one, &gpu, plans, name);
        }
        eprintln!("{name}: {checked} of {cases} cases, in {runs} runs");
        // All cases have one, except one whose window is 130 wide.
        assert!(
            checked + 1 >= cases && runs > checked,
            "{name}: {checked} of {cases}"
        );
    }
}

/// Work cut into bands of rows, shards of the weight, and runs of terms.
#[test]
fn cooperative_matrices_agree_with_the_reference_if_work_is_cut() {
    let mut random = Random::new(24);
    let shapes = [[2, 40, 37, 21], [200, 40, 3, 3], [200, 1, 1, 1]];
    let shapes = shapes.map(|[n, c, h, w]| Shape::new(n, c, h, w));
    let one = OneOp::random(Arc::new(Conv2d::padded(1)), &shapes, &mut random).in_half();
    let shapes = [Shape::new(1, 6000, 9, 8), Shape::new(5, 6000, 7, 7)];
    let long = OneOp::random(Arc::new(Conv2d::default()), &shapes, &mut random).in_half();
    for (name, gpu, target) in with_matrices() {
        let small = Target {
            device: DeviceProfile {
                max_binding_bytes: 48 << 10,
                ..target.device.clone()
            },
            ..target.clone()
        };
        let plans = plans_by_matrices(&one, &small);
        let is_cut = |(_, plan): &(String, Plan)| {
            let rows = plan.steps.iter().any(|s| s.rows.start > 0);
            let shards = plan.parameters.iter().any(|p| p.tiles.start > 0);
            rows && shards
        };
        assert!(plans.len() > 1 && plans.iter().all(is_cut), "{name}");
        check_by_matrices(&one, &gpu, plans, name);
        let mut plans = plans_by_matrices(&long, &target);
        plans.retain(|(name, _)| !name.contains("parts"));
        let in_runs = |(_, plan): &&(String, Plan)| {
            plan.steps.iter().filter(|step| step.layer == 0).count() > 1
        };
        assert!(plans.iter().filter(in_runs).count() > 0, "{name}");
        check_by_matrices(&long, &gpu, plans, name);
    }
}

/// The value that f16 does not hold is in the last channel.
#[test]
fn cooperative_matrices_report_values_that_f16_does_not_hold() {
    let shapes = [Shape::new(1, 16, 9, 9), Shape::new(33, 16, 1, 1)];
    let filled = |value: f32| {
        let [input, weight] =
            shapes.map(|shape| Tensor::from_fn(shape, |_, _, _, _| 16.0).unwrap());
        let weight = Tensor::from_fn(
            weight.shape(),
            |o, _, _, _| if o == 32 { value } else { 1.0 },
        );
        OneOp::new(Arc::new(Conv2d::default()), vec![input, weight.unwrap()])
    };
    for (name, gpu, target) in with_matrices() {
        for (value, fits) in [(255.0, true), (256.0, false), (-256.0, false)] {
            let one = filled(value);
            for (by, plan) in plans_by_matrices(&one, &target) {
                let found = block_on(async {
                    let network = Network::new(&gpu);
                    let executor = Executor::new(&network, plan, &one.graph, &one.parameters);
                    executor.await?.run(&one.input).await
                });
                match found {
                    Ok(_) => assert!(fits, "{name} by {by}: {value}"),
                    Err(e) => {
                        assert!(
                            !fits && e.kind() == ErrorKind::NotFinite,
                            "{name} by {by}: {e}"
                        );
                    }
                }
            }
        }
    }
}

/// Sums of a quarter of a million terms in several dispatches or parts. The sum of the first half is more than f16
/// holds; the second half cancels it.
#[test]
fn partial_sums_are_f32() {
    let (channels, side) = (5000, 7);
    let input = Tensor::from_fn(Shape::new(1, channels, side, side), |_, c, y, x| {
        let sign = if c < channels / 2 { 1.0 } else { -1.0 };
        sign * (1.0 + ((c * 7 + y * 3 + x) % 5) as f32 / 64.0)
    });
    let ones = Tensor::from_fn(Shape::new(5, channels, side, side), |o, i, _, _| {
        1.0 + if (o + i) % 3 == 0 { 1.0 / 512.0 } else { 0.0 }
    });
    let one = OneOp::new(
        Arc::new(Conv2d::default()),
        vec![input.unwrap(), ones.unwrap()],
    );
    for (name, gpu) in gpus() {
        let target = gpu.half_target().unwrap();
        let plan = one.plan(&target).unwrap();
        let several = plan.steps.iter().filter(|step| step.layer == 0).count() > 1;
        assert_eq!(plan.layers.len(), 2, "{name}: {plan}");
        assert!(several || plan.layers[0].shape.c > 8, "{name}: {plan}");
        assert!(!plan.layers[0].half && plan.layers[1].half, "{name}");
        one.check_half(&gpu, &[target], name);
    }
}

/// Runs a graph in f16.
fn run(gpu: &Gpu, graph: &Graph, parameters: &Parameters, input: &Tensor) -> Result<Tensor> {
    let target = gpu.half_target()?;
    let plan = Plan::new(graph, input.shape(), &[graph.output()], &target)?;
    block_on(async {
        let network = Network::new(gpu);
        let mut executor = Executor::new(&network, plan, graph, parameters).await?;
        Ok(executor.run(input).await?.remove(0).1)
    })
}

/// input → scale by `factor` → ReLU, not fused, added to a branch whose values f16 holds.
fn scaled(factor: f32) -> Graph {
    let mut graph = Graph::new("input");
    let input = graph.input();
    let fine = graph.op("fine", Scale { factor: 2.0 }, &[input]).unwrap();
    let large = graph.op("large", Scale { factor }, &[input]).unwrap();
    let hidden = graph.op("hidden", Relu {}, &[large]).unwrap();
    graph.op("sum", Add {}, &[fine, hidden]).unwrap();
    graph
}

fn no_parameters() -> Parameters {
    Parameters::new(crate::common::tensor_file(&[]), BTreeMap::new())
}

#[test]
fn a_saturated_layer_is_named_even_if_the_next_layer_hides_it() {
    let input = Tensor::from_fn(Shape::new(2, 5, 3, 4), |_, _, _, _| 1.0).unwrap();
    let with_one = |value: f32| {
        let mut input = input.clone();
        // A single element, in the last group of channels of the last image.
        *input.data_mut().last_mut().unwrap() = value;
        input
    };
    for (name, gpu) in gpus() {
        // -65504 is the lowest number that f16 holds, and its ReLU is 0.
        let found = run(&gpu, &scaled(-65504.0), &no_parameters(), &input).unwrap();
        assert!(found.data().iter().all(|x| *x == 2.0), "{name}");
        for (factor, value) in [(-65505.0, 1.0), (-1.0e4, 7.0), (f32::MAX, -3.0)] {
            let graph = scaled(factor);
            let error = run(&gpu, &graph, &no_parameters(), &with_one(value)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFinite, "{name}");
            let message = error.to_string();
            for part in ["large: ", "65504", "use f32"] {
                assert!(message.contains(part), "{name}: {part}: {message}");
            }
        }
        // A failed run does not affect the next one.
        let network = Network::new(&gpu);
        let graph = scaled(-65504.0);
        let target = gpu.half_target().unwrap();
        let plan = Plan::new(&graph, input.shape(), &[graph.output()], &target).unwrap();
        block_on(async {
            let made = Executor::new(&network, plan, &graph, &no_parameters()).await;
            let mut executor = made.unwrap();
            for _ in 0..3 {
                assert!(executor.run(&with_one(1.01)).await.is_err(), "{name}");
                assert!(executor.run(&input).await.is_ok(), "{name}");
            }
        });
    }
}

#[test]
fn a_nan_input_and_a_weight_that_f16_does_not_hold_are_named() {
    let Some((name, gpu)) = gpus().into_iter().next() else {
        return;
    };
    let input = Tensor::from_fn(Shape::new(1, 2, 1, 2), |_, c, _, x| match (c, x) {
        (1, 0) => f32::NAN,
        _ => 1.0,
    });
    let error = run(&gpu, &scaled(1.0), &no_parameters(), &input.unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFinite, "{name}");
    assert!(error.to_string().contains("[0, 1, 0, 0]"), "{error}");

    let shape = Shape::new(5, 2, 1, 1);
    let load = |largest: f32| {
        let mut graph = Graph::new("input");
        let weight = graph.parameter("conv.weight", shape).unwrap();
        let input = graph.input();
        let output = graph.op("conv", Conv2d::default(), &[input, weight]);
        output.unwrap();
        let values = Tensor::from_fn(shape, |o, i, _, _| match (o, i) {
            (4, 1) => largest,
            _ => 1.0,
        });
        let file = crate::common::tensor_file(&[("conv.weight".to_owned(), values.unwrap())]);
        let parameters = Parameters::new(file, BTreeMap::new());
        let zeros = Tensor::from_fn(Shape::new(1, 2, 3, 3), |_, _, _, _| 0.0).unwrap();
        run(&gpu, &graph, &parameters, &zeros)
    };
    assert!(load(65504.0).is_ok());
    let error: Error = load(-65600.0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ModelFile);
    assert!(
        error.to_string().contains("conv.weight") && error.to_string().contains("-65600"),
        "{error}"
    );
}

#[test]
fn f16_on_a_device_without_the_feature_is_an_error() {
    let options = GpuOptions {
        default_limits: true,
        ..GpuOptions::default()
    };
    let Some(gpu) = gpu(options) else { return };
    let model = Model::from_bytes(fullconv_demo::MODEL).unwrap();
    let segmenter = Segmenter::builder(&model)
        .gpu(&gpu)
        .precision(Precision::F16)
        .build();
    let error = block_on(segmenter).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("SHADER_F16"), "{error}");
}

#[test]
fn f16_halves_the_weights_and_the_largest_buffer() {
    let graph = crate::common::plans::full_width();
    let plan = |half| {
        let target = Target {
            options: PlanOptions {
                half,
                whole_padding: true,
                ..PlanOptions::DEFAULT
            },
            ..Target::WEBGPU_DEFAULTS
        };
        // Transformed weights are larger, and f16 has none.
        let target = target.without_transforms();
        let input = Shape::new(1, 3, 224, 224);
        Plan::new(&graph, input, &[graph.output()], &target).unwrap()
    };
    let (wide, half) = (plan(false), plan(true));
    assert_eq!(half.input.format, Format::Nhwc4Half);
    // Biases stay f32.
    let parameters = half.parameter_bytes() as f64 / wide.parameter_bytes() as f64;
    assert!((0.5..0.501).contains(&parameters), "{parameters}");
    let activations = half.activation_bytes() as f64 / wide.activation_bytes() as f64;
    assert!(activations < 0.75, "{activations}");
    // The largest buffer is half as large, or a little more, because partial sums are f32.
    let largest = |plan: &Plan| plan.slots.iter().copied().max().unwrap() as f64;
    let ratio = largest(&half) / largest(&wide);
    assert!((0.5..0.51).contains(&ratio), "{ratio}");
}

/// The error of f16 in a trained network of 11 to 1152 channels.
#[test]
fn a_trained_network_in_f16_has_an_error_below_two_thousandths() {
    let model = Model::from_bytes(fullconv_demo::MODEL).unwrap();
    let input = Random::new(3).tensor(Shape::new(1, 3, 64, 96));
    let expected = block_on(Segmenter::on_cpu(&model).run(&input, &[])).unwrap();
    for (name, gpu) in gpus() {
        let segmenter = Segmenter::builder(&model)
            .gpu(&gpu)
            .precision(Precision::F16)
            .build();
        let found = block_on(block_on(segmenter).unwrap().run(&input, &[])).unwrap();
        let error = crate::common::relative_error(&expected.output, &found.output);
        assert!(error < 2e-3, "{name}: {error:e}");
        let argmax = fullconv::low_level::ops::Argmax {};
        let labels = fullconv::low_level::ops::Op::reference(&argmax, &[&found.output]).unwrap();
        assert_eq!(found.labels, Some(labels), "{name}");
    }
}

#[test]
fn a_picture_in_f16_is_within_its_bounds_and_both_precisions_share_a_device() {
    let pixels = (0..3 * 40 * 30).map(|i| (i * 37 % 251) as u8).collect();
    let picture = Picture::from_rgb(Size::new(30, 40), pixels).unwrap();
    let model = crate::common::golden("fcn8s-same");
    for (name, gpu) in gpus() {
        let open = |precision| {
            block_on(
                Segmenter::builder(&model)
                    .gpu(&gpu)
                    .precision(precision)
                    .build(),
            )
        };
        let (wide, half) = (open(Precision::F32).unwrap(), open(Precision::F16).unwrap());
        for (segmenter, least, most) in [(&wide, 0.0, 1e-5), (&half, 1e-5, 1e-2)] {
            let report = block_on(compare::compare_picture(segmenter, &picture)).unwrap();
            assert!(report.is_within_bounds(), "{name}: {report:?}");
            let error = report.nodes.last().unwrap().relative_error;
            assert!((least..most).contains(&error), "{name}: {error:e}");
        }
        let masks = [&wide, &half].map(|s| block_on(s.segment(&picture)).unwrap());
        let pairs = masks[0].labels().iter().zip(masks[1].labels());
        let equal = pairs.filter(|(a, b)| a == b).count();
        assert!(equal > 40 * 30 * 9 / 10, "{name}: {equal}");
    }
}

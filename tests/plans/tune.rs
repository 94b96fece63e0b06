//! Choosing kernels by measurement: only kernels that agree with the reference are timed, and plans use the chosen
//! ones.

use crate::common::plans::{check_limits, full_width};
use crate::common::{OneOp, Random, assert_within, golden, gpu, relative_error};
use fullconv::gpu::Outcome;
use fullconv::low_level::device_profile::DeviceProfile;
use fullconv::low_level::gpu::{Network, tune};
use fullconv::low_level::ops::candidate::Candidate;
use fullconv::low_level::ops::numerics::Numerics;
use fullconv::low_level::ops::{Conv2d, Op};
use fullconv::low_level::plan::lowered::{self, Activation, Convolution};
use fullconv::low_level::plan::{Choice, Choices, Plan, tunable};
use fullconv::low_level::reference;
use fullconv::low_level::target::{PlanOptions, Target};
use fullconv::{Gpu, GpuOptions, Parameters, Segmenter, Shape, Size, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// More than any test needs.
const LONG: Duration = Duration::from_secs(600);

/// A device on which the kernels for GPUs are candidates.
fn as_gpu(options: GpuOptions) -> Option<Gpu> {
    gpu(GpuOptions {
        plan_as_gpu: true,
        ..options
    })
}

/// A convolution with two kernels: the kernel for any device with `from` replaced by `to`, then the same unaltered.
#[derive(Debug)]
struct Altered {
    conv: Convolution,
    from: &'static str,
    to: &'static str,
}

impl Op for Altered {
    fn name(&self) -> &'static str {
        "altered"
    }
    fn output_shape(&self, inputs: &[Shape]) -> fullconv::Result<Shape> {
        self.conv.output_shape(inputs)
    }
    fn reference(&self, inputs: &[&Tensor]) -> fullconv::Result<Tensor> {
        self.conv.reference(inputs)
    }
    fn candidates(&self, inputs: &[Shape], device: &Target) -> fullconv::Result<Vec<Candidate>> {
        let conv: &dyn Op = &self.conv;
        let right = conv.kernels(inputs, device)?.pop().unwrap();
        let text = right.shader.source.replace(self.from, self.to);
        assert!(text != right.shader.source);
        let mut altered = right.clone();
        altered.shader.source = text.into();
        Ok([altered, right].map(Candidate::kernel).to_vec())
    }
    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        self.conv.numerics(inputs)
    }
}

/// Tunes one op. Returns the outcomes of its candidates and the index of the chosen one.
fn tuned(gpu: &Gpu, target: &Target, one: &OneOp) -> (Vec<Outcome>, Option<usize>) {
    let outputs = [one.graph.output()];
    let (network, shape) = (Network::new(gpu), one.input.shape());
    let layers = tune(
        &network,
        target,
        &one.graph,
        shape,
        &outputs,
        &one.parameters,
        LONG,
    );
    let mut layers = pollster::block_on(layers).unwrap();
    assert_eq!(layers.len(), 1);
    let layer = layers.remove(0);
    let outcomes = layer.candidates.into_iter().map(|c| c.outcome).collect();
    (outcomes, layer.chosen)
}

fn plan_with(one: &OneOp, gpu: &Gpu) -> Plan {
    let (graph, shape) = (&one.graph, one.input.shape());
    Plan::with_choices(
        graph,
        shape,
        &[graph.output()],
        gpu.target(),
        &gpu.choices(),
    )
    .unwrap()
}

/// The first kernel omits one input channel in one place, is wrong in one lane, leaves one pixel in four unwritten, or
/// does not compile.
#[test]
fn a_wrong_kernel_is_neither_timed_nor_chosen() {
    let Some(gpu) = as_gpu(GpuOptions::default()) else {
        return;
    };
    for (from, to, why) in [
        (
            "d * v0.z + e * v0.w",
            "d * v0.z + select(e, vec4<f32>(), c + 1u == params.in_c4) * v0.w",
            "the reference",
        ),
        (
            "var sum0 = bias[channel];",
            "var sum0 = bias[channel] + f32(lane / 3u) * 1e-3;",
            "the reference",
        ),
        ("    if first + 3u < end {", "    if false {", "unwritten"),
        (
            "var sum2 = sum0;",
            "var sum2 = no_such_thing;",
            "no_such_thing",
        ),
    ] {
        let altered = Altered {
            conv: Conv2d::padded(1).into(),
            from,
            to,
        };
        let shapes = [[1, 20, 21, 18], [24, 20, 3, 3], [24, 1, 1, 1]]
            .map(|[n, c, h, w]| Shape::new(n, c, h, w));
        let one = OneOp::random(Arc::new(altered), &shapes, &mut Random::new(3));
        let (outcomes, chosen) = tuned(&gpu, gpu.target(), &one);
        let [Outcome::Dropped(said), Outcome::Milliseconds(ms)] = &outcomes[..] else {
            panic!("{to}: {outcomes:?}");
        };
        assert!(said.contains(why) && *ms > 0.0, "{to}: {said} {ms}");
        assert_eq!(chosen, Some(1));
        // Plans now take the other candidate, which is right.
        let plan = plan_with(&one, &gpu);
        assert!(!plan.pipelines[0].shader.source.contains(to));
        let found = one.run_plan(&gpu, plan);
        let conv = OneOp::new(Arc::new(Conv2d::padded(1)), one.inputs.clone());
        assert_within(&one.expected(), &found, &conv.bounds(), to);
    }
}

/// If no candidate is right, none is chosen.
#[test]
fn no_candidate_is_chosen_if_all_are_wrong() {
    #[derive(Debug)]
    struct Lies(Convolution);
    impl Op for Lies {
        fn name(&self) -> &'static str {
            "lies"
        }
        fn output_shape(&self, inputs: &[Shape]) -> fullconv::Result<Shape> {
            self.0.output_shape(inputs)
        }
        fn reference(&self, inputs: &[&Tensor]) -> fullconv::Result<Tensor> {
            Ok(self.0.reference(inputs)?.map(|x| x * 1.01))
        }
        fn candidates(
            &self,
            inputs: &[Shape],
            device: &Target,
        ) -> fullconv::Result<Vec<Candidate>> {
            self.0.candidates(inputs, device)
        }
        fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
            self.0.numerics(inputs)
        }
    }
    let Some(gpu) = as_gpu(GpuOptions::default()) else {
        return;
    };
    let shapes = [Shape::new(1, 8, 9, 9), Shape::new(8, 8, 1, 1)];
    let one = OneOp::random(
        Arc::new(Lies(Conv2d::default().into())),
        &shapes,
        &mut Random::new(4),
    );
    let (outcomes, chosen) = tuned(&gpu, gpu.target(), &one);
    assert!(outcomes.len() > 1);
    assert!(
        outcomes.iter().all(|o| matches!(o, Outcome::Dropped(_))),
        "{outcomes:?}"
    );
    assert_eq!(chosen, None);
    assert!(gpu.choices().is_empty());
}

#[test]
fn a_plan_runs_only_the_chosen_candidate() {
    let target = Target::WEBGPU_DEFAULTS;
    let cpu = Target {
        device: DeviceProfile {
            is_cpu: true,
            subgroup_size: Some(8),
            ..target.device.clone()
        },
        ..target.clone()
    };
    let graph = full_width();
    for target in [target, cpu] {
        let layers = tunable(
            &graph,
            Shape::new(1, 3, 224, 224),
            &[graph.output()],
            &target,
        );
        let layers = layers.unwrap();
        assert!(layers.len() >= 10, "{}", layers.len());
        let flops: Vec<_> = layers.iter().map(|l| l.op.flops(&l.inputs)).collect();
        assert!(flops.is_sorted_by(|a, b| a >= b), "{flops:?}");
        let whole = Target {
            options: PlanOptions {
                whole_padding: true,
                ..target.options.clone()
            },
            ..target.clone()
        };
        for layer in &layers {
            let (input, alone) = (layer.inputs[0], &layer.graph);
            let by = |choice: &Choices| {
                Plan::with_choices(alone, input, &[alone.output()], &whole, choice).unwrap()
            };
            let plain = by(&Choices::default());
            // Without choices, a plan takes the first candidate; a choice of an unknown kernel is ignored.
            let first = layer.plan(&layer.candidates[0], input, &target);
            assert_eq!(first.unwrap().unwrap(), plain, "{}", layer.name);
            let mut unknown = Choices::default();
            let choice = Choice {
                kernel: String::new(),
                fingerprint: 1,
                microseconds: 1,
            };
            unknown.insert(layer.op.as_ref(), &layer.inputs, &target, choice);
            assert_eq!(by(&unknown), plain, "{}", layer.name);
            for candidate in &layer.candidates {
                let plan = layer.plan(candidate, input, &target).unwrap().unwrap();
                check_limits(&plan, &target);
                let found: Vec<_> = plan.pipelines.iter().map(|p| &p.shader).collect();
                let wanted: Vec<_> = candidate.kernels.iter().map(|k| &k.shader).collect();
                assert_eq!(
                    found,
                    wanted,
                    "{} by {}",
                    layer.name,
                    candidate.description()
                );
            }
        }
    }
}

/// conv2_1 has a candidate for every tile, and fc6 candidates of several numbers of parts.
#[test]
fn gpus_have_a_choice_of_tiles_and_parts() {
    let (graph, target) = (full_width(), Target::WEBGPU_DEFAULTS);
    let layers = tunable(
        &graph,
        Shape::new(1, 3, 500, 500),
        &[graph.output()],
        &target,
    )
    .unwrap();
    let of = |name: &str| {
        let layer = layers
            .iter()
            .find(|layer| layer.name.starts_with(name))
            .unwrap();
        layer
            .candidates
            .iter()
            .map(|c| c.description())
            .collect::<Vec<_>>()
    };
    let conv2_1 = of("conv2_1");
    for tile in ["8x16x64", "8x8x64", "8x16x32", "4x8x32"] {
        assert!(conv2_1.iter().any(|c| c.ends_with(tile)), "{conv2_1:?}");
    }
    assert!(conv2_1[0].ends_with("8x16x64"), "{conv2_1:?}");
    assert_eq!(conv2_1[4], "conv2d", "{conv2_1:?}");
    assert_eq!(conv2_1.len(), 6, "Winograd's stages, too: {conv2_1:?}");
    let fc6 = of("fc6");
    let parts: std::collections::BTreeSet<_> = fc6
        .iter()
        .filter_map(|c| Some(c.split_once(", ")?.1))
        .collect();
    assert!(parts.len() >= 3, "{fc6:?}");
    assert!(fc6[0].contains("winograd"), "{fc6:?}");
}

/// `Op::elements` gives the elements of the reference and the sums of their terms' magnitudes.
#[test]
fn single_elements_equal_the_reference() {
    let mut random = Random::new(5);
    for case in lowered::cases()
        .into_iter()
        .filter(|case| case.op.name() == "conv2d")
    {
        let one = OneOp::of_case(case, &mut random);
        let inputs: Vec<_> = one.inputs.iter().collect();
        let expected = one.expected();
        let magnitudes: Vec<_> = one.inputs.iter().map(|t| t.map(f32::abs)).collect();
        // The terms of a sum may be larger than ReLU6's bound.
        let mut op = one.op.clone();
        let any: &dyn std::any::Any = op.as_ref();
        if let Some(clamped) = any.downcast_ref::<Convolution>() {
            op = Arc::new(Convolution {
                activation: Activation::None,
                ..clamped.clone()
            });
        }
        let magnitudes = op
            .reference(&magnitudes.iter().collect::<Vec<_>>())
            .unwrap();
        let Shape { n, c, h, w } = expected.shape();
        let at: Vec<_> = (0..300)
            .map(|i| [i % n, i * 7 % c, i * 5 % h, i * 3 % w])
            .chain([[0, 0, 0, 0], [n - 1, c - 1, h - 1, w - 1]])
            .collect();
        let found = one.op.elements(&inputs, &at).unwrap();
        for (element, [n, c, y, x]) in found.into_iter().zip(at) {
            assert_eq!(element.value, expected.at(n, c, y, x), "{:?}", one.op);
            assert_eq!(
                element.magnitude as f32,
                magnitudes.at(n, c, y, x),
                "{:?}",
                one.op
            );
        }
    }
}

/// For a whole network, all candidates are right, and the result of the chosen ones is too.
#[test]
fn a_tuned_network_agrees_with_the_reference_and_its_choices_are_cached() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("made/when/needed");
    let options = GpuOptions {
        cache: Some(cache.clone()),
        ..GpuOptions::default()
    };
    let Some(gpu) = as_gpu(options.clone()) else {
        return;
    };
    assert!(!cache.exists());
    let model = golden("fcn8s-same");
    let segmenter = pollster::block_on(Segmenter::new(&gpu, &model)).unwrap();
    let layers = pollster::block_on(segmenter.tune(1, Size::new(40, 56), LONG)).unwrap();
    assert!(layers.len() > 5);
    for layer in &layers {
        assert!(
            layer.chosen.is_some() && layer.candidates.len() > 1,
            "{layer:?}"
        );
        for candidate in &layer.candidates {
            assert!(candidate.outcome.milliseconds().is_some(), "{layer:?}");
        }
    }
    assert_eq!(gpu.choices().len(), layers.len());
    let input = Random::new(6).tensor(Shape::new(1, 3, 40, 56));
    let (graph, parameters): (_, &Parameters) = (model.graph(), model.parameters());
    let expected = reference::run(graph, parameters, &input, &[graph.output()]).unwrap();
    let found = pollster::block_on(segmenter.run(&input, &[])).unwrap();
    assert!(relative_error(&expected[0].1, &found.output) < 1e-5);

    let again = as_gpu(options).unwrap();
    assert_eq!(again.choices(), gpu.choices());
    // A different device, here one with other limits, does not share the choices.
    let other = as_gpu(GpuOptions {
        cache: Some(cache),
        default_limits: true,
        ..GpuOptions::default()
    });
    assert!(other.unwrap().choices().is_empty());
}

/// With no time at all, nothing is measured and nothing chosen.
#[test]
fn without_time_nothing_is_measured() {
    let Some(gpu) = as_gpu(GpuOptions::default()) else {
        return;
    };
    let shapes = [Shape::new(1, 8, 9, 9), Shape::new(8, 8, 3, 3)];
    let one = OneOp::random(Arc::new(Conv2d::padded(1)), &shapes, &mut Random::new(7));
    let network = Network::new(&gpu);
    let (graph, none) = (
        &one.graph,
        Parameters::new(crate::common::tensor_file(&[]), BTreeMap::new()),
    );
    let outputs = [graph.output()];
    // The weights are missing: they must not be read.
    let target = gpu.target();
    let layers = tune(
        &network,
        target,
        graph,
        shapes[0],
        &outputs,
        &none,
        Duration::ZERO,
    );
    assert!(pollster::block_on(layers).unwrap().is_empty());
    assert!(gpu.choices().is_empty());
}

/// f16 has its own kernels and choices; its kernels are checked against the reference on inputs rounded to f16.
#[test]
fn both_precisions_are_tuned_with_separate_choices() {
    let Some(gpu) = as_gpu(GpuOptions::default()) else {
        return;
    };
    let Ok(half) = gpu.half_target() else {
        eprintln!("SKIP: {gpu} has no f16");
        return;
    };
    let shapes = [[1, 40, 19, 23], [70, 40, 3, 3], [70, 1, 1, 1]];
    let shapes = shapes.map(|[n, c, h, w]| Shape::new(n, c, h, w));
    let one = OneOp::random(Arc::new(Conv2d::padded(1)), &shapes, &mut Random::new(8));
    for (i, target) in [gpu.target(), &half].into_iter().enumerate() {
        let (outcomes, chosen) = tuned(&gpu, target, &one);
        assert!(outcomes.len() > 3 && chosen.is_some());
        let is_timed = |o: &Outcome| matches!(o, Outcome::Milliseconds(_));
        assert!(outcomes.iter().all(is_timed), "{outcomes:?}");
        assert_eq!(gpu.choices().len(), i + 1);
    }
    // A choice for one precision does not affect the other.
    let (outputs, shape) = ([one.graph.output()], one.input.shape());
    for (mine, other) in [(gpu.target(), &half), (&half, gpu.target())] {
        let by = |target, choices: &Choices| {
            Plan::with_choices(&one.graph, shape, &outputs, target, choices).unwrap()
        };
        let layer = tunable(&one.graph, shape, &outputs, mine)
            .unwrap()
            .remove(0);
        let plain = by(mine, &Choices::default());
        let slow = layer.candidates.last().unwrap();
        let choice = Choice {
            kernel: slow.description(),
            fingerprint: slow.fingerprint(),
            microseconds: 1,
        };
        let mut choices = Choices::default();
        choices.insert(layer.op.as_ref(), &layer.inputs, mine, choice);
        assert_ne!(by(mine, &choices).pipelines, plain.pipelines);
        assert_eq!(by(other, &choices), by(other, &Choices::default()));
        let found = one.run_plan(&gpu, by(mine, &choices));
        let (one, bounds) = match mine.options.half {
            true => (one.in_half(), one.in_half().half_bounds()),
            false => (OneOp::new(one.op.clone(), one.inputs.clone()), one.bounds()),
        };
        assert_within(&one.expected(), &found, &bounds, "by the last candidate");
    }
}

/// The first kernel is wrong in one lane.
#[test]
fn a_wrong_kernel_in_f16_is_neither_timed_nor_chosen() {
    let Some(gpu) = as_gpu(GpuOptions::default()) else {
        return;
    };
    let Ok(half) = gpu.half_target() else {
        eprintln!("SKIP: {gpu} has no f16");
        return;
    };
    let altered = Altered {
        conv: Conv2d::padded(1).into(),
        from: "var sum0 = bias[channel];",
        to: "var sum0 = bias[channel] + f32(lane / 3u) * 0.1;",
    };
    let shapes = [[1, 20, 21, 18], [24, 20, 3, 3], [24, 1, 1, 1]];
    let shapes = shapes.map(|[n, c, h, w]| Shape::new(n, c, h, w));
    let one = OneOp::random(Arc::new(altered), &shapes, &mut Random::new(3));
    let (outcomes, chosen) = tuned(&gpu, &half, &one);
    assert!(
        matches!(
            &outcomes[..],
            [Outcome::Dropped(_), Outcome::Milliseconds(_)]
        ),
        "{outcomes:?}"
    );
    assert_eq!(chosen, Some(1));
}

//! Hard inputs for functions and sums: magnitudes from 1e-37 to infinity, means of a million pixels, parameters as
//! activations, activations as weights, invalid attributes.

use crate::common::functions::{functions, numbers};
use crate::common::samples::{Inputs, Sample};
use crate::common::ways::{setups, ways};
use crate::common::{OneOp, Random, all_gpus};
use fullconv::low_level::graph::Graph;
use fullconv::low_level::ops::interpolate::InterpolateMode;
use fullconv::low_level::ops::numerics::UNIT;
use fullconv::low_level::ops::{Add, Cat, Conv2d, Interpolate, Mean, Mul, Op, Relu, from_name};
use fullconv::low_level::plan::Plan;
use fullconv::low_level::plan::lowered::{self, Convolution};
use fullconv::low_level::reference;
use fullconv::low_level::target::Target;
use fullconv::{ErrorKind, Parameters, Shape, Tensor};
use serde_json::json;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[test]
fn functions_agree_with_the_reference_from_1e_37_to_infinity() {
    let (numbers, ops) = (numbers(), functions());
    let shape = Shape::new(1, 3, 1, numbers.len());
    let input = Tensor::from_fn(shape, |_, c, _, x| numbers[(x + 7 * c) % numbers.len()]).unwrap();
    for (name, gpu) in all_gpus() {
        for op in &ops {
            let one = OneOp::new(op.clone(), vec![input.clone()]);
            let (expected, bounds, found) = (one.expected(), one.bounds(), one.run(&gpu));
            let elements = expected.data().iter().zip(found.data()).zip(bounds.data());
            for (((e, f), b), x) in elements.zip(input.data()) {
                let same = e == f || e.is_nan() && f.is_nan();
                let within = (f64::from(*e) - f64::from(*f)).abs() <= f64::from(*b);
                assert!(
                    same || within && e.is_finite(),
                    "{name}: {op:?} of {x:e}: {f:e}, not {e:e}"
                );
            }
        }
    }
}

/// Compilers may assume that there is no NaN, so that a comparison loses it.
#[test]
fn nan_passes_through_pooled_convolutions() {
    let mut random = Random::new(52);
    let cases = lowered::cases().into_iter().filter(|case| {
        let op = (case.op.as_ref() as &dyn Any).downcast_ref::<Convolution>();
        op.is_some_and(|op| op.pool.is_some())
    });
    let samples: Vec<_> = cases
        .map(|case| Sample::new(case, false, Inputs::Wild, &mut random))
        .filter(Sample::is_bounded)
        .collect();
    let (mut kernels, setups) = (BTreeSet::new(), setups());
    for setup in setups.iter().filter(|setup| !setup.target.options.half) {
        for sample in &samples {
            let one = &sample.one;
            let shapes: Vec<_> = one.inputs.iter().map(Tensor::shape).collect();
            for way in ways(&one.op, &shapes, &setup.target) {
                if sample.check(setup, &way) {
                    kernels.insert(way.kernels.last().unwrap().shader.name);
                }
            }
        }
    }
    assert!(setups.is_empty() || kernels.len() > 3, "{kernels:?}");
}

/// The device's mean of a million pixels is within the bound of a sum of 2,000 terms: 1,000 rows of 1,000 pixels.
#[test]
fn the_mean_of_a_million_pixels_is_accurate() {
    let one = OneOp::random(
        Arc::new(Mean::default()),
        &[Shape::new(1, 2, 1000, 1000)],
        &mut Random::new(4),
    );
    let magnitude = Mean::default()
        .reference(&[&one.input.map(f32::abs)])
        .unwrap();
    for (name, gpu) in all_gpus() {
        let found = one.run(&gpu);
        for c in 0..2 {
            let [e, f] = [&one.expected(), &found].map(|t| f64::from(t.at(0, c, 0, 0)));
            let bound = 2016.0 * UNIT * f64::from(magnitude.at(0, c, 0, 0));
            assert!(
                (e - f).abs() <= bound,
                "{name}: {f}, not {e}, bound {bound:e}"
            );
        }
    }
}

#[test]
fn a_row_too_long_for_one_loop_is_summed_in_several_dispatches() {
    let one = OneOp::random(
        Arc::new(Mean::default()),
        &[Shape::new(1, 3, 1, 130_001)],
        &mut Random::new(5),
    );
    for (name, gpu) in all_gpus() {
        let plan = one.plan(gpu.target()).unwrap();
        assert!(plan.steps.len() >= 4, "{name}: {plan}");
        one.check(&gpu, name);
    }
}

/// Positions are exact at thousands of pixels, and a filter may cover more inputs than a loop has steps.
#[test]
fn resizes_of_thousands_of_pixels_agree_with_the_reference() {
    let to = |size, mode, antialias| Interpolate {
        mode,
        antialias,
        ..Interpolate::bilinear(size, false)
    };
    use InterpolateMode::{Bicubic, Bilinear, NearestExact};
    let resizes = [
        (to([2, 4799], Bicubic, false), [3, 4001]),
        (to([4799, 1], NearestExact, false), [4001, 2]),
        (to([1, 481], Bilinear, true), [3, 4001]),
        (to([481, 2], Bicubic, true), [4001, 3]),
        (to([2, 3], Bicubic, true), [600, 700]),
    ];
    let mut random = Random::new(29);
    for (resize, [h, w]) in resizes {
        let shape = Shape::new(1, 2, h, w);
        let one = OneOp::random(Arc::new(resize), &[shape], &mut random);
        for (name, gpu) in all_gpus() {
            one.check(&gpu, name);
        }
    }
}

/// `cat(gate · input + offset + offset, more)`, where gate, offset and more are tensors of the file. Gate and offset
/// have a batch of 1 and are broadcast.
#[test]
fn parameters_may_be_inputs_in_place_of_activations() {
    let mut random = Random::new(6);
    let shapes = [
        ("gate", [1, 5, 1, 1]),
        ("offset", [1, 5, 4, 3]),
        ("more", [2, 6, 4, 3]),
    ];
    let mut graph = Graph::new("input");
    let mut tensors = Vec::new();
    let ids = shapes.map(|(name, [n, c, h, w])| {
        let shape = Shape::new(n, c, h, w);
        tensors.push((name.to_owned(), random.tensor(shape)));
        graph.parameter(name, shape).unwrap()
    });
    let gated = graph.op("gated", Mul {}, &[ids[0], graph.input()]).unwrap();
    let moved = graph.op("moved", Add {}, &[gated, ids[1]]).unwrap();
    let again = graph.op("again", Add {}, &[moved, ids[1]]).unwrap();
    let output = graph.op("both", Cat {}, &[again, ids[2]]).unwrap();
    let parameters = Parameters::new(crate::common::tensor_file(&tensors), BTreeMap::new());
    let input = random.tensor(Shape::new(2, 5, 4, 3));
    let expected = reference::run(&graph, &parameters, &input, &[output]).unwrap();
    for (name, gpu) in all_gpus() {
        let plan = Plan::new(&graph, input.shape(), &[output], gpu.target()).unwrap();
        // Each is copied once, however many nodes read it.
        let copies = plan
            .layers
            .iter()
            .filter(|layer| layer.kernel == "constant");
        let copied: Vec<_> = copies.map(|layer| layer.name.as_str()).collect();
        assert_eq!(copied, ["gate", "offset", "more"], "{name}");
        let found = crate::common::run_plan(&gpu, plan, &graph, &parameters, &input);
        let error = crate::common::relative_error(&expected[0].1, &found[0].1);
        assert!(error < 1e-6, "{name}: {error:e}");
    }
}

#[test]
fn a_computed_weight_is_an_error() {
    let mut graph = Graph::new("input");
    let weight = graph.op("weight", Relu {}, &[graph.input()]).unwrap();
    let inputs = [graph.input(), weight];
    let output = graph.op("conv", Conv2d::padded(1), &inputs).unwrap();
    let target = Target::WEBGPU_DEFAULTS;
    let plan = Plan::new(&graph, Shape::new(3, 3, 3, 3), &[output], &target);
    let error = plan.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().starts_with("conv (conv2d): "), "{error}");
}

#[test]
fn invalid_attributes_and_shapes_are_errors() {
    let shape = Shape::new(1, 6, 4, 4);
    let pad = |padding: [i32; 4], mode: &str| json!({"padding": padding, "mode": mode});
    for (op, attributes, kind) in [
        ("clamp", json!({}), ErrorKind::Shape),
        ("clamp", json!({"lowest": 1}), ErrorKind::ModelFile),
        ("pad", pad([4, 0, 0, 0], "reflect"), ErrorKind::Shape),
        ("pad", pad([0, 0, -2, -2], "constant"), ErrorKind::Shape),
        ("pad", pad([0, 0, 0, 0], "mirror"), ErrorKind::ModelFile),
        ("pad", pad([0, 5, 0, 0], "circular"), ErrorKind::Shape),
        ("pad", pad([0, -1, 0, 0], "circular"), ErrorKind::Shape),
        ("pad", json!({"multiple": [4, 0]}), ErrorKind::Shape),
        ("pad", json!({}), ErrorKind::Shape),
        (
            "pad",
            json!({"padding": [1, 1, 1, 1], "align": "end"}),
            ErrorKind::Shape,
        ),
        ("slice", json!({"dim": 0}), ErrorKind::Shape),
        ("slice", json!({"dim": 1, "start": 6}), ErrorKind::Shape),
        ("slice", json!({"dim": 1, "step": 0}), ErrorKind::Shape),
        ("slice", json!({"dim": 1, "step": -1}), ErrorKind::ModelFile),
        ("flip", json!({"dims": [2, 2]}), ErrorKind::Shape),
        ("flip", json!({"dims": [4]}), ErrorKind::Shape),
        ("repeat", json!({"repeats": [1, 0, 1]}), ErrorKind::Shape),
        (
            "repeat",
            json!({"repeats": [1, 1 << 24, 1]}),
            ErrorKind::Shape,
        ),
        ("channel_shuffle", json!({"groups": 4}), ErrorKind::Shape),
        ("full", json!({"channels": 0}), ErrorKind::Shape),
        (
            "conv_transpose2d",
            json!({"dilations": 2}),
            ErrorKind::ModelFile,
        ),
        (
            "interpolate",
            json!({"size": 3, "antialias": true}),
            ErrorKind::Shape,
        ),
        (
            "interpolate",
            json!({"size": 3, "mode": "nearest-exact", "align_corners": true}),
            ErrorKind::Shape,
        ),
        (
            "interpolate",
            json!({"size": 3, "mode": "area"}),
            ErrorKind::ModelFile,
        ),
        (
            "full",
            json!({"channels": 1, "fill_value": 1e40}),
            ErrorKind::Shape,
        ),
        (
            "linspace",
            json!({"dim": 1, "start": 0, "end": 1}),
            ErrorKind::Shape,
        ),
        (
            "linspace",
            json!({"dim": 2, "start": 0}),
            ErrorKind::ModelFile,
        ),
        (
            "pixel_unshuffle",
            json!({"downscale_factor": 3}),
            ErrorKind::Shape,
        ),
        (
            "pixel_unshuffle",
            json!({"downscale_factor": 0}),
            ErrorKind::Shape,
        ),
        ("unfold", json!({"kernel_size": 5}), ErrorKind::Shape),
        (
            "unfold",
            json!({"kernel_size": 2, "stride": 0}),
            ErrorKind::Shape,
        ),
        (
            "unfold",
            json!({"kernel_size": 2, "dilation": 1u64 << 40}),
            ErrorKind::Shape,
        ),
        (
            "pad",
            pad([i32::MAX, 0, 0, 0], "constant"),
            ErrorKind::Shape,
        ),
        (
            "pixel_shuffle",
            json!({"upscale_factor": 0}),
            ErrorKind::Shape,
        ),
        (
            "pixel_shuffle",
            json!({"upscale_factor": 2}),
            ErrorKind::Shape,
        ),
        (
            "pixel_shuffle",
            json!({"upscale_factor": 1u64 << 40}),
            ErrorKind::Shape,
        ),
        ("elu", json!({"alpha": "one"}), ErrorKind::ModelFile),
    ] {
        let what = format!("{op} {attributes}");
        let result = from_name(op, attributes).and_then(|op| op.output_shape(&[shape]));
        assert_eq!(result.unwrap_err().kind(), kind, "{what}");
    }
    for (op, shapes) in [
        ("add", vec![shape, shape.with_channels(3)]),
        ("mul", vec![shape]),
        ("cat", vec![]),
        ("cat", vec![shape, shape.with_size(4, 3)]),
        ("prelu", vec![shape, Shape::vector(2)]),
        ("linear", vec![shape, Shape::new(3, 6, 3, 1)]),
        ("conv1d_channels", vec![shape, Shape::new(1, 1, 1, 7)]),
        ("conv1d_channels", vec![shape, Shape::vector(3)]),
        ("batch_norm2d", vec![shape; 5]),
    ] {
        let result = from_name(op, json!({})).unwrap().output_shape(&shapes);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Shape, "{op}");
    }
}

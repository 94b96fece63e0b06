//! The CPU reference and the device against PyTorch's results. `goldens/README.md` describes the files.

use crate::common::{OneOp, another_gpu, relative_error};
use fullconv::compare::compare_tensor;
use fullconv::low_level::graph::{Graph, NodeId};
use fullconv::low_level::ops::crop::Offset;
use fullconv::low_level::ops::numerics::UNIT;
use fullconv::low_level::ops::{Crop, Op, names};
use fullconv::{Gpu, GpuOptions, Model, Parameters, Precision, Run, Segmenter, Shape, Tensor};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The least numbers of cases and models: a file that lost some must fail.
const LEAST_CASES: usize = 992;
const LEAST_MODELS: usize = 18;

/// The bounds of a network's relative error (L2): on the CPU, which rounds only results, and on a device, which rounds
/// sums too.
const CPU_ERROR: f64 = 1e-6;
const DEVICE_ERROR: f64 = 1e-5;

fn path(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "goldens", file]
        .iter()
        .collect()
}

fn read(file: &str) -> Vec<u8> {
    std::fs::read(path(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// An entry of a file's metadata.
fn metadata<T: serde::de::DeserializeOwned>(bytes: &[u8], key: &str) -> T {
    let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    let entries = metadata.metadata().clone().unwrap();
    serde_json::from_str(&entries[key]).unwrap()
}

/// A tensor of any type in the files, converted to f64, and its dimensions.
fn numbers(file: &SafeTensors, name: &str) -> (Vec<f64>, Vec<usize>) {
    let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    let bytes = view.data();
    let numbers = match view.dtype() {
        Dtype::F32 => {
            let (floats, _) = bytes.as_chunks::<4>();
            floats
                .iter()
                .map(|b| f64::from(f32::from_le_bytes(*b)))
                .collect()
        }
        Dtype::F64 => {
            let (floats, _) = bytes.as_chunks::<8>();
            floats.iter().map(|b| f64::from_le_bytes(*b)).collect()
        }
        Dtype::U8 => bytes.iter().map(|b| f64::from(*b)).collect(),
        other => panic!("{name} is {other:?}"),
    };
    (numbers, view.shape().to_vec())
}

/// A tensor of the file as `[n, c, h, w]`. In the file, pictures are `[h, w, 3]`, labels `[n, h, w]`, biases `[c]`.
fn as_nchw(op: &str, name: &str, (data, dimensions): (Vec<f64>, Vec<usize>)) -> (Vec<f64>, Shape) {
    match (op, name, dimensions.as_slice()) {
        (_, _, &[n, c, h, w]) => (data, Shape::new(n, c, h, w)),
        (_, _, &[c]) => (data, Shape::vector(c)),
        ("linear", "weight", &[out, c]) => (data, Shape::new(out, c, 1, 1)),
        ("argmax" | "binarize", "output", &[n, h, w]) => (data, Shape::new(n, 1, h, w)),
        ("preprocess", "input", &[h, w, 3]) => {
            let planes = (0..3).flat_map(|c| data.iter().copied().skip(c).step_by(3));
            (planes.collect(), Shape::new(1, 3, h, w))
        }
        _ => panic!("{op}/{name} has dimensions {dimensions:?}"),
    }
}

fn tensor((data, shape): (Vec<f64>, Shape)) -> Tensor {
    Tensor::new(shape, data.iter().map(|x| *x as f32).collect()).unwrap()
}

/// A case as described in the file.
#[derive(Deserialize)]
struct Described {
    name: String,
    op: String,
    attributes: Value,
    inputs: Vec<String>,
}

/// A case of an op with what PyTorch computed.
struct Case {
    described: Described,
    op: Arc<dyn Op>,
    inputs: Vec<Tensor>,
    output: Vec<f64>,
    shape: Shape,
}

fn op_cases() -> Vec<Case> {
    let bytes = read("ops.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let described: Vec<Described> = metadata(&bytes, "cases");
    described
        .into_iter()
        .map(|described| {
            let Described { name, op, .. } = &described;
            let get = |part: &str| as_nchw(op, part, numbers(&file, &format!("{name}/{part}")));
            let (output, shape) = get("output");
            Case {
                op: fullconv::low_level::ops::from_name(op, described.attributes.clone()).unwrap(),
                inputs: described.inputs.iter().map(|i| tensor(get(i))).collect(),
                output,
                shape,
                described,
            }
        })
        .collect()
}

impl Case {
    /// The reference's error bounds. The result is rounded to f32 once, and so is each factor that is f64 in PyTorch
    /// but f32 in the op. Sums in f64 add very little: their order differs.
    fn bounds(&self) -> Vec<f64> {
        if self.op.name() == "max_pool2d_indices" {
            return vec![0.0; self.output.len()];
        }
        let inputs = self.inputs.iter().flat_map(Tensor::data);
        let finite = inputs.filter(|x| x.is_finite());
        let largest = finite.fold(0.0, |max: f64, x| max.max(f64::from(x.abs())));
        let shapes: Vec<_> = self.inputs.iter().map(Tensor::shape).collect();
        let terms = self.op.reduction_length(&shapes) as f64;
        // Weights are among the inputs: a product is at most the square of the largest.
        let sum = (terms + 64.0) * f64::EPSILON * (1.0 + largest) * (1.0 + largest);
        // Without a sum, the error is relative to the result.
        let of_f64 = |x: f64| match self.op.reduction_length(&shapes) {
            1 => 64.0 * f64::EPSILON * x.abs(),
            _ => sum,
        };
        // Rounding to zero is off by up to half the least positive f32.
        let least = f64::from(f32::from_bits(1)) / 2.0;
        let list = |name: &str| {
            let list = self.described.attributes[name].as_array().unwrap();
            list.iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>()
        };
        let plane = self.shape.h * self.shape.w;
        let outputs = self.output.iter().enumerate();
        let of_result = outputs.map(|(i, x)| match self.op.name() {
            "scale" => 2.0 * x.abs() * UNIT,
            "preprocess" => {
                let c = i / plane % 3;
                (2.0 * x.abs() + (list("mean")[c] / list("std")[c]).abs()) * UNIT
            }
            _ => x.abs() * UNIT,
        });
        // The bounds above are of first order; the factor covers the second order.
        of_result
            .zip(&self.output)
            .map(|(b, x)| b * (1.0 + 4.0 * UNIT) + of_f64(*x) + least)
            .collect()
    }

    /// Panics unless `found` agrees with PyTorch within the sum of `bounds` and `more`.
    fn check(&self, found: &Tensor, more: Option<&Tensor>, what: &str) {
        let name = &self.described.name;
        assert_eq!(found.shape(), self.shape, "{name} {what}");
        for (i, (bound, expected)) in self.bounds().iter().zip(&self.output).enumerate() {
            let bound = bound + more.map_or(0.0, |more| f64::from(more.data()[i]));
            let value = f64::from(found.data()[i]);
            // The f32 of PyTorch's value is infinity if the value is too large.
            let same = value == f64::from(*expected as f32) || value.is_nan() && expected.is_nan();
            assert!(
                same || expected.is_finite() && (value - expected).abs() <= bound,
                "{name} {what}: at {:?} expected {expected}, found {value}, bound {bound:e}",
                found.position(i)
            );
        }
    }
}

#[test]
fn every_op_has_five_cases() {
    let cases = op_cases();
    assert!(cases.len() >= LEAST_CASES, "only {} cases", cases.len());
    for name in names() {
        let count = cases.iter().filter(|c| c.op.name() == name).count();
        assert!(count >= 5, "{name} has {count} cases");
    }
}

#[test]
fn the_reference_agrees_with_pytorch() {
    for case in op_cases() {
        let inputs: Vec<_> = case.inputs.iter().collect();
        let shapes: Vec<_> = inputs.iter().map(|t| t.shape()).collect();
        assert_eq!(case.op.output_shape(&shapes).unwrap(), case.shape);
        case.check(&case.op.reference(&inputs).unwrap(), None, "on the CPU");
    }
}

/// The devices that are checked against PyTorch: with the device's own limits, with the lowest, and planned for as a
/// GPU.
fn devices() -> Vec<(&'static str, Gpu)> {
    let ways = [
        ("as it is", false, false),
        ("with WebGPU's default limits", true, false),
        ("planned as a GPU", false, true),
    ];
    ways.into_iter()
        .filter_map(|(name, default_limits, plan_as_gpu)| {
            let options = GpuOptions {
                default_limits,
                plan_as_gpu,
                ..GpuOptions::default()
            };
            Some((name, another_gpu(options)?))
        })
        .collect()
}

/// The device's result for an op of tensors of one shape. A graph has one input, so its rows hold all tensors, and windows
/// separate them exactly, whatever they hold.
fn of_several_on(gpu: &Gpu, op: &Arc<dyn Op>, inputs: &[Tensor]) -> Tensor {
    let shape = inputs[0].shape();
    assert!(inputs.iter().all(|t| t.shape() == shape), "{op:?}");
    let all = Tensor::from_fn(
        shape.with_size(inputs.len() * shape.h, shape.w),
        |n, c, y, x| inputs[y / shape.h].at(n, c, y % shape.h, x),
    );
    let mut graph = Graph::new("input");
    let one = Tensor::zeros(Shape::new(1, 1, shape.h, shape.w)).unwrap();
    let like = graph.parameter("like", one.shape()).unwrap();
    let parts: Vec<NodeId> = (0..inputs.len())
        .map(|i| {
            let offset = [i * shape.h, 0];
            let inputs = [graph.input(), like];
            graph
                .op(
                    format!("part{i}"),
                    Crop {
                        offset: Offset::At(offset),
                    },
                    &inputs,
                )
                .unwrap()
        })
        .collect();
    let output = graph.shared_op("op", op.clone(), &parts).unwrap();
    let tensors = [("like".to_owned(), one)];
    let parameters = Parameters::new(crate::common::tensor_file(&tensors), BTreeMap::new());
    let mut values = crate::common::run(gpu, &graph, &parameters, &all.unwrap(), &[output]);
    values.remove(0).1
}

#[test]
fn the_device_agrees_with_pytorch() {
    for (how, gpu) in devices() {
        for case in op_cases() {
            let one = OneOp::new(case.op.clone(), case.inputs.clone());
            let is_finite = |t: &Tensor| t.data().iter().all(|x| x.is_finite());
            // Tensors of a file are finite, and `OneOp` would replace indices by those of a pooling.
            let found =
                match case.op.name() == "max_unpool2d" || !case.inputs[1..].iter().all(is_finite) {
                    true => of_several_on(&gpu, &case.op, &case.inputs),
                    false => one.run(&gpu),
                };
            case.check(&found, Some(&one.bounds()), how);
        }
    }
}

/// A model and its inputs as described in the file.
#[derive(Deserialize)]
struct ModelCase {
    name: String,
    file: String,
    architecture: String,
    geometry: Option<String>,
    inputs: Vec<String>,
    nodes: BTreeMap<String, Vec<String>>,
}

/// The class of each pixel's highest score; the lower class if scores are equal.
fn best(scores: &Tensor) -> Tensor {
    fullconv::low_level::ops::Argmax {}
        .reference(&[scores])
        .unwrap()
}

/// Panics unless `found` agrees with PyTorch. The relative errors of scores and nodes are within `bounds` of their
/// name. Labels are the argmax of the found scores; a label may differ from PyTorch's only if PyTorch's score of it is
/// within the margin of the best score.
fn check_run(
    what: &str,
    file: &SafeTensors,
    key: &str,
    found: &Run,
    bounds: impl Fn(Option<&str>) -> f64,
) {
    let get = |part: &str| tensor(as_nchw("", part, numbers(file, &format!("{key}/{part}"))));
    let scores = get("output");
    let (error, bound) = (relative_error(&scores, &found.output), bounds(None));
    assert!(
        error < bound,
        "{what} {key}: relative error {error:e}, bound {bound:e}"
    );
    for (name, value) in &found.fetched {
        let (error, bound) = (
            relative_error(&get(&format!("node:{name}")), value),
            bounds(Some(name)),
        );
        assert!(
            error < bound,
            "{what} {key}: {name} has relative error {error:e}, bound {bound:e}"
        );
    }
    let labels = found.labels.as_ref().unwrap();
    assert_eq!(
        *labels,
        best(&found.output),
        "{what} {key}: labels are not the argmax of the scores"
    );
    let largest = scores.data().iter().fold(0.0f32, |max, s| max.max(s.abs()));
    let margin = 2.0 * bound * f64::from(largest);
    let expected = best(&scores);
    for (i, (e, f)) in expected.data().iter().zip(labels.data()).enumerate() {
        let [n, _, y, x] = expected.position(i);
        let score = |label: f32| f64::from(scores.at(n, label as usize, y, x));
        assert!(
            score(*e) - score(*f) <= margin,
            "{what} {key}: at {:?} expected class {e}, found {f}",
            [n, y, x]
        );
    }
}

/// The bound of a run's relative error.
#[derive(Clone, Copy)]
enum Bound {
    /// The same for every network.
    Is(f64),
    /// Computed by `compare` from the roundings of each network: sums of four channels with random weights mostly
    /// cancel, which leaves few digits of f16.
    Follows,
}

/// Runs every model on every input, with a segmenter from `open`.
fn check_models(what: &str, bound: Bound, open: impl Fn(&Model) -> Segmenter) {
    let bytes = read("models.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let cases: Vec<ModelCase> = metadata(&bytes, "models");
    assert!(cases.len() >= LEAST_MODELS, "only {} models", cases.len());
    for case in cases {
        let model = Model::read(path(&case.file)).unwrap();
        assert_eq!(model.architecture(), case.architecture, "{}", case.name);
        assert_eq!(model.geometry(), case.geometry.as_deref(), "{}", case.name);
        let segmenter = open(&model);
        for size in &case.inputs {
            let key = format!("{}/{size}", case.name);
            let input = tensor(as_nchw("", "", numbers(&file, &format!("{key}/input"))));
            let fetch: Vec<_> = case.nodes.get(size).into_iter().flatten().collect();
            let fetch: Vec<_> = fetch.iter().map(|name| name.as_str()).collect();
            let found = pollster::block_on(segmenter.run(&input, &fetch)).unwrap();
            assert_eq!(found.fetched.len(), fetch.len());
            match bound {
                Bound::Is(bound) => check_run(what, &file, &key, &found, |_| bound),
                Bound::Follows => {
                    let report = pollster::block_on(compare_tensor(&segmenter, &input)).unwrap();
                    assert!(report.is_within_bounds(), "{what} {key}: {report:?}");
                    let of = |name: Option<&str>| {
                        let mut nodes = report.nodes.iter();
                        let named = nodes.find(|n| name == Some(n.name.as_str()));
                        named.or(report.nodes.last()).unwrap().bound
                    };
                    check_run(what, &file, &key, &found, of);
                }
            }
        }
    }
}

#[test]
fn every_model_on_the_cpu_agrees_with_pytorch() {
    check_models("on the CPU", Bound::Is(CPU_ERROR), Segmenter::on_cpu);
}

#[test]
fn every_model_on_the_device_agrees_with_pytorch() {
    for (how, gpu) in devices() {
        check_models(how, Bound::Is(DEVICE_ERROR), |model| {
            pollster::block_on(Segmenter::new(&gpu, model)).unwrap()
        });
    }
}

#[test]
fn every_model_in_f16_agrees_with_pytorch() {
    for (how, gpu) in devices() {
        if gpu.half_target().is_err() {
            eprintln!("SKIP: {how}, {gpu} has no f16");
            continue;
        }
        check_models(&format!("{how}, in f16"), Bound::Follows, |model| {
            let segmenter = Segmenter::builder(model)
                .gpu(&gpu)
                .precision(Precision::F16)
                .build();
            pollster::block_on(segmenter).unwrap()
        });
    }
}

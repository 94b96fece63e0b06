//! ONNX's own test cases of operators, on the CPU reference and on the device. `conformance/make.py` translated them;
//! `conformance/table.md` lists the computed cases and why the others do not apply.

use crate::common::{OneOp, assert_within, gpu, tensor_file};
use fullconv::low_level::graph::Graph;
use fullconv::low_level::ops::{self, MaxPool2d, MaxPool2dIndices, MaxUnpool2d, Op};
use fullconv::{GpuOptions, Parameters, Tensor, TensorFile};
use serde::Deserialize;
use serde_json::Value;
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// The least number of cases: a file that lost some must fail.
const LEAST_CASES: usize = 131;

/// Ops that copy or choose values: their results must be exact.
const EXACT: &[&str] = &[
    "argmax",
    "cat",
    "clamp",
    "crop",
    "max_pool2d",
    "max_pool2d_indices",
    "max_unpool2d",
    "pad",
    "pixel_shuffle",
    "relu",
];

/// An operation, as in the graph of a model file.
#[derive(Deserialize)]
struct Described {
    name: String,
    op: String,
    inputs: Vec<String>,
    #[serde(default = "no_attributes")]
    attributes: Value,
}

fn no_attributes() -> Value {
    Value::Object(serde_json::Map::new())
}

/// A case: nodes, of which the last is the output.
#[derive(Deserialize)]
struct Case {
    name: String,
    operator: String,
    inputs: Vec<String>,
    nodes: Vec<Described>,
    /// The error of ONNX's own numbers if it exceeds that of an f32 sum, for example because they were typed in
    /// rounded.
    #[serde(default)]
    within: f32,
}

/// A tensor and the bounds of its elements' errors.
#[derive(Clone)]
struct Known {
    value: Tensor,
    bounds: Tensor,
}

impl Known {
    fn exact(value: Tensor) -> Self {
        let bounds = value.map(|_| 0.0);
        Self { value, bounds }
    }
}

fn read(file: &str) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "conformance", file]
        .iter()
        .collect();
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The op on exactly these `inputs`.
fn one_op(op: Arc<dyn Op>, inputs: Vec<Tensor>) -> OneOp {
    match (op.as_ref() as &dyn Any).downcast_ref() {
        Some(unpool) => of_unpool(unpool, op.clone(), inputs),
        None => OneOp::new(op, inputs),
    }
}

/// An unpooling. Its indices cannot be a file's tensor, so poolings of the unpooled plane compute both `inputs`
/// exactly.
fn of_unpool(unpool: &MaxUnpool2d, op: Arc<dyn Op>, inputs: Vec<Tensor>) -> OneOp {
    let plane = op.reference(&inputs.iter().collect::<Vec<_>>()).unwrap();
    let pool = MaxPool2d {
        stride: unpool.stride,
        ..MaxPool2d::square(unpool.kernel_size[0], 1, false)
    };
    let indices = MaxPool2dIndices { pool: pool.clone() };
    assert_eq!(pool.reference(&[&plane]).unwrap(), inputs[0]);
    assert_eq!(indices.reference(&[&plane]).unwrap(), inputs[1]);
    let mut graph = Graph::new("input");
    let input = graph.input();
    let values = graph.op("values", pool, &[input]).unwrap();
    let indices = graph.op("indices", indices, &[input]).unwrap();
    graph.op("op", unpool.clone(), &[values, indices]).unwrap();
    OneOp {
        graph,
        parameters: Parameters::new(tensor_file(&[]), BTreeMap::new()),
        input: plane,
        inputs,
        op,
    }
}

/// The bounds of an op's output if its first input has errors of at most `bounds` and the op is exact.
fn passed_on(one: &OneOp, bounds: &Tensor) -> Tensor {
    if bounds.data().iter().all(|b| *b == 0.0) {
        return one.expected().map(|_| 0.0);
    }
    match one.op.name() {
        "crop" | "pixel_shuffle" | "pad" | "mul" => {
            let mut inputs: Vec<_> = one.inputs.iter().map(|t| t.map(f32::abs)).collect();
            inputs[0] = bounds.clone();
            let inputs: Vec<_> = inputs.iter().collect();
            one.op.reference(&inputs).unwrap()
        }
        "add" | "clamp" => bounds.clone(),
        other => panic!("no rule for how {other} passes errors on"),
    }
}

/// Computes a case, each op by `run`. Returns the output and its error bounds.
fn compute(case: &Case, file: &TensorFile, run: impl Fn(&OneOp) -> Tensor) -> Known {
    let mut known: HashMap<&str, Known> = HashMap::new();
    for input in &case.inputs {
        let value = file.tensor(&format!("{}/{input}", case.name)).unwrap();
        known.insert(input, Known::exact(value));
    }
    for node in &case.nodes {
        let op = ops::from_name(&node.op, node.attributes.clone())
            .unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let inputs: Vec<_> = node
            .inputs
            .iter()
            .map(|i| known[i.as_str()].clone())
            .collect();
        let one = one_op(op, inputs.iter().map(|i| i.value.clone()).collect());
        let mut bounds = match EXACT.contains(&one.op.name()) {
            true => one.expected().map(|_| 0.0),
            false => one.bounds(),
        };
        let passed_on = passed_on(&one, &inputs[0].bounds);
        for (bound, passed_on) in bounds.data_mut().iter_mut().zip(passed_on.data()) {
            *bound += passed_on;
        }
        let value = run(&one);
        known.insert(&node.name, Known { value, bounds });
    }
    known
        .remove(case.nodes.last().unwrap().name.as_str())
        .unwrap()
}

/// Panics unless the case agrees with ONNX. The bounds are doubled: ONNX's own f32 sums may err as much as ours.
fn check(case: &Case, file: &TensorFile, whose: &str, run: impl Fn(&OneOp) -> Tensor) {
    let expected = file.tensor(&format!("{}/output", case.name)).unwrap();
    let Known { value, bounds } = compute(case, file, run);
    let bounds = bounds.map(|b| 2.0 * b + case.within);
    let what = format!("{} of {}, {whose}", case.name, case.operator);
    assert_within(&expected, &value, &bounds, &what);
}

/// The numbers of cases in table.md: all, computed, not applicable.
fn table() -> [usize; 3] {
    let table = String::from_utf8(read("table.md")).unwrap();
    let total = table.lines().find(|l| l.starts_with("| **all**")).unwrap();
    let numbers = total.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<_> = numbers.filter_map(|n| n.parse().ok()).collect();
    numbers.try_into().unwrap()
}

#[test]
fn onnx_cases_agree_on_the_cpu_and_the_device() {
    let file = TensorFile::from_bytes(read("cases.safetensors")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(file.metadata("cases").unwrap()).unwrap();
    let [all, computed, not_applicable] = table();
    assert_eq!(cases.len(), computed, "table.md counts other cases");
    assert_eq!(all, computed + not_applicable);
    assert!(computed >= LEAST_CASES, "{computed} cases are too few");
    let gpu = gpu(GpuOptions::default());
    for case in &cases {
        check(case, &file, "on the CPU", OneOp::expected);
        if let Some(gpu) = &gpu {
            check(case, &file, "on the device", |one| one.run(gpu));
        }
    }
    println!("ONNX: {all} cases, {computed} computed, {not_applicable} not applicable");
}

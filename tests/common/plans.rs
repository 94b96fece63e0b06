//! What every plan must keep to: the device's limits, and reading nothing but what was written.

use fullconv::Shape;
use fullconv::device_profile::{DeviceProfile, TEXEL_ROW_BYTES};
use fullconv::graph::{Graph, NodeId};
use fullconv::models::{Checkpoint, Choice, build};
use fullconv::ops::StageInput;
use fullconv::ops::kernel::{Binding, Format, Kernel, Rows};
use fullconv::plan::{Bound, Mirror, Plan, Step};
use std::ops::Range;

/// The graph of FCN-8s as published: 134 million parameters, 21 classes.
pub fn full_width() -> Graph {
    let mut tensors = Vec::new();
    let mut layer = |name: &str, out: usize, c: usize, kernel: usize| {
        tensors.push((format!("{name}.weight"), vec![out, c, kernel, kernel]));
        tensors.push((format!("{name}.bias"), vec![out]));
    };
    let mut c = 3;
    for (stage, (convs, out)) in (1..).zip([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]) {
        for i in 1..=convs {
            layer(&format!("conv{stage}_{i}"), out, c, 3);
            c = out;
        }
    }
    layer("fc6", 4096, 512, 7);
    layer("fc7", 4096, 4096, 1);
    layer("score_fr", 21, 4096, 1);
    layer("score_pool4", 21, 512, 1);
    layer("score_pool3", 21, 256, 1);
    let checkpoint: Checkpoint = tensors.into_iter().collect();
    build(&checkpoint, &Choice::default()).unwrap().graph
}

/// Panics unless every step of `plan` keeps the limits of `profile`.
pub fn check_limits(plan: &Plan, profile: &DeviceProfile) {
    assert!(!plan.steps.is_empty());
    for bytes in &plan.slots {
        assert!(
            *bytes > 0 && *bytes <= profile.max_buffer_bytes,
            "a slot of {bytes}"
        );
    }
    for parameter in &plan.parameters {
        let most = match parameter.texels {
            true => profile.max_texel_bytes(),
            false => profile.max_binding_bytes.min(profile.max_buffer_bytes),
        };
        assert!(parameter.bytes <= most, "{parameter:?}");
    }
    for part in &plan.read_backs {
        let slot = plan.slots[plan.outputs[part.output].1.slot];
        assert!(part.bytes.end <= slot, "{part:?} of {slot} bytes");
        let ends_submit = part.after == plan.steps.len() || plan.steps[part.after - 1].ends_submit;
        assert!(ends_submit, "{part:?} within a submission");
    }
    for step in &plan.steps {
        let layer = &plan.layers[step.layer].name;
        assert!(
            step.bindings.len() <= profile.max_storage_buffers as usize,
            "{layer}"
        );
        for groups in step.workgroups {
            assert!(
                (1..=profile.max_workgroups_per_dimension).contains(&groups),
                "{layer}"
            );
        }
        for bound in &step.bindings {
            let Bound::Slot { slot, bytes, .. } = bound else {
                continue;
            };
            assert!(
                bytes.start % profile.binding_alignment == 0,
                "{layer}: {bound:?}"
            );
            assert!(
                bytes.start < bytes.end && bytes.end <= plan.slots[*slot],
                "{layer}: {bound:?}"
            );
            assert!(
                bytes.end - bytes.start <= profile.max_binding_bytes,
                "{layer}: {bound:?}"
            );
            assert!(bytes.end % 4 == 0, "{layer}: {bound:?}");
        }
        check_output_is_apart(&step.bindings, layer);
    }
    let texture = plan.mirror_bytes + TEXEL_ROW_BYTES;
    assert!(texture <= profile.max_texel_bytes().max(TEXEL_ROW_BYTES));
}

/// A dispatch may not read and write one buffer.
fn check_output_is_apart(bindings: &[Bound], layer: &str) {
    let slot = |bound: &Bound| match bound {
        Bound::Slot { slot, .. } => Some(*slot),
        Bound::Parameter(_) | Bound::Mirror { .. } => None,
    };
    let (output, inputs) = bindings.split_last().unwrap();
    assert!(slot(output).is_some(), "{layer} writes a parameter");
    assert!(
        inputs.iter().all(|i| slot(i) != slot(output)),
        "{layer} reads what it writes"
    );
}

/// A tensor: a node's value, or what a stage of an operation leaves to the next.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Node(NodeId),
    Stage(String, usize),
}

/// Bytes of a buffer that hold a tensor, of which the first byte lies, or would lie, at `origin`.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    bytes: Range<i64>,
    value: Value,
    origin: i64,
}

/// The buffers, as a run goes on.
struct Memory(Vec<Vec<Written>>);

impl Memory {
    fn write(&mut self, slot: usize, new: Written) {
        let mut left = Vec::new();
        for old in &self.0[slot] {
            let before = old.bytes.start..old.bytes.end.min(new.bytes.start);
            let after = old.bytes.start.max(new.bytes.end)..old.bytes.end;
            for bytes in [before, after] {
                if !bytes.is_empty() {
                    left.push(Written {
                        bytes,
                        ..old.clone()
                    });
                }
            }
        }
        left.push(new);
        left.sort_by_key(|written| written.bytes.start);
        self.0[slot] = left;
    }

    /// Panics unless all of `wanted` was written, and nothing over it.
    fn read(&self, slot: usize, wanted: &Written, what: &str) {
        let mut at = wanted.bytes.start;
        for held in &self.0[slot] {
            if held.value == wanted.value
                && held.origin == wanted.origin
                && held.bytes.contains(&at)
            {
                at = held.bytes.end;
            }
        }
        assert!(
            at >= wanted.bytes.end,
            "{what} reads {wanted:?} where there is {:?}",
            self.0[slot]
        );
    }
}

/// A tensor, and how it lies in memory.
struct Tensor {
    value: Value,
    shape: Shape,
    format: Format,
}

impl Tensor {
    /// Where the rows of it lie in a buffer of which a part is shown, `start` its first element; panics if not
    /// all of them are shown.
    fn rows_shown(&self, rows: Range<usize>, bytes: &Range<u64>, start: u32) -> Written {
        let Shape { c, w, .. } = self.shape;
        let at = |row: usize| self.format.bytes(Shape::new(1, c, row, w)) as i64;
        let origin = bytes.start as i64 - i64::from(start) * self.format.element_bytes() as i64;
        let shown = origin + at(rows.start)..origin + at(rows.end);
        assert!(
            shown.start >= bytes.start as i64 && shown.end <= bytes.end as i64,
            "rows {rows:?} of {} are not in {bytes:?} from {start}",
            self.shape
        );
        Written {
            bytes: shown,
            value: self.value.clone(),
            origin,
        }
    }
}

/// Walks through the plan's steps, and panics where one reads rows of its inputs that no step before it has
/// written, or that were written over, or where that is so of an output that is read back.
pub fn check_liveness(plan: &Plan, graph: &Graph) {
    let shapes = graph.shapes(plan.input.shape).unwrap();
    let mut memory = Memory(vec![Vec::new(); plan.slots.len()]);
    let input = Written {
        bytes: 0..plan.input.bytes() as i64,
        value: Value::Node(graph.input()),
        origin: 0,
    };
    memory.write(plan.input.slot, input);
    let mut done = vec![0; plan.outputs.len()];
    read_back(plan, 0, &memory, &mut done);
    let mut mirror = None;
    for (i, step) in plan.steps.iter().enumerate() {
        mirror = step.mirror.clone().or(mirror);
        check_step(plan, graph, &shapes, (step, mirror.as_ref()), &mut memory);
        read_back(plan, i + 1, &memory, &mut done);
    }
    for (done, (id, place)) in done.iter().zip(&plan.outputs) {
        let name = &graph.node(*id).name;
        assert_eq!(*done, place.bytes() as i64, "{name} is not read back");
    }
}

fn check_step(
    plan: &Plan,
    graph: &Graph,
    shapes: &[Shape],
    (step, mirror): (&Step, Option<&Mirror>),
    memory: &mut Memory,
) {
    let name = &plan.layers[step.layer].name;
    let layer = Layer::new(plan, graph, shapes, step.layer);
    let (output, read) = step.bindings.split_last().unwrap();
    let first_rows = layer.rows_of_first(step.rows.clone());
    for (bound, binding) in read.iter().zip(&layer.kernel.bindings) {
        let Some((input, format, rows)) = binding.activation() else {
            assert!(matches!(bound, Bound::Parameter(_)), "{name}: {bound:?}");
            continue;
        };
        let (value, shape) = layer.inputs[input].clone();
        let tensor = Tensor {
            value,
            shape,
            format,
        };
        let needed = rows.needed(first_rows.clone(), layer.first_height, shape.h);
        let (slot, bytes, start) = match bound {
            Bound::Slot { slot, bytes, start } => (*slot, bytes, *start),
            Bound::Mirror { start } => {
                let mirror = mirror.unwrap();
                (mirror.slot, &mirror.bytes, *start)
            }
            Bound::Parameter(_) => panic!("{name}: an activation is bound to {bound:?}"),
        };
        memory.read(slot, &tensor.rows_shown(needed, bytes, start), name);
    }
    let Bound::Slot { slot, bytes, start } = output else {
        panic!("{name} writes {output:?}");
    };
    let (value, shape) = layer.output;
    let tensor = Tensor {
        value,
        shape,
        format: layer.kernel.output,
    };
    memory.write(*slot, tensor.rows_shown(step.rows.clone(), bytes, *start));
}

/// What a layer of a plan computes, from what.
struct Layer {
    /// A kernel that reads the same rows as the layer's first node and writes the format of its last.
    kernel: Kernel,
    inputs: Vec<(Value, Shape)>,
    output: (Value, Shape),
    /// Rows of the first node's value.
    first_height: usize,
    /// From the value of each node to the next: the rows that are read, and the heights of both.
    chain: Vec<(Rows, usize, usize)>,
}

impl Layer {
    fn new(plan: &Plan, graph: &Graph, shapes: &[Shape], layer: usize) -> Self {
        let name = &plan.layers[layer].name;
        let nodes: Vec<_> = name.split('+').map(|n| graph.find(n).unwrap()).collect();
        let (first, last) = (graph.node(nodes[0]), nodes[nodes.len() - 1]);
        let whole = |id: &NodeId| (Value::Node(*id), shapes[id.index()]);
        let inputs: Vec<_> = first.inputs.iter().map(whole).collect();
        let input_shapes: Vec<_> = inputs.iter().map(|(_, shape)| *shape).collect();
        let same = |l: &&fullconv::plan::Layer| l.name == *name;
        let (count, stage) = (
            plan.layers.iter().filter(same).count(),
            plan.layers[..layer].iter().filter(same).count(),
        );
        if count == 1 {
            let op = |id: NodeId| graph.node(id).op().unwrap().clone();
            let kernels = op(nodes[0]).kernels(&input_shapes, &DeviceProfile::WEBGPU_DEFAULTS);
            let mut kernel = kernels.unwrap().remove(0);
            let mut chain = Vec::new();
            for pair in nodes.windows(2) {
                let inputs = &graph.node(pair[1]).inputs;
                let given: Vec<_> = inputs.iter().map(|id| shapes[id.index()]).collect();
                let kernels = op(pair[1]).kernels(&given, &DeviceProfile::WEBGPU_DEFAULTS);
                let next = kernels.unwrap().remove(0);
                let read = next.bindings.iter().filter_map(Binding::activation);
                let (_, _, rows) = read
                    .into_iter()
                    .find(|(input, _, _)| inputs[*input] == pair[0])
                    .unwrap();
                let height = |id: NodeId| shapes[id.index()].h;
                chain.push((rows, height(pair[1]), height(pair[0])));
                kernel.output = next.output;
            }
            return Self {
                kernel,
                inputs,
                output: whole(&last),
                first_height: shapes[nodes[0].index()].h,
                chain,
            };
        }
        // The layers of one name are the stages of one op.
        let profiles = [true, false].map(|is_cpu| DeviceProfile {
            is_cpu,
            ..DeviceProfile::WEBGPU_DEFAULTS
        });
        let stages = profiles
            .iter()
            .map(|p| (first.op().unwrap().stages(&input_shapes, p), p));
        let (stages, profile) = stages.into_iter().find(|(s, _)| s.len() == count).unwrap();
        let between = |i: usize| {
            let first = plan.layers.iter().position(|l| l.name == *name).unwrap();
            (Value::Stage(name.clone(), i), plan.layers[first + i].shape)
        };
        let inputs: Vec<_> = stages[stage]
            .inputs
            .iter()
            .map(|input| match *input {
                StageInput::Op(i) => inputs[i].clone(),
                StageInput::Stage(i) => between(i),
            })
            .collect();
        let shapes_here: Vec<_> = inputs.iter().map(|(_, shape)| *shape).collect();
        let kernels = stages[stage].op.kernels(&shapes_here, profile);
        let output = match stage + 1 == count {
            true => whole(&last),
            false => between(stage),
        };
        Self {
            kernel: kernels.unwrap().remove(0),
            inputs,
            first_height: output.1.h,
            output,
            chain: Vec::new(),
        }
    }

    /// The rows of the first node's value that `rows` of the last one's are made of.
    fn rows_of_first(&self, rows: Range<usize>) -> Range<usize> {
        let back = |rows, (at, out, input): &(Rows, usize, usize)| at.needed(rows, *out, *input);
        self.chain.iter().rev().fold(rows, back)
    }
}

/// Follows what is read back after `steps` steps; `done` counts the bytes of each output.
fn read_back(plan: &Plan, steps: usize, memory: &Memory, done: &mut [i64]) {
    for part in plan.read_backs.iter().filter(|part| part.after == steps) {
        let (id, place) = &plan.outputs[part.output];
        let bytes = part.bytes.start as i64..part.bytes.end as i64;
        let done = &mut done[part.output];
        let wanted = Written {
            origin: bytes.start - *done,
            bytes,
            value: Value::Node(*id),
        };
        *done += wanted.bytes.end - wanted.bytes.start;
        memory.read(place.slot, &wanted, "the host");
    }
}

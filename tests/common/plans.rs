//! What every plan must keep to: the device's limits, and reading nothing but what was written.

use fullconv::Shape;
use fullconv::device_profile::DeviceProfile;
use fullconv::graph::{Graph, NodeId, NodeKind};
use fullconv::models::{Checkpoint, Choice, build};
use fullconv::ops::kernel::{Binding, Format, Kernel};
use fullconv::plan::{Bound, Plan, Step};
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
        let most = profile.max_binding_bytes.min(profile.max_buffer_bytes);
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
}

/// A dispatch may not read and write one buffer.
fn check_output_is_apart(bindings: &[Bound], layer: &str) {
    let slot = |bound: &Bound| match bound {
        Bound::Slot { slot, .. } => Some(*slot),
        Bound::Parameter(_) => None,
    };
    let (output, inputs) = bindings.split_last().unwrap();
    assert!(slot(output).is_some(), "{layer} writes a parameter");
    assert!(
        inputs.iter().all(|i| slot(i) != slot(output)),
        "{layer} reads what it writes"
    );
}

/// Bytes of a buffer that hold a tensor, of which the first byte lies, or would lie, at `origin`.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    bytes: Range<i64>,
    id: NodeId,
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
            if held.id == wanted.id && held.origin == wanted.origin && held.bytes.contains(&at) {
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

/// The bytes of rows of a tensor that a binding shows; panics if it does not show all of them.
fn rows_shown(
    bound: &Bound,
    rows: Range<usize>,
    id: NodeId,
    shape: Shape,
    format: Format,
) -> (usize, Written) {
    let Bound::Slot { slot, bytes, start } = bound else {
        panic!("an activation is bound to {bound:?}");
    };
    let at = |row: usize| format.bytes(Shape::new(1, shape.c, row, shape.w)) as i64;
    let origin = bytes.start as i64 - i64::from(*start) * format.element_bytes() as i64;
    let shown = origin + at(rows.start)..origin + at(rows.end);
    assert!(
        shown.start >= bytes.start as i64 && shown.end <= bytes.end as i64,
        "rows {rows:?} of {shape} are not in {bound:?}"
    );
    let written = Written {
        bytes: shown,
        id,
        origin,
    };
    (*slot, written)
}

/// Walks through the plan's steps, and panics where one reads rows of its inputs that no step before it has
/// written, or that were written over, or where that is so of an output that is read back.
pub fn check_liveness(plan: &Plan, graph: &Graph) {
    let shapes = graph.shapes(plan.input.shape).unwrap();
    let mut memory = Memory(vec![Vec::new(); plan.slots.len()]);
    let input = Written {
        bytes: 0..plan.input.bytes() as i64,
        id: graph.input(),
        origin: 0,
    };
    memory.write(plan.input.slot, input);
    let mut done = vec![0; plan.outputs.len()];
    read_back(plan, 0, &memory, &mut done);
    for (i, step) in plan.steps.iter().enumerate() {
        check_step(plan, graph, &shapes, step, &mut memory);
        read_back(plan, i + 1, &memory, &mut done);
    }
    for (done, (id, place)) in done.iter().zip(&plan.outputs) {
        let name = &graph.node(*id).name;
        assert_eq!(*done, place.bytes() as i64, "{name} is not read back");
    }
}

fn check_step(plan: &Plan, graph: &Graph, shapes: &[Shape], step: &Step, memory: &mut Memory) {
    let name = &plan.layers[step.layer].name;
    let nodes: Vec<_> = name.split('+').map(|n| graph.find(n).unwrap()).collect();
    let (first, last) = (nodes[0], nodes[nodes.len() - 1]);
    let (output, read) = step.bindings.split_last().unwrap();
    let out = shapes[last.index()];
    for (bound, binding) in read.iter().zip(kernel(graph, shapes, first).bindings) {
        let Binding::Activation {
            input,
            format,
            rows,
        } = binding
        else {
            assert!(matches!(bound, Bound::Parameter(_)), "{name}: {bound:?}");
            continue;
        };
        let id = graph.node(first).inputs[input];
        assert!(!matches!(graph.node(id).kind, NodeKind::Parameter(_)));
        let shape = shapes[id.index()];
        let needed = rows.needed(step.rows.clone(), out.h, shape.h);
        let (slot, wanted) = rows_shown(bound, needed, id, shape, format);
        memory.read(slot, &wanted, name);
    }
    let format = kernel(graph, shapes, last).output;
    let (slot, written) = rows_shown(output, step.rows.clone(), last, out, format);
    memory.write(slot, written);
}

/// A kernel of a node's op: they all read the same rows, and write the same format.
fn kernel(graph: &Graph, shapes: &[Shape], id: NodeId) -> Kernel {
    let node = graph.node(id);
    let inputs: Vec<_> = node.inputs.iter().map(|i| shapes[i.index()]).collect();
    let kernels = node
        .op()
        .unwrap()
        .kernels(&inputs, &DeviceProfile::WEBGPU_DEFAULTS);
    kernels.unwrap().remove(0)
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
            id: *id,
        };
        *done += wanted.bytes.end - wanted.bytes.start;
        memory.read(place.slot, &wanted, "the host");
    }
}

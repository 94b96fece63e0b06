//! Checks for every plan: it keeps the device's limits and reads only what was written.

use fullconv::Shape;
use fullconv::low_level::device_profile::TEXEL_ROW_BYTES;
use fullconv::low_level::graph::{Graph, NodeId};
use fullconv::low_level::ops::kernel::Format;
use fullconv::low_level::plan::{Bound, Mirror, Plan, Step};
use fullconv::low_level::target::Target;
use fullconv::models::{ArchitectureOverride, Checkpoint, build};
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
    build(&checkpoint, &ArchitectureOverride::default())
        .unwrap()
        .graph
}

/// Panics unless every step of `plan` keeps the limits of `target`.
pub fn check_limits(plan: &Plan, target: &Target) {
    assert!(!plan.steps.is_empty());
    for bytes in &plan.slots {
        assert!(
            *bytes > 0 && *bytes <= target.device.max_buffer_bytes,
            "a slot of {bytes}"
        );
    }
    for parameter in &plan.parameters {
        let most = match parameter.texels {
            true => target.max_texel_bytes(),
            false => target
                .device
                .max_binding_bytes
                .min(target.device.max_buffer_bytes),
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
            step.bindings.len() <= target.device.max_storage_buffers as usize,
            "{layer}"
        );
        for groups in step.workgroups {
            assert!(
                (1..=target.device.max_workgroups_per_dimension).contains(&groups),
                "{layer}"
            );
        }
        for bound in &step.bindings {
            let Bound::Slot { slot, bytes, .. } = bound else {
                continue;
            };
            assert!(
                bytes.start % target.device.binding_alignment == 0,
                "{layer}: {bound:?}"
            );
            assert!(
                bytes.start < bytes.end && bytes.end <= plan.slots[*slot],
                "{layer}: {bound:?}"
            );
            assert!(
                bytes.end - bytes.start <= target.device.max_binding_bytes,
                "{layer}: {bound:?}"
            );
            assert!(bytes.end % 4 == 0, "{layer}: {bound:?}");
        }
        check_output_is_apart(&step.bindings, layer);
    }
    let texture = plan.mirror_bytes + TEXEL_ROW_BYTES;
    assert!(texture <= target.max_texel_bytes().max(TEXEL_ROW_BYTES));
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

/// Bytes of a buffer that hold a part of a tensor. The whole tensor would begin at `origin`.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    bytes: Range<i64>,
    tensor: NodeId,
    origin: i64,
}

/// The contents of the buffers during a run.
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

    /// Panics unless all of `wanted` was written and not overwritten.
    fn read(&self, slot: usize, wanted: &Written, what: &str) {
        let mut at = wanted.bytes.start;
        for held in &self.0[slot] {
            if held.tensor == wanted.tensor
                && held.origin == wanted.origin
                && held.bytes.contains(&at)
            {
                at = held.bytes.end;
            }
        }
        assert!(
            at >= wanted.bytes.end,
            "{what} reads {wanted:?} from a buffer with {:?}",
            self.0[slot]
        );
    }
}

/// The bytes of a tensor's rows in a buffer of which `bytes` are bound, with the tensor's first element at `start`.
/// Panics unless all these rows are bound.
fn rows_shown(
    (tensor, shape, format): (NodeId, Shape, Format),
    rows: Range<usize>,
    (bytes, start): (&Range<u64>, u32),
) -> Written {
    let at = |row: usize| format.bytes(Shape::new(1, shape.c, row, shape.w)) as i64;
    let origin = bytes.start as i64 - i64::from(start) * format.element_bytes() as i64;
    let shown = origin + at(rows.start)..origin + at(rows.end);
    assert!(
        shown.start >= bytes.start as i64 && shown.end <= bytes.end as i64,
        "rows {rows:?} of {shape} are not in {bytes:?} from {start}"
    );
    Written {
        bytes: shown,
        tensor,
        origin,
    }
}

/// Walks through the plan's steps. Panics if a step or a readback reads rows that no earlier step wrote or that were
/// overwritten.
pub fn check_liveness(plan: &Plan, graph: &Graph) {
    let mut memory = Memory(vec![Vec::new(); plan.slots.len()]);
    let input = Written {
        bytes: 0..plan.input.bytes() as i64,
        tensor: graph.input(),
        origin: 0,
    };
    memory.write(plan.input.slot, input);
    let mut done = vec![0; plan.outputs.len()];
    read_back(plan, 0, &memory, &mut done);
    let mut mirror = None;
    for (i, step) in plan.steps.iter().enumerate() {
        mirror = step.mirror.clone().or(mirror);
        check_step(plan, (step, mirror.as_ref()), &mut memory);
        read_back(plan, i + 1, &memory, &mut done);
    }
    for (done, (id, place)) in done.iter().zip(&plan.outputs) {
        let name = &graph.node(*id).name;
        assert_eq!(*done, place.bytes() as i64, "{name} is not read back");
    }
}

fn check_step(plan: &Plan, (step, mirror): (&Step, Option<&Mirror>), memory: &mut Memory) {
    let layer = &plan.layers[step.layer];
    let (output, bound) = step.bindings.split_last().unwrap();
    let mut reads = layer.reads.iter();
    for bound in bound {
        let (slot, bytes, start) = match bound {
            Bound::Parameter(_) => continue,
            Bound::Slot { slot, bytes, start } => (*slot, bytes, *start),
            Bound::Mirror { start } => {
                let mirror = mirror.unwrap();
                (mirror.slot, &mirror.bytes, *start)
            }
        };
        let read = reads.next().unwrap();
        let needed = read.rows.needed(step.rows.clone(), layer.shape, read.shape);
        let tensor = (read.tensor, read.shape, read.format);
        memory.read(
            slot,
            &rows_shown(tensor, needed, (bytes, start)),
            &layer.name,
        );
    }
    assert!(
        reads.next().is_none(),
        "{} has reads without a binding",
        layer.name
    );
    let Bound::Slot { slot, bytes, start } = output else {
        panic!("{} writes {output:?}", layer.name);
    };
    let tensor = (layer.writes, layer.shape, layer.format);
    memory.write(
        *slot,
        rows_shown(tensor, step.rows.clone(), (bytes, *start)),
    );
}

/// Checks the readbacks after `steps` steps; `done` counts the bytes of each output.
fn read_back(plan: &Plan, steps: usize, memory: &Memory, done: &mut [i64]) {
    for part in plan.read_backs.iter().filter(|part| part.after == steps) {
        let (id, place) = &plan.outputs[part.output];
        let bytes = part.bytes.start as i64..part.bytes.end as i64;
        let done = &mut done[part.output];
        let wanted = Written {
            origin: bytes.start - *done,
            bytes,
            tensor: *id,
        };
        *done += wanted.bytes.end - wanted.bytes.start;
        memory.read(place.slot, &wanted, "the host");
    }
}

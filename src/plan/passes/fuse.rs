//! Operations that run as one.

use crate::error::Result;
use crate::graph::{Fold, NodeId};
use crate::ops::Op;
use crate::ops::kernel::MAX_LOOP_STEPS;
use crate::plan::draft::{Draft, Operation, shapes_of};
use crate::plan::select::best_kernel;
use crate::plan::{lowered, split};
use std::sync::Arc;

/// Fuses operations where the device has a kernel for the result.
pub(super) fn fuse(draft: &mut Draft) -> Result<()> {
    let (target, shapes) = (draft.target, draft.shapes.clone());
    fuse_where(draft, |op, inputs| {
        let inputs = shapes_of(inputs, &shapes);
        best_kernel(op, &inputs, target).is_ok_and(|kernel| {
            let steps = kernel.steps_per_term.saturating_add(kernel.fixed_steps);
            steps <= MAX_LOOP_STEPS && split::is_short(op, &kernel, &inputs, target)
        })
    });
    Ok(())
}

/// Fuses an operation with the one that makes its first input if there is a rule, `runs` accepts the fused op, nothing
/// else reads the tensor between them, and that tensor is not an output.
pub(in crate::plan) fn fuse_where(draft: &mut Draft, runs: impl Fn(&dyn Op, &[NodeId]) -> bool) {
    let mut readers = vec![0; draft.graph.nodes().len()];
    let outputs = draft.outputs.iter();
    outputs.for_each(|id| readers[id.index()] += 1);
    for operation in &draft.operations {
        let inputs = operation.inputs.iter().enumerate();
        let read = inputs.filter(|(i, _)| operation.op.reads(*i));
        read.for_each(|(_, id)| readers[id.index()] += 1);
    }
    let mut operations: Vec<Operation> = Vec::with_capacity(draft.operations.len());
    for mut operation in std::mem::take(&mut draft.operations) {
        if let Some(first) = operation.inputs.first()
            && readers[first.index()] == 1
            && let Some(at) = operations.iter().position(|o| o.id == *first)
            && let Some((fused, inputs)) = fused(draft, &operations[at], &operation)
            && runs(fused.as_ref(), &inputs)
        {
            // The fused operation takes the place of its last node: all its inputs exist there.
            let before = operations.remove(at);
            operation.nodes.splice(0..0, before.nodes);
            operation.name = format!("{}+{}", before.name, operation.name);
            operation.op = fused;
            operation.inputs = inputs;
        }
        operations.push(operation);
    }
    draft.operations = operations;
}

/// The fused op of `before` and then `next`, and its inputs.
fn fused(
    draft: &Draft,
    before: &Operation,
    next: &Operation,
) -> Option<(Arc<dyn Op>, Vec<NodeId>)> {
    match draft.graph.fold(next.id) {
        // The folded parameters belong to a convolution that is not fused yet.
        Some(Fold { weight, bias }) => (before.nodes.len() == 1)
            .then(|| (before.op.clone(), vec![before.inputs[0], weight, bias])),
        None => {
            let fused = lowered::fuse(before.op.as_ref(), next.op.as_ref())?;
            Some((fused, [&before.inputs, &next.inputs[1..]].concat()))
        }
    }
}

//! Which nodes run, and which run as one.

use crate::graph::{Fold, Graph, Node, NodeId};
use crate::ops::Op;
use crate::ops::kernel::Kernel;
use std::sync::Arc;

/// One or more nodes computed by one op.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// The node whose value is written: the last of those fused.
    pub id: NodeId,
    /// All nodes it computes.
    pub nodes: Vec<NodeId>,
    /// The names of all nodes it computes, joined by `+`.
    pub name: String,
    /// The op.
    pub op: Arc<dyn Op>,
    /// What it is computed from.
    pub inputs: Vec<NodeId>,
    /// Its kernel, where that was chosen on the device.
    pub chosen: Option<Kernel>,
}

/// The operations that `outputs` need, in order. A node is fused with the one that makes its first input where
/// their ops can be and `runs` says yes to the first of them and the result, if nothing else reads what is between them and it is
/// not an output itself.
pub(super) fn operations(
    graph: &Graph,
    outputs: &[NodeId],
    runs: impl Fn(&dyn Op, &dyn Op, &[NodeId]) -> bool,
) -> Vec<Operation> {
    let reads = |node: &Node| -> Vec<NodeId> {
        let reads = |i| node.op().is_some_and(|op| op.reads(i));
        let inputs = node.inputs.iter().copied().enumerate();
        inputs
            .filter_map(|(i, id)| reads(i).then_some(id))
            .collect()
    };
    let mut readers = vec![0; graph.nodes().len()];
    outputs.iter().for_each(|id| readers[id.index()] += 1);
    for (id, node) in graph.iter().collect::<Vec<_>>().into_iter().rev() {
        if readers[id.index()] > 0 {
            let inputs = reads(node);
            debug_assert!(inputs.iter().all(|input| *input < id));
            inputs.iter().for_each(|i| readers[i.index()] += 1);
        }
    }

    let mut operations: Vec<Operation> = Vec::new();
    for (id, node) in graph.iter().filter(|(id, _)| readers[id.index()] > 0) {
        let Some(op) = node.op() else { continue };
        let mut operation = Operation {
            id,
            nodes: vec![id],
            name: node.name.clone(),
            op: op.clone(),
            inputs: node.inputs.clone(),
            chosen: None,
        };
        if let [first, others @ ..] = &node.inputs[..]
            && readers[first.index()] == 1
            && let Some(at) = operations.iter().position(|o| o.id == *first)
            && let Some((fused, inputs)) = fused(graph, &operations[at], id, op.as_ref(), others)
            && runs(operations[at].op.as_ref(), fused.as_ref(), &inputs)
        {
            // It runs where the last of its nodes stands, when all that it reads is there.
            let before = operations.remove(at);
            operation.nodes.splice(0..0, before.nodes);
            operation.name = format!("{}+{}", before.name, node.name);
            operation.op = fused;
            operation.inputs = inputs;
        }
        operations.push(operation);
    }
    operations
}

/// The op that does what `before` does and then `op`, which is node `id`, and its inputs; `others` are those of
/// `op` after the first.
fn fused(
    graph: &Graph,
    before: &Operation,
    id: NodeId,
    op: &dyn Op,
    others: &[NodeId],
) -> Option<(Arc<dyn Op>, Vec<NodeId>)> {
    match graph.fold(id) {
        // The parameters are those of a convolution that nothing was fused with.
        Some(Fold { weight, bias }) => (before.nodes.len() == 1)
            .then(|| (before.op.clone(), vec![before.inputs[0], weight, bias])),
        None => Some((before.op.fused_with(op)?, [&before.inputs, others].concat())),
    }
}

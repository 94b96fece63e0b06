//! Which nodes run, and which run as one.

use crate::graph::{Graph, NodeId};
use crate::ops::Op;
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
}

/// The operations that `outputs` need, in order. A node is fused with the next where its op can be, if
/// nothing else reads it and it is not an output itself.
pub(super) fn operations(graph: &Graph, outputs: &[NodeId]) -> Vec<Operation> {
    let mut needed = vec![false; graph.nodes().len()];
    outputs.iter().for_each(|id| needed[id.index()] = true);
    for (id, node) in graph.iter().collect::<Vec<_>>().into_iter().rev() {
        if needed[id.index()] {
            node.inputs.iter().for_each(|i| needed[i.index()] = true);
        }
    }
    let mut readers = vec![0; graph.nodes().len()];
    outputs.iter().for_each(|id| readers[id.index()] += 1);
    for (id, node) in graph.iter().filter(|(id, _)| needed[id.index()]) {
        debug_assert!(node.inputs.iter().all(|input| *input < id));
        node.inputs.iter().for_each(|i| readers[i.index()] += 1);
    }

    let mut operations: Vec<Operation> = Vec::new();
    for (id, node) in graph.iter().filter(|(id, _)| needed[id.index()]) {
        let Some(op) = node.op() else { continue };
        if let [input] = node.inputs[..]
            && readers[input.index()] == 1
            && let Some(before) = operations.iter_mut().find(|o| o.id == input)
            && let Some(fused) = before.op.fused_with(op.as_ref())
        {
            before.id = id;
            before.nodes.push(id);
            before.name = format!("{}+{}", before.name, node.name);
            before.op = fused;
        } else {
            operations.push(Operation {
                id,
                nodes: vec![id],
                name: node.name.clone(),
                op: op.clone(),
                inputs: node.inputs.clone(),
            });
        }
    }
    operations
}

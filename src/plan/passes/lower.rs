//! Turns each needed node into an operation of its lowered op.

use crate::error::Result;
use crate::graph::{Node, NodeId};
use crate::plan::draft::{Draft, Operation};
use crate::plan::lowered;

/// The operations that the outputs need, in order, each of one node.
pub(super) fn lower(draft: &mut Draft) -> Result<()> {
    lower_nodes(draft);
    Ok(())
}

/// The same, infallible.
pub(in crate::plan) fn lower_nodes(draft: &mut Draft) {
    let graph = draft.graph;
    let reads = |node: &Node, input: usize| node.op().is_some_and(|op| op.reads(input));
    let mut needed = vec![false; graph.nodes().len()];
    draft
        .outputs
        .iter()
        .for_each(|id| needed[id.index()] = true);
    for (id, node) in graph.iter().collect::<Vec<_>>().into_iter().rev() {
        if needed[id.index()] {
            let inputs = node.inputs.iter().enumerate();
            let inputs = inputs.filter(|(i, _)| reads(node, *i));
            inputs.for_each(|(_, input)| needed[input.index()] = true);
        }
    }
    let operation = |(id, node): (NodeId, &Node)| {
        Some(Operation {
            id,
            nodes: vec![id],
            name: node.name.clone(),
            op: lowered::lower_node(graph, node)?,
            inputs: node.inputs.clone(),
            kernel: None,
        })
    };
    let nodes = graph.iter().filter(|(id, _)| needed[id.index()]);
    draft.operations = nodes.filter_map(operation).collect();
}

//! A plan in progress: operations on tensors, which the passes transform.

use super::choices::Choices;
use crate::graph::{Graph, NodeId, NodeKind};
use crate::ops::Op;
use crate::ops::kernel::Kernel;
use crate::target::Target;
use crate::tensor::Shape;
use std::sync::Arc;

/// The name of a tensor without a node, in messages.
pub(super) const BETWEEN: &str = "a tensor between the stages of an operation";

/// One or more nodes computed by one op.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// The output tensor: the last of `nodes`, or a tensor without a node.
    pub id: NodeId,
    /// All nodes that the operation computes.
    pub nodes: Vec<NodeId>,
    /// The names of these nodes, joined by `+`.
    pub name: String,
    /// The op.
    pub op: Arc<dyn Op>,
    /// The input tensors.
    pub inputs: Vec<NodeId>,
    /// The kernel, after a pass has selected one.
    pub kernel: Option<Kernel>,
}

/// The state that the passes read and change.
pub(super) struct Draft<'a> {
    pub graph: &'a Graph,
    pub outputs: &'a [NodeId],
    pub target: &'a Target,
    pub choices: &'a Choices,
    /// Shapes of every node, then of the tensors without a node; a tensor's id is its position.
    pub shapes: Vec<Shape>,
    /// The first tensor between the stages of an operation; all later ones are of this kind.
    pub between: usize,
    /// The operations, in the order in which they run.
    pub operations: Vec<Operation>,
}

impl<'a> Draft<'a> {
    /// A draft without operations, for a graph whose nodes have these shapes.
    pub(super) fn new(
        graph: &'a Graph,
        shapes: Vec<Shape>,
        outputs: &'a [NodeId],
        target: &'a Target,
        choices: &'a Choices,
    ) -> Self {
        Self {
            graph,
            outputs,
            target,
            choices,
            between: shapes.len(),
            shapes,
            operations: Vec::new(),
        }
    }

    pub(super) fn shapes_of(&self, ids: &[NodeId]) -> Vec<Shape> {
        shapes_of(ids, &self.shapes)
    }

    /// Adds a tensor without a node.
    pub(super) fn add_tensor(&mut self, shape: Shape) -> NodeId {
        self.shapes.push(shape);
        NodeId(self.shapes.len() - 1)
    }

    pub(super) fn is_parameter(&self, id: NodeId) -> bool {
        let node = self.graph.nodes().get(id.index());
        node.is_some_and(|node| matches!(node.kind, NodeKind::Parameter(_)))
    }
}

/// The shapes of the tensors `ids`, of those of all tensors.
pub(super) fn shapes_of(ids: &[NodeId], shapes: &[Shape]) -> Vec<Shape> {
    ids.iter().map(|id| shapes[id.index()]).collect()
}

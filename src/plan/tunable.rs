//! The operations of a graph that the tuner can measure, each alone.

use super::choices::{Choice, Choices, key};
use super::draft::{Draft, Operation};
use super::select::{Lowering, candidates, chosen};
use super::{Plan, passes};
use crate::error::Result;
use crate::graph::{Graph, NodeId, NodeKind};
use crate::ops::Op;
use crate::target::Target;
use crate::tensor::Shape;
use std::collections::HashSet;
use std::sync::Arc;

/// An operation of a graph with several candidates.
#[derive(Clone, Debug)]
pub struct Tunable {
    /// The names of the operation's nodes, joined by `+`.
    pub name: String,
    /// The op.
    pub op: Arc<dyn Op>,
    /// The shapes of the op's inputs.
    pub inputs: Vec<Shape>,
    /// A graph of this op alone, under the operation's name. The graph's input has the first of `inputs`; the other
    /// inputs are parameters under their own names.
    pub graph: Graph,
    /// The candidates; the first is the one of a plan without choices.
    pub candidates: Vec<Lowering>,
}

impl Tunable {
    /// The plan of the operation alone with one of its candidates, for an input of shape `input`; `None` if the op has
    /// no such candidate at that size.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn plan(
        &self,
        candidate: &Lowering,
        input: Shape,
        target: &Target,
    ) -> Result<Option<Plan>> {
        let mut inputs = self.inputs.clone();
        inputs[0] = input;
        // The operation's padding was already cut in the whole graph's plan.
        let mut target = target.clone();
        target.options.whole_padding = true;
        let choice = Choice {
            kernel: candidate.description(),
            fingerprint: candidate.fingerprint(),
            microseconds: 0,
        };
        let mut only = Choices::default();
        only.insert(self.op.as_ref(), &inputs, &target, choice);
        if chosen(&only, &self.op, &inputs, &target).is_none() {
            return Ok(None);
        }
        let outputs = [self.graph.output()];
        Plan::with_choices(&self.graph, input, &outputs, &target, &only).map(Some)
    }
}

/// The operations of `graph` that the tuner can measure: sums of products of an activation and parameters, with
/// several candidates on the device. Each op comes once per shape, the most work first.
///
/// # Errors
/// As [`Plan::new`].
pub fn tunable(
    graph: &Graph,
    input: Shape,
    outputs: &[NodeId],
    target: &Target,
) -> Result<Vec<Tunable>> {
    let choices = Choices::default();
    let mut draft = Draft::new(graph, graph.shapes(input)?, outputs, target, &choices);
    passes::OPERATIONS
        .iter()
        .try_for_each(|pass| pass(&mut draft))?;
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for operation in std::mem::take(&mut draft.operations) {
        let inputs = draft.shapes_of(&operation.inputs);
        let op = &operation.op;
        if op.reduction_length(&inputs) == 1 || !seen.insert(key(op.as_ref(), &inputs, target)) {
            continue;
        }
        let Some(alone) = alone(graph, &operation)? else {
            continue;
        };
        let candidates = candidates(op, &inputs, target)?;
        if candidates.len() > 1 {
            found.push(Tunable {
                name: operation.name,
                op: operation.op,
                inputs,
                graph: alone,
                candidates,
            });
        }
    }
    found.sort_by_key(|tunable| std::cmp::Reverse(tunable.op.flops(&tunable.inputs)));
    Ok(found)
}

/// The graph of one operation; `None` unless its inputs are one activation and parameters.
fn alone(graph: &Graph, operation: &Operation) -> Result<Option<Graph>> {
    let Some((first, others)) = operation.inputs.split_first() else {
        return Ok(None);
    };
    let first = graph.nodes().get(first.index());
    if first.is_some_and(|node| matches!(node.kind, NodeKind::Parameter(_))) {
        return Ok(None);
    }
    let mut alone = Graph::new("");
    let mut ids = vec![alone.input()];
    for id in others {
        let Some(node) = graph.nodes().get(id.index()) else {
            return Ok(None);
        };
        let NodeKind::Parameter(shape) = node.kind else {
            return Ok(None);
        };
        ids.push(alone.parameter(node.name.as_str(), shape)?);
    }
    alone.shared_op(operation.name.as_str(), operation.op.clone(), &ids)?;
    Ok(Some(alone))
}

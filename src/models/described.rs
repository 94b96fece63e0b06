//! A network whose graph is described in its file, as in `docs/model-file.md`. All faults of the description are
//! reported at once.

mod stages;

use super::{Checkpoint, InputConvention, NetworkDefinition};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::graph::{Graph, NodeId};
use crate::ops::{self, Op};
use crate::size::Size;
use crate::tensor::Shape;
use serde::{Deserialize, Serialize};
use stages::Stages;
use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The name of networks with a graph in their file, in place of an architecture's.
const NAME: &str = "graph";
/// The most faults that a message lists.
const LISTED: usize = 50;

/// A graph as a file describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The name of the network's input.
    #[serde(default = "input")]
    input: String,
    /// The channels of the network's input; 3 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channels: Option<usize>,
    /// Height and width of the network's input, if it takes no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<[usize; 2]>,
    /// The node that holds the class scores.
    output: String,
    /// Class scores inside the network, at coarser strides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stages: Option<Stages>,
    /// The ops, in any order.
    nodes: Vec<Described>,
}

/// A node as a file describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    name: String,
    op: String,
    inputs: Vec<String>,
    #[serde(default)]
    attributes: serde_json::Map<String, serde_json::Value>,
}

fn input() -> String {
    "input".into()
}

impl Description {
    /// The only size of the network's input, if it has one.
    pub(crate) fn size(&self) -> Option<Size> {
        self.size.map(|[height, width]| Size::new(height, width))
    }

    /// The shape of an input that the network takes: its only one, or a square of `side`.
    fn nominal(&self, side: usize) -> Result<Shape> {
        let Size { height, width } = self.size().unwrap_or(Size::square(side));
        let shape = Shape::new(1, self.channels.unwrap_or(3), height, width);
        if shape.elements() == 0 || shape.check().is_err() {
            bail!(
                ModelFile,
                "graph: an input of {} channels and {height}x{width} pixels (height x width) is no picture",
                shape.c
            );
        }
        Ok(shape)
    }
}

/// Builds the graph of `description` on the tensors of `checkpoint`; a network of any size takes squares of `side`.
pub(super) fn build(
    checkpoint: &Checkpoint,
    description: &Description,
    side: usize,
) -> Result<NetworkDefinition> {
    let nominal = description.nominal(side)?;
    let mut faults = Faults::default();
    let ops = ops(description, checkpoint, &mut faults);
    let order = order(description, checkpoint, &mut faults);
    let mut graph = Graph::new(description.input.as_str());
    let mut ids = HashMap::from([(description.input.as_str(), graph.input())]);
    let mut shapes = HashMap::from([(graph.input(), nominal)]);
    for i in order {
        let node = &description.nodes[i];
        let broadcasts = ops[i].as_ref().is_some_and(|op| op.broadcasts());
        let inputs = node.inputs.iter().map(|name| match ids.get(name.as_str()) {
            Some(id) => Ok(Some(*id)),
            None if checkpoint.has(name) => {
                check_operand(broadcasts, checkpoint.dimensions(name)?)?;
                let shape = checkpoint.parameter_shape(name)?;
                let id = graph.parameter(name.as_str(), shape)?;
                shapes.insert(id, shape);
                ids.insert(name, id);
                Ok(Some(id))
            }
            // The fault of this input is already recorded.
            None => Ok(None),
        });
        let inputs: Result<Option<Vec<NodeId>>> = inputs.collect();
        let (Some(inputs), Some(op)) = (faults.of(node, inputs).flatten(), &ops[i]) else {
            continue;
        };
        let Some(id) = faults.of(
            node,
            graph.shared_op(node.name.as_str(), op.clone(), &inputs),
        ) else {
            continue;
        };
        ids.insert(&node.name, id);
        let known: Option<Vec<Shape>> = inputs.iter().map(|id| shapes.get(id).copied()).collect();
        let shape = known.and_then(|known| {
            let shape = op.output_shape(&known);
            faults.of(node, shape.and_then(|shape| shape.check().map(|()| shape)))
        });
        shapes.extend(shape.map(|shape| (id, shape)));
    }
    faults.none()?;
    // The output is an op, not the input or a tensor of the file.
    match graph.find_op(&description.output) {
        Ok(output) => graph.set_output(output),
        Err(_) => bail!(
            ModelFile,
            "graph: its output {:?} is no node",
            description.output
        ),
    }
    let (stages, stride) = match &description.stages {
        Some(stages) => stages.build(&graph, nominal)?,
        None => (Vec::new(), None),
    };
    Ok(NetworkDefinition {
        graph,
        architecture: NAME,
        channels: nominal.c,
        size: description.size(),
        geometry: None,
        bilinear: BTreeMap::new(),
        input_convention: InputConvention::Torchvision,
        stages,
        stride,
    })
}

/// An error for a broadcast operand with fewer than 4 dimensions: PyTorch would align them with the last dimensions,
/// but a tensor's shape here begins with the first.
fn check_operand(broadcasts: bool, dimensions: &[usize]) -> Result<()> {
    if broadcasts && dimensions.len() != 4 {
        bail!(
            ModelFile,
            "a tensor that it reads has {} dimensions, not 4: [1, c, 1, 1] for a number a channel",
            dimensions.len()
        );
    }
    Ok(())
}

/// The faults of a graph.
#[derive(Debug, Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, node: &Described, fault: impl std::fmt::Display) {
        self.0.push(format!("{} ({}): {fault}", node.name, node.op));
    }

    /// The value; or `None`, and the error becomes a fault of `node`.
    fn of<T>(&mut self, node: &Described, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(node, error);
                None
            }
        }
    }

    fn none(mut self) -> Result<()> {
        let count = self.0.len();
        if count > LISTED {
            self.0.truncate(LISTED);
            self.0.push(format!("and {} more", count - LISTED));
        }
        let text = match self.0.as_slice() {
            [] => return Ok(()),
            [one] => format!("graph: {one}"),
            all => format!("graph: {count} faults: {}", all.join("; ")),
        };
        Err(Error::new(ErrorKind::ModelFile, text))
    }
}

/// The op of each node, if it can be made.
fn ops(
    description: &Description,
    checkpoint: &Checkpoint,
    faults: &mut Faults,
) -> Vec<Option<Arc<dyn Op>>> {
    let mut seen: HashMap<&str, usize> = HashMap::from([(description.input.as_str(), 0)]);
    let op = |node: &Described| {
        let op = ops::from_name(&node.op, node.attributes.clone().into())?;
        if (op.as_ref() as &dyn Any).is::<ops::Preprocess>() {
            bail!(
                Unsupported,
                "preprocessing has an entry of its own in the metadata"
            );
        }
        Ok(op)
    };
    let mut all = Vec::with_capacity(description.nodes.len());
    for node in &description.nodes {
        *seen.entry(node.name.as_str()).or_default() += 1;
        if seen[node.name.as_str()] > 1 || node.name == description.input {
            faults.add(node, "the name is taken");
        } else if checkpoint.has(&node.name) {
            faults.add(node, "a tensor has the same name");
        }
        all.push(faults.of(node, op(node)));
    }
    all
}

/// The positions of the nodes, each after those that it reads; nodes that cannot be ordered are faults.
fn order(description: &Description, checkpoint: &Checkpoint, faults: &mut Faults) -> Vec<usize> {
    let nodes = &description.nodes;
    let position: HashMap<&str, usize> = nodes
        .iter()
        .enumerate()
        .map(|(i, node)| (node.name.as_str(), i))
        .collect();
    let mut waiting_for = vec![0; nodes.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        for name in &node.inputs {
            match position.get(name.as_str()) {
                Some(read) => {
                    waiting_for[i] += 1;
                    readers[*read].push(i);
                }
                None if *name == description.input || checkpoint.has(name) => {}
                None => faults.add(
                    node,
                    format_args!("it reads {name:?}, which is no node and no tensor of the file"),
                ),
            }
        }
    }
    let mut order = Vec::with_capacity(nodes.len());
    let mut ready: std::collections::BTreeSet<usize> =
        (0..nodes.len()).filter(|i| waiting_for[*i] == 0).collect();
    while let Some(i) = ready.pop_first() {
        order.push(i);
        for reader in &readers[i] {
            waiting_for[*reader] -= 1;
            if waiting_for[*reader] == 0 {
                ready.insert(*reader);
            }
        }
    }
    for (node, waiting) in nodes.iter().zip(waiting_for) {
        if waiting > 0 {
            faults.add(node, "it is part of a cycle, or depends on one");
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn checkpoint() -> Checkpoint {
        let tensor = |name: &str, shape: &[usize]| (name.to_owned(), shape.to_vec());
        [
            tensor("conv.weight", &[4, 3, 3, 3]),
            tensor("conv.bias", &[4]),
            tensor("score.weight", &[2, 4, 1, 1]),
            tensor("odd", &[2, 2, 2]),
            tensor("spare", &[1]),
        ]
        .into_iter()
        .collect()
    }

    fn built(nodes: serde_json::Value) -> Result<NetworkDefinition> {
        let description = json!({"output": "score", "nodes": nodes});
        let description = serde_json::from_value(description).unwrap();
        build(&checkpoint(), &description, 64)
    }

    #[test]
    fn nodes_stand_in_any_order_and_the_output_need_not_be_last() {
        let network = built(json!([
            {"name": "side", "op": "relu", "inputs": ["score"]},
            {"name": "score", "op": "conv2d", "inputs": ["relu", "score.weight"]},
            {"name": "relu", "op": "relu", "inputs": ["conv"]},
            {"name": "conv", "op": "conv2d", "inputs": ["input", "conv.weight", "conv.bias"],
             "attributes": {"padding": [1, 1], "stride": [2, 2]}},
        ]))
        .unwrap();
        let graph = network.graph;
        let shapes = graph.shapes(Shape::new(2, 3, 9, 7)).unwrap();
        assert_eq!(graph.node(graph.output()).name, "score");
        assert_eq!(shapes[graph.output().index()], Shape::new(2, 2, 5, 4));
        assert!(graph.find_op("side").is_ok());
    }

    #[test]
    fn all_faults_are_listed_by_node() {
        let error = built(json!([
            {"name": "a", "op": "fold", "inputs": ["input"]},
            {"name": "b", "op": "conv2d", "inputs": ["input", "nothing.weight"]},
            {"name": "c", "op": "relu", "inputs": ["d"]},
            {"name": "d", "op": "relu", "inputs": ["c"]},
            {"name": "e", "op": "relu", "inputs": ["input", "input"]},
            {"name": "f", "op": "conv2d", "inputs": ["input", "score.weight"]},
            {"name": "g", "op": "conv2d", "inputs": ["input", "conv.weight"], "attributes": {"strides": 2}},
            {"name": "g", "op": "relu", "inputs": ["input"]},
            {"name": "spare", "op": "relu", "inputs": ["input"]},
            {"name": "h", "op": "conv2d", "inputs": ["input", "odd"]},
            {"name": "i", "op": "add", "inputs": ["input", "conv.bias"]},
            {"name": "score", "op": "relu", "inputs": ["input"]},
        ]))
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ModelFile);
        let message = error.to_string();
        for expected in [
            "a (fold): unknown op \"fold\"",
            "b (conv2d): it reads \"nothing.weight\", which is no node and no tensor of the file",
            "c (relu): it is part of a cycle",
            "d (relu): it is part of a cycle",
            "e (relu): relu takes 1 inputs, not 2",
            "f (conv2d): a weight of shape [2, 4, 1, 1]",
            "g (conv2d): attributes of conv2d: unknown field `strides`",
            "g (relu): the name is taken",
            "spare (relu): a tensor has the same name",
            "h (conv2d): tensor odd has shape [2, 2, 2]",
            "i (add): a tensor that it reads has 1 dimensions",
        ] {
            assert!(
                message.contains(expected),
                "{expected} is not in:\n{message}"
            );
        }
        assert!(!message.contains("score ("), "{message}");
    }

    #[test]
    fn a_missing_output_is_an_error() {
        let error = built(json!([{"name": "a", "op": "relu", "inputs": ["input"]}])).unwrap_err();
        assert_eq!(error.to_string(), "graph: its output \"score\" is no node");
        // A tensor that a node reads is not a node either.
        let description = json!({"output": "conv.weight", "nodes": [
            {"name": "a", "op": "conv2d", "inputs": ["input", "conv.weight"]},
        ]});
        let description = serde_json::from_value(description).unwrap();
        let error = build(&checkpoint(), &description, 64).unwrap_err();
        assert_eq!(
            error.to_string(),
            "graph: its output \"conv.weight\" is no node"
        );
    }
}

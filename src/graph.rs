//! A network as nodes of ops, in the order they run. It knows shapes, not devices.

use crate::error::{Result, bail};
use crate::ops::Op;
use crate::tensor::Shape;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A node of one [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) usize);

/// The kind of a node.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// The network's input.
    Input,
    /// A weight or bias: a tensor of the model file, under the node's name.
    Parameter(Shape),
    /// An operation.
    Op(Arc<dyn Op>),
}

/// A named value and how it is computed.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its kind.
    pub kind: NodeKind,
    /// The nodes that it is computed from, in the order of the op's inputs.
    pub inputs: Vec<NodeId>,
}

impl Node {
    /// The op, unless this is an input or a parameter.
    pub fn op(&self) -> Option<&Arc<dyn Op>> {
        match &self.kind {
            NodeKind::Op(op) => Some(op),
            _ => None,
        }
    }
}

/// A network: one input, one output, and nodes, each after the nodes that it is computed from.
///
/// ```
/// use fullconv::low_level::graph::Graph;
/// use fullconv::low_level::ops::{Conv2d, Relu};
/// use fullconv::Shape;
///
/// let mut graph = Graph::new("input");
/// let weight = graph.parameter("conv.weight", Shape::new(8, 3, 3, 3))?;
/// let conv = graph.op("conv", Conv2d::padded(1), &[graph.input(), weight])?;
/// graph.op("relu", Relu {}, &[conv])?;
/// let shapes = graph.shapes(Shape::new(1, 3, 32, 48))?;
/// assert_eq!(shapes[graph.output().index()], Shape::new(1, 8, 32, 48));
/// # Ok::<(), fullconv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Graph {
    nodes: Vec<Node>,
    output: NodeId,
    folds: BTreeMap<NodeId, Fold>,
    diagonal: BTreeSet<NodeId>,
}

/// The parameters of one convolution that computes a convolution and the batch normalisation after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fold {
    /// The convolution's weight, scaled.
    pub weight: NodeId,
    /// The remaining bias.
    pub bias: NodeId,
}

impl NodeId {
    /// Position in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0
    }
}

impl Graph {
    /// A graph of one node, the input.
    pub fn new(input: impl Into<String>) -> Self {
        Self {
            nodes: vec![Node {
                name: input.into(),
                kind: NodeKind::Input,
                inputs: Vec::new(),
            }],
            output: NodeId(0),
            folds: BTreeMap::new(),
            diagonal: BTreeSet::new(),
        }
    }

    /// Adds a weight or bias of `shape`.
    ///
    /// # Errors
    /// `Request` if the name is taken.
    pub fn parameter(&mut self, name: impl Into<String>, shape: Shape) -> Result<NodeId> {
        self.push(name.into(), NodeKind::Parameter(shape), Vec::new())
    }

    /// Adds an op on `inputs`. It becomes the output, until another op is added.
    ///
    /// # Errors
    /// `Request` if the name is taken or an input is not of this graph.
    pub fn op(
        &mut self,
        name: impl Into<String>,
        op: impl Op + 'static,
        inputs: &[NodeId],
    ) -> Result<NodeId> {
        self.shared_op(name, Arc::new(op), inputs)
    }

    /// As [`Graph::op`], with an op that may be shared.
    ///
    /// # Errors
    /// As [`Graph::op`].
    pub fn shared_op(
        &mut self,
        name: impl Into<String>,
        op: Arc<dyn Op>,
        inputs: &[NodeId],
    ) -> Result<NodeId> {
        self.push(name.into(), NodeKind::Op(op), inputs.to_vec())
    }

    fn push(&mut self, name: String, kind: NodeKind, inputs: Vec<NodeId>) -> Result<NodeId> {
        if self.find(&name).is_some() {
            bail!(Request, "two nodes are called {name:?}");
        }
        if inputs.iter().any(|input| input.0 >= self.nodes.len()) {
            bail!(Request, "an input of {name:?} is not in this graph");
        }
        let id = NodeId(self.nodes.len());
        if let NodeKind::Op(_) = kind {
            self.output = id;
        }
        self.nodes.push(Node { name, kind, inputs });
        Ok(id)
    }

    /// Makes `id` the output.
    pub(crate) fn set_output(&mut self, id: NodeId) {
        self.output = id;
    }

    /// Adds the parameters that fold the batch normalisation at `id` into the convolution before it.
    pub(crate) fn add_fold(&mut self, id: NodeId, fold: Fold) {
        self.folds.insert(id, fold);
    }

    /// The parameters that fold the batch normalisation at `id` into the convolution before it, if it can be
    /// folded.
    pub fn fold(&self, id: NodeId) -> Option<Fold> {
        self.folds.get(&id).copied()
    }

    /// Marks the weight at `id`, `[c, c, kh, kw]`, as diagonal: zero wherever its first two indices differ.
    pub(crate) fn mark_diagonal(&mut self, id: NodeId) {
        self.diagonal.insert(id);
    }

    /// Whether the weight at `id` is known to be diagonal: zero wherever its first two indices differ.
    pub fn is_diagonal(&self, id: NodeId) -> bool {
        self.diagonal.contains(&id)
    }

    /// The input.
    pub fn input(&self) -> NodeId {
        NodeId(0)
    }

    /// The output: the last op, unless the model file names another; the input in a graph without
    /// ops.
    pub fn output(&self) -> NodeId {
        self.output
    }

    /// All nodes, each after the nodes that it is computed from.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The nodes with their ids, in order.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(i, n)| (NodeId(i), n))
    }

    /// The node called `name`.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|n| n.name == name).map(NodeId)
    }

    /// `name`, or if a node is called so, `name` with the first number that makes it free: `labels_1`.
    pub fn free_name(&self, name: &str) -> String {
        let numbered = (1..).map(|i| format!("{name}_{i}"));
        let mut names = std::iter::once(name.to_owned()).chain(numbered);
        names
            .find(|name| self.find(name).is_none())
            .unwrap_or_else(|| name.to_owned())
    }

    /// The op called `name`, for fetching its value.
    ///
    /// # Errors
    /// `Request`, with the names of all ops.
    pub fn find_op(&self, name: &str) -> Result<NodeId> {
        match self.find(name) {
            Some(id) if self.node(id).op().is_some() => Ok(id),
            _ => {
                let ops = self.nodes.iter().filter(|n| n.op().is_some());
                let names: Vec<_> = ops.map(|n| n.name.as_str()).collect();
                bail!(
                    Request,
                    "no node is called {name:?}; there are {}",
                    names.join(", ")
                )
            }
        }
    }

    /// The shape of every node for an input of shape `input`.
    ///
    /// # Errors
    /// The error of the op's shape rule, with the node's name and the shapes of its inputs.
    pub fn shapes(&self, input: Shape) -> Result<Vec<Shape>> {
        input.check()?;
        let mut shapes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let shape = match &node.kind {
                NodeKind::Input => input,
                NodeKind::Parameter(shape) => *shape,
                NodeKind::Op(op) => {
                    let inputs: Vec<_> = node.inputs.iter().map(|id| shapes[id.0]).collect();
                    op.output_shape(&inputs)
                        .and_then(|shape| shape.check().map(|()| shape))
                        .map_err(|error| error.at(format!("{} ({})", node.name, op.name())))?
                }
            };
            shapes.push(shape);
        }
        Ok(shapes)
    }

    /// The graph that first applies `op` to a new input called `input`, and then continues as this graph with the
    /// result.
    ///
    /// # Errors
    /// `Request` if `input` is the name of a node.
    pub fn after(&self, input: &str, op: impl Op + 'static) -> Result<Self> {
        let mut graph = Self::new(input);
        let first = graph.op(self.nodes[0].name.clone(), op, &[graph.input()])?;
        let moved = |id: NodeId| NodeId(id.0 + first.0);
        for node in &self.nodes[1..] {
            let inputs = node.inputs.iter().copied().map(moved);
            graph.push(node.name.clone(), node.kind.clone(), inputs.collect())?;
        }
        graph.output = moved(self.output);
        let folds = self.folds.iter().map(|(id, fold)| {
            let fold = Fold {
                weight: moved(fold.weight),
                bias: moved(fold.bias),
            };
            (moved(*id), fold)
        });
        graph.folds = folds.collect();
        graph.diagonal = self.diagonal.iter().copied().map(moved).collect();
        Ok(graph)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Add, Relu, Scale};

    #[test]
    fn a_wrong_shape_names_the_node_and_the_shapes() {
        let mut graph = Graph::new("input");
        let w = graph
            .parameter("score.weight", Shape::new(2, 5, 1, 1))
            .unwrap();
        let conv = crate::ops::Conv2d::default();
        graph.op("score", conv, &[graph.input(), w]).unwrap();
        let message = graph
            .shapes(Shape::new(1, 3, 4, 4))
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("score (conv2d): "), "{message}");
        assert!(
            message.contains("[2, 5, 1, 1]") && message.contains("[1, 3, 4, 4]"),
            "{message}"
        );
    }

    #[test]
    fn names_are_unique() {
        let mut graph = Graph::new("x");
        assert!(graph.op("x", Relu {}, &[graph.input()]).is_err());
    }

    #[test]
    fn a_free_name_is_the_name_itself_unless_it_is_taken() {
        let mut graph = Graph::new("x");
        assert_eq!(
            (&*graph.free_name("y"), &*graph.free_name("x")),
            ("y", "x_1")
        );
        graph.parameter("x_1", Shape::vector(3)).unwrap();
        assert_eq!(graph.free_name("x"), "x_2");
    }

    #[test]
    fn an_op_put_first_keeps_the_rest() {
        let mut graph = Graph::new("input");
        let a = graph.op("a", Relu {}, &[graph.input()]).unwrap();
        graph.op("b", Add {}, &[a, graph.input()]).unwrap();
        let graph = graph.after("picture", Scale { factor: 2.0 }).unwrap();
        let names: Vec<_> = graph.nodes().iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["picture", "input", "a", "b"]);
        assert_eq!(graph.nodes()[3].inputs, [NodeId(2), NodeId(1)]);
    }
}

//! Prepares a graph once, when a model is opened: marks the weights that are zero off their diagonal, and adds the
//! parameters with which a convolution also does the batch normalisation after it.

use crate::error::Result;
use crate::graph::{Fold, Graph, Node, NodeId, NodeKind};
use crate::ops::{BatchNorm2d, Conv2d, ConvTranspose2d, Op};
use crate::parameters::{Derived, Norm, Parameters};
use std::any::Any;
use std::collections::BTreeMap;

/// Marks the weights of transposed convolutions that are zero off their diagonal.
pub(super) fn mark_diagonal_weights(graph: &mut Graph, parameters: &Parameters) {
    let diagonal = |node: &Node| {
        // The kernels for groups read only the weights that they need anyway.
        op_of::<ConvTranspose2d>(node).filter(|op| op.groups == 1)?;
        let id = *node.inputs.get(1)?;
        let weight = graph.node(id);
        let NodeKind::Parameter(shape) = weight.kind else {
            return None;
        };
        let is_diagonal = parameters.get(&weight.name, shape).ok()?.is_diagonal();
        is_diagonal.then_some(id)
    };
    let found: Vec<_> = graph.nodes().iter().filter_map(diagonal).collect();
    found.into_iter().for_each(|id| graph.mark_diagonal(id));
}

/// For each convolution with a batch normalisation after it, adds the parameters that fold both into one convolution:
/// to the graph, and to `derived` their definition.
pub(super) fn add_folds(graph: &mut Graph, derived: &mut BTreeMap<String, Derived>) -> Result<()> {
    let found: Vec<_> = graph
        .iter()
        .filter_map(|(id, node)| Some((id, Folding::of(graph, node)?)))
        .collect();
    for (id, folding) in found {
        let Folding { conv, norm, bias } = folding;
        let weight = graph.node(conv).inputs[1];
        let NodeKind::Parameter(shape) = graph.node(weight).kind else {
            continue;
        };
        let weight = graph.node(weight).name.clone();
        let bias_shape = crate::tensor::Shape::vector(shape.n);
        let of = |what: &str| format!("{what} with {}", graph.node(id).name);
        let names = [
            of(&weight),
            of(&format!("bias of {}", graph.node(conv).name)),
        ];
        if names.iter().any(|name| graph.find(name).is_some()) {
            continue;
        }
        let fold = Fold {
            weight: graph.parameter(names[0].as_str(), shape)?,
            bias: graph.parameter(names[1].as_str(), bias_shape)?,
        };
        graph.add_fold(id, fold);
        let [name, bias_name] = names;
        let scaled = Derived::Scaled {
            weight,
            norm: norm.clone(),
        };
        derived.insert(name, scaled);
        derived.insert(bias_name, Derived::Shifted { bias, norm });
    }
    Ok(())
}

/// A convolution and the normalisation that follows it.
struct Folding {
    conv: NodeId,
    norm: Norm,
    /// The convolution's own bias.
    bias: Option<String>,
}

impl Folding {
    /// The folding of the normalisation `node`; `None` unless it follows a convolution and both have only parameters as
    /// further inputs.
    fn of(graph: &Graph, node: &Node) -> Option<Self> {
        let parameter = |id: &NodeId| {
            let node = graph.node(*id);
            matches!(node.kind, NodeKind::Parameter(_)).then(|| node.name.clone())
        };
        let norm = op_of::<BatchNorm2d>(node)?;
        let (conv, tensors) = node.inputs.split_first()?;
        let tensors: Option<Vec<_>> = tensors.iter().map(parameter).collect();
        op_of::<Conv2d>(graph.node(*conv))?;
        let conv_parameters = &graph.node(*conv).inputs.get(1..)?;
        let names: Option<Vec<_>> = conv_parameters.iter().map(parameter).collect();
        Some(Self {
            conv: *conv,
            norm: Norm {
                tensors: tensors?.try_into().ok()?,
                eps: f64::from(norm.eps),
            },
            bias: names?.into_iter().nth(1),
        })
    }
}

fn op_of<T: Op>(node: &Node) -> Option<&T> {
    let op: &dyn Any = node.op()?.as_ref();
    op.downcast_ref()
}

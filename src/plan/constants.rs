//! Parameters where operations read activations: copied into an activation's memory first.

use super::fuse::Operation;
use super::{best_kernel, precision};
use crate::device_profile::DeviceProfile;
use crate::error::{Result, bail};
use crate::graph::{Graph, NodeId, NodeKind};
use crate::ops::Constant;
use crate::ops::kernel::{Binding, Kernel};
use crate::tensor::Shape;
use std::collections::HashSet;
use std::sync::Arc;

/// `operations` and their kernels, with a [`Constant`] before the first that reads a parameter as an activation:
/// from there on the parameter's node has an activation's memory too.
///
/// # Errors
/// `Unsupported` if an operation reads what is computed as a weight.
pub(super) fn load(
    operations: Vec<(Operation, Kernel)>,
    graph: &Graph,
    shapes: &[Shape],
    device: &DeviceProfile,
) -> Result<Vec<(Operation, Kernel)>> {
    let is_parameter = |id: NodeId| {
        let node = graph.nodes().get(id.index());
        node.is_some_and(|node| matches!(node.kind, NodeKind::Parameter(_)))
    };
    let mut loaded: HashSet<NodeId> = HashSet::new();
    let mut all = Vec::with_capacity(operations.len());
    for (operation, kernel) in operations {
        let packed = kernel.bindings.iter().filter_map(Binding::parameter);
        for (input, _) in packed {
            if !is_parameter(operation.inputs[input]) {
                bail!(
                    Unsupported,
                    "{} ({}): input number {input} has to be a tensor of the model file, not what a node computes",
                    operation.name,
                    operation.op.name()
                );
            }
        }
        let read = kernel.bindings.iter().filter_map(Binding::activation);
        for (input, ..) in read {
            let id = operation.inputs[input];
            if !is_parameter(id) || !loaded.insert(id) {
                continue;
            }
            let constant = Operation {
                id,
                nodes: Vec::new(),
                name: graph.node(id).name.clone(),
                op: Arc::new(Constant {}),
                inputs: vec![id],
                chosen: None,
            };
            let kernel = best_kernel(constant.op.as_ref(), &[shapes[id.index()]], device)?;
            let kernel = precision::adapt(kernel, &constant, shapes.len(), device);
            all.push((constant, kernel));
        }
        all.push((operation, kernel));
    }
    Ok(all)
}

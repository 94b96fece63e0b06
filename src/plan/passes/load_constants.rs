//! Copies parameters to activation buffers where operations read them as activations.

use crate::error::{Result, bail};
use crate::ops::kernel::{Binding, Kernel};
use crate::plan::draft::{Draft, Operation};
use crate::plan::lowered::Constant;
use crate::plan::precision;
use crate::plan::select::best_kernel;
use std::collections::HashSet;
use std::sync::Arc;

/// Adds a [`Constant`] before the first operation that reads a parameter as an activation. From there on, the
/// parameter's node also has an activation buffer.
///
/// # Errors
/// `Unsupported` if an operation reads a computed tensor as a weight.
pub(super) fn load_constants(draft: &mut Draft) -> Result<()> {
    let mut loaded = HashSet::new();
    for operation in std::mem::take(&mut draft.operations) {
        let bindings = |kernel: &Kernel| kernel.bindings.clone();
        let bindings = operation.kernel.as_ref().map_or_else(Vec::new, bindings);
        for (input, _) in bindings.iter().filter_map(Binding::parameter) {
            if !draft.is_parameter(operation.inputs[input]) {
                bail!(
                    Unsupported,
                    "{} ({}): input number {input} must be a tensor of the model file, not the output of a node",
                    operation.name,
                    operation.op.name()
                );
            }
        }
        for (input, ..) in bindings.iter().filter_map(Binding::activation) {
            let id = operation.inputs[input];
            if !draft.is_parameter(id) || !loaded.insert(id) {
                continue;
            }
            let mut constant = Operation {
                id,
                nodes: Vec::new(),
                name: draft.graph.node(id).name.clone(),
                op: Arc::new(Constant {}),
                inputs: vec![id],
                kernel: None,
            };
            let kernel = best_kernel(constant.op.as_ref(), &draft.shapes_of(&[id]), draft.target)?;
            let nodes = draft.shapes.len();
            constant.kernel = Some(precision::adapt(kernel, &constant, nodes, draft.target));
            draft.operations.push(constant);
        }
        draft.operations.push(operation);
    }
    Ok(())
}

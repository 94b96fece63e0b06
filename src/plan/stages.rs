//! Operations that are faster as several, one after the other.

use super::choices::{Choices, Lowering};
use super::fuse::Operation;
use crate::device_profile::DeviceProfile;
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::StageInput;
use crate::tensor::Shape;

/// What messages call a tensor that no node of the graph stands for.
pub(super) const BETWEEN: &str = "a tensor between the stages of an operation";

/// `operations`, those that have stages on `device`, or for which `choices` say so, replaced by them. What a
/// stage leaves to the next is a tensor of no node: its shape is added to `shapes`, and its id is the position
/// there.
pub(super) fn expand(
    operations: Vec<Operation>,
    shapes: &mut Vec<Shape>,
    device: &DeviceProfile,
    choices: &Choices,
) -> Result<Vec<Operation>> {
    let mut expanded = Vec::with_capacity(operations.len());
    for operation in operations {
        let of = |ids: &[NodeId], shapes: &[Shape]| -> Vec<Shape> {
            ids.iter().map(|id| shapes[id.index()]).collect()
        };
        let inputs = of(&operation.inputs, shapes);
        let (stages, kernels) = match choices.candidate(&operation.op, &inputs, device) {
            Some(Lowering { stages, kernels }) => (stages, kernels),
            None => (operation.op.stages(&inputs, device), Vec::new()),
        };
        let last = stages.len().saturating_sub(1);
        if stages.is_empty() {
            expanded.push(operation);
            continue;
        }
        let mut ids = Vec::with_capacity(stages.len());
        for (i, stage) in stages.into_iter().enumerate() {
            let inputs: Vec<_> = stage
                .inputs
                .iter()
                .map(|input| match *input {
                    StageInput::Op(input) => operation.inputs[input],
                    StageInput::Stage(stage) => ids[stage],
                })
                .collect();
            let id = match i == last {
                true => operation.id,
                false => NodeId(shapes.len()),
            };
            if i < last {
                shapes.push(stage.op.output_shape(&of(&inputs, shapes))?);
            }
            ids.push(id);
            expanded.push(Operation {
                id,
                op: stage.op,
                inputs,
                chosen: kernels.get(i).cloned(),
                ..operation.clone()
            });
        }
    }
    Ok(expanded)
}

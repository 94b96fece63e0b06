//! Operations that run faster as stages, one after another.

use crate::error::Result;
use crate::ops::StageInput;
use crate::plan::draft::{Draft, Operation};
use crate::plan::select::{Lowering, chosen};

/// Replaces an operation by the stages that the choices name, else by its static stages on the device, if any. The
/// output of each stage except the last is a tensor without a node.
pub(super) fn expand_stages(draft: &mut Draft) -> Result<()> {
    draft.between = draft.shapes.len();
    for operation in std::mem::take(&mut draft.operations) {
        let inputs = draft.shapes_of(&operation.inputs);
        let chosen = chosen(draft.choices, &operation.op, &inputs, draft.target);
        let lowering = chosen.unwrap_or_else(|| Lowering {
            stages: operation.op.stages(&inputs, draft.target),
            kernels: Vec::new(),
        });
        match lowering.stages.is_empty() {
            true => draft.operations.push(operation),
            false => expand(draft, &operation, lowering)?,
        }
    }
    Ok(())
}

fn expand(draft: &mut Draft, operation: &Operation, lowering: Lowering) -> Result<()> {
    let Lowering { stages, kernels } = lowering;
    let last = stages.len() - 1;
    let mut ids = Vec::with_capacity(stages.len());
    for (i, stage) in stages.into_iter().enumerate() {
        let of = |input: &StageInput| match *input {
            StageInput::Op(input) => operation.inputs[input],
            StageInput::Stage(stage) => ids[stage],
        };
        let inputs: Vec<_> = stage.inputs.iter().map(of).collect();
        let id = match i == last {
            true => operation.id,
            false => draft.add_tensor(stage.op.output_shape(&draft.shapes_of(&inputs))?),
        };
        ids.push(id);
        draft.operations.push(Operation {
            id,
            op: stage.op,
            inputs,
            kernel: kernels.get(i).cloned(),
            ..operation.clone()
        });
    }
    Ok(())
}

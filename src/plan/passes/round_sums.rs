//! In f16 plans, sums of several dispatches stay f32 and are rounded once.

use crate::error::Result;
use crate::plan::draft::{Draft, Operation};
use crate::plan::lowered::{Activation, SumParts};
use crate::plan::select::best_kernel;
use crate::plan::{precision, split};
use std::sync::Arc;

/// Gives each operation whose sums take several dispatches a second stage, which rounds them.
pub(super) fn round_sums(draft: &mut Draft) -> Result<()> {
    if !draft.target.options.half {
        return Ok(());
    }
    for operation in std::mem::take(&mut draft.operations) {
        if runs(draft, &operation) == 1 {
            draft.operations.push(operation);
            continue;
        }
        let output = draft.shapes[operation.id.index()];
        let sums = draft.add_tensor(output.with_channels(4 * output.c4()));
        let round = Operation {
            op: Arc::new(SumParts {
                parts: 1,
                channels: output.c,
                activation: Activation::None,
                pool: None,
            }),
            inputs: vec![sums],
            kernel: None,
            ..operation.clone()
        };
        draft.operations.push(Operation {
            id: sums,
            ..operation
        });
        draft.operations.push(round);
    }
    Ok(())
}

/// The number of dispatches for an operation's sums (runs of terms); 1 if the output stays f32 in any case.
fn runs(draft: &Draft, operation: &Operation) -> usize {
    if operation.id.index() >= draft.between {
        return 1;
    }
    let (op, target) = (operation.op.as_ref(), draft.target);
    let inputs = draft.shapes_of(&operation.inputs);
    let best = || best_kernel(op, &inputs, target);
    // The pass `select_kernels` reports a missing kernel.
    let Ok(kernel) = operation.kernel.clone().map_or_else(best, Ok) else {
        return 1;
    };
    let kernel = precision::adapt(kernel, operation, draft.between, target);
    let output = draft.shapes[operation.id.index()];
    split::runs(op, &kernel, &inputs, output, target).unwrap_or(1)
}

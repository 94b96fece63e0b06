//! Selects a kernel for each operation without one, in the target's precision.

use crate::error::Result;
use crate::plan::draft::{Draft, shapes_of};
use crate::plan::precision;
use crate::plan::select::best_kernel;

/// Gives each operation its kernel.
pub(super) fn select_kernels(draft: &mut Draft) -> Result<()> {
    let (shapes, target, between) = (&draft.shapes, draft.target, draft.between);
    for operation in &mut draft.operations {
        let inputs = shapes_of(&operation.inputs, shapes);
        let best = || best_kernel(operation.op.as_ref(), &inputs, target);
        let kernel = operation.kernel.take().map_or_else(best, Ok);
        let kernel = kernel
            .map_err(|error| error.at(format!("{} ({})", operation.name, operation.op.name())))?;
        operation.kernel = Some(precision::adapt(kernel, operation, between, target));
    }
    Ok(())
}

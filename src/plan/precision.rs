//! Plans that keep activations and weights in f16: partial sums stay f32.

use super::draft::Operation;
use crate::graph::NodeId;
use crate::ops::kernel::{Binding, Format, Kernel};
use crate::target::Target;

/// `kernel` of `operation` in the precision of `device`. Tensors from `between` on lie between the stages of an
/// operation: partial sums, in f32.
pub(super) fn adapt(
    kernel: Kernel,
    operation: &Operation,
    between: usize,
    target: &Target,
) -> Kernel {
    if !target.options.half {
        return kernel.decided();
    }
    let is_sum = |id: NodeId| id.index() >= between;
    let activations = kernel.bindings.iter().filter_map(Binding::activation);
    // What a kernel reads in `Nhwc4Exact` is f32 in any case.
    let lowered = activations.filter(|(_, format, _)| *format == Format::Nhwc4);
    let mut read = lowered.map(|(input, ..)| operation.inputs[input]);
    let reads_sums = read.any(is_sum);
    kernel.in_half(reads_sums, is_sum(operation.id)).decided()
}

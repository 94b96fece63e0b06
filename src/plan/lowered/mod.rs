//! The ops that only planning makes: lowered ops of model files, fused ops, and ops between them. Each is an [`Op`]
//! with its reference implementation, its kernels and its cases.

mod add_relu;
mod argmax;
mod constant;
mod conv2d;
mod conv_transpose2d;
mod paste;
mod zeros;

pub use add_relu::AddRelu;
pub use argmax::{FusedArgmax, Scores};
pub use constant::Constant;
pub use conv_transpose2d::TransposedConvolution;
pub use conv2d::{Activation, Convolution, SumParts};
pub use paste::{Paste, PasteAxis};
pub use zeros::Zeros;

use crate::graph::{Graph, Node};
use crate::ops::kernel::{Binding, Packing};
use crate::ops::{self, Case, Op};
use std::sync::Arc;

/// The lowered form of an op; the op itself if it has kernels of its own.
pub fn lower(op: &Arc<dyn Op>) -> Arc<dyn Op> {
    lower_with(op, false)
}

/// The lowered form of a node's op, with the graph's knowledge of its weight; `None` if the node has no op.
pub fn lower_node(graph: &Graph, node: &Node) -> Option<Arc<dyn Op>> {
    let weight = node.inputs.get(1);
    let diagonal = weight.is_some_and(|weight| graph.is_diagonal(*weight));
    Some(lower_with(node.op()?, diagonal))
}

fn lower_with(op: &Arc<dyn Op>, diagonal: bool) -> Arc<dyn Op> {
    if let Some(convolution) = conv2d::lower(op.as_ref()) {
        return Arc::new(convolution);
    }
    match conv_transpose2d::lower(op.as_ref(), diagonal) {
        Some(convolution) => Arc::new(convolution),
        None => op.clone(),
    }
}

/// A rule that fuses two ops, if the output of the first is the first input of the second.
type Fusion = fn(&dyn Op, &dyn Op) -> Option<Arc<dyn Op>>;

const FUSIONS: [Fusion; 4] = [
    add_relu::fuse,
    argmax::fuse,
    conv2d::fuse,
    conv_transpose2d::fuse,
];

/// The fused op of `before` and `next`, whose first input is the output of `before`; `None` without a rule. Its inputs
/// are those of `before`, then the others of `next`.
pub(super) fn fuse(before: &dyn Op, next: &dyn Op) -> Option<Arc<dyn Op>> {
    FUSIONS.iter().find_map(|fuse| fuse(before, next))
}

/// The cases of all planned ops: those of model files, lowered, and those that only planning makes.
pub fn cases() -> Vec<Case> {
    let lowered = |case: Case| Case {
        op: lower(&case.op),
        ..case
    };
    let of_planning = [
        add_relu::cases,
        argmax::cases,
        constant::cases,
        conv2d::cases,
        conv_transpose2d::cases,
        paste::cases,
        zeros::cases,
    ];
    let of_planning = of_planning.iter().flat_map(|cases| cases());
    let of_files = ops::cases().into_iter().map(lowered);
    of_files.chain(of_planning).collect()
}

/// The binding of the bias: input number `position` if `given`, else zeros for `channels` channels.
fn bias_binding(given: bool, position: usize, channels: usize) -> Binding {
    match given {
        true => Binding::Parameter {
            input: position,
            packing: Packing::Vector,
        },
        false => Binding::Zeros { channels },
    }
}

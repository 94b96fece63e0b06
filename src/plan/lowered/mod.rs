//! The operations that planning alone makes: what a model file's operations become, several as one, and what stands
//! between them. Each is an [`Op`] with its reference implementation, its kernels and its cases.

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
pub use conv2d::{Convolution, SumParts};
pub use paste::{Paste, PasteAxis};
pub use zeros::Zeros;

use crate::graph::{Graph, Node};
use crate::ops::kernel::{Binding, Packing};
use crate::ops::{self, Case, Op};
use std::sync::Arc;

/// What planning makes of an op on its own: the op itself, unless its kernels are those of a lowered one.
pub fn lower(op: &Arc<dyn Op>) -> Arc<dyn Op> {
    lower_with(op, false)
}

/// The same of the op at a node, with what the graph knows of its weight; none where the node has no op.
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

/// One op that does the first and then the second, whose first input is what the first makes.
type Fusion = fn(&dyn Op, &dyn Op) -> Option<Arc<dyn Op>>;

const FUSIONS: [Fusion; 4] = [
    add_relu::fuse,
    argmax::fuse,
    conv2d::fuse,
    conv_transpose2d::fuse,
];

/// One op that does `before` and then `next`, whose first input is what `before` makes, if there is one. Its inputs are
/// those of `before`, then the others of `next`.
pub(super) fn fuse(before: &dyn Op, next: &dyn Op) -> Option<Arc<dyn Op>> {
    FUSIONS.iter().find_map(|fuse| fuse(before, next))
}

/// The cases of all ops that are planned: those of model files, lowered, and those that planning alone makes.
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

/// The bias, input number `position`, or zeros for `channels` where it is not given.
fn bias_binding(given: bool, position: usize, channels: usize) -> Binding {
    match given {
        true => Binding::Parameter {
            input: position,
            packing: Packing::Vector,
        },
        false => Binding::Zeros { channels },
    }
}

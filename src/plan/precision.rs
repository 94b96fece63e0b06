//! Plans that keep activations and weights in f16: which tensors stay f32, since they are sums under way.

use super::fuse::Operation;
use super::{best_kernel, shapes_of, split};
use crate::device_profile::DeviceProfile;
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::conv2d::SumParts;
use crate::ops::kernel::{Binding, Kernel};
use crate::tensor::Shape;
use std::sync::Arc;

/// `kernel`, which runs `operation`, as `device` is to keep values. Tensors from `between` on lie between the
/// stages of an operation: sums under way, in f32.
pub(super) fn adapt(
    kernel: Kernel,
    operation: &Operation,
    between: usize,
    device: &DeviceProfile,
) -> Kernel {
    if !device.half {
        return kernel.decided();
    }
    let is_sum = |id: NodeId| id.index() >= between;
    let activations = kernel.bindings.iter().filter_map(Binding::activation);
    let mut read = activations.map(|(input, ..)| operation.inputs[input]);
    let reads_sums = read.any(is_sum);
    kernel.in_half(reads_sums, is_sum(operation.id)).decided()
}

/// `operations`, where values are kept in f16 each that adds up its sums in several dispatches in two stages:
/// the sums are left in f32, and then rounded once.
pub(super) fn keep_sums(
    operations: Vec<Operation>,
    between: usize,
    shapes: &mut Vec<Shape>,
    device: &DeviceProfile,
) -> Result<Vec<Operation>> {
    if !device.half {
        return Ok(operations);
    }
    let mut all = Vec::with_capacity(operations.len());
    for operation in operations {
        let inputs = shapes_of(&operation.inputs, shapes);
        let output = shapes[operation.id.index()];
        let is_node = operation.id.index() < between;
        // Where there is no kernel, that is an error in its own place.
        let best = || best_kernel(operation.op.as_ref(), &inputs, device);
        let runs = match operation.chosen.clone().map_or_else(best, Ok) {
            Ok(kernel) if is_node => {
                let kernel = adapt(kernel, &operation, between, device);
                split::runs(operation.op.as_ref(), &kernel, &inputs, output, device).unwrap_or(1)
            }
            _ => 1,
        };
        if runs == 1 {
            all.push(operation);
            continue;
        }
        let sums = NodeId(shapes.len());
        shapes.push(output.with_channels(4 * output.c4()));
        let round = Operation {
            op: Arc::new(SumParts {
                parts: 1,
                channels: output.c,
                relu: false,
                pool: None,
            }),
            inputs: vec![sums],
            chosen: None,
            ..operation.clone()
        };
        all.push(Operation {
            id: sums,
            ..operation
        });
        all.push(round);
    }
    Ok(all)
}

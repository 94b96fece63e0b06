//! Large paddings, cut away.
//!
//! Some networks pad the input of their first convolution widely (FCN-8s by 100 pixels a side). Most of what the first
//! stages compute then sees only zeros and depends on the weights alone. Far from the edges this part is constant.
//! Within a few pixels of the edges there is a *frame*: later convolutions pad with zeros where values are not zero. So
//! these stages run with the least padding that keeps the frame apart from the part that sees the picture, and once
//! more on a small tensor of zeros, for the frame. [`Paste`] puts the two together. The values are those of the whole
//! network: the same sums of the same numbers.

use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::{Op, Window};
use crate::plan::draft::{Draft, Operation, shapes_of};
use crate::plan::lowered::{Paste, PasteAxis, Zeros};
use crate::tensor::Shape;
use std::sync::Arc;

/// The least padding that is worth cutting.
const LEAST_PADDING: usize = 16;

/// A sliding window along one axis, and the sizes of its input and output.
#[derive(Clone, Copy)]
struct WindowStep {
    size: usize,
    stride: usize,
    padding: usize,
    inputs: usize,
    outputs: usize,
}

/// A tensor of the chain along one axis.
#[derive(Clone, Copy)]
struct Axis {
    /// Pixels of the input from one position to the next.
    stride: usize,
    /// The positions that see the input: the first, and one past the last.
    seen: [usize; 2],
    /// Positions at the beginning and at the end that see padding around values that are not zero.
    frame: [usize; 2],
    size: usize,
}

/// Follows one axis through `steps`. The first step pads the input, and all of the input counts as seen.
fn follow(steps: &[WindowStep]) -> Axis {
    let first_inputs = steps.first().map_or(0, |step| step.inputs);
    let (mut stride, mut offset, mut reach) = (1, 0, 1);
    let mut frame = [0usize; 2];
    for (i, step) in steps.iter().enumerate() {
        offset += step.padding * stride;
        reach += (step.size - 1) * stride;
        stride *= step.stride;
        if i == 0 {
            // No frame: the padding is zero, and so is the input that the frame is computed from.
            continue;
        }
        let near = (frame[0] + step.padding).div_ceil(step.stride);
        // The first output that sees the frame at the end, or padding past it.
        let end = (step.inputs - frame[1] + step.padding + 1).saturating_sub(step.size);
        let first = end.div_ceil(step.stride).min(step.outputs);
        frame = [near.min(step.outputs), step.outputs - first];
    }
    // Position x sees the input's pixels x · stride − offset … + reach − 1.
    let begin = (offset + 1).saturating_sub(reach).div_ceil(stride);
    let end = (first_inputs + offset).div_ceil(stride);
    Axis {
        stride,
        seen: [begin, end],
        frame,
        size: steps.last().map_or(0, |step| step.outputs),
    }
}

/// A run of operations that begins with a padded one; each reads windows of the one before it.
struct Chain {
    /// The positions of the chain's operations.
    at: Vec<usize>,
    /// The windows of each operation: several if it is fused.
    windows: Vec<Vec<Window>>,
}

impl Chain {
    /// The steps along `axis` for an input of `size` with the first `padding`; `None` where a window does not fit.
    fn steps(&self, axis: usize, size: usize, padding: usize) -> Option<Vec<WindowStep>> {
        let mut inputs = size;
        let mut steps = Vec::with_capacity(self.windows.len());
        for (i, window) in self.windows.iter().flatten().enumerate() {
            let padding = if i == 0 {
                padding
            } else {
                window.padding[axis]
            };
            let outputs = window.outputs(axis, inputs, padding)?;
            steps.push(WindowStep {
                size: window.size[axis],
                stride: window.stride[axis],
                padding,
                inputs,
                outputs,
            });
            inputs = outputs;
        }
        Some(steps)
    }

    /// The least padding along `axis` that gives the same inside, the size of the zeros that give the same
    /// frame, and the axis that puts the two together.
    fn cut(&self, axis: usize, size: usize) -> Option<(usize, usize, PasteAxis)> {
        let padding = self.windows.first()?.first()?.padding[axis];
        let whole = follow(&self.steps(axis, size, padding)?);
        let [near, far] = whole.frame;
        let candidates = (0..padding).filter(|less| (padding - less).is_multiple_of(whole.stride));
        let apart = |less: usize| {
            let part = follow(&self.steps(axis, size, less)?);
            let [begin, end] = part.seen;
            let inside = part.frame[0] <= begin && end + part.frame[1] <= part.size;
            let inside = inside && part.frame == whole.frame;
            inside.then_some((less, part))
        };
        let (less, part) = candidates.into_iter().find_map(apart)?;
        let shift = (padding - less) / whole.stride;
        let paste = PasteAxis {
            size: whole.size,
            begin: near + shift,
            end: part.size - far + shift,
            shift,
            near,
            far,
        };
        // Zeros without padding: their size differs from the padded input's by whole strides.
        let all = size + 2 * padding;
        let zeros = (1..all)
            .filter(|zeros| (all - zeros).is_multiple_of(whole.stride))
            .find(|zeros| {
                let steps = self.steps(axis, *zeros, 0);
                steps
                    .map(|steps| follow(&steps))
                    .is_some_and(|frame| frame.frame == whole.frame && frame.size > near + far)
            })?;
        Some((less, zeros, paste))
    }
}

/// Replaces operations with needlessly large outputs, due to a large padding.
pub(super) fn cut_padding(draft: &mut Draft) -> Result<()> {
    if draft.target.options.whole_padding {
        return Ok(());
    }
    let Some(chain) = chain(draft) else {
        return Ok(());
    };
    let flops = |operations: &[Operation], shapes: &[Shape]| -> u64 {
        let of = |o: &Operation| o.op.flops(&shapes_of(&o.inputs, shapes));
        operations.iter().map(of).sum()
    };
    let mut least = flops(&draft.operations, &draft.shapes);
    let mut best = None;
    for length in 1..=chain.at.len() {
        let part = Chain {
            at: chain.at[..length].to_vec(),
            windows: chain.windows[..length].to_vec(),
        };
        let mut with_new = draft.shapes.clone();
        if let Some(new) = replace(&draft.operations, &part, &mut with_new)? {
            let cost = flops(&new, &with_new);
            if cost < least {
                least = cost;
                best = Some((new, with_new));
            }
        }
    }
    if let Some(best) = best {
        (draft.operations, draft.shapes) = best;
    }
    Ok(())
}

/// The first padded operation, and the operations after it that read only the one before them and parameters.
fn chain(draft: &Draft) -> Option<Chain> {
    let operations = &draft.operations;
    let windows = |o: &Operation| {
        let mut others = o.inputs.iter().skip(1);
        let one_activation = others.all(|id| draft.is_parameter(*id));
        let windows = o.op.windows(&draft.shapes_of(&o.inputs));
        (one_activation && !windows.is_empty()).then_some(windows)
    };
    let is_padded = |windows: Vec<Window>| windows[0].padding.iter().any(|p| *p >= LEAST_PADDING);
    let first = operations
        .iter()
        .position(|o| windows(o).is_some_and(is_padded) && o.op.with_padding([0, 0]).is_some())?;
    let mut chain = Chain {
        at: vec![first],
        windows: vec![windows(&operations[first])?],
    };
    let mut last = operations[first].id;
    while !draft.outputs.contains(&last) {
        let mut readers = (0..operations.len()).filter(|i| operations[*i].inputs.contains(&last));
        let (Some(next), None) = (readers.next(), readers.next()) else {
            break;
        };
        let Some(windows) = windows(&operations[next]) else {
            break;
        };
        chain.at.push(next);
        chain.windows.push(windows);
        last = operations[next].id;
    }
    Some(chain)
}

/// The operations with `chain` cut, or `None` if it cannot be cut.
fn replace(
    operations: &[Operation],
    chain: &Chain,
    shapes: &mut Vec<Shape>,
) -> Result<Option<Vec<Operation>>> {
    let (first, last) = (chain.at[0], chain.at[chain.at.len() - 1]);
    let input = operations[first].inputs[0];
    let size = shapes[input.index()];
    let (Some(rows), Some(columns)) = (chain.cut(0, size.h), chain.cut(1, size.w)) else {
        return Ok(None);
    };
    let less = |padding| operations[first].op.with_padding(padding);
    let (Some(inside), Some(frame)) = (less([rows.0, columns.0]), less([0, 0])) else {
        return Ok(None);
    };
    let mut new = Vec::with_capacity(operations.len() + chain.at.len() + 2);
    new.extend_from_slice(&operations[..first]);
    let zeros = Zeros {
        size: [rows.1, columns.1],
    };
    let frame_of = |operation: &Operation| Operation {
        name: format!("frame of {}", operation.name),
        ..operation.clone()
    };
    let model = frame_of(&operations[first]);
    let zeros = add(&mut new, shapes, &model, Arc::new(zeros), vec![input])?;
    let mut ends = Vec::with_capacity(2);
    for (begin, op) in [(zeros, frame), (input, inside)] {
        let is_frame = begin == zeros;
        let mut end = begin;
        for (i, at) in chain.at.iter().enumerate() {
            let operation = match is_frame {
                true => frame_of(&operations[*at]),
                false => operations[*at].clone(),
            };
            let mut inputs = operation.inputs.clone();
            inputs[0] = end;
            let op = if i == 0 {
                op.clone()
            } else {
                operation.op.clone()
            };
            end = add(&mut new, shapes, &operation, op, inputs)?;
        }
        ends.insert(0, end);
    }
    new.push(Operation {
        op: Arc::new(Paste {
            axes: [rows.2, columns.2],
        }),
        inputs: ends,
        ..operations[last].clone()
    });
    let others = (first..operations.len()).filter(|i| !chain.at.contains(i));
    new.extend(others.map(|i| operations[i].clone()));
    Ok(Some(new))
}

/// Adds an operation like `model`, whose output has no node.
fn add(
    operations: &mut Vec<Operation>,
    shapes: &mut Vec<Shape>,
    model: &Operation,
    op: Arc<dyn Op>,
    inputs: Vec<NodeId>,
) -> Result<NodeId> {
    let id = NodeId(shapes.len());
    shapes.push(op.output_shape(&shapes_of(&inputs, shapes))?);
    operations.push(Operation {
        id,
        op,
        inputs,
        ..model.clone()
    });
    Ok(id)
}

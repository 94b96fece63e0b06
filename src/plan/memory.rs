//! Activation buffers by liveness: a tensor takes over the buffer of one that nobody reads any more.
//!
//! A dispatch may not read and write one buffer, so a tensor has a buffer to itself while it lives.

use super::Place;
use super::fuse::Operation;
use crate::device_profile::DeviceProfile;
use crate::error::{Error, ErrorKind};
use crate::graph::{Graph, NodeId};
use crate::ops::kernel::{Binding, Format, Kernel};
use crate::tensor::Shape;
use std::collections::HashMap;

/// A tensor larger than any buffer of the device.
pub(super) struct TooLarge {
    id: NodeId,
    shape: Shape,
    bytes: u64,
    most: u64,
}

impl TooLarge {
    /// The error, with the tensor's name in `graph`.
    pub(super) fn at(&self, graph: &Graph) -> Error {
        let node = graph.nodes().get(self.id.index());
        let message = format!(
            "{} of shape {} takes {} MiB; the device's buffers hold at most {} MiB: use a smaller picture \
             or batch",
            node.map_or(super::stages::BETWEEN, |node| &node.name),
            self.shape,
            self.bytes.div_ceil(1 << 20),
            self.most >> 20
        );
        Error::new(ErrorKind::Limit, message)
    }
}

/// Every activation's place, and the sizes of the buffers.
pub(super) struct Places {
    pub of: HashMap<NodeId, Place>,
    pub slots: Vec<u64>,
}

/// The activations that a kernel reads.
fn reads<'a>(operation: &'a Operation, kernel: &'a Kernel) -> impl Iterator<Item = NodeId> + 'a {
    let read = kernel.bindings.iter().filter_map(Binding::activation);
    read.map(|(input, _, _)| operation.inputs[input])
}

pub(super) fn places(
    operations: &[Operation],
    kernels: &[Kernel],
    formats: &HashMap<NodeId, Format>,
    shapes: &[Shape],
    outputs: &[NodeId],
    device: &DeviceProfile,
) -> Result<Places, TooLarge> {
    let mut last_read: HashMap<NodeId, usize> = HashMap::new();
    for (i, (operation, kernel)) in operations.iter().zip(kernels).enumerate() {
        reads(operation, kernel).for_each(|id| {
            last_read.insert(id, i);
        });
    }
    outputs.iter().for_each(|id| {
        last_read.insert(*id, usize::MAX);
    });

    let mut places = Places {
        of: HashMap::new(),
        slots: Vec::new(),
    };
    let mut free: Vec<usize> = Vec::new();
    let input = NodeId(0);
    places.put(input, formats[&input], shapes, &mut free, device)?;
    for (i, (operation, kernel)) in operations.iter().zip(kernels).enumerate() {
        places.put(operation.id, kernel.output, shapes, &mut free, device)?;
        let mut dead: Vec<usize> = reads(operation, kernel)
            .filter(|id| last_read[id] == i)
            .map(|id| places.of[&id].slot)
            .collect();
        dead.sort_unstable();
        dead.dedup();
        free.extend(dead);
    }
    Ok(places)
}

impl Places {
    /// Gives `id` the free buffer that fits best: the smallest that is large enough, else the largest,
    /// which then grows; a new one if none is free.
    fn put(
        &mut self,
        id: NodeId,
        format: Format,
        shapes: &[Shape],
        free: &mut Vec<usize>,
        device: &DeviceProfile,
    ) -> Result<(), TooLarge> {
        let shape = shapes[id.index()];
        let bytes = format.bytes(shape);
        if bytes > device.max_buffer_bytes {
            return Err(TooLarge {
                id,
                shape,
                bytes,
                most: device.max_buffer_bytes,
            });
        }
        let size = |slot: usize| self.slots[slot];
        let best = (0..free.len())
            .filter(|&i| size(free[i]) >= bytes)
            .min_by_key(|&i| size(free[i]))
            .or_else(|| (0..free.len()).max_by_key(|&i| size(free[i])));
        let slot = match best {
            Some(i) => free.swap_remove(i),
            None => {
                self.slots.push(0);
                self.slots.len() - 1
            }
        };
        self.slots[slot] = self.slots[slot].max(bytes);
        self.of.insert(
            id,
            Place {
                slot,
                shape,
                format,
            },
        );
        Ok(())
    }
}

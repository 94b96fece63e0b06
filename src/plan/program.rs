//! What is planned: operations and their kernels, and what is known of every tensor.

use super::fuse::Operation;
use super::stages::BETWEEN;
use crate::device_profile::DeviceProfile;
use crate::graph::{Graph, NodeId};
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Rows};
use crate::tensor::Shape;
use std::collections::HashMap;

/// What is held of a tensor between the stages of an operation, which is larger than those around it: on a CPU
/// device, that it stays near the caches, and on a GPU, whose dispatches are to be large.
const BETWEEN_BYTES: [u64; 2] = [32 << 20, 256 << 20];

pub(super) struct Program<'a> {
    pub graph: &'a Graph,
    /// Of every node.
    pub shapes: Vec<Shape>,
    pub operations: Vec<Operation>,
    /// One an operation.
    pub kernels: Vec<Kernel>,
    /// Of every activation.
    pub formats: HashMap<NodeId, Format>,
    pub outputs: &'a [NodeId],
    pub device: &'a DeviceProfile,
    /// Tensors from here on lie between the stages of an operation.
    pub between: usize,
    /// Bytes of the largest tensor that is held as a whole, the input apart.
    pub most_bytes: u64,
}

impl Program<'_> {
    pub(super) fn shape(&self, id: NodeId) -> Shape {
        self.shapes[id.index()]
    }

    /// Rows of a tensor, those of all images together.
    pub(super) fn rows(&self, id: NodeId) -> usize {
        self.shape(id).n * self.shape(id).h
    }

    /// Bytes of `rows` rows of a tensor.
    pub(super) fn bytes(&self, id: NodeId, rows: usize) -> u64 {
        let Shape { c, w, .. } = self.shape(id);
        self.formats[&id].bytes(Shape::new(1, c, rows, w))
    }

    /// The most bytes that may be held of a tensor at once.
    pub(super) fn most_bytes(&self, id: NodeId) -> u64 {
        if id.index() < self.between {
            return self.most_bytes;
        }
        // Not so little that there is no band at all.
        let least = self.bytes(id, 4);
        let wanted = BETWEEN_BYTES[usize::from(!self.device.is_cpu)];
        self.most_bytes.min(wanted.max(least))
    }

    /// A tensor too large to be held as a whole.
    pub(super) fn is_too_large(&self, id: NodeId) -> bool {
        self.bytes(id, self.rows(id)) > self.most_bytes(id)
    }

    /// The name of a tensor, for messages: its node's, or that of the operation which makes it.
    pub(super) fn name(&self, id: NodeId) -> &str {
        let writer = || self.operations.iter().find(|o| o.id == id);
        match self.graph.nodes().get(id.index()) {
            Some(node) => &node.name,
            None => writer().map_or(BETWEEN, |operation| &operation.name),
        }
    }

    /// The rows of a tensor at whose multiples a part of it may begin without anything computed for both
    /// sides: labels are written four at a time, and some kernels compute blocks of rows.
    pub(super) fn row_unit(&self, id: NodeId) -> usize {
        let writer = self.operations.iter().position(|o| o.id == id);
        match (self.formats[&id], writer.map(|i| self.kernels[i].grid)) {
            (Format::Labels8, _) if !self.shape(id).w.is_multiple_of(4) => 4,
            (_, Some(Grid::Blocks { rows, .. })) => rows,
            _ => 1,
        }
    }

    /// The activations that operation `i` reads, and at which rows.
    pub(super) fn reads(&self, i: usize) -> impl Iterator<Item = (NodeId, Rows)> {
        let inputs = &self.operations[i].inputs;
        let bindings = self.kernels[i].bindings.iter();
        let read = bindings.filter_map(Binding::activation);
        read.map(|(input, _, rows)| (inputs[input], rows))
    }

    /// The last operation that reads each activation.
    pub(super) fn last_reads(&self) -> HashMap<NodeId, usize> {
        let operations = 0..self.operations.len();
        operations
            .flat_map(|i| self.reads(i).map(move |(id, _)| (id, i)))
            .collect()
    }
}

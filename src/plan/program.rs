//! What is planned: operations and their kernels, and what is known of every tensor.

use super::fuse::Operation;
use crate::device_profile::DeviceProfile;
use crate::graph::{Graph, NodeId};
use crate::ops::kernel::{Binding, Format, Kernel, Rows};
use crate::tensor::Shape;
use std::collections::HashMap;

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

    /// A tensor too large to be held as a whole.
    pub(super) fn is_too_large(&self, id: NodeId) -> bool {
        self.bytes(id, self.rows(id)) > self.most_bytes
    }

    /// The activations that operation `i` reads, and at which rows.
    pub(super) fn reads(&self, i: usize) -> impl Iterator<Item = (NodeId, Rows)> {
        let inputs = &self.operations[i].inputs;
        let bindings = self.kernels[i].bindings.iter();
        bindings.filter_map(|binding| match *binding {
            Binding::Activation { input, rows, .. } => Some((inputs[input], rows)),
            _ => None,
        })
    }

    /// The last operation that reads each activation.
    pub(super) fn last_reads(&self) -> HashMap<NodeId, usize> {
        let operations = 0..self.operations.len();
        operations
            .flat_map(|i| self.reads(i).map(move |(id, _)| (id, i)))
            .collect()
    }
}

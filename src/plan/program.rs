//! The result of the passes: operations, their kernels, and the format of every tensor.

use super::draft::{BETWEEN, Draft, Operation};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::graph::{Graph, NodeId};
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Rows};
use crate::target::Target;
use crate::tensor::Shape;
use std::collections::HashMap;

/// The most bytes to hold of a tensor between the stages of an operation, on CPU devices and on GPUs. Such tensors are
/// larger than the tensors around them. On CPUs, a small part stays near the caches, but each part reads all weights,
/// so it may be as large as these; on GPUs, a large part allows large dispatches.
const BETWEEN_BYTES: [u64; 2] = [32 << 20, 256 << 20];

pub(super) struct Program<'a> {
    pub graph: &'a Graph,
    /// The shape of every node, then of every tensor without a node.
    pub shapes: Vec<Shape>,
    pub operations: Vec<Operation>,
    /// One per operation.
    pub kernels: Vec<Kernel>,
    /// The format of every activation.
    pub formats: HashMap<NodeId, Format>,
    pub outputs: &'a [NodeId],
    pub target: &'a Target,
    /// Tensors from here on lie between the stages of an operation.
    pub between: usize,
    /// The most bytes of a tensor that is held as a whole, except for the input.
    pub most_bytes: u64,
}

impl<'a> Program<'a> {
    /// The program of a draft after all passes.
    ///
    /// # Errors
    /// `Unsupported` if an operation reads a tensor in another format than it is written in.
    pub(super) fn new(mut draft: Draft<'a>) -> Result<Self> {
        let take = |operation: &mut Operation| {
            let message = || format!("{} has no kernel", operation.name);
            let kernel = operation.kernel.take();
            kernel.ok_or_else(|| Error::new(ErrorKind::Internal, message()))
        };
        let kernels: Vec<_> = draft
            .operations
            .iter_mut()
            .map(take)
            .collect::<Result<_>>()?;
        let target = draft.target;
        Ok(Self {
            formats: formats(
                draft.graph,
                &draft.operations,
                &kernels,
                target.options.half,
            )?,
            graph: draft.graph,
            shapes: draft.shapes,
            operations: draft.operations,
            kernels,
            outputs: draft.outputs,
            target,
            between: draft.between,
            most_bytes: target.device.max_buffer_bytes,
        })
    }

    pub(super) fn shape(&self, id: NodeId) -> Shape {
        self.shapes[id.index()]
    }

    /// Rows of a tensor, over all images.
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
        let least = self.bytes(id, self.least_rows(id));
        let wanted = match self.target.device.is_cpu {
            true => BETWEEN_BYTES[0].max(self.weight_bytes(id)),
            false => BETWEEN_BYTES[1],
        };
        self.most_bytes.min(wanted.max(least))
    }

    /// The bytes of the largest weight that is read where a tensor is written or read.
    fn weight_bytes(&self, id: NodeId) -> u64 {
        let touches =
            |i: &usize| self.operations[*i].id == id || self.reads(*i).any(|(read, _)| read == id);
        let weights = (0..self.operations.len()).filter(touches).flat_map(|i| {
            let parameters = self.kernels[i].bindings.iter();
            parameters
                .filter_map(Binding::parameter)
                .map(move |of| (i, of))
        });
        let bytes = weights.map(|(i, (input, packing))| {
            let shape = self.shape(self.operations[i].inputs[input]);
            packing.tiles(shape) as u64 * packing.tile_bytes(shape)
        });
        bytes.max().unwrap_or(0)
    }

    /// The rows of a tensor between stages that the smallest band needs: one unit of rows of the tensor that its last
    /// stage writes.
    fn least_rows(&self, id: NodeId) -> usize {
        let unit = self.row_unit(id);
        if id.index() < self.between {
            return unit;
        }
        let spans = (0..self.operations.len()).flat_map(|i| {
            let output = self.operations[i].id;
            let reads = self.reads(i).filter(|(read, _)| *read == id);
            reads.map(move |(_, rows)| rows.span(self.least_rows(output)))
        });
        spans.fold(unit, usize::max).min(self.rows(id))
    }

    /// Whether a tensor is too large to be held as a whole.
    pub(super) fn is_too_large(&self, id: NodeId) -> bool {
        self.bytes(id, self.rows(id)) > self.most_bytes(id)
    }

    /// The name of a tensor, for messages: its node's, or the name of the operation that makes it.
    pub(super) fn name(&self, id: NodeId) -> &str {
        let writer = || self.operations.iter().find(|o| o.id == id);
        match self.graph.nodes().get(id.index()) {
            Some(node) => &node.name,
            None => writer().map_or(BETWEEN, |operation| &operation.name),
        }
    }

    /// A part of a tensor that begins at a multiple of this many rows repeats no work: labels are written four at a
    /// time, and some kernels compute blocks of rows.
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

/// The format of every activation, given by the kernel that writes it; the input's format is given by its readers.
fn formats(
    graph: &Graph,
    operations: &[Operation],
    kernels: &[Kernel],
    half: bool,
) -> Result<HashMap<NodeId, Format>> {
    let mut formats = HashMap::new();
    for (operation, kernel) in operations.iter().zip(kernels) {
        for binding in &kernel.bindings {
            let Some((input, format, _)) = binding.activation() else {
                continue;
            };
            let id = operation.inputs[input];
            let node = graph.nodes().get(id.index());
            let name = node.map_or(BETWEEN, |node| &node.name);
            let written = *formats.entry(id).or_insert(format);
            if written != format {
                bail!(
                    Unsupported,
                    "{} reads {name} as {format:?}, but it is {written:?}",
                    operation.name
                );
            }
        }
        formats.insert(operation.id, kernel.output);
    }
    let of_input = match half {
        true => Format::Nhwc4Half,
        false => Format::Nhwc4,
    };
    formats.entry(graph.input()).or_insert(of_input);
    Ok(formats)
}

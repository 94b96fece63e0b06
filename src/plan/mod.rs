//! A graph made ready for a device, as plain data: which dispatches, on which buffers, in which order.
//!
//! A plan is made from a graph, an input shape and a [`DeviceProfile`] alone. It can be printed and
//! tested without a device, and the executor decides nothing beyond it.

mod choices;
mod compile;
mod coverage;
mod display;
mod draft;
mod groups;
pub mod lowered;
mod memory;
mod passes;
mod precision;
mod program;
mod select;
mod split;
mod tunable;

use crate::graph::NodeId;
use crate::ops::kernel::{Format, Packing, Rows, Shader};
use crate::tensor::Shape;
pub(crate) use choices::hash;
pub use choices::{Choice, Choices};
pub use select::Lowering;
use std::ops::Range;
pub use tunable::{Tunable, tunable};

/// Where a tensor lies: in which activation buffer, from its beginning. Of an output that is larger than any
/// buffer, the rows of one band at a time lie there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index into [`Plan::slots`].
    pub slot: usize,
    /// The tensor's shape.
    pub shape: Shape,
    /// How it is laid out.
    pub format: Format,
}

impl Place {
    /// Bytes it takes.
    pub fn bytes(&self) -> u64 {
        self.format.bytes(self.shape)
    }
}

/// A parameter, or a part of one, as it is packed into a device buffer or texture of its own at load.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PackedParameter {
    /// The parameter's name in the model file; `None` for zeros in place of a bias.
    pub name: Option<String>,
    /// How it is packed.
    pub packing: Packing,
    /// The tiles of output channels that this part holds.
    pub tiles: Range<usize>,
    /// Bytes of the buffer.
    pub bytes: u64,
    /// It lies in a texture of rows of [`TEXELS_PER_ROW`](crate::device_profile::TEXELS_PER_ROW), not in a buffer.
    pub texels: bool,
    /// Its elements are f16, not f32.
    pub half: bool,
}

/// A shader and the values of its overrides.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// The shader.
    pub shader: Shader,
    /// Override values.
    pub constants: Vec<(&'static str, f64)>,
}

/// A part of a buffer as a shader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Part of an activation buffer.
    Slot {
        /// Index into [`Plan::slots`].
        slot: usize,
        /// The bytes of it.
        bytes: Range<u64>,
        /// The element of the whole tensor that lies at the first of them.
        start: u32,
    },
    /// All of a packed parameter.
    Parameter(usize),
    /// The texture that [`Mirror`] is a copy into.
    Mirror {
        /// The element of the whole tensor that lies first in it, after the row of zeros.
        start: u32,
    },
}

/// A copy of a part of an activation buffer into the plan's one texture of rows of
/// [`TEXELS_PER_ROW`](crate::device_profile::TEXELS_PER_ROW), after its first row, which holds zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Index into [`Plan::slots`].
    pub slot: usize,
    /// The bytes of it.
    pub bytes: Range<u64>,
}

/// One dispatch.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Index into [`Plan::layers`].
    pub layer: usize,
    /// Index into [`Plan::pipelines`].
    pub pipeline: usize,
    /// What is mirrored in the texture before the dispatch, if the texture does not hold it already.
    pub mirror: Option<Mirror>,
    /// The buffers at bindings 0, 1 …; the last is the output.
    pub bindings: Vec<Bound>,
    /// The words of the uniform buffer that follows them.
    pub params: Vec<u32>,
    /// The rows of the output that it computes, all or part of; they count through the batch.
    pub rows: Range<usize>,
    /// Workgroups in x and y.
    pub workgroups: [u32; 2],
    /// Floating-point operations.
    pub flops: u64,
    /// The work so far is submitted after this step, so that no submission outlasts a watchdog.
    pub ends_submit: bool,
}

/// One operation after fusion: the nodes it computes and what it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The names of the nodes, joined by `+`; the last one's value is written.
    pub name: String,
    /// The shader's name.
    pub kernel: &'static str,
    /// The activations that it reads, in the order of the kernel's bindings.
    pub reads: Vec<Read>,
    /// What it writes: a node's value, or a tensor beyond the graph's nodes.
    pub writes: NodeId,
    /// How that lies in memory.
    pub format: Format,
    /// The shape of its output.
    pub shape: Shape,
    /// Floating-point operations that are done: those of rows that two bands compute count twice.
    pub flops: u64,
    /// Bytes that it has to read and write at least: each input, parameter and output once.
    pub bytes: u64,
    /// It writes f16, and tells of a value that f16 does not hold.
    pub half: bool,
}

/// Consecutive layers that run band by band, since a tensor between them is larger than a buffer: each band
/// computes the rows of all of them that its share of the last ones is made of, and keeps no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BandGroup {
    /// Its part of [`Plan::layers`].
    pub layers: Range<usize>,
    /// How many bands.
    pub bands: usize,
    /// Floating-point operations of rows that an earlier band has computed already.
    pub recomputed_flops: u64,
}

/// A part of an output that is copied to a buffer of its own, for the host to read. The parts of one output
/// follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// Index into [`Plan::outputs`].
    pub output: usize,
    /// How many of [`Plan::steps`] come before it. Unless these are all, the last of them ends a submission.
    pub after: usize,
    /// The bytes of the output's slot.
    pub bytes: Range<u64>,
}

/// An activation that a layer reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// A node's value, or a tensor beyond the graph's nodes that an earlier layer writes.
    pub tensor: NodeId,
    /// Its shape.
    pub shape: Shape,
    /// How it lies in memory.
    pub format: Format,
    /// The rows of it that a row of the layer's output needs.
    pub rows: Rows,
}

/// All that the executor does, as plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The input.
    pub input: Place,
    /// What was asked for: node and place, in the order asked.
    pub outputs: Vec<(NodeId, Place)>,
    /// Bytes of each activation buffer.
    pub slots: Vec<u64>,
    /// Bytes that the texture for mirrored activations holds beside its row of zeros; 0 if there is none.
    pub mirror_bytes: u64,
    /// Every packed parameter.
    pub parameters: Vec<PackedParameter>,
    /// Every pipeline.
    pub pipelines: Vec<Pipeline>,
    /// The operations.
    pub layers: Vec<Layer>,
    /// Which layers run band by band.
    pub groups: Vec<BandGroup>,
    /// The dispatches, in order.
    pub steps: Vec<Step>,
    /// How outputs come to the host, in the order of the steps.
    pub read_backs: Vec<ReadBack>,
}

impl Plan {
    /// Floating-point operations of a run.
    pub fn flops(&self) -> u64 {
        self.layers.iter().map(|layer| layer.flops).sum()
    }

    /// Bytes of all activation buffers.
    pub fn activation_bytes(&self) -> u64 {
        self.slots.iter().sum()
    }

    /// Bytes of device memory that a run takes: activations, parameters, and the buffers that outputs are
    /// read back through.
    pub fn peak_device_bytes(&self) -> u64 {
        let read_back: u64 = self.outputs.iter().map(|(_, place)| place.bytes()).sum();
        self.activation_bytes() + self.mirror_bytes + self.parameter_bytes() + read_back
    }

    /// Bytes of all packed parameters.
    pub fn parameter_bytes(&self) -> u64 {
        self.parameters.iter().map(|p| p.bytes).sum()
    }
}

//! A graph planned for a device, as plain data: the dispatches, their buffers and their order.
//!
//! A plan is made from a graph, an input shape and a [`Target`](crate::target::Target) alone. It can be printed and
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

/// A tensor's place: the beginning of an activation buffer. Of an output larger than any buffer, the buffer holds the
/// rows of one band at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index into [`Plan::slots`].
    pub slot: usize,
    /// The tensor's shape.
    pub shape: Shape,
    /// The tensor's layout.
    pub format: Format,
}

impl Place {
    /// Bytes of the tensor.
    pub fn bytes(&self) -> u64 {
        self.format.bytes(self.shape)
    }
}

/// A parameter or a part of one, packed at load into a device buffer or texture of its own.
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
    /// Whether it is a texture with rows of [`TEXELS_PER_ROW`](crate::device_profile::TEXELS_PER_ROW), not a buffer.
    pub texels: bool,
    /// Whether its elements are f16, not f32.
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

/// What a dispatch binds at one binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Part of an activation buffer.
    Slot {
        /// Index into [`Plan::slots`].
        slot: usize,
        /// The bytes bound.
        bytes: Range<u64>,
        /// Index in the whole tensor of the first element bound.
        start: u32,
    },
    /// All of a packed parameter.
    Parameter(usize),
    /// The texture that a [`Mirror`] fills.
    Mirror {
        /// Index in the whole tensor of the first element after the row of zeros.
        start: u32,
    },
}

/// A copy of a part of an activation buffer into the plan's one texture, which has rows of
/// [`TEXELS_PER_ROW`](crate::device_profile::TEXELS_PER_ROW); the copy begins after its first row, of zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Index into [`Plan::slots`].
    pub slot: usize,
    /// The bytes copied.
    pub bytes: Range<u64>,
}

/// One dispatch.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Index into [`Plan::layers`].
    pub layer: usize,
    /// Index into [`Plan::pipelines`].
    pub pipeline: usize,
    /// The copy into the texture before the dispatch, unless the texture already holds these bytes.
    pub mirror: Option<Mirror>,
    /// The buffers at bindings 0, 1 …; the last is the output.
    pub bindings: Vec<Bound>,
    /// The words of `Params`, the uniform buffer after the last binding.
    pub params: Vec<u32>,
    /// The rows of the output that it computes, in whole or in part, counted through the batch.
    pub rows: Range<usize>,
    /// Workgroups in x and y.
    pub workgroups: [u32; 2],
    /// Floating-point operations.
    pub flops: u64,
    /// Whether the work so far is submitted after this step: no submission may outlast a watchdog.
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
    /// The tensor that it writes: a node's value, or a tensor beyond the graph's nodes.
    pub writes: NodeId,
    /// Layout of that tensor.
    pub format: Format,
    /// The shape of its output.
    pub shape: Shape,
    /// Floating-point operations; rows that two bands compute count twice.
    pub flops: u64,
    /// The least bytes that it reads and writes: each input, parameter and output once.
    pub bytes: u64,
    /// Whether it writes f16, and reports values that f16 does not hold.
    pub half: bool,
}

/// Consecutive layers that run band by band, because a tensor between them is larger than a buffer. Each band computes
/// only the rows that its share of the last layers' outputs needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BandGroup {
    /// Its range in [`Plan::layers`].
    pub layers: Range<usize>,
    /// Number of bands.
    pub bands: usize,
    /// Floating-point operations of rows that an earlier band has computed already.
    pub recomputed_flops: u64,
}

/// A part of an output that is copied to a buffer of its own, for the host to read. The parts of one output
/// are in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// Index into [`Plan::outputs`].
    pub output: usize,
    /// Number of [`Plan::steps`] before it. The last of these ends a submission, unless it is the plan's last step.
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
    /// Its layout.
    pub format: Format,
    /// Its rows that a row of the layer's output needs.
    pub rows: Rows,
}

/// All that the executor does, as plain data.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The input.
    pub input: Place,
    /// The requested outputs in their order: node and place.
    pub outputs: Vec<(NodeId, Place)>,
    /// Bytes of each activation buffer.
    pub slots: Vec<u64>,
    /// Bytes of the texture for mirrored activations without its row of zeros; 0 if there is no texture.
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
    /// The copies of outputs for the host, in the order of the steps.
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

    /// Bytes of device memory that a run takes: activations, the texture that mirrors them, parameters, and the
    /// buffers that outputs are read back through.
    pub fn peak_device_bytes(&self) -> u64 {
        let read_back: u64 = self.outputs.iter().map(|(_, place)| place.bytes()).sum();
        self.activation_bytes() + self.mirror_bytes + self.parameter_bytes() + read_back
    }

    /// Bytes of all packed parameters.
    pub fn parameter_bytes(&self) -> u64 {
        self.parameters.iter().map(|p| p.bytes).sum()
    }
}

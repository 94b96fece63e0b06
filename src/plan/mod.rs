//! A graph made ready for a device, as plain data: which dispatches, on which buffers, in which order.
//!
//! A plan is made from a graph, an input shape and a [`DeviceProfile`] alone. It can be printed and
//! tested without a device, and the executor decides nothing beyond it.

mod choices;
mod constants;
mod coverage;
mod display;
mod fuse;
mod groups;
mod memory;
mod padding;
mod precision;
mod program;
mod split;
mod stages;

use crate::device_profile::DeviceProfile;
use crate::error::{Error, ErrorKind, Result, bail};
use crate::graph::{Graph, NodeId};
use crate::ops::Op;
use crate::ops::kernel::{Binding, Format, Kernel, MAX_LOOP_STEPS, Packing, Rows, Shader};
use crate::tensor::Shape;
pub(crate) use choices::hash;
pub use choices::{Choice, Choices, Lowering, Tunable, tunable};
use fuse::Operation;
use groups::{Band, Group};
use program::Program;
use std::collections::HashMap;
use std::ops::Range;

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
    /// Plans `graph` for an input of shape `input` so that the values of `outputs` can be read.
    ///
    /// # Errors
    /// `Shape` if the graph does not fit the input; `Limit` if even in bands of single rows a tensor outgrows
    /// the device's buffers, or all of it the memory that may be taken, with the figures; `Unsupported` if no
    /// kernel can run a node.
    pub fn new(
        graph: &Graph,
        input: Shape,
        outputs: &[NodeId],
        device: &DeviceProfile,
    ) -> Result<Self> {
        Self::with_choices(graph, input, outputs, device, &Choices::default())
    }

    /// As [`Plan::new`], by the kernels in `choices`, as far as they and the device have them.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn with_choices(
        graph: &Graph,
        input: Shape,
        outputs: &[NodeId],
        device: &DeviceProfile,
        choices: &Choices,
    ) -> Result<Self> {
        if input.elements() == 0 {
            bail!(Shape, "the input {input} has no elements");
        }
        let mut shapes = graph.shapes(input)?;
        let counted =
            |shape: &Shape| shape.pixels().saturating_mul(shape.c4()) <= u32::MAX as usize;
        if let Some(large) = shapes.iter().find(|shape| !counted(shape)) {
            bail!(
                Limit,
                "a tensor of shape {large} is more than kernels can count, {} groups of four channels: use a \
                 smaller picture or batch",
                u32::MAX
            );
        }
        let operations = fused(graph, outputs, &shapes, device);
        let operations = padding::cut(operations, graph, &mut shapes, outputs, device)?;
        let between = shapes.len();
        let operations = stages::expand(operations, &mut shapes, device, choices)?;
        let operations = precision::keep_sums(operations, between, &mut shapes, device)?;
        let mut with_kernels = Vec::with_capacity(operations.len());
        for operation in operations {
            let inputs = shapes_of(&operation.inputs, &shapes);
            let best = || best_kernel(operation.op.as_ref(), &inputs, device);
            let kernel = operation.chosen.clone().map_or_else(best, Ok);
            let kernel = kernel.map_err(|error| {
                error.at(format!("{} ({})", operation.name, operation.op.name()))
            })?;
            let kernel = precision::adapt(kernel, &operation, between, device);
            with_kernels.push((operation, kernel));
        }
        let with_kernels = constants::load(with_kernels, graph, &shapes, device)?;
        let (operations, kernels): (Vec<_>, Vec<_>) = with_kernels.into_iter().unzip();
        let mut program = Program {
            formats: formats(graph, &operations, &kernels, device.half)?,
            graph,
            shapes,
            operations,
            kernels,
            outputs,
            device,
            between,
            most_bytes: device.max_buffer_bytes,
        };
        let mut plan = Self::of(&program)?;
        // Smaller buffers, and so more bands, until all of it fits: in small steps, since bands cost work.
        while plan.peak_device_bytes() > device.memory_bytes {
            let largest = plan.slots.iter().copied().max().unwrap_or(0);
            program.most_bytes = program.most_bytes.min(largest) / 8 * 7;
            plan = match Self::of(&program) {
                Err(e) if e.kind() == ErrorKind::Limit => bail!(
                    Limit,
                    "the smallest plan for an input of {input} takes {} MiB of device memory; {} MiB may be \
                     taken: use a smaller picture or batch",
                    plan.peak_device_bytes().div_ceil(1 << 20),
                    device.memory_bytes >> 20
                ),
                smaller => smaller?,
            };
        }
        Ok(plan)
    }

    fn of(program: &Program) -> Result<Self> {
        let groups = groups::groups(program)?;
        let places = memory::places(program, &groups);
        let mut plan = Self {
            input: places.of[&program.graph.input()].clone(),
            outputs: program
                .outputs
                .iter()
                .map(|id| (*id, places.of[id].clone()))
                .collect(),
            slots: places.slots,
            mirror_bytes: 0,
            parameters: Vec::new(),
            pipelines: Vec::new(),
            layers: Vec::new(),
            groups: Vec::new(),
            steps: Vec::new(),
            read_backs: Vec::new(),
        };
        for group in &groups {
            plan.add_group(program, group, &places.of)?;
        }
        for (output, (_, place)) in plan.outputs.iter().enumerate() {
            if plan.read_backs.iter().all(|r| r.output != output) {
                plan.read_backs.push(ReadBack {
                    output,
                    after: plan.steps.len(),
                    bytes: 0..place.bytes(),
                });
            }
        }
        Ok(plan)
    }

    /// Plans the operations of a group, band by band.
    fn add_group(
        &mut self,
        program: &Program,
        group: &Group,
        places: &HashMap<NodeId, Place>,
    ) -> Result<()> {
        let first = self.layers.len();
        let at = |i: usize| move |error: Error| error.at(&program.operations[i].name);
        let mut layers = Vec::with_capacity(group.operations.len());
        for i in group.operations.clone() {
            layers.push(split::add_layer(self, program, i, places).map_err(at(i))?);
        }
        for band in &group.bands {
            let held = |id| group.held(program, band, id);
            for ((i, layer), rows) in group.operations.clone().zip(&layers).zip(&band.rows) {
                layer
                    .add_steps(self, rows, places, held, program.device)
                    .map_err(at(i))?;
            }
            self.read_back_band(program, group, band);
        }
        self.count_bands(group, first);
        Ok(())
    }

    /// Notes which rows a group, whose layers begin at `first`, computes twice, and which not at all.
    fn count_bands(&mut self, group: &Group, first: usize) {
        let mut recomputed_flops = 0;
        for (i, layer) in self.layers[first..].iter_mut().enumerate() {
            let (work, rows) = (group.work(i), layer.shape.n * layer.shape.h);
            if work.again > 0 || work.computed != rows {
                let flops = |part: usize| (layer.flops as f64 * part as f64 / rows as f64) as u64;
                recomputed_flops += flops(work.again);
                layer.flops = flops(work.computed);
            }
        }
        if group.bands.len() > 1 {
            self.groups.push(BandGroup {
                layers: first..self.layers.len(),
                bands: group.bands.len(),
                recomputed_flops,
            });
        }
    }

    /// Reads back the band's share of the outputs of which memory holds a band at a time.
    fn read_back_band(&mut self, program: &Program, group: &Group, band: &Band) {
        for (output, (id, _)) in self.outputs.iter().enumerate() {
            let Some(i) = group.windowed(*id) else {
                continue;
            };
            let (rows, share) = (&band.rows[i], &band.shares[i]);
            let at = |row: usize| program.bytes(*id, row);
            if !share.is_empty() {
                self.read_backs.push(ReadBack {
                    output,
                    after: self.steps.len(),
                    bytes: at(share.start) - at(rows.start)..at(share.end) - at(rows.start),
                });
            }
        }
    }

    /// The nodes that are computed together with a later one when only `outputs` are asked for, as far as
    /// the device has a kernel that can, and which one that is.
    pub fn fused(graph: &Graph, outputs: &[NodeId]) -> HashMap<NodeId, NodeId> {
        let mut into = HashMap::new();
        for operation in fuse::operations(graph, outputs, |_, _, _| true) {
            let others = operation.nodes.iter().filter(|id| **id != operation.id);
            into.extend(others.map(|id| (*id, operation.id)));
        }
        into
    }

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

fn shapes_of(nodes: &[NodeId], shapes: &[Shape]) -> Vec<Shape> {
    nodes.iter().map(|id| shapes[id.index()]).collect()
}

/// The operations that `outputs` need, fused where the device can run the result.
fn fused(
    graph: &Graph,
    outputs: &[NodeId],
    shapes: &[Shape],
    device: &DeviceProfile,
) -> Vec<Operation> {
    fuse::operations(graph, outputs, |before, op, inputs| {
        let inputs = shapes_of(inputs, shapes);
        let tried = |op: &dyn Op| {
            op.other_kernels(&inputs, device)
                .is_ok_and(|k| !k.is_empty())
        };
        // The first alone may have a kernel that is worth a try, and both together none.
        let loses_one = tried(before) && !tried(op);
        !loses_one
            && best_kernel(op, &inputs, device).is_ok_and(|kernel| {
                let steps = kernel.steps_per_term.saturating_add(kernel.fixed_steps);
                steps <= MAX_LOOP_STEPS && split::is_short(op, &kernel, &inputs)
            })
    })
}

/// The best kernel of an op that fits the device.
fn best_kernel(op: &dyn Op, inputs: &[Shape], device: &DeviceProfile) -> Result<Kernel> {
    let most = device.max_binding_bytes.min(device.max_buffer_bytes);
    let tile_fits = |binding: &Binding| match (binding.parameter(), binding.is_texels()) {
        (Some((input, packing)), false) => packing.tile_bytes(inputs[input]) <= most,
        _ => true,
    };
    let kernels = op.kernels(inputs, device)?.into_iter();
    let kernels: Vec<_> = kernels.filter(|kernel| kernel.fits(device)).collect();
    // One whose weights cannot be cut small enough is left to fail, with the figures.
    let cuts_small = |kernel: &Kernel| kernel.bindings.iter().all(tile_fits);
    let best = kernels.iter().position(cuts_small).unwrap_or(0);
    match kernels.into_iter().nth(best) {
        Some(kernel) => Ok(kernel),
        None => bail!(
            Unsupported,
            "no kernel for inputs of shapes {inputs:?} fits this device"
        ),
    }
}

/// The format of every activation: that of the kernel which writes it. The input has the one its
/// readers want.
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
            let name = node.map_or(stages::BETWEEN, |node| &node.name);
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

//! A graph made ready for a device, as plain data: which dispatches, on which buffers, in which order.
//!
//! A plan is made from a graph, an input shape and a [`DeviceProfile`] alone. It can be printed and
//! tested without a device, and the executor decides nothing beyond it.

mod display;
mod fuse;
mod memory;
mod split;

use crate::device_profile::DeviceProfile;
use crate::error::{Result, bail};
use crate::graph::{Graph, NodeId, NodeKind};
use crate::ops::Op;
use crate::ops::kernel::{Binding, Format, Kernel, MAX_LOOP_STEPS, Packing, Shader};
use crate::tensor::Shape;
use fuse::Operation;
use std::collections::HashMap;
use std::ops::Range;

/// Where a tensor lies: in which activation buffer, from its beginning.
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

/// A parameter, or a part of one, as it is packed into a device buffer of its own at load.
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
    },
    /// All of a packed parameter.
    Parameter(usize),
}

/// One dispatch.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Index into [`Plan::layers`].
    pub layer: usize,
    /// Index into [`Plan::pipelines`].
    pub pipeline: usize,
    /// The buffers at bindings 0, 1 …; the last is the output.
    pub bindings: Vec<Bound>,
    /// The words of the uniform buffer that follows them.
    pub params: Vec<u32>,
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
    /// The shape of its output.
    pub shape: Shape,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes that it has to read and write at least: each input, parameter and output once.
    pub bytes: u64,
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
    /// Every packed parameter.
    pub parameters: Vec<PackedParameter>,
    /// Every pipeline.
    pub pipelines: Vec<Pipeline>,
    /// The operations.
    pub layers: Vec<Layer>,
    /// The dispatches, in order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Plans `graph` for an input of shape `input` so that the values of `outputs` can be read.
    ///
    /// # Errors
    /// `Shape` if the graph does not fit the input; `Limit` if a tensor outgrows the device's buffers,
    /// with the tensor and the figures; `Unsupported` if no kernel can run a node.
    pub fn new(
        graph: &Graph,
        input: Shape,
        outputs: &[NodeId],
        device: &DeviceProfile,
    ) -> Result<Self> {
        if input.elements() == 0 {
            bail!(Shape, "the input {input} has no elements");
        }
        let shapes = graph.shapes(input)?;
        let counted =
            |shape: &Shape| shape.pixels().saturating_mul(shape.c4()) <= u32::MAX as usize;
        if let Some(large) = shapes.iter().find(|shape| !counted(shape)) {
            bail!(
                Limit,
                "a tensor of shape {large} is more than kernels can count"
            );
        }
        let operations = fuse::operations(graph, outputs, |op, inputs| {
            best_kernel(op, &shapes_of(inputs, &shapes), device).is_ok_and(|kernel| {
                let steps = kernel.steps_per_term.saturating_add(kernel.fixed_steps);
                steps <= MAX_LOOP_STEPS
            })
        });
        let mut kernels = Vec::with_capacity(operations.len());
        for operation in &operations {
            let inputs = shapes_of(&operation.inputs, &shapes);
            let kernel = best_kernel(operation.op.as_ref(), &inputs, device).map_err(|error| {
                error.at(format!("{} ({})", operation.name, operation.op.name()))
            })?;
            kernels.push(kernel);
        }
        let formats = formats(graph, &operations, &kernels)?;
        let places = memory::places(&operations, &kernels, &formats, &shapes, outputs, device)
            .map_err(|e| e.at(graph))?;
        let mut plan = Self {
            input: places.of[&graph.input()].clone(),
            outputs: outputs
                .iter()
                .map(|id| (*id, places.of[id].clone()))
                .collect(),
            slots: places.slots,
            parameters: Vec::new(),
            pipelines: Vec::new(),
            layers: Vec::new(),
            steps: Vec::new(),
        };
        for (operation, kernel) in operations.iter().zip(&kernels) {
            split::add_layer(
                &mut plan, graph, operation, kernel, &shapes, &places.of, device,
            )
            .map_err(|error| error.at(&operation.name))?;
        }
        Ok(plan)
    }

    /// The nodes that are computed together with a later one when only `outputs` are asked for, as far as
    /// the device has a kernel that can, and which one that is.
    pub fn fused(graph: &Graph, outputs: &[NodeId]) -> HashMap<NodeId, NodeId> {
        let mut into = HashMap::new();
        for operation in fuse::operations(graph, outputs, |_, _| true) {
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
        self.activation_bytes() + self.parameter_bytes() + read_back
    }

    /// Bytes of all packed parameters.
    pub fn parameter_bytes(&self) -> u64 {
        self.parameters.iter().map(|p| p.bytes).sum()
    }
}

fn shapes_of(nodes: &[NodeId], shapes: &[Shape]) -> Vec<Shape> {
    nodes.iter().map(|id| shapes[id.index()]).collect()
}

/// The best kernel of an op that fits the device.
fn best_kernel(op: &dyn Op, inputs: &[Shape], device: &DeviceProfile) -> Result<Kernel> {
    let fits = |kernel: &Kernel| kernel.bindings.len() < device.max_storage_buffers as usize;
    match op.kernels(inputs, device)?.into_iter().find(fits) {
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
) -> Result<HashMap<NodeId, Format>> {
    let mut formats = HashMap::new();
    for (operation, kernel) in operations.iter().zip(kernels) {
        for binding in &kernel.bindings {
            let Binding::Activation { input, format, .. } = binding else {
                continue;
            };
            let id = operation.inputs[*input];
            if matches!(graph.node(id).kind, NodeKind::Parameter(_)) {
                bail!(
                    Unsupported,
                    "{}: {} is a parameter where an activation is needed",
                    operation.name,
                    graph.node(id).name
                );
            }
            let written = *formats.entry(id).or_insert(*format);
            if written != *format {
                bail!(
                    Unsupported,
                    "{} reads {} as {format:?}, but it is {written:?}",
                    operation.name,
                    graph.node(id).name
                );
            }
        }
        formats.insert(operation.id, kernel.output);
    }
    formats.entry(graph.input()).or_insert(Format::Nhwc4);
    Ok(formats)
}

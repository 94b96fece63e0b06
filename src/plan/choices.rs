//! Which of several ways to compute an operation a plan takes, where that was measured on the device.
//!
//! Without choices the first candidate of every operation is taken, in the order in which the ops list them.

use super::fuse::Operation;
use super::{Plan, fused, padding, shapes_of};
use crate::device_profile::DeviceProfile;
use crate::error::Result;
use crate::graph::{Graph, NodeId, NodeKind};
use crate::ops::grid::Grid;
use crate::ops::kernel::{Format, Kernel, Packing};
use crate::ops::{Op, Stage, StageInput};
use crate::tensor::Shape;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// What was measured to be the fastest, by op, the shapes of its inputs, and whether values are kept in f16.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Choices(BTreeMap<String, Choice>);

/// A candidate, told from the others of its op by a fingerprint of its shaders: one that is there no longer
/// chooses nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// What it is, for people.
    pub kernel: String,
    /// See [`Lowering::fingerprint`].
    pub fingerprint: u64,
    /// How long it took.
    pub microseconds: u64,
}

impl Choices {
    /// Takes `choice` for `op` on inputs of these shapes in plans for `device`.
    pub fn insert(
        &mut self,
        op: &dyn Op,
        inputs: &[Shape],
        device: &DeviceProfile,
        choice: Choice,
    ) {
        self.0.insert(key(op, inputs, device), choice);
    }

    /// The choice for `op` on inputs of these shapes in plans for `device`.
    pub fn get(&self, op: &dyn Op, inputs: &[Shape], device: &DeviceProfile) -> Option<&Choice> {
        match self.0.is_empty() {
            true => None,
            false => self.0.get(&key(op, inputs, device)),
        }
    }

    /// All of `others`, and of these what they have not.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The candidate that is chosen for an operation, if the device still has it.
    pub(super) fn candidate(
        &self,
        op: &Arc<dyn Op>,
        inputs: &[Shape],
        device: &DeviceProfile,
    ) -> Option<Lowering> {
        let choice = self.get(op.as_ref(), inputs, device)?;
        let candidates = candidates(op, inputs, device).ok()?;
        candidates
            .into_iter()
            .find(|c| c.fingerprint() == choice.fingerprint)
    }
}

/// Devices are told apart elsewhere; one has both precisions.
fn key(op: &dyn Op, inputs: &[Shape], device: &DeviceProfile) -> String {
    let precision = if device.half { "f16 " } else { "" };
    format!("{precision}{op:?} {inputs:?}")
}

/// FNV-1a: the same on every machine and in every version of Rust.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// An op lowered to kernels: ops one after the other, with a kernel each.
#[derive(Clone, Debug)]
pub struct Lowering {
    /// The ops; the op itself where it is one.
    pub stages: Vec<Stage>,
    /// One a stage.
    pub kernels: Vec<Kernel>,
}

impl Lowering {
    /// A number that is another one when a shader, a constant or the packing of a weight is.
    pub fn fingerprint(&self) -> u64 {
        let of = |kernel: &Kernel| {
            let packings: Vec<_> = kernel.bindings.iter().map(|b| b.parameter()).collect();
            let Kernel {
                shader, constants, ..
            } = kernel;
            format!(
                "{} {constants:?} {packings:?} {}",
                shader.name, shader.source
            )
        };
        hash(self.kernels.iter().map(of).collect::<String>().as_bytes())
    }

    /// Which of the op's inputs are weights that its kernels multiply by: where values are kept in f16, so are
    /// these.
    pub fn weights(&self) -> Vec<usize> {
        let mut weights = Vec::new();
        for (stage, kernel) in self.stages.iter().zip(&self.kernels) {
            let packed = kernel.bindings.iter().filter_map(|b| b.parameter());
            let factors = packed.filter(|(_, packing)| *packing != Packing::Vector);
            weights.extend(factors.filter_map(|(input, _)| match stage.inputs[input] {
                StageInput::Op(input) => Some(input),
                StageInput::Stage(_) => None,
            }));
        }
        weights
    }

    /// The names of its kernels, with their tiles.
    pub fn description(&self) -> String {
        let of = |kernel: &Kernel| match kernel.grid {
            Grid::Blocks {
                rows,
                columns,
                channels,
                ..
            } => {
                format!("{} {rows}x{columns}x{channels}", kernel.shader.name)
            }
            _ => kernel.shader.name.to_owned(),
        };
        let parts = self.kernels.first().map_or(1, |kernel| kernel.grid.parts());
        let names = self.kernels.iter().map(of).collect::<Vec<_>>().join(" + ");
        match parts {
            1 => names,
            parts => format!("{names}, {parts} parts"),
        }
    }
}

/// An operation of a graph that there are several ways to compute.
#[derive(Clone, Debug)]
pub struct Tunable {
    /// The names of the nodes it computes, joined by `+`.
    pub name: String,
    /// The op.
    pub op: Arc<dyn Op>,
    /// The shapes of its inputs.
    pub inputs: Vec<Shape>,
    /// The op alone, under its name, on an input of the first of these shapes; the other inputs are parameters
    /// under their own names.
    pub graph: Graph,
    /// The ways, that of a plan without choices first.
    pub candidates: Vec<Lowering>,
}

impl Tunable {
    /// The plan of the operation alone by one of its candidates, for an input of shape `input`; `None` if it is no
    /// candidate at that size.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn plan(
        &self,
        candidate: &Lowering,
        input: Shape,
        device: &DeviceProfile,
    ) -> Result<Option<Plan>> {
        let mut inputs = self.inputs.clone();
        inputs[0] = input;
        // What there was to cut away of the padding is gone.
        let device = DeviceProfile {
            whole_padding: true,
            ..device.clone()
        };
        let choice = Choice {
            kernel: candidate.description(),
            fingerprint: candidate.fingerprint(),
            microseconds: 0,
        };
        let mut only = Choices::default();
        only.insert(self.op.as_ref(), &inputs, &device, choice);
        if only.candidate(&self.op, &inputs, &device).is_none() {
            return Ok(None);
        }
        let outputs = [self.graph.output()];
        Plan::with_choices(&self.graph, input, &outputs, &device, &only).map(Some)
    }
}

/// The operations of `graph` between which and the device there is a choice: sums of products of an activation
/// and parameters, by several candidates. Each shape comes once, the most work first.
///
/// # Errors
/// As [`Plan::new`].
pub fn tunable(
    graph: &Graph,
    input: Shape,
    outputs: &[NodeId],
    device: &DeviceProfile,
) -> Result<Vec<Tunable>> {
    let mut shapes = graph.shapes(input)?;
    let operations = fused(graph, outputs, &shapes, device);
    let operations = padding::cut(operations, graph, &mut shapes, outputs, device)?;
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for operation in operations {
        let inputs = shapes_of(&operation.inputs, &shapes);
        let op = &operation.op;
        if op.reduction_length(&inputs) == 1 || !seen.insert(key(op.as_ref(), &inputs, device)) {
            continue;
        }
        let Some(alone) = alone(graph, &operation)? else {
            continue;
        };
        let candidates = candidates(op, &inputs, device)?;
        if candidates.len() > 1 {
            found.push(Tunable {
                name: operation.name,
                op: operation.op,
                inputs,
                graph: alone,
                candidates,
            });
        }
    }
    found.sort_by_key(|tunable| std::cmp::Reverse(tunable.op.flops(&tunable.inputs)));
    Ok(found)
}

/// The graph of one operation; `None` if it is not made of one activation and parameters.
fn alone(graph: &Graph, operation: &Operation) -> Result<Option<Graph>> {
    let Some((first, others)) = operation.inputs.split_first() else {
        return Ok(None);
    };
    let first = graph.nodes().get(first.index());
    if first.is_some_and(|node| matches!(node.kind, NodeKind::Parameter(_))) {
        return Ok(None);
    }
    let mut alone = Graph::new("");
    let mut ids = vec![alone.input()];
    for id in others {
        let Some(node) = graph.nodes().get(id.index()) else {
            return Ok(None);
        };
        let NodeKind::Parameter(shape) = node.kind else {
            return Ok(None);
        };
        ids.push(alone.parameter(node.name.as_str(), shape)?);
    }
    alone.shared_op(operation.name.as_str(), operation.op.clone(), &ids)?;
    Ok(Some(alone))
}

/// The ways to compute an op on the device, that of a plan without choices first, each once.
fn candidates(op: &Arc<dyn Op>, inputs: &[Shape], device: &DeviceProfile) -> Result<Vec<Lowering>> {
    let whole = vec![Stage {
        op: op.clone(),
        inputs: (0..inputs.len()).map(StageInput::Op).collect(),
    }];
    let mut ways = vec![op.stages(inputs, device), whole];
    ways.extend(op.other_stages(inputs, device));
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for stages in ways.into_iter().filter(|stages| !stages.is_empty()) {
        for kernels in combinations(&stages, inputs, device)? {
            let stages = stages.clone();
            let candidate = Lowering { stages, kernels };
            let writes = candidate.kernels.last().map(|kernel| kernel.output);
            // Labels are no sums: they are not held to a bound.
            if writes != Some(Format::Labels8) && seen.insert(candidate.fingerprint()) {
                all.push(candidate);
            }
        }
    }
    Ok(all)
}

/// Every kernel of each stage with every one of the others, the best of all first.
fn combinations(
    stages: &[Stage],
    inputs: &[Shape],
    device: &DeviceProfile,
) -> Result<Vec<Vec<Kernel>>> {
    let mut between: Vec<Shape> = Vec::with_capacity(stages.len());
    let mut all: Vec<Vec<Kernel>> = vec![Vec::new()];
    for stage in stages {
        let of = |input: &StageInput| match *input {
            StageInput::Op(i) => inputs[i],
            StageInput::Stage(i) => between[i],
        };
        let shapes: Vec<_> = stage.inputs.iter().map(of).collect();
        let mut kernels = stage.op.kernels(&shapes, device)?;
        kernels.extend(stage.op.other_kernels(&shapes, device)?);
        kernels.retain(|kernel| kernel.fits(device));
        let with = |before: Vec<Kernel>| {
            let append =
                move |kernel: &Kernel| [before.as_slice(), std::slice::from_ref(kernel)].concat();
            kernels.iter().map(append).collect::<Vec<_>>()
        };
        all = all.into_iter().flat_map(with).collect();
        between.push(stage.op.output_shape(&shapes)?);
    }
    Ok(all)
}

//! The driver of planning: the passes, then memory, bands and dispatches.

use super::choices::Choices;
use super::draft::Draft;
use super::groups::{self, Band, Group};
use super::program::Program;
use super::{BandGroup, Place, Plan, ReadBack, memory, passes, split};
use crate::error::{Error, ErrorKind, Result, bail};
use crate::graph::{Graph, NodeId};
use crate::target::Target;
use crate::tensor::Shape;
use std::collections::HashMap;

impl Plan {
    /// Plans `graph` for an input of shape `input` so that the values of `outputs` can be read.
    ///
    /// # Errors
    /// `Shape` if the graph does not fit the input. `Limit`, with sizes, if a tensor exceeds the device's buffers even
    /// in bands of single rows, or the plan exceeds the memory limit. `Unsupported` if no kernel can run a node.
    pub fn new(graph: &Graph, input: Shape, outputs: &[NodeId], target: &Target) -> Result<Self> {
        Self::with_choices(graph, input, outputs, target, &Choices::default())
    }

    /// As [`Plan::new`], with the kernels in `choices` where the device has them.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn with_choices(
        graph: &Graph,
        input: Shape,
        outputs: &[NodeId],
        target: &Target,
        choices: &Choices,
    ) -> Result<Self> {
        let within = |target: &Target| Self::within_limits(graph, input, outputs, target, choices);
        match within(target) {
            // Transformed weights take more memory than weights do.
            Err(limit) if limit.kind() == ErrorKind::Limit => {
                match within(&target.without_transforms()) {
                    Err(e) if e.kind() != ErrorKind::Limit => Err(limit),
                    plan => plan,
                }
            }
            plan => plan,
        }
    }

    fn within_limits(
        graph: &Graph,
        input: Shape,
        outputs: &[NodeId],
        target: &Target,
        choices: &Choices,
    ) -> Result<Self> {
        if input.elements() == 0 {
            bail!(Shape, "the input {input} has no elements");
        }
        let mut draft = Draft::new(graph, graph.shapes(input)?, outputs, target, choices);
        let counted =
            |shape: &Shape| shape.pixels().saturating_mul(shape.c4()) <= u32::MAX as usize;
        if let Some(large) = draft.shapes.iter().find(|shape| !counted(shape)) {
            bail!(
                Limit,
                "a tensor of shape {large} is more than kernels can count, {} groups of four channels: use a \
                 smaller picture or batch",
                u32::MAX
            );
        }
        let mut passes = passes::OPERATIONS.iter().chain(&passes::KERNELS);
        passes.try_for_each(|pass| pass(&mut draft))?;
        let mut program = Program::new(draft)?;
        let mut plan = Self::of(&program)?;
        // Reduces the largest buffer, and so adds bands, until the plan fits; in small steps, since bands repeat work.
        while plan.peak_device_bytes() > target.options.memory_bytes {
            let largest = plan.slots.iter().copied().max().unwrap_or(0);
            program.most_bytes = program.most_bytes.min(largest) / 8 * 7;
            plan = match Self::of(&program) {
                Err(e) if e.kind() == ErrorKind::Limit => bail!(
                    Limit,
                    "the smallest plan for an input of {input} takes {} MiB of device memory; {} MiB may be \
                     taken: use a smaller picture or batch",
                    plan.peak_device_bytes().div_ceil(1 << 20),
                    target.options.memory_bytes >> 20
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
                    .add_steps(self, rows, places, held, program.target)
                    .map_err(at(i))?;
            }
            self.read_back_band(program, group, band);
        }
        self.count_bands(group, first);
        Ok(())
    }

    /// Corrects the work of a group's layers, from layer `first` on, for rows that are computed twice or not at all.
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

    /// Reads back the band's share of the outputs that are held one band at a time.
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

    /// Maps each node that is fused into a later one to that node, when only `outputs` are requested and wherever a rule
    /// fuses them: a plan fuses only where its device has a kernel for the result.
    pub fn fused(graph: &Graph, outputs: &[NodeId]) -> HashMap<NodeId, NodeId> {
        let (target, choices) = (Target::WEBGPU_DEFAULTS, Choices::default());
        let mut draft = Draft::new(graph, Vec::new(), outputs, &target, &choices);
        passes::lower_nodes(&mut draft);
        passes::fuse_where(&mut draft, |_, _| true);
        let mut into = HashMap::new();
        for operation in draft.operations {
            let others = operation.nodes.iter().filter(|id| **id != operation.id);
            into.extend(others.map(|id| (*id, operation.id)));
        }
        into
    }
}

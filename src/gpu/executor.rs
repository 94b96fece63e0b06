//! Turns a plan into command buffers. All decisions are in the plan.

use super::buffers::{part, staging};
use super::pipelines::Pipelines;
use super::readback::{self, Pending, Ring};
use super::saturation::Saturation;
use super::texels::Texels;
use super::textures::Ends;
use super::weights::{Packed, Weights};
use super::{Gpu, layout};
use crate::device_profile::TEXEL_ROW_BYTES;
use crate::error::{Result, bail};
use crate::graph::{Graph, NodeId, NodeKind};
use crate::ops::kernel::Format;
use crate::ops::narrow::SATURATED_GROUP;
use crate::parameters::Parameters;
#[cfg(not(target_arch = "wasm32"))]
use crate::plan::Pipeline;
use crate::plan::{Bound, Plan};
use crate::tensor::{Shape, Tensor};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// The word that fills activation buffers before a run in tests: NaN as f32 and as two f16, with a payload that no
/// arithmetic produces.
pub(super) const POISON: u32 = 0x7fed_7fed;
/// Size of the buffer of poison, in bytes; larger buffers are filled by several copies.
const POISON_BYTES: usize = 1 << 20;

/// The most runs of an executor in flight: one on the device, one queued, so that the device never idles, and one that
/// the host uploads or reads back.
pub const IN_FLIGHT: usize = 3;

/// One network on one device: its pipelines and packed weights, shared by all its executors.
#[derive(Debug)]
pub struct Network {
    gpu: Gpu,
    pipelines: Arc<Pipelines>,
    weights: Arc<Weights>,
}

impl Network {
    /// A network with weights of its own. Weights and pipelines are loaded later; pipelines of other networks on the
    /// device are shared.
    pub fn new(gpu: &Gpu) -> Self {
        Self {
            gpu: gpu.clone(),
            pipelines: gpu.shared().only(),
            weights: Arc::default(),
        }
    }

    /// A network that shares its weights with the other networks of the same `parameters` and precision (f16 if
    /// `half`).
    pub fn sharing_weights(gpu: &Gpu, parameters: &Parameters, half: bool) -> Self {
        Self {
            weights: gpu.shared().of(parameters.identity(), half),
            ..Self::new(gpu)
        }
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Bytes of the weights in device memory.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.bytes()
    }

    /// Compiles `pipelines`. Failures are only logged; they are reported when the pipeline is needed.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) async fn compile_ahead(&self, pipelines: &[Pipeline]) {
        if let Err(error) = self.compile(pipelines).await {
            tracing::debug!("{error}");
        }
    }

    /// Compiles `pipelines`.
    ///
    /// # Errors
    /// `Device` if a shader does not compile.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn compile(&self, pipelines: &[Pipeline]) -> Result<()> {
        self.pipelines.make(&self.gpu, pipelines).await
    }

    /// Compiles the pipelines and uploads the weights that `plan` of `graph` needs and the network lacks.
    ///
    /// # Errors
    /// `Device` if a shader does not compile, `Limit` if memory runs out, `ModelFile` if a weight is unusable.
    pub async fn load(&self, plan: &Plan, graph: &Graph, parameters: &Parameters) -> Result<()> {
        // Compilation is bound by the cores, uploading by memory: both run at the same time.
        let compiling = self.pipelines.make(&self.gpu, &plan.pipelines);
        self.parameters(plan, graph, parameters).await?;
        compiling.await
    }

    async fn parameters(
        &self,
        plan: &Plan,
        graph: &Graph,
        parameters: &Parameters,
    ) -> Result<Vec<Packed>> {
        let shapes: HashMap<_, _> = graph
            .nodes()
            .iter()
            .filter_map(|node| match node.kind {
                NodeKind::Parameter(shape) => Some((node.name.as_str(), shape)),
                _ => None,
            })
            .collect::<HashMap<&str, Shape>>();
        self.weights.get(&self.gpu, plan, &shapes, parameters).await
    }
}

/// A plan with its buffers; it can run any number of times.
#[derive(Debug)]
pub struct Executor {
    gpu: Gpu,
    pub(super) plan: Arc<Plan>,
    pub(super) slots: Vec<wgpu::Buffer>,
    mirror: Option<Texels>,
    pipelines: Vec<Arc<wgpu::ComputePipeline>>,
    bind_groups: Vec<wgpu::BindGroup>,
    /// Only for plans in f16.
    saturation: Option<Saturation>,
    ring: Arc<Ring>,
    /// The buffer of poison, copied to the activation buffers before each run.
    poison: Option<wgpu::Buffer>,
    /// The buffers for textures, after [`Executor::prepare_textures`].
    pub(super) ends: Option<Ends>,
}

impl Executor {
    /// Creates the buffers for `plan`, a plan of `graph`, on the device of `network`. Executors may share a plan.
    ///
    /// # Errors
    /// As [`Network::load`].
    pub async fn new(
        network: &Network,
        plan: impl Into<Arc<Plan>>,
        graph: &Graph,
        parameters: &Parameters,
    ) -> Result<Self> {
        let gpu = network.gpu.clone();
        let plan = gpu.with_fault(plan.into());
        let pipelines = network.pipelines.get(&gpu, &plan.pipelines).await?;
        let weights = network.parameters(&plan, graph, parameters).await?;
        let (slots, mirror, bind_groups, saturation) = gpu
            .guarded("activation buffers", || {
                let slots: Vec<_> = plan.slots.iter().map(|&b| activation(&gpu, b)).collect();
                let mirror = (plan.mirror_bytes > 0)
                    .then(|| Texels::new(&gpu, "mirror", TEXEL_ROW_BYTES + plan.mirror_bytes));
                let activations = (slots.as_slice(), mirror.as_ref());
                let bind_groups = bind_groups(&gpu, &plan, activations, &weights, &pipelines);
                let saturation = Saturation::new(&gpu, &plan, &pipelines);
                (slots, mirror, bind_groups, saturation)
            })
            .await?;
        Ok(Self {
            gpu,
            plan,
            slots,
            mirror,
            pipelines,
            bind_groups,
            saturation,
            ring: Ring::new(&network.gpu, IN_FLIGHT),
            poison: network.gpu.poison().then(|| poison(&network.gpu)),
            ends: None,
        })
    }

    /// Fills every activation buffer with NaN before each run from now on.
    pub(super) fn poison(&mut self) {
        self.poison.get_or_insert_with(|| poison(&self.gpu));
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Bytes of device memory that an executor of `plan` takes, without the shared weights: activations and staging
    /// buffers.
    pub fn bytes_of(plan: &Plan) -> u64 {
        plan.peak_device_bytes() - plan.parameter_bytes()
    }

    /// Bytes of device memory that this executor takes, without the shared weights: as [`Executor::bytes_of`], and the
    /// buffers for textures after [`Executor::prepare_textures`].
    pub fn device_bytes(&self) -> u64 {
        Self::bytes_of(&self.plan) + self.ends.as_ref().map_or(0, Ends::bytes)
    }

    /// Runs the plan on `input` and returns the plan's outputs in order.
    ///
    /// # Errors
    /// `Shape` if `input` does not have the planned shape; `NotFinite` if f16 does not hold a value of the input or of
    /// a layer; `Device` or `DeviceLost` if the device fails.
    pub async fn run(&mut self, input: &Tensor) -> Result<Vec<(NodeId, Tensor)>> {
        let bytes = self.run_bytes(&self.encoded(input)?).await?;
        let outputs = self.plan.outputs.iter().zip(bytes);
        outputs
            .map(|((id, p), bytes)| Ok((*id, layout::decode(&bytes, p.shape, p.format)?)))
            .collect()
    }

    /// As [`Executor::run`], with input and outputs as bytes in the layout of device memory.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub async fn run_bytes(&mut self, input: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.submit(input).await?.await
    }

    /// As [`Executor::submit`], with the input as a tensor.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub async fn submit_tensor(&mut self, input: &Tensor) -> Result<Pending> {
        let bytes = self.encoded(input)?;
        self.submit(&bytes).await
    }

    /// The bytes of `input` in the layout of the plan's input.
    fn encoded(&self, input: &Tensor) -> Result<Vec<u8>> {
        let place = &self.plan.input;
        if input.shape() != place.shape {
            bail!(
                Shape,
                "the plan is for an input of shape {}, not {}",
                place.shape,
                input.shape()
            );
        }
        layout::encode(input, place.format)
    }

    /// An input in the layout of device memory: of pictures, the words that `word` gives for each pixel; of tensors,
    /// numbers from 0 to 1 made of them.
    ///
    /// # Errors
    /// `Limit` if the host has no memory for it.
    pub fn input_of(&self, word: impl Fn(u32) -> u32) -> Result<Vec<u8>> {
        let place = &self.plan.input;
        if place.format == Format::Rgba8 {
            let words = (0..place.shape.pixels() as u32).map(word);
            return Ok(words.flat_map(u32::to_le_bytes).collect());
        }
        let number = |i: u32| (word(i) >> 8) as f32 / (1 << 24) as f32;
        let data = (0..place.shape.elements() as u32).map(number).collect();
        self.encoded(&Tensor::new(place.shape, data)?)
    }

    /// Submits a run on `input`, bytes in the layout of device memory, and returns a future of the outputs. Further
    /// runs may be submitted before it resolves: the device executes them in order, and computes the next while the
    /// host reads back the previous one. If [`IN_FLIGHT`] runs are in flight, this waits until one is read back or
    /// dropped.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub async fn submit(&mut self, input: &[u8]) -> Result<Pending> {
        let place = &self.plan.input;
        if input.len() as u64 != place.bytes() {
            bail!(
                Shape,
                "the input has {} bytes; the plan is for {}",
                input.len(),
                place.bytes()
            );
        }
        self.gpu.check_lost()?;
        let mut frame = self.ring.take().await;
        if frame.buffers.is_empty() {
            let parts = self.plan.read_backs.iter();
            let lengths = parts.map(|part| part.bytes.end - part.bytes.start);
            let lengths = lengths.chain(self.saturation.as_ref().map(Saturation::bytes));
            let make = || lengths.map(|bytes| staging(&self.gpu, bytes)).collect();
            frame.buffers = self.gpu.guarded("buffers of outputs", make).await?;
        }
        let send = || self.send(input, &frame.buffers);
        let submission = self.gpu.guarded("running", send).await?;
        let patience = self.patience();
        let parts = self.plan.read_backs.iter().map(|part| part.output);
        let parts = parts.collect();
        let layers = self.saturation.as_ref().map(|s| s.layers.clone());
        let pending = Pending::new(&self.gpu, frame, submission, patience, parts);
        Ok(pending.unless_saturated(layers))
    }

    fn send(&self, input: &[u8], staging: &[wgpu::Buffer]) -> wgpu::SubmissionIndex {
        let queue = self.gpu.queue();
        if self.poison.is_some() {
            let mut encoder = self.encoder();
            self.record_poison(&mut encoder);
            queue.submit([encoder.finish()]);
        }
        queue.write_buffer(&self.slots[self.plan.input.slot], 0, input);
        let mut encoder = self.encoder();
        self.clear_saturation(&mut encoder);
        for steps in self.submissions() {
            if steps.start > 0 {
                self.copy_outputs(&mut encoder, steps.start, staging);
                queue.submit([std::mem::replace(&mut encoder, self.encoder()).finish()]);
            }
            self.record(&mut encoder, steps, None);
        }
        self.copy_outputs(&mut encoder, self.plan.steps.len(), staging);
        if let (Some(saturation), Some(staging)) = (&self.saturation, staging.last()) {
            encoder.copy_buffer_to_buffer(&saturation.words, 0, staging, 0, Some(staging.size()));
        }
        queue.submit([encoder.finish()])
    }

    pub(super) fn record_poison(&self, encoder: &mut wgpu::CommandEncoder) {
        let Some(poison) = &self.poison else {
            return;
        };
        for buffer in &self.slots {
            for begin in (0..buffer.size()).step_by(POISON_BYTES) {
                let bytes = (buffer.size() - begin).min(poison.size());
                encoder.copy_buffer_to_buffer(poison, 0, buffer, begin, Some(bytes));
            }
        }
    }

    pub(super) fn clear_saturation(&self, encoder: &mut wgpu::CommandEncoder) {
        if let Some(saturation) = &self.saturation {
            encoder.clear_buffer(&saturation.words, 0, None);
        }
    }

    /// The range of steps of each submission.
    pub(super) fn submissions(&self) -> impl Iterator<Item = Range<usize>> {
        let steps = &self.plan.steps;
        let mut begin = 0;
        std::iter::from_fn(move || {
            let rest = &steps[begin..];
            let length = rest
                .iter()
                .position(|s| s.ends_submit)
                .map_or(rest.len(), |i| i + 1);
            let submission = begin..begin + length;
            begin += length;
            (length > 0).then_some(submission)
        })
    }

    /// Records `steps`, with timestamps at the beginning of the first and at the end of the last.
    pub(super) fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        steps: Range<usize>,
        timestamps: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) {
        // A pass ends before a step that needs a copy. If the first step needs one, an empty pass before it writes the
        // first timestamp.
        let copies = |step: &usize| self.plan.steps[*step].mirror.is_some();
        let ends = steps.clone().filter(copies).chain([steps.end]);
        let mut begin = steps.start;
        for end in ends {
            let writes = timestamps.clone().and_then(|mut writes| {
                let (first, last) = (begin == steps.start, end == steps.end);
                if !first {
                    writes.beginning_of_pass_write_index = None;
                }
                if !last {
                    writes.end_of_pass_write_index = None;
                }
                (first || last).then_some(writes)
            });
            if begin < end || writes.is_some() {
                self.record_pass(encoder, begin..end, writes);
            }
            if end < steps.end {
                self.record_copy(encoder, end);
            }
            begin = end;
        }
    }

    fn record_pass(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        steps: Range<usize>,
        timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: None,
            timestamp_writes,
        });
        for i in steps {
            let step = &self.plan.steps[i];
            pass.set_pipeline(&self.pipelines[step.pipeline]);
            pass.set_bind_group(0, &self.bind_groups[i], &[]);
            if let Some(word) = self
                .saturation
                .as_ref()
                .and_then(|s| s.of_steps[i].as_ref())
            {
                pass.set_bind_group(SATURATED_GROUP, word, &[]);
            }
            let [x, y] = step.workgroups;
            pass.dispatch_workgroups(x, y, 1);
        }
    }

    /// Copies the activations that `step` reads as texels to the mirror, if any.
    fn record_copy(&self, encoder: &mut wgpu::CommandEncoder, step: usize) {
        if let (Some(texels), Some(mirror)) = (&self.mirror, &self.plan.steps[step].mirror) {
            let slot = &self.slots[mirror.slot];
            texels.copy(encoder, TEXEL_ROW_BYTES, slot, &mirror.bytes);
        }
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The timeout of a run.
    pub fn patience(&self) -> Duration {
        readback::patience(self.plan.flops())
    }

    pub(super) fn saturation(&self) -> Option<&Saturation> {
        self.saturation.as_ref()
    }

    pub(super) fn encoder(&self) -> wgpu::CommandEncoder {
        let descriptor = wgpu::CommandEncoderDescriptor {
            label: Some("fullconv"),
        };
        self.gpu.device().create_command_encoder(&descriptor)
    }

    /// Copies the output parts that are read back after `steps` steps to their staging buffers.
    fn copy_outputs(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        steps: usize,
        staging: &[wgpu::Buffer],
    ) {
        let parts = self.plan.read_backs.iter().zip(staging);
        for (part, staging) in parts.filter(|(part, _)| part.after == steps) {
            let slot = &self.slots[self.plan.outputs[part.output].1.slot];
            let bytes = part.bytes.end - part.bytes.start;
            encoder.copy_buffer_to_buffer(slot, part.bytes.start, staging, 0, Some(bytes));
        }
    }
}

fn activation(gpu: &Gpu, size: u64) -> wgpu::Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some("activation"),
        size,
        usage: wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

fn poison(gpu: &Gpu) -> wgpu::Buffer {
    let buffer = activation(gpu, POISON_BYTES as u64);
    let words = vec![POISON; POISON_BYTES / 4];
    gpu.queue()
        .write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
    buffer
}

/// One bind group per step. One uniform buffer holds the parameters of all steps.
fn bind_groups(
    gpu: &Gpu,
    plan: &Plan,
    (slots, mirror): (&[wgpu::Buffer], Option<&Texels>),
    weights: &[Packed],
    pipelines: &[Arc<wgpu::ComputePipeline>],
) -> Vec<wgpu::BindGroup> {
    let device = gpu.device();
    let align = u64::from(device.limits().min_uniform_buffer_offset_alignment);
    let stride = |words: usize| (words as u64 * 4).next_multiple_of(align);
    let total: u64 = plan.steps.iter().map(|s| stride(s.params.len())).sum();
    let params = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("params"),
        size: total.max(align),
        usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut all = vec![0u8; total as usize];
    let mut offset = 0;
    let mut groups = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let words: &[u8] = bytemuck::cast_slice(&step.params);
        all[offset as usize..][..words.len()].copy_from_slice(words);
        let mut entries: Vec<_> = step
            .bindings
            .iter()
            .filter_map(|bound| match bound {
                Bound::Parameter(i) => Some(weights[*i].binding()),
                Bound::Slot { slot, bytes, .. } => {
                    Some(part(&slots[*slot], bytes.start, bytes.end))
                }
                Bound::Mirror { .. } => mirror.map(Texels::binding),
            })
            .collect();
        let size = (words.len() as u64).next_multiple_of(16);
        entries.push(part(&params, offset, (offset + size).min(total.max(align))));
        let entries: Vec<_> = (0u32..)
            .zip(entries)
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        groups.push(device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&plan.layers[step.layer].name),
            layout: &pipelines[step.pipeline].get_bind_group_layout(0),
            entries: &entries,
        }));
        offset += stride(step.params.len());
    }
    gpu.queue().write_buffer(&params, 0, &all);
    groups
}

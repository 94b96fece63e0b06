//! From a texture of the program's to textures of class ids and colours, without the host: what comes before a
//! plan's steps, and what after them. All buffers are there before the first run; a run writes and maps none.

mod colours;
mod labels;
mod source;

pub use colours::{MaskTextures, Tint};

use super::{Executor, Gpu, readback};
use crate::error::{Result, bail};
use crate::ops::kernel::shader;
use crate::plan::Pipeline;
use labels::Labels;
use source::Source;
use std::ops::Range;
use std::sync::Arc;

/// The shaders that read and write a program's textures.
pub fn texture_pipelines() -> [Pipeline; 3] {
    [
        shader!("texture_words"),
        shader!("label_rows"),
        shader!("label_colours"),
    ]
    .map(|shader| Pipeline {
        shader,
        constants: Vec::new(),
    })
}

/// Invocations of a workgroup of each of them.
const WORKGROUP: u64 = 64;

/// What stands before and after the steps of a plan from a picture to labels.
#[derive(Debug)]
pub(super) struct Ends {
    source: Source,
    labels: Labels,
    colours: Arc<wgpu::ComputePipeline>,
}

impl Ends {
    /// Bytes of device memory that it takes, but for its parameters.
    pub(super) fn bytes(&self) -> u64 {
        self.labels.bytes()
    }
}

impl Executor {
    /// Makes what it takes to run on textures, where that is not there yet. The plan is one of a picture in and
    /// labels out.
    ///
    /// # Errors
    /// `Device` if a shader does not compile, `Limit` if the device cannot bind a row of labels or has no memory.
    pub async fn prepare_textures(&mut self) -> Result<()> {
        if self.ends.is_some() {
            return Ok(());
        }
        let gpu = self.gpu().clone();
        let pipelines = gpu.shared().pipelines();
        let pipelines = pipelines.get(&gpu, &texture_pipelines()).await?;
        let [words, rows, colours] = &pipelines[..] else {
            bail!(Device, "{gpu} has not made the pipelines for textures");
        };
        let input = self.plan.input.shape;
        let make = || {
            Ok(Ends {
                source: Source::new(&gpu, words.clone(), [input.h, input.w]),
                labels: Labels::new(self, rows.clone())?,
                colours: colours.clone(),
            })
        };
        let ends = gpu.guarded("buffers for textures", make).await?;
        self.ends = Some(ends?);
        Ok(())
    }

    /// Records a whole run into `encoder`: from the texture `input` to those of `mask`. Nothing is submitted,
    /// mapped, or written from the host.
    ///
    /// # Errors
    /// `Picture` if `input` is no texture that can be read, `Shape` if it or `mask` has another size than was
    /// planned for, `Request` if `mask` is of another device, `DeviceLost` if that is lost.
    pub fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        input: &wgpu::Texture,
        mask: &MaskTextures,
    ) -> Result<()> {
        self.encode_in_parts(encoder, input, mask, |_| ())
    }

    /// The same, submitted in as many parts as the plan has.
    ///
    /// # Errors
    /// As [`Executor::encode`]; `Device` if the device fails.
    pub async fn submit_textures(
        &mut self,
        input: &wgpu::Texture,
        mask: &MaskTextures,
    ) -> Result<()> {
        let run = || {
            let submit = |encoder: &mut wgpu::CommandEncoder| {
                let recorded = std::mem::replace(encoder, self.encoder());
                self.gpu().queue().submit([recorded.finish()]);
            };
            let mut encoder = self.encoder();
            self.encode_in_parts(&mut encoder, input, mask, submit)?;
            submit(&mut encoder);
            Ok(())
        };
        self.gpu().guarded("running", run).await?
    }

    /// Records a whole run, and calls `between` where a submission may end.
    fn encode_in_parts(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        input: &wgpu::Texture,
        mask: &MaskTextures,
        mut between: impl FnMut(&mut wgpu::CommandEncoder),
    ) -> Result<()> {
        let (gpu, plan) = (self.gpu(), &self.plan);
        let Some(ends) = &self.ends else {
            bail!(Request, "this run was not prepared for textures");
        };
        gpu.check_lost()?;
        let shape = plan.input.shape;
        mask.check(gpu, [shape.h, shape.w])?;
        let picture = source::view(input, [shape.h, shape.w])?;
        self.record_poison(encoder);
        self.clear_saturation(encoder);
        let slot = &self.slots[plan.input.slot];
        ends.source.encode(gpu, encoder, &picture, slot);
        for steps in self.submissions() {
            let end = steps.end;
            self.record(encoder, steps, None);
            ends.labels.encode(encoder, end, mask.labels());
            if end < plan.steps.len() {
                between(encoder);
            }
        }
        mask.encode_colours(gpu, encoder, &ends.colours, &picture);
        Ok(())
    }
}

/// What a program's texture is read through.
struct View {
    view: wgpu::TextureView,
    /// Reading it decodes sRGB.
    is_srgb: bool,
}

/// `0..total` in runs of `most`.
fn runs(total: u64, most: u64) -> impl Iterator<Item = Range<u64>> {
    let most = most.max(1);
    (0..total.div_ceil(most)).map(move |i| i * most..((i + 1) * most).min(total))
}

/// Pixels of one dispatch of an invocation each.
fn most_pixels(gpu: &Gpu) -> u64 {
    let most = u64::from(gpu.profile().max_workgroups_per_dimension);
    most.saturating_mul(most).saturating_mul(WORKGROUP)
}

/// Parameters of several dispatches, in one buffer that is written once.
#[derive(Clone, Debug)]
struct Uniforms {
    buffer: wgpu::Buffer,
    stride: u64,
    bytes: u64,
}

impl Uniforms {
    fn new<const N: usize>(gpu: &Gpu, blocks: &[[u32; N]]) -> Self {
        let align = u64::from(gpu.device().limits().min_uniform_buffer_offset_alignment);
        let bytes = (4 * N as u64).next_multiple_of(16);
        let stride = bytes.next_multiple_of(align);
        let buffer = gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("params of textures"),
            size: stride * blocks.len().max(1) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        for (offset, block) in (0..).step_by(stride as usize).zip(blocks) {
            let words = bytemuck::cast_slice(block);
            gpu.queue().write_buffer(&buffer, offset, words);
        }
        Self {
            buffer,
            stride,
            bytes,
        }
    }

    fn binding(&self, block: usize) -> wgpu::BindingResource<'_> {
        let begin = self.stride * block as u64;
        super::executor::part(&self.buffer, begin, begin + self.bytes)
    }
}

fn bind<const N: usize>(
    gpu: &Gpu,
    pipeline: &wgpu::ComputePipeline,
    resources: [wgpu::BindingResource<'_>; N],
) -> wgpu::BindGroup {
    let entries: Vec<_> = (0u32..)
        .zip(resources)
        .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
        .collect();
    gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries,
    })
}

/// Workgroups in x and y for so many invocations, of which one dispatch holds no more than [`most_pixels`].
fn workgroups(gpu: &Gpu, invocations: u64) -> [u32; 2] {
    let workgroups = invocations.div_ceil(WORKGROUP) as usize;
    gpu.profile().fold(workgroups).unwrap_or([0, 0])
}

/// Records one dispatch.
fn dispatch(
    encoder: &mut wgpu::CommandEncoder,
    pipeline: &wgpu::ComputePipeline,
    bind_group: &wgpu::BindGroup,
    [x, y]: [u32; 2],
) {
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    pass.set_pipeline(pipeline);
    pass.set_bind_group(0, bind_group, &[]);
    pass.dispatch_workgroups(x, y, 1);
}

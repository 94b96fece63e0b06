//! Bind groups, parameters and dispatches of the shaders for textures.

use crate::gpu::Gpu;
use crate::gpu::buffers::part;
use std::ops::Range;

/// Invocations per workgroup in each of these shaders.
pub(super) const WORKGROUP: u64 = 64;

/// `0..total` cut into runs of at most `most`.
pub(super) fn runs(total: u64, most: u64) -> impl Iterator<Item = Range<u64>> {
    let most = most.max(1);
    (0..total.div_ceil(most)).map(move |i| i * most..((i + 1) * most).min(total))
}

/// The most pixels of one dispatch, with one invocation per pixel.
pub(super) fn most_pixels(gpu: &Gpu) -> u64 {
    let most = u64::from(gpu.profile().max_workgroups_per_dimension);
    most.saturating_mul(most).saturating_mul(WORKGROUP)
}

/// The parameters of several dispatches, in one buffer that is written once.
#[derive(Clone, Debug)]
pub(super) struct Uniforms {
    buffer: wgpu::Buffer,
    stride: u64,
    bytes: u64,
}

impl Uniforms {
    pub(super) fn new<const N: usize>(gpu: &Gpu, blocks: &[[u32; N]]) -> Self {
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

    pub(super) fn binding(&self, block: usize) -> wgpu::BindingResource<'_> {
        let begin = self.stride * block as u64;
        part(&self.buffer, begin, begin + self.bytes)
    }
}

pub(super) fn bind<const N: usize>(
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

/// Workgroups in x and y for `invocations`, at most [`most_pixels`].
pub(super) fn workgroups(gpu: &Gpu, invocations: u64) -> [u32; 2] {
    let workgroups = invocations.div_ceil(WORKGROUP) as usize;
    gpu.profile().fold(workgroups).unwrap_or([0, 0])
}

/// Records one dispatch.
pub(super) fn dispatch(
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

//! Buffers, and what bindings show of them.

use super::Gpu;

/// A buffer of `size` bytes that results are copied to, for the host to read.
pub(super) fn staging(gpu: &Gpu, size: u64) -> wgpu::Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some("output"),
        size,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

/// The bytes of `buffer` from `begin` to `end`.
pub(super) fn part(buffer: &wgpu::Buffer, begin: u64, end: u64) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer,
        offset: begin,
        size: std::num::NonZeroU64::new(end - begin),
    })
}

//! Staging buffers, and bindings of parts of buffers.

use super::Gpu;

/// A staging buffer of `size` bytes, for readback.
pub(super) fn staging(gpu: &Gpu, size: u64) -> wgpu::Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some("output"),
        size,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

/// A binding of the bytes `begin..end` of `buffer`.
pub(super) fn part(buffer: &wgpu::Buffer, begin: u64, end: u64) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer,
        offset: begin,
        size: std::num::NonZeroU64::new(end - begin),
    })
}

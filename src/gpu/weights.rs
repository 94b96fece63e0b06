//! Parameters in device memory, packed once.

use super::Gpu;
use super::texels::Texels;
use crate::error::Result;
use crate::parameters::Parameters;
use crate::plan::{PackedParameter, Plan};
use crate::tensor::Shape;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Bytes packed and uploaded at a time: bounds what loading takes of host memory beyond the file.
const CHUNK_BYTES: u64 = 16 << 20;

/// A packed parameter in device memory.
#[derive(Clone, Debug)]
pub(super) enum Packed {
    Buffer(wgpu::Buffer),
    Texels(Texels),
}

impl Packed {
    /// Memory of zeros for `wanted`.
    fn new(gpu: &Gpu, wanted: &PackedParameter, label: &str) -> Self {
        if wanted.texels {
            return Self::Texels(Texels::new(gpu, label, wanted.bytes));
        }
        Self::Buffer(gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: wanted.bytes,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        }))
    }

    fn write(&self, gpu: &Gpu, offset: u64, data: &[u8]) {
        match self {
            Self::Buffer(buffer) => gpu.queue().write_buffer(buffer, offset, data),
            Self::Texels(texels) => texels.write(gpu, offset, data),
        }
    }

    /// What a bind group takes.
    pub(super) fn binding(&self) -> wgpu::BindingResource<'_> {
        match self {
            Self::Buffer(buffer) => buffer.as_entire_binding(),
            Self::Texels(texels) => texels.binding(),
        }
    }
}

/// The packed parameters of one network on one device.
#[derive(Debug, Default)]
pub(super) struct Weights(Mutex<HashMap<PackedParameter, Packed>>);

impl Weights {
    /// The parameters of a plan, in its order; those that are new are packed and uploaded.
    pub(super) async fn get(
        &self,
        gpu: &Gpu,
        plan: &Plan,
        shapes: &HashMap<&str, Shape>,
        parameters: &Parameters,
    ) -> Result<Vec<Packed>> {
        let mut buffers = Vec::with_capacity(plan.parameters.len());
        for wanted in &plan.parameters {
            let found = self.lock().get(wanted).cloned();
            let buffer = match found {
                Some(buffer) => buffer,
                None => {
                    let made = upload(gpu, wanted, shapes, parameters).await?;
                    self.lock().entry(wanted.clone()).or_insert(made).clone()
                }
            };
            buffers.push(buffer);
        }
        Ok(buffers)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PackedParameter, Packed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn upload(
    gpu: &Gpu,
    wanted: &PackedParameter,
    shapes: &HashMap<&str, Shape>,
    parameters: &Parameters,
) -> Result<Packed> {
    let label = wanted.name.as_deref().unwrap_or("no bias");
    let packed = gpu
        .guarded(&format!("memory for {label}"), || {
            Packed::new(gpu, wanted, label)
        })
        .await?;
    // Fresh memory holds zeros, which is what a bias that is not there needs.
    let Some(name) = wanted.name.as_deref() else {
        return Ok(packed);
    };
    let shape = shapes[name];
    let parameter = parameters.get(name, shape)?;
    let tile_bytes = wanted.packing.tile_bytes(shape);
    let per_chunk = (CHUNK_BYTES / tile_bytes).max(1) as usize;
    for first in wanted.tiles.clone().step_by(per_chunk) {
        let tiles = first..(first + per_chunk).min(wanted.tiles.end);
        let data = wanted.packing.pack(shape, &parameter, tiles)?;
        let offset = (first - wanted.tiles.start) as u64 * tile_bytes;
        gpu.guarded(&format!("uploading {label}"), || {
            packed.write(gpu, offset, bytemuck::cast_slice(&data));
            gpu.queue().submit([])
        })
        .await?;
        super::readback::wait(gpu, None, super::readback::patience(0))?;
        parameters.release(name);
    }
    Ok(packed)
}

//! Parameters in device memory, packed once.

use super::Gpu;
use crate::error::Result;
use crate::parameters::Parameters;
use crate::plan::{PackedParameter, Plan};
use crate::tensor::Shape;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Bytes packed and uploaded at a time: bounds what loading takes of host memory beyond the file.
const CHUNK_BYTES: u64 = 16 << 20;

/// The packed parameters of one network on one device.
#[derive(Debug, Default)]
pub(super) struct Weights(Mutex<HashMap<PackedParameter, wgpu::Buffer>>);

impl Weights {
    /// The parameters of a plan, in its order; those that are new are packed and uploaded.
    pub(super) async fn get(
        &self,
        gpu: &Gpu,
        plan: &Plan,
        shapes: &HashMap<&str, Shape>,
        parameters: &Parameters,
    ) -> Result<Vec<wgpu::Buffer>> {
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

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PackedParameter, wgpu::Buffer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn upload(
    gpu: &Gpu,
    wanted: &PackedParameter,
    shapes: &HashMap<&str, Shape>,
    parameters: &Parameters,
) -> Result<wgpu::Buffer> {
    let label = wanted.name.as_deref().unwrap_or("no bias");
    let buffer = gpu
        .guarded(&format!("memory for {label}"), || {
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: wanted.bytes,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })
        .await?;
    // A fresh buffer holds zeros, which is what a bias that is not there needs.
    let Some(name) = wanted.name.as_deref() else {
        return Ok(buffer);
    };
    let shape = shapes[name];
    let parameter = parameters.get(name, shape)?;
    let tile_bytes = wanted.packing.tile_bytes(shape);
    let per_chunk = (CHUNK_BYTES / tile_bytes).max(1) as usize;
    for first in wanted.tiles.clone().step_by(per_chunk) {
        let tiles = first..(first + per_chunk).min(wanted.tiles.end);
        let packed = wanted.packing.pack(shape, &parameter, tiles)?;
        let offset = (first - wanted.tiles.start) as u64 * tile_bytes;
        gpu.guarded(&format!("uploading {label}"), || {
            gpu.queue()
                .write_buffer(&buffer, offset, bytemuck::cast_slice(&packed));
            gpu.queue().submit([])
        })
        .await?;
        super::readback::wait(gpu, None, super::readback::patience(0))?;
        parameters.release(name);
    }
    Ok(buffer)
}

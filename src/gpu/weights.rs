//! Parameters in device memory, packed once per device.

use super::Gpu;
use super::readback::{self, Done};
use super::texels::Texels;
use crate::error::{Result, bail};
use crate::ops::narrow;
use crate::parallel;
use crate::parameters::{Parameter, Parameters};
use crate::plan::{PackedParameter, Plan};
use crate::tensor::Shape;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Bytes packed and uploaded at a time.
const CHUNK_BYTES: u64 = 8 << 20;

/// Chunks that the device may copy while the next one is packed. This bounds the host memory of loading, beyond the
/// file.
const UPLOADS: usize = 2;

/// A packed parameter in device memory.
#[derive(Clone, Debug)]
pub(super) enum Packed {
    Buffer(wgpu::Buffer),
    Texels(Texels),
}

impl Packed {
    /// Device memory for `wanted`, all zeros.
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

    /// The binding of the whole parameter.
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
    /// The parameters of `plan`, in its order; new ones are packed and uploaded.
    pub(super) async fn get(
        &self,
        gpu: &Gpu,
        plan: &Plan,
        shapes: &HashMap<&str, Shape>,
        parameters: &Parameters,
    ) -> Result<Vec<Packed>> {
        let mut new: HashMap<&PackedParameter, Packed> = HashMap::new();
        let mut chunks = Vec::new();
        for wanted in &plan.parameters {
            if new.contains_key(wanted) || self.lock().contains_key(wanted) {
                continue;
            }
            let target = target(gpu, wanted).await?;
            add_chunks(&mut chunks, wanted, &target, shapes, parameters)?;
            new.insert(wanted, target);
        }
        upload(gpu, &chunks).await?;
        let mut all = self.lock();
        for (wanted, target) in new {
            all.entry(wanted.clone()).or_insert(target);
        }
        Ok(plan.parameters.iter().map(|p| all[p].clone()).collect())
    }

    /// Bytes of all parameters.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().keys().map(|parameter| parameter.bytes).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PackedParameter, Packed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a parameter that is packed and uploaded at once.
struct Chunk<'a> {
    wanted: &'a PackedParameter,
    name: &'a str,
    shape: Shape,
    parameter: Parameter<'a>,
    tiles: Range<usize>,
    target: Packed,
}

impl Chunk<'_> {
    /// The number of packed elements.
    fn elements(&self) -> usize {
        (self.tiles.len() as u64 * self.wanted.packing.tile_bytes(self.shape) / 4) as usize
    }

    /// Packs the chunk into the beginning of `packed`.
    fn pack(&self, packed: &mut [f32]) -> Result<()> {
        let packed = &mut packed[..self.elements()];
        let packing = self.wanted.packing;
        packing.pack(self.shape, &self.parameter, self.tiles.clone(), packed)?;
        if self.wanted.half
            && let Some(large) = packed.iter().find(|x| !narrow::holds(**x))
        {
            bail!(
                ModelFile,
                "{} has a weight of {large}: f16 holds numbers up to {}; use f32",
                self.name,
                narrow::MAX
            );
        }
        Ok(())
    }

    /// Uploads the chunk from the beginning of `packed`.
    fn send(&self, gpu: &Gpu, packed: &[f32]) -> wgpu::SubmissionIndex {
        let before = self.tiles.start - self.wanted.tiles.start;
        let offset = before as u64 * self.wanted.packing.tile_bytes(self.shape);
        let packed = &packed[..self.elements()];
        match self.wanted.half {
            true => {
                let packed = narrow::from_f32(packed);
                self.target
                    .write(gpu, offset / 2, bytemuck::cast_slice(&packed));
            }
            false => self.target.write(gpu, offset, bytemuck::cast_slice(packed)),
        }
        gpu.queue().submit([])
    }
}

/// Device memory for a parameter.
async fn target(gpu: &Gpu, wanted: &PackedParameter) -> Result<Packed> {
    let label = wanted.name.as_deref().unwrap_or("no bias");
    gpu.guarded(&format!("memory for {label}"), || {
        Packed::new(gpu, wanted, label)
    })
    .await
}

/// Adds the chunks of a parameter. An absent parameter has no chunks: a new buffer holds zeros.
fn add_chunks<'a>(
    chunks: &mut Vec<Chunk<'a>>,
    wanted: &'a PackedParameter,
    target: &Packed,
    shapes: &HashMap<&str, Shape>,
    parameters: &'a Parameters,
) -> Result<()> {
    let Some(name) = wanted.name.as_deref() else {
        return Ok(());
    };
    let shape = shapes[name];
    let per_chunk = (CHUNK_BYTES / wanted.packing.tile_bytes(shape)).max(1) as usize;
    for first in wanted.tiles.clone().step_by(per_chunk) {
        chunks.push(Chunk {
            wanted,
            name,
            shape,
            parameter: parameters.get(name, shape)?,
            tiles: first..(first + per_chunk).min(wanted.tiles.end),
            target: target.clone(),
        });
    }
    Ok(())
}

/// Packs each chunk while the previous one is uploaded and the device copies the ones before.
async fn upload(gpu: &Gpu, chunks: &[Chunk<'_>]) -> Result<()> {
    let largest = chunks.iter().map(Chunk::elements).max().unwrap_or(0);
    let (mut ready, mut next) = (vec![0.0; largest], vec![0.0; largest]);
    let mut under_way: VecDeque<Done> = VecDeque::new();
    if let Some(first) = chunks.first() {
        first.pack(&mut ready)?;
    }
    for (i, chunk) in chunks.iter().enumerate() {
        let mut packed = Ok(());
        let pack_next = || {
            if let Some(chunk) = chunks.get(i + 1) {
                packed = chunk.pack(&mut next);
            }
        };
        let send = || parallel::meanwhile(pack_next, || chunk.send(gpu, &ready));
        let what = format!("uploading {}", chunk.name);
        let submission = gpu.guarded(&what, send).await?;
        packed?;
        under_way.push_back(readback::done(gpu, submission, readback::patience(0)));
        if under_way.len() > UPLOADS
            && let Some(first) = under_way.pop_front()
        {
            first.wait(gpu).await?;
        }
        std::mem::swap(&mut ready, &mut next);
    }
    for last in under_way {
        last.wait(gpu).await?;
    }
    Ok(())
}

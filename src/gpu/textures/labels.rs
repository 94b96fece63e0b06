//! A plan's labels as a texture.

use super::dispatch::{Uniforms, WORKGROUP, bind, dispatch, most_pixels, workgroups};
use crate::error::{Result, bail};
use crate::gpu::Gpu;
use crate::gpu::buffers::part;
use crate::gpu::saturation::Saturation;
use crate::plan::{Plan, ReadBack};
use std::ops::Range;
use std::sync::Arc;

/// The most bytes of rows that are copied to the texture at a time.
const MOST_BYTES: u64 = 16 << 20;

/// Copies labels to textures of one size, when a plan has made them: all at its end, or a band at a time.
#[derive(Debug)]
pub(super) struct Labels {
    pipeline: Arc<wgpu::ComputePipeline>,
    width: u32,
    /// Bytes from one row to the next in `rows`.
    pitch: u32,
    rows: wgpu::Buffer,
    parts: Vec<Part>,
}

/// Rows that are copied at a time.
#[derive(Debug)]
struct Part {
    /// How many of the plan's steps come before it.
    after: usize,
    rows: Range<u32>,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 2],
}

/// The same before there is anything on the device.
struct Planned {
    after: usize,
    rows: Range<usize>,
    /// The bytes of the labels' slot that a binding shows.
    bytes: Range<u64>,
    params: [u32; 6],
}

impl Labels {
    /// Bytes of the rows that are on their way to the texture.
    pub(super) fn bytes(&self) -> u64 {
        self.rows.size()
    }

    pub(super) fn new(
        gpu: &Gpu,
        pipeline: Arc<wgpu::ComputePipeline>,
        plan: &Plan,
        slots: &[wgpu::Buffer],
        saturation: Option<&Saturation>,
    ) -> Result<Self> {
        let [(_, labels)] = &plan.outputs[..] else {
            bail!(Request, "a run on textures gives back labels alone");
        };
        let (h, w) = (labels.shape.h, labels.shape.w);
        let pitch = (w as u64).next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT.into());
        let most = most_rows(gpu, w as u64, pitch)?;
        let device = gpu.device();
        let rows = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("rows of labels"),
            size: pitch * most.min(h) as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        // Where there are no layers to ask, a word that nothing reads.
        let none = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("no saturation"),
            size: 4,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let (saturated, layers) = match saturation {
            Some(saturation) => (
                &saturation.words,
                [plan.layers.len() as u32, saturation.layers.words()],
            ),
            None => (&none, [0, 0]),
        };
        let slot = &slots[labels.slot];
        let align = gpu.profile().binding_alignment;
        let planned = planned([h, w], most, &plan.read_backs, |begin, rows| {
            let bytes = begin / align * align
                ..(begin + (rows * w) as u64)
                    .next_multiple_of(4)
                    .min(slot.size());
            let first = (begin - bytes.start) as u32;
            let params = [
                w as u32,
                pitch as u32,
                rows as u32,
                first,
                layers[0],
                layers[1],
            ];
            (bytes, params)
        });
        let blocks: Vec<_> = planned.iter().map(|part| part.params).collect();
        let uniforms = Uniforms::new(gpu, &blocks);
        let parts = planned.into_iter().enumerate().map(|(i, planned)| {
            let resources = [
                part(slot, planned.bytes.start, planned.bytes.end),
                saturated.as_entire_binding(),
                rows.as_entire_binding(),
                uniforms.binding(i),
            ];
            Part {
                after: planned.after,
                bind_group: bind(gpu, &pipeline, resources),
                workgroups: workgroups(gpu, planned.rows.len() as u64 * pitch / 4),
                rows: planned.rows.start as u32..planned.rows.end as u32,
            }
        });
        let parts = parts.collect();
        Ok(Self {
            pipeline,
            width: w as u32,
            pitch: pitch as u32,
            rows,
            parts,
        })
    }

    /// Records what copies to `texture` the labels that are there after so many steps and not before.
    pub(super) fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        after: usize,
        texture: &wgpu::Texture,
    ) {
        for part in self.parts.iter().filter(|part| part.after == after) {
            dispatch(encoder, &self.pipeline, &part.bind_group, part.workgroups);
            let from = wgpu::TexelCopyBufferInfo {
                buffer: &self.rows,
                layout: wgpu::TexelCopyBufferLayout {
                    offset: 0,
                    bytes_per_row: Some(self.pitch),
                    rows_per_image: None,
                },
            };
            let mut to = texture.as_image_copy();
            to.origin.y = part.rows.start;
            let size = wgpu::Extent3d {
                width: self.width,
                height: part.rows.len() as u32,
                depth_or_array_layers: 1,
            };
            encoder.copy_buffer_to_texture(from, to, size);
        }
    }
}

/// How many rows of labels one dispatch can read and write.
fn most_rows(gpu: &Gpu, width: u64, pitch: u64) -> Result<usize> {
    let profile = gpu.profile();
    let binding = profile.max_binding_bytes.min(profile.max_buffer_bytes);
    // A binding of labels may begin a little before them, and end with a whole word.
    let read = binding.saturating_sub(profile.binding_alignment + 4) / width;
    let written = (most_pixels(gpu) / WORKGROUP * WORKGROUP).saturating_mul(4);
    let rows = read.min(written.min(binding).min(MOST_BYTES.max(pitch)) / pitch);
    if rows == 0 {
        bail!(
            Limit,
            "a row of {width} labels is more than {gpu} can bind, {binding} bytes"
        );
    }
    Ok(rows as usize)
}

/// The parts of labels of `[h, w]`, each of at most `most` rows. `at` says how the rows are read that begin at
/// a byte of the slot: its bytes, and the parameters.
fn planned(
    [h, w]: [usize; 2],
    most: usize,
    read_backs: &[ReadBack],
    at: impl Fn(u64, usize) -> (Range<u64>, [u32; 6]),
) -> Vec<Planned> {
    let mut parts = Vec::new();
    // Bands begin at whole words, and where rows do.
    let mut begin = 0;
    for part in read_backs {
        let row = |byte: u64| ((byte / w as u64) as usize).min(h);
        let end = begin + (part.bytes.end - part.bytes.start);
        let rows = row(begin)..row(end);
        for first in rows.clone().step_by(most) {
            let count = most.min(rows.end - first);
            let (bytes, params) = at(part.bytes.start + ((first - rows.start) * w) as u64, count);
            parts.push(Planned {
                after: part.after,
                rows: first..first + count,
                bytes,
                params,
            });
        }
        begin = end;
    }
    parts
}

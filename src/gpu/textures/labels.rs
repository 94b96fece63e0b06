//! Copies of a plan's labels to a texture.

use super::dispatch::{Uniforms, WORKGROUP, bind, dispatch, most_pixels, workgroups};
use crate::error::{Result, bail};
use crate::gpu::Gpu;
use crate::gpu::buffers::part;
use crate::gpu::saturation::Saturation;
use crate::plan::{Plan, ReadBack};
use crate::size::Size;
use std::ops::Range;
use std::sync::Arc;

/// The most bytes of rows that are copied to the texture at once.
const MOST_BYTES: u64 = 16 << 20;

/// Copies labels to textures of one size as soon as the plan has computed them: all at its end, or band by band.
#[derive(Debug)]
pub(super) struct Labels {
    pipeline: Arc<wgpu::ComputePipeline>,
    width: u32,
    /// Bytes from one row to the next in `rows`.
    pitch: u32,
    rows: wgpu::Buffer,
    parts: Vec<Part>,
}

/// Rows that are copied at once.
#[derive(Debug)]
struct Part {
    /// The number of the plan's steps before it.
    after: usize,
    rows: Range<u32>,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 2],
}

/// A part before its resources are created.
struct Planned {
    after: usize,
    rows: Range<usize>,
    /// The bytes of the labels' buffer that the dispatch binds.
    bytes: Range<u64>,
    params: [u32; 6],
}

impl Labels {
    /// The size of the buffer `rows`, in bytes.
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
            bail!(
                Request,
                "for runs on textures, the plan's only output must be labels"
            );
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
        // Without saturation words, a word that no shader reads is bound.
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
        let planned = planned(Size::new(h, w), most, &plan.read_backs, |begin, rows| {
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

    /// Records the copies to `texture` of the labels that are complete after exactly `after` steps.
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

/// The most rows of labels that one dispatch can read and write.
fn most_rows(gpu: &Gpu, width: u64, pitch: u64) -> Result<usize> {
    let profile = gpu.profile();
    let binding = profile.max_binding_bytes.min(profile.max_buffer_bytes);
    // A binding of labels begins at the alignment before them and ends with a whole word.
    let read = binding.saturating_sub(profile.binding_alignment + 4) / width;
    let written = (most_pixels(gpu) / WORKGROUP * WORKGROUP).saturating_mul(4);
    let rows = read.min(written.min(binding).min(MOST_BYTES.max(pitch)) / pitch);
    if rows == 0 {
        bail!(
            Limit,
            "a row of {width} labels is larger than a binding of {gpu}, {binding} bytes"
        );
    }
    Ok(rows as usize)
}

/// The parts of labels of `size`, each of at most `most` rows. `at(begin, rows)` gives the bytes to bind and the
/// parameters of `rows` rows from byte `begin` of the buffer.
fn planned(
    size: Size,
    most: usize,
    read_backs: &[ReadBack],
    at: impl Fn(u64, usize) -> (Range<u64>, [u32; 6]),
) -> Vec<Planned> {
    let Size { height, width } = size;
    let mut parts = Vec::new();
    // Bands begin at the beginning of a row and at whole words.
    let mut begin = 0;
    for part in read_backs {
        let row = |byte: u64| ((byte / width as u64) as usize).min(height);
        let end = begin + (part.bytes.end - part.bytes.start);
        let rows = row(begin)..row(end);
        for first in rows.clone().step_by(most) {
            let count = most.min(rows.end - first);
            let (bytes, params) = at(
                part.bytes.start + ((first - rows.start) * width) as u64,
                count,
            );
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

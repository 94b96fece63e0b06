//! Where layers that write f16 tell of values that f16 does not hold: a word each.

use super::Gpu;
use crate::error::{Result, bail};
use crate::ops::narrow::{self, SATURATED_GROUP};
use crate::plan::Plan;
use std::sync::Arc;

/// The words of a plan's layers, and how its steps reach them.
#[derive(Debug)]
pub(super) struct Saturation {
    /// One word a layer, each at the beginning of a part that a binding may show.
    pub words: wgpu::Buffer,
    /// What each step binds, if it writes f16.
    pub of_steps: Vec<Option<wgpu::BindGroup>>,
    pub layers: Layers,
}

/// The layers' names, and how far their words lie apart.
#[derive(Clone, Debug)]
pub(super) struct Layers {
    names: Arc<[String]>,
    stride: u64,
}

impl Saturation {
    /// The words of `plan`, if it writes f16 at all.
    pub(super) fn new(
        gpu: &Gpu,
        plan: &Plan,
        pipelines: &[Arc<wgpu::ComputePipeline>],
    ) -> Option<Self> {
        if !plan.layers.iter().any(|layer| layer.half) {
            return None;
        }
        let device = gpu.device();
        let stride = u64::from(device.limits().min_storage_buffer_offset_alignment).max(4);
        let words = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("saturation"),
            size: stride * plan.layers.len() as u64,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_SRC
                | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let of_steps = plan.steps.iter().map(|step| {
            let word = wgpu::BufferBinding {
                buffer: &words,
                offset: stride * step.layer as u64,
                size: std::num::NonZeroU64::new(4),
            };
            plan.layers[step.layer].half.then(|| {
                device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some("saturation"),
                    layout: &pipelines[step.pipeline].get_bind_group_layout(SATURATED_GROUP),
                    entries: &[wgpu::BindGroupEntry {
                        binding: 0,
                        resource: wgpu::BindingResource::Buffer(word),
                    }],
                })
            })
        });
        let of_steps = of_steps.collect();
        let names = plan.layers.iter().map(|layer| layer.name.clone()).collect();
        Some(Self {
            words,
            of_steps,
            layers: Layers { names, stride },
        })
    }

    /// Bytes of the words.
    pub(super) fn bytes(&self) -> u64 {
        self.words.size()
    }
}

impl Layers {
    /// How many words lie from one layer's to the next one's.
    pub(super) fn words(&self) -> u32 {
        (self.stride / 4) as u32
    }

    /// An error that names the first layer, if any, whose word in `bytes` tells of a value.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<()> {
        let words = bytes.chunks(self.stride as usize);
        let mut layers = self.names.iter().zip(words);
        match layers.find(|(_, word)| word.iter().take(4).any(|byte| *byte != 0)) {
            Some((name, _)) => bail!(
                NotFinite,
                "{name}: a value is beyond {}, the largest that f16 holds: use f32",
                narrow::MAX
            ),
            None => Ok(()),
        }
    }
}

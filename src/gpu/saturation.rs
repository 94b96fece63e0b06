//! Detection of values beyond f16: each layer that writes f16 reports them in a word of its own.

use super::Gpu;
use crate::error::{Result, bail};
use crate::ops::narrow::{self, SATURATED_GROUP};
use crate::plan::Plan;
use std::sync::Arc;

/// The words of a plan's layers, and the bind groups of its steps for them.
#[derive(Debug)]
pub(super) struct Saturation {
    /// One word per layer, each at an offset at which a binding may begin.
    pub words: wgpu::Buffer,
    /// The bind group of each step that writes f16.
    pub of_steps: Vec<Option<wgpu::BindGroup>>,
    pub layers: Layers,
}

/// The layers' names, and the distance of their words in bytes.
#[derive(Clone, Debug)]
pub(super) struct Layers {
    names: Arc<[String]>,
    stride: u64,
}

impl Saturation {
    /// The words of `plan`; `None` if no layer writes f16.
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

    /// The size of the words' buffer, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.words.size()
    }
}

impl Layers {
    /// The distance of two layers' words, in words.
    pub(super) fn words(&self) -> u32 {
        (self.stride / 4) as u32
    }

    /// An error with the first layer whose word in `bytes` is not zero, if any.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<()> {
        let words = bytes.chunks(self.stride as usize);
        let mut layers = self.names.iter().zip(words);
        match layers.find(|(_, word)| word.iter().take(4).any(|byte| *byte != 0)) {
            Some((name, _)) => bail!(
                NotFinite,
                "{name}: a value is beyond {}, the largest f16 number: use f32",
                narrow::MAX
            ),
            None => Ok(()),
        }
    }
}

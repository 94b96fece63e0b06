//! The dispatches before and after a plan's steps, in a run from a program's texture to textures of class ids and
//! colours. All buffers exist before the first run; a run needs no write or mapping by the host.

mod colours;
mod dispatch;
mod labels;
mod source;

pub use colours::{MaskTextures, Tint};
pub(super) use source::{View, view};

use super::Gpu;
use super::saturation::Saturation;
use crate::error::{Result, bail};
use crate::ops::kernel::shader;
use crate::plan::{Pipeline, Plan};
use crate::size::Size;
use labels::Labels;
use source::Source;
use std::sync::Arc;

/// The shaders that read and write a program's textures.
pub fn texture_pipelines() -> [Pipeline; 3] {
    [
        shader!("texture_words"),
        shader!("label_rows"),
        shader!("label_colours"),
    ]
    .map(|shader| Pipeline {
        shader,
        constants: Vec::new(),
    })
}

/// The dispatches before and after the steps of a plan from a picture to labels.
#[derive(Debug)]
pub(super) struct Ends {
    source: Source,
    labels: Labels,
    colours: Arc<wgpu::ComputePipeline>,
}

impl Ends {
    /// Creates the buffers for `plan`, with its activation buffers `slots` and, in f16, its `saturation` words.
    /// `pipelines` are those of [`texture_pipelines`].
    ///
    /// # Errors
    /// `Request` if the plan has outputs other than labels; `Limit` if the device cannot bind a row of labels.
    pub(super) fn new(
        gpu: &Gpu,
        pipelines: &[Arc<wgpu::ComputePipeline>],
        plan: &Plan,
        slots: &[wgpu::Buffer],
        saturation: Option<&Saturation>,
    ) -> Result<Self> {
        let [words, rows, colours] = pipelines else {
            bail!(Device, "the pipelines for textures are missing on {gpu}");
        };
        let input = plan.input.shape;
        let size = Size::new(input.h, input.w);
        Ok(Self {
            source: Source::new(gpu, words.clone(), size),
            labels: Labels::new(gpu, rows.clone(), plan, slots, saturation)?,
            colours: colours.clone(),
        })
    }

    /// Bytes of device memory, without the uniform buffers.
    pub(super) fn bytes(&self) -> u64 {
        self.labels.bytes()
    }

    /// Records the dispatches that write `picture` to the buffer of the plan's input.
    pub(super) fn encode_input(
        &self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        picture: &View,
        input: &wgpu::Buffer,
    ) {
        self.source.encode(gpu, encoder, picture, input);
    }

    /// Records the copies to `mask` of the labels that are complete after exactly `steps` steps of the plan.
    pub(super) fn encode_labels(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        steps: usize,
        mask: &MaskTextures,
    ) {
        self.labels.encode(encoder, steps, mask.labels());
    }

    /// Records the dispatches that compute the colours of `mask`, if it has any, from its labels and `picture`.
    pub(super) fn encode_colours(
        &self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        picture: &View,
        mask: &MaskTextures,
    ) {
        mask.encode_colours(gpu, encoder, &self.colours, picture);
    }
}

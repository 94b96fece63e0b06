//! From a texture of the program's to textures of class ids and colours, without the host: what comes before a
//! plan's steps, and what after them. All buffers are there before the first run; a run writes and maps none.

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

/// What stands before and after the steps of a plan from a picture to labels.
#[derive(Debug)]
pub(super) struct Ends {
    source: Source,
    labels: Labels,
    colours: Arc<wgpu::ComputePipeline>,
}

impl Ends {
    /// Makes the buffers for `plan`, whose activations lie in `slots` and whose layers tell of what f16 does not hold
    /// in `saturation`. `pipelines` are those of [`texture_pipelines`].
    ///
    /// # Errors
    /// `Limit` if the device cannot bind a row of labels.
    pub(super) fn new(
        gpu: &Gpu,
        pipelines: &[Arc<wgpu::ComputePipeline>],
        plan: &Plan,
        slots: &[wgpu::Buffer],
        saturation: Option<&Saturation>,
    ) -> Result<Self> {
        let [words, rows, colours] = pipelines else {
            bail!(Device, "{gpu} has not made the pipelines for textures");
        };
        let input = plan.input.shape;
        Ok(Self {
            source: Source::new(gpu, words.clone(), [input.h, input.w]),
            labels: Labels::new(gpu, rows.clone(), plan, slots, saturation)?,
            colours: colours.clone(),
        })
    }

    /// Bytes of device memory that it takes, but for its parameters.
    pub(super) fn bytes(&self) -> u64 {
        self.labels.bytes()
    }

    /// Records what writes `picture` to the buffer of a plan's input.
    pub(super) fn encode_input(
        &self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        picture: &View,
        input: &wgpu::Buffer,
    ) {
        self.source.encode(gpu, encoder, picture, input);
    }

    /// Records what copies to `mask` the labels that are there after so many `steps` of the plan and not before.
    pub(super) fn encode_labels(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        steps: usize,
        mask: &MaskTextures,
    ) {
        self.labels.encode(encoder, steps, mask.labels());
    }

    /// Records what makes the colours of `mask`, if it has any, of its labels and of `picture`.
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

//! Runs of an executor from a program's texture to textures of class ids and colours.

use super::executor::Executor;
use super::pipelines::Pipelines;
use super::textures::{Ends, MaskTextures, texture_pipelines, view};
use crate::error::{Result, bail};
use crate::size::Size;
use std::sync::Arc;

impl Executor {
    /// Creates the pipelines and buffers for runs on textures, unless they exist. The plan's input must be a picture
    /// and its only output labels.
    ///
    /// # Errors
    /// `Request` if the plan has other outputs; `Device` if a shader does not compile; `Limit` if the device cannot
    /// bind a row of labels or runs out of memory.
    pub async fn prepare_textures(&mut self) -> Result<()> {
        if self.ends.is_some() {
            return Ok(());
        }
        let gpu = self.gpu().clone();
        let shared: Arc<Pipelines> = gpu.shared().only();
        let pipelines = shared.get(&gpu, &texture_pipelines()).await?;
        let make = || Ends::new(&gpu, &pipelines, &self.plan, &self.slots, self.saturation());
        let ends = gpu.guarded("buffers for textures", make).await?;
        self.ends = Some(ends?);
        Ok(())
    }

    /// Records a whole run into `encoder`, from the texture `input` to the textures of `mask`, without submissions,
    /// mappings or writes from the host.
    ///
    /// # Errors
    /// `Picture` if `input` has an unsuitable format or usage; `Shape` if `input` or `mask` does not have the planned
    /// size; `Request` if `mask` is of another device, or the executor was not prepared for textures; `DeviceLost` if
    /// the device is lost.
    pub fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        input: &wgpu::Texture,
        mask: &MaskTextures,
    ) -> Result<()> {
        self.encode_in_parts(encoder, input, mask, |_| ())
    }

    /// As [`Executor::encode`], and submits the run, in the submissions of the plan.
    ///
    /// # Errors
    /// As [`Executor::encode`]; `Device` if the device fails.
    pub async fn submit_textures(
        &mut self,
        input: &wgpu::Texture,
        mask: &MaskTextures,
    ) -> Result<()> {
        let run = || {
            let submit = |encoder: &mut wgpu::CommandEncoder| {
                let recorded = std::mem::replace(encoder, self.encoder());
                self.gpu().queue().submit([recorded.finish()]);
            };
            let mut encoder = self.encoder();
            self.encode_in_parts(&mut encoder, input, mask, submit)?;
            submit(&mut encoder);
            Ok(())
        };
        self.gpu().guarded("running", run).await?
    }

    /// Records a whole run; calls `between` at the end of each submission of the plan but the last.
    fn encode_in_parts(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        input: &wgpu::Texture,
        mask: &MaskTextures,
        mut between: impl FnMut(&mut wgpu::CommandEncoder),
    ) -> Result<()> {
        let (gpu, plan) = (self.gpu(), &self.plan);
        let Some(ends) = &self.ends else {
            bail!(Request, "the executor was not prepared for textures");
        };
        gpu.check_lost()?;
        let size = Size::new(plan.input.shape.h, plan.input.shape.w);
        mask.check(gpu, size)?;
        let picture = view(input, size)?;
        self.record_poison(encoder);
        self.clear_saturation(encoder);
        let slot = &self.slots[plan.input.slot];
        ends.encode_input(gpu, encoder, &picture, slot);
        for steps in self.submissions() {
            let end = steps.end;
            self.record(encoder, steps, None);
            ends.encode_labels(encoder, end, mask);
            if end < plan.steps.len() {
                between(encoder);
            }
        }
        ends.encode_colours(gpu, encoder, &picture, mask);
        Ok(())
    }
}

//! Runs from a program's texture to textures of class ids and colours.

use super::executor::Executor;
use super::pipelines::Pipelines;
use super::textures::{Ends, MaskTextures, texture_pipelines, view};
use crate::error::{Result, bail};
use std::sync::Arc;

impl Executor {
    /// Makes what it takes to run on textures, where that is not there yet. The plan is one of a picture in and
    /// labels out.
    ///
    /// # Errors
    /// `Device` if a shader does not compile, `Limit` if the device cannot bind a row of labels or has no memory.
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

    /// Records a whole run into `encoder`: from the texture `input` to those of `mask`. Nothing is submitted,
    /// mapped, or written from the host.
    ///
    /// # Errors
    /// `Picture` if `input` is no texture that can be read, `Shape` if it or `mask` has another size than was
    /// planned for, `Request` if `mask` is of another device, `DeviceLost` if that is lost.
    pub fn encode(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        input: &wgpu::Texture,
        mask: &MaskTextures,
    ) -> Result<()> {
        self.encode_in_parts(encoder, input, mask, |_| ())
    }

    /// The same, submitted in as many parts as the plan has.
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

    /// Records a whole run, and calls `between` where a submission may end.
    fn encode_in_parts(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        input: &wgpu::Texture,
        mask: &MaskTextures,
        mut between: impl FnMut(&mut wgpu::CommandEncoder),
    ) -> Result<()> {
        let (gpu, plan) = (self.gpu(), &self.plan);
        let Some(ends) = &self.ends else {
            bail!(Request, "this run was not prepared for textures");
        };
        gpu.check_lost()?;
        let shape = plan.input.shape;
        mask.check(gpu, [shape.h, shape.w])?;
        let picture = view(input, [shape.h, shape.w])?;
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

//! Texture → [`MaskTexture`], on the program's own device: no pixel passes through the host.

use super::request::Request;
use super::{Segmenter, check_labels};
use crate::error::{Result, bail};
use crate::gpu::low_level::{Executor, MaskTextures, Tint};
use crate::mask::Mask;
use crate::model_file::Model;
use crate::picture::Picture;
use crate::plan::Plan;
use crate::preprocess::Form;
use crate::size::Size;
use std::time::Duration;
use wgpu::{CommandEncoder, Texture};

/// The colours of a [`MaskTexture`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Colours {
    /// No colours.
    #[default]
    None,
    /// The colours of the classes, from the model's palette.
    Classes,
    /// The picture with the colours of the classes over it, as [`Mask::overlay`] with this opacity.
    Overlay(f32),
}

/// A mask in textures on the device. Cheap to clone; clones share the textures.
///
/// A pixel with scores that are not finite has no class: its id is 255. If a layer in `f16` met a value beyond the
/// range of `f16`, all ids are 255.
#[derive(Clone, Debug)]
pub struct MaskTexture {
    textures: MaskTextures,
    model: Model,
    /// The longest time that the device may take for the run that writes them.
    patience: Duration,
}

impl MaskTexture {
    /// The class id of each pixel: `R8Uint`, to be bound (`texture_2d<u32>`) or copied from.
    pub fn labels(&self) -> &Texture {
        self.textures.labels()
    }

    /// The colours, if they were requested: `Rgba8Unorm`, to be bound or copied from. The bytes are encoded in sRGB,
    /// like an 8-bit picture's: a program that shows them in linear light decodes them.
    pub fn colours(&self) -> Option<&Texture> {
        self.textures.colours()
    }

    /// The size of the textures.
    pub fn size(&self) -> Size {
        self.textures.size()
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.size().width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.size().height
    }

    /// The mask in host memory, after all work submitted before.
    ///
    /// # Errors
    /// `NotFinite` if a pixel has no class, `Device` or `DeviceLost` if the device fails.
    pub async fn read(&self) -> Result<Mask> {
        let labels = self.textures.read_labels(self.patience).await?;
        let size = self.size();
        check_labels(labels.iter().copied(), size.width)?;
        let (classes, palette) = (self.model.classes().clone(), self.model.palette().clone());
        Mask::new(size, labels, classes, palette)
    }

    /// The colours in host memory.
    ///
    /// # Errors
    /// `Request` if they were not requested, else as [`MaskTexture::read`].
    pub async fn read_colours(&self) -> Result<Picture> {
        let bytes = self.textures.read_colours(self.patience).await?;
        let rgb = bytes.chunks_exact(4).flat_map(|p| &p[..3]).copied();
        Picture::from_rgb(self.size(), rgb.collect())
    }
}

/// A segmenter made ready for textures of one size, which records runs into the program's own command encoders.
///
/// It has buffers of its own: recorded runs may be submitted at any time, also while the segmenter does something
/// else. It outlives the segmenter, and shares its weights.
///
/// ```no_run
/// # use fullconv::{Colours, Segmenter, Size, gpu::wgpu};
/// # async fn example(segmenter: &Segmenter, device: &wgpu::Device, queue: &wgpu::Queue, frame: &wgpu::Texture)
/// # -> fullconv::Result<()> {
/// let pass = segmenter.texture_pass(Size::new(480, 640)).await?;
/// let mask = pass.mask(Colours::Overlay(0.5)).await?;
/// // For each frame:
/// let mut encoder = device.create_command_encoder(&Default::default());
/// pass.encode(&mut encoder, frame, &mask)?;
/// // … draw mask.colours() …
/// queue.submit([encoder.finish()]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TexturePass {
    executor: Executor,
    model: Model,
}

impl TexturePass {
    /// Textures for [`TexturePass::encode`] to write. With more than one, the program can read one while the next
    /// is written.
    ///
    /// # Errors
    /// `Limit` if the device has no memory for them, `Request` if an opacity is not 0 to 1.
    pub async fn mask(&self, colours: Colours) -> Result<MaskTexture> {
        mask(&self.executor, &self.model, colours).await
    }

    /// Records a whole run into `encoder`, from the first level and layer of `texture` to `mask`; nothing is submitted.
    /// `texture` has the pass's device and size, the usage `TEXTURE_BINDING`, and the format `Rgba8Unorm`,
    /// `Rgba8UnormSrgb`, `Bgra8Unorm` or `Bgra8UnormSrgb`; each of these gives the same result as a picture of the
    /// stored bytes.
    ///
    /// The whole run is in this one encoder. A program that has to mind a driver's watchdog finds its work in
    /// [`TexturePass::plan`] ([`Plan::flops`]).
    ///
    /// # Errors
    /// `Picture` if the texture has another format, `Shape` if it or the mask has another size, `Request` if the
    /// mask is of another device, `DeviceLost` if the device is lost. wgpu reports all other faults when the encoder is
    /// finished.
    pub fn encode(
        &self,
        encoder: &mut CommandEncoder,
        texture: &Texture,
        mask: &MaskTexture,
    ) -> Result<()> {
        self.executor.encode(encoder, texture, &mask.textures)
    }

    /// The plan that is run.
    pub fn plan(&self) -> &Plan {
        self.executor.plan()
    }
}

impl Segmenter {
    /// The class of each pixel of a texture, at the texture's own size, in a new texture: the same as from
    /// [`Segmenter::segment`] for a picture of its bytes. The requirements on `texture` are those of
    /// [`TexturePass::encode`], which is the better way for many textures of one size.
    ///
    /// When this returns, the work is submitted, not done: work that the program submits afterwards finds the mask
    /// written. Nothing is read back.
    ///
    /// # Errors
    /// As [`Segmenter::segment`] and [`TexturePass::encode`], and `Request` on the CPU reference. Scores that are
    /// not finite are not an error here: their pixels have no class, see [`MaskTexture`].
    pub async fn segment_texture(
        &self,
        texture: &Texture,
        colours: Colours,
    ) -> Result<MaskTexture> {
        let size = Size::new(texture.height() as usize, texture.width() as usize);
        let mut lent = self.pool()?.lend(&self.texture_request(size)?).await?;
        let executor = lent.executor()?;
        executor.prepare_textures().await?;
        let mask = mask(executor, self.model(), colours).await?;
        executor.submit_textures(texture, &mask.textures).await?;
        Ok(mask)
    }

    /// The labels of a texture of `size`.
    ///
    /// # Errors
    /// `Unsupported` if the network's input is bands.
    fn texture_request(&self, size: Size) -> Result<Request> {
        let preprocessing = self.model().preprocessing();
        match preprocessing.usual_form() {
            Form::Words => Ok(Request::labels(preprocessing.input(1, size, Form::Words))),
            Form::Values => bail!(
                Unsupported,
                "a texture has red, green, blue and alpha; the network takes bands, {} of them: give it a Picture",
                preprocessing.mean.len()
            ),
        }
    }

    /// This segmenter, made ready for textures of `size`.
    ///
    /// # Errors
    /// As [`Segmenter::segment`], `Request` on the CPU reference, and `Unsupported` if the network takes bands.
    pub async fn texture_pass(&self, size: Size) -> Result<TexturePass> {
        let pool = self.pool()?;
        let mut executor = pool.executor(&self.texture_request(size)?).await?;
        executor.prepare_textures().await?;
        Ok(TexturePass {
            executor,
            model: self.model().clone(),
        })
    }
}

async fn mask(executor: &Executor, model: &Model, colours: Colours) -> Result<MaskTexture> {
    let opacity = match colours {
        Colours::None => None,
        Colours::Classes => Some(1.0),
        Colours::Overlay(opacity) => Some(opacity),
    };
    if let Some(opacity) = opacity.filter(|o| !(0.0..=1.0).contains(o)) {
        bail!(Request, "an opacity is 0 to 1, not {opacity}");
    }
    let palette = std::array::from_fn(|class| model.palette().colour(class as u8));
    let tint = opacity.map(|opacity| Tint { palette, opacity });
    let shape = executor.plan().input.shape;
    let size = Size::new(shape.h, shape.w);
    Ok(MaskTexture {
        textures: MaskTextures::new(executor.gpu(), size, tint.as_ref()).await?,
        model: model.clone(),
        patience: executor.patience(),
    })
}

//! The textures of a mask: class ids and, on request, colours.

use super::dispatch::{Uniforms, bind, dispatch, most_pixels, runs, workgroups};
use super::source::{View, texture_size};
use crate::error::{Result, bail};
use crate::gpu::Gpu;
use crate::gpu::buffers::staging;
use crate::gpu::readback;
use crate::size::Size;
use std::ops::Range;
use std::time::Duration;

/// The colours of a mask: a palette for classes 0 to 255, and an opacity over the picture.
#[derive(Clone, Debug)]
pub struct Tint {
    /// Red, green and blue of each class.
    pub palette: [[u8; 3]; 256],
    /// From 0, only the picture, to 1, only the colours.
    pub opacity: f32,
}

/// The textures that a run writes: class ids (`R8Uint`) and, with a [`Tint`], colours (`Rgba8Unorm`).
#[derive(Clone, Debug)]
pub struct MaskTextures {
    gpu: Gpu,
    labels: wgpu::Texture,
    colours: Option<Colours>,
}

#[derive(Clone, Debug)]
struct Colours {
    texture: wgpu::Texture,
    palette: wgpu::Buffer,
    /// The range of pixels of each dispatch.
    runs: Vec<Range<u64>>,
    /// For each run, the parameters for a linear picture and for one in sRGB.
    uniforms: Uniforms,
}

impl MaskTextures {
    /// Textures of `size`, with colours if there is a `tint`.
    ///
    /// # Errors
    /// `Limit` if the textures are too large for the device, or its memory runs out.
    pub async fn new(gpu: &Gpu, size: Size, tint: Option<&Tint>) -> Result<Self> {
        let most = gpu.device().limits().max_texture_dimension_2d as usize;
        if size.height.max(size.width) > most {
            bail!(
                Limit,
                "a texture of {size} pixels (height x width) is too large for {gpu}: at most {most} a side"
            );
        }
        let make = || Self {
            gpu: gpu.clone(),
            labels: texture(gpu, size, wgpu::TextureFormat::R8Uint),
            colours: tint.map(|tint| Colours::new(gpu, size, tint)),
        };
        gpu.guarded("textures of a mask", make).await
    }

    /// The texture of class ids.
    pub fn labels(&self) -> &wgpu::Texture {
        &self.labels
    }

    /// The texture of colours; `None` without a [`Tint`].
    pub fn colours(&self) -> Option<&wgpu::Texture> {
        self.colours.as_ref().map(|colours| &colours.texture)
    }

    /// The size of the textures.
    pub fn size(&self) -> Size {
        texture_size(&self.labels)
    }

    /// An error unless the textures are of `gpu` and of `size`.
    pub(in crate::gpu) fn check(&self, gpu: &Gpu, size: Size) -> Result<()> {
        if !self.gpu.is(gpu) {
            bail!(Request, "the mask belongs to another device");
        }
        let found = self.size();
        if found != size {
            bail!(
                Shape,
                "a mask of {found} pixels (height x width) does not fit a picture of {size}"
            );
        }
        Ok(())
    }

    /// Records the dispatches that compute the colours, if there are any, from the class ids and `picture`.
    pub(super) fn encode_colours(
        &self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        pipeline: &wgpu::ComputePipeline,
        picture: &View,
    ) {
        let Some(colours) = &self.colours else {
            return;
        };
        let [labels, output] = [&self.labels, &colours.texture]
            .map(|texture| texture.create_view(&wgpu::TextureViewDescriptor::default()));
        for (i, run) in colours.runs.iter().enumerate() {
            let resources = [
                wgpu::BindingResource::TextureView(&labels),
                wgpu::BindingResource::TextureView(&picture.view),
                colours.palette.as_entire_binding(),
                wgpu::BindingResource::TextureView(&output),
                colours
                    .uniforms
                    .binding(2 * i + usize::from(picture.is_srgb)),
            ];
            let bind_group = bind(gpu, pipeline, resources);
            let workgroups = workgroups(gpu, run.end - run.start);
            dispatch(encoder, pipeline, &bind_group, workgroups);
        }
    }

    /// The class ids, row by row, after all earlier submissions. `patience` is the timeout for these.
    ///
    /// # Errors
    /// `Device` or `DeviceLost` if the device fails, `Limit` if the staging buffer is too large for it.
    pub async fn read_labels(&self, patience: Duration) -> Result<Vec<u8>> {
        read(&self.gpu, &self.labels, 1, patience).await
    }

    /// Red, green, blue and 255 of each pixel, row by row, otherwise as [`MaskTextures::read_labels`].
    ///
    /// # Errors
    /// As [`MaskTextures::read_labels`], and `Request` without colours.
    pub async fn read_colours(&self, patience: Duration) -> Result<Vec<u8>> {
        match self.colours() {
            Some(colours) => read(&self.gpu, colours, 4, patience).await,
            None => bail!(Request, "the mask was made without colours"),
        }
    }
}

impl Colours {
    fn new(gpu: &Gpu, size: Size, tint: &Tint) -> Self {
        let Size { height, width } = size;
        let runs: Vec<_> = runs((height * width) as u64, most_pixels(gpu)).collect();
        let opacity = tint.opacity.to_bits();
        let params = |run: &Range<u64>, srgb| {
            let [begin, end] = [run.start, run.end].map(|pixel| pixel as u32);
            [width as u32, begin, end, srgb, opacity]
        };
        let blocks = runs.iter().flat_map(|run| [0, 1].map(|s| params(run, s)));
        let blocks: Vec<_> = blocks.collect();
        let palette = gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("palette"),
            size: 4 * tint.palette.len() as u64,
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let words = tint
            .palette
            .map(|[r, g, b]| u32::from_le_bytes([r, g, b, 255]));
        gpu.queue()
            .write_buffer(&palette, 0, bytemuck::cast_slice(&words));
        Self {
            texture: texture(gpu, size, wgpu::TextureFormat::Rgba8Unorm),
            palette,
            uniforms: Uniforms::new(gpu, &blocks),
            runs,
        }
    }
}

fn texture(gpu: &Gpu, size: Size, format: wgpu::TextureFormat) -> wgpu::Texture {
    let written = match format {
        wgpu::TextureFormat::R8Uint => wgpu::TextureUsages::COPY_DST,
        _ => wgpu::TextureUsages::STORAGE_BINDING,
    };
    gpu.device().create_texture(&wgpu::TextureDescriptor {
        label: Some("mask"),
        size: wgpu::Extent3d {
            width: size.width as u32,
            height: size.height as u32,
            depth_or_array_layers: 1,
        },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format,
        usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_SRC | written,
        view_formats: &[],
    })
}

/// The contents of `texture`, `bytes` bytes a pixel, row by row.
async fn read(
    gpu: &Gpu,
    texture: &wgpu::Texture,
    bytes: u32,
    patience: Duration,
) -> Result<Vec<u8>> {
    let row = bytes * texture.width();
    let pitch = row.next_multiple_of(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT);
    let size = u64::from(pitch) * u64::from(texture.height());
    if size > gpu.profile().max_buffer_bytes {
        bail!(
            Limit,
            "reading the mask back needs a buffer of {size} bytes, too large for {gpu}"
        );
    }
    let copy = || {
        let staging = staging(gpu, size);
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let to = wgpu::TexelCopyBufferInfo {
            buffer: &staging,
            layout: wgpu::TexelCopyBufferLayout {
                offset: 0,
                bytes_per_row: Some(pitch),
                rows_per_image: None,
            },
        };
        encoder.copy_texture_to_buffer(texture.as_image_copy(), to, texture.size());
        (gpu.queue().submit([encoder.finish()]), staging)
    };
    let (submission, staging) = gpu.guarded("reading a mask", copy).await?;
    let mut read = readback::read(gpu, &staging, submission, patience).await?;
    if pitch > row {
        let rows = read.chunks_exact(pitch as usize);
        read = rows
            .flat_map(|padded| &padded[..row as usize])
            .copied()
            .collect();
    }
    Ok(read)
}

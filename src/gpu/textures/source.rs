//! Writes a program's texture to a plan's input, one word per pixel.

use super::dispatch::{Uniforms, bind, dispatch, most_pixels, runs, workgroups};
use crate::error::{Result, bail};
use crate::gpu::Gpu;
use crate::gpu::buffers::part;
use crate::size::Size;
use std::ops::Range;
use std::sync::Arc;

/// A number of pixels, of four bytes each, that is a multiple of every device's binding alignment.
const ALIGNED_PIXELS: u64 = 64;

/// Writes the words of textures of one size.
#[derive(Debug)]
pub(super) struct Source {
    pipeline: Arc<wgpu::ComputePipeline>,
    /// The range of pixels of each dispatch.
    runs: Vec<Range<u64>>,
    /// For each run, the parameters for a linear texture and for one in sRGB.
    uniforms: Uniforms,
}

impl Source {
    pub(super) fn new(gpu: &Gpu, pipeline: Arc<wgpu::ComputePipeline>, size: Size) -> Self {
        let Size { height, width } = size;
        let most = (gpu.profile().max_binding_bytes / 4).min(most_pixels(gpu));
        let most = most / ALIGNED_PIXELS * ALIGNED_PIXELS;
        let runs: Vec<_> = runs((height * width) as u64, most).collect();
        let params =
            |run: &Range<u64>, srgb| [width as u32, run.start as u32, run.end as u32, srgb];
        let blocks = runs.iter().flat_map(|run| [0, 1].map(|s| params(run, s)));
        let uniforms = Uniforms::new(gpu, &blocks.collect::<Vec<_>>());
        Self {
            pipeline,
            runs,
            uniforms,
        }
    }

    /// Records the dispatches that write the pixels of `picture` to the beginning of `buffer`.
    pub(super) fn encode(
        &self,
        gpu: &Gpu,
        encoder: &mut wgpu::CommandEncoder,
        picture: &View,
        buffer: &wgpu::Buffer,
    ) {
        for (i, run) in self.runs.iter().enumerate() {
            let resources = [
                wgpu::BindingResource::TextureView(&picture.view),
                part(buffer, 4 * run.start, 4 * run.end),
                self.uniforms.binding(2 * i + usize::from(picture.is_srgb)),
            ];
            let bind_group = bind(gpu, &self.pipeline, resources);
            let workgroups = workgroups(gpu, run.end - run.start);
            dispatch(encoder, &self.pipeline, &bind_group, workgroups);
        }
    }
}

/// A view of a program's texture.
pub(in crate::gpu) struct View {
    pub(super) view: wgpu::TextureView,
    /// The texture's format is sRGB: reading it decodes sRGB.
    pub(super) is_srgb: bool,
}

/// The size of `texture`.
pub(super) fn texture_size(texture: &wgpu::Texture) -> Size {
    Size::new(texture.height() as usize, texture.width() as usize)
}

/// A view of the first mip level and layer of `texture`.
///
/// # Errors
/// `Picture` if `texture` is not of 8 bits a channel or cannot be bound, `Shape` if its size is not `size`.
pub(in crate::gpu) fn view(texture: &wgpu::Texture, size: Size) -> Result<View> {
    let found = texture_size(texture);
    if found != size {
        bail!(
            Shape,
            "the run is for textures of {size} pixels (height x width); this texture has {found}"
        );
    }
    let format = texture.format();
    let is_flat = texture.dimension() == wgpu::TextureDimension::D2 && texture.sample_count() == 1;
    if !is_flat || !matches!(format.remove_srgb_suffix(), READ | READ_BGRA) {
        bail!(
            Picture,
            "a picture is a texture of two dimensions and one sample in Rgba8Unorm or Bgra8Unorm, sRGB or not; \
             this one is {:?}, {} samples, {format:?}",
            texture.dimension(),
            texture.sample_count()
        );
    }
    if !texture
        .usage()
        .contains(wgpu::TextureUsages::TEXTURE_BINDING)
    {
        bail!(
            Picture,
            "the texture cannot be read: it was made without TEXTURE_BINDING"
        );
    }
    let view = texture.create_view(&wgpu::TextureViewDescriptor {
        label: Some("picture"),
        dimension: Some(wgpu::TextureViewDimension::D2),
        usage: Some(wgpu::TextureUsages::TEXTURE_BINDING),
        mip_level_count: Some(1),
        array_layer_count: Some(1),
        ..wgpu::TextureViewDescriptor::default()
    });
    Ok(View {
        view,
        is_srgb: format.is_srgb(),
    })
}

/// The formats of pictures; reading either gives red, green and blue in this order.
const READ: wgpu::TextureFormat = wgpu::TextureFormat::Rgba8Unorm;
const READ_BGRA: wgpu::TextureFormat = wgpu::TextureFormat::Bgra8Unorm;

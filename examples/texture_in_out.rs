//! A texture in, a tinted texture out, recorded into the program's own command encoder, without readback:
//! `cargo run --example texture_in_out [IMAGE [OUTPUT]]`.

use fullconv::gpu::wgpu;
use fullconv::{Colours, Gpu, Model, Picture, Segmenter, Size};

fn main() -> fullconv::Result<()> {
    pollster::block_on(run())
}

async fn run() -> fullconv::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let input = arguments.next().unwrap_or("assets/street.jpg".into());
    let output = arguments.next();

    let gpu = Gpu::new().await?; // or Gpu::from_wgpu(device, queue)
    let segmenter = Segmenter::new(&gpu, &Model::from_bytes(fullconv_demo::MODEL)?).await?;
    let frame = as_drawn_by_the_program(&gpu, &Picture::open(&input)?);

    // Once for all frames of a size.
    let size = Size::new(frame.height() as usize, frame.width() as usize);
    let pass = segmenter.texture_pass(size).await?;
    let mask = pass.mask(Colours::Overlay(0.5)).await?;

    // For each frame. Commands recorded after the pass see the written mask.
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    pass.encode(&mut encoder, &frame, &mask)?;
    gpu.queue().submit([encoder.finish()]);

    // A program would draw mask.labels() or mask.colours(); this example reads them back to show them.
    println!("{:?}", mask.read().await?.shares());
    if let Some(path) = output {
        mask.read_colours().await?.save(path)?;
    }
    Ok(())
}

/// A texture as a program has it on the device: a frame that it has drawn or decoded.
fn as_drawn_by_the_program(gpu: &Gpu, picture: &Picture) -> wgpu::Texture {
    let texture = gpu.device().create_texture(&wgpu::TextureDescriptor {
        label: Some("frame"),
        size: wgpu::Extent3d {
            width: picture.width() as u32,
            height: picture.height() as u32,
            depth_or_array_layers: 1,
        },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: wgpu::TextureFormat::Rgba8UnormSrgb,
        usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
        view_formats: &[],
    });
    let layout = wgpu::TexelCopyBufferLayout {
        offset: 0,
        bytes_per_row: Some(4 * picture.width() as u32),
        rows_per_image: None,
    };
    let words = picture.to_rgba_words();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    gpu.queue()
        .write_texture(texture.as_image_copy(), &bytes, layout, texture.size());
    texture
}

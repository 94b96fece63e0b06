//! Uses of the shaders for textures, which no op has.

use super::uses::{BEYOND, Outcome, POISON, Run, folded, invalid, words};
use crate::common::Random;
use fullconv::Gpu;
use fullconv::gpu::wgpu;
use fullconv::low_level::gpu::texture_pipelines;
use std::sync::mpsc;

/// What a shader binds.
enum Bound {
    Texture {
        format: wgpu::TextureFormat,
        /// Its bytes.
        holds: Vec<u8>,
    },
    Words(Vec<u32>),
    /// The output, of this number of bytes.
    Output(usize),
    /// The output, a texture.
    Target,
}

/// A dispatch of a shader, and the bytes that it has to write.
struct Textured {
    gpu: Gpu,
    what: String,
    text: String,
    size: [u32; 2],
    bound: Vec<Bound>,
    params: Vec<u32>,
    invocations: u32,
    expected: Vec<u8>,
}

/// The bytes of an output texture before a run.
const BEFORE: [u8; 4] = [1, 2, 3, 4];

impl Run for Textured {
    fn what(&self) -> &str {
        &self.what
    }
    fn texts(&self) -> Vec<&str> {
        vec![&self.text]
    }
    fn variant(&self) -> String {
        String::new()
    }
    fn run(&self, change: &dyn Fn(&str) -> Option<String>) -> Outcome {
        let text = change(&self.text).unwrap_or_else(|| self.text.clone());
        if let Some(why) = invalid(&text) {
            return Outcome::Invalid(why);
        }
        let scope = self
            .gpu
            .device()
            .push_error_scope(wgpu::ErrorFilter::Validation);
        let is_right = [false, true].map(|wide| self.dispatch(&text, wide) == self.expected);
        match pollster::block_on(scope.pop()) {
            Some(e) => Outcome::Invalid(e.to_string()),
            None if is_right == [true; 2] => Outcome::Right,
            None => Outcome::Wrong("other bytes".to_owned()),
        }
    }
}

impl Textured {
    fn texture(&self, format: wgpu::TextureFormat, holds: &[u8]) -> wgpu::Texture {
        use wgpu::TextureUsages as Usage;
        let [width, height] = self.size;
        let size = wgpu::Extent3d {
            width,
            height,
            depth_or_array_layers: 1,
        };
        let own = match format == wgpu::TextureFormat::Rgba8Unorm {
            true => Usage::STORAGE_BINDING,
            false => Usage::empty(),
        };
        let texture = self.gpu.device().create_texture(&wgpu::TextureDescriptor {
            label: None,
            size,
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format,
            usage: Usage::TEXTURE_BINDING | Usage::COPY_DST | Usage::COPY_SRC | own,
            view_formats: &[],
        });
        let layout = wgpu::TexelCopyBufferLayout {
            offset: 0,
            bytes_per_row: Some(holds.len() as u32 / height),
            rows_per_image: None,
        };
        let queue = self.gpu.queue();
        queue.write_texture(texture.as_image_copy(), holds, layout, size);
        texture
    }

    fn buffer(&self, words: &[u32], usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let buffer = self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4 * words.len().next_multiple_of(4) as u64,
            usage: usage | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.gpu.queue().write_buffer(&buffer, 0, &bytes);
        buffer
    }

    /// The bytes of the output after a dispatch of a shader, folded as those of large textures are.
    fn dispatch(&self, text: &str, wide: bool) -> Vec<u8> {
        use wgpu::BufferUsages as Usage;
        let device = self.gpu.device();
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(text.to_owned().into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        });
        let pixels = (self.size[0] * self.size[1]) as usize;
        let (mut buffers, mut views) = (Vec::new(), Vec::new());
        let (mut written, mut target) = (None, None);
        for bound in &self.bound {
            let texture = match bound {
                Bound::Texture { format, holds } => self.texture(*format, holds),
                Bound::Target => {
                    let texture =
                        self.texture(wgpu::TextureFormat::Rgba8Unorm, &BEFORE.repeat(pixels));
                    target.insert(texture).clone()
                }
                Bound::Words(words) => {
                    buffers.push(self.buffer(words, Usage::STORAGE));
                    views.push(None);
                    continue;
                }
                Bound::Output(bytes) => {
                    let all = vec![POISON; then_poison(vec![0; *bytes]).len() / 4];
                    let buffer = self.buffer(&all, Usage::STORAGE | Usage::COPY_SRC);
                    buffers.push(written.insert(buffer).clone());
                    views.push(None);
                    continue;
                }
            };
            views.push(Some(texture.create_view(&Default::default())));
        }
        buffers.push(self.buffer(&self.params, Usage::UNIFORM));
        views.push(None);
        let mut buffers = buffers.iter();
        let mut entries = Vec::new();
        for (binding, view) in (0..).zip(&views) {
            let resource = match view {
                Some(view) => wgpu::BindingResource::TextureView(view),
                None => buffers.next().unwrap().as_entire_binding(),
            };
            entries.push(wgpu::BindGroupEntry { binding, resource });
        }
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut encoder = device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            let [x, y] = folded(self.invocations.div_ceil(64), wide);
            pass.dispatch_workgroups(x, y, 1);
        }
        let pitch = 4 * self.size[0].next_multiple_of(64);
        let bytes = match &written {
            Some(buffer) => buffer.size(),
            None => u64::from(pitch * self.size[1]),
        };
        let staging = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: Usage::MAP_READ | Usage::COPY_DST,
            mapped_at_creation: false,
        });
        if let Some(buffer) = &written {
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, bytes);
        }
        if let Some(texture) = &target {
            let to = wgpu::TexelCopyBufferInfo {
                buffer: &staging,
                layout: wgpu::TexelCopyBufferLayout {
                    offset: 0,
                    bytes_per_row: Some(pitch),
                    rows_per_image: None,
                },
            };
            encoder.copy_texture_to_buffer(texture.as_image_copy(), to, texture.size());
        }
        self.gpu.queue().submit([encoder.finish()]);
        let (send, sent) = mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |mapped| {
            send.send(mapped.is_ok()).unwrap();
        });
        device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        if !sent.recv().unwrap() {
            return Vec::new();
        }
        let view = staging.get_mapped_range(..).unwrap();
        match target {
            None => view.to_vec(),
            Some(_) => {
                let row = 4 * self.size[0] as usize;
                let rows = view.chunks_exact(pitch as usize);
                rows.flat_map(|padded| &padded[..row]).copied().collect()
            }
        }
    }
}

/// `bytes`, then poison.
fn then_poison(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = (bytes.len() + BEYOND as usize).next_multiple_of(16);
    let poison = POISON.to_le_bytes().into_iter().cycle();
    let more = end - bytes.len();
    bytes.extend(poison.take(more));
    bytes
}

fn bytes_of(random: &mut Random, count: usize) -> Vec<u8> {
    (0..count).map(|_| random.below(256) as u8).collect()
}

/// The shaders for textures.
pub fn names() -> [&'static str; 3] {
    texture_pipelines().map(|pipeline| pipeline.shader.name)
}

/// The uses of the shader `name`.
pub fn uses(gpu: &Gpu, name: &str) -> Vec<Box<dyn Run>> {
    let pipelines = texture_pipelines();
    let pipeline = pipelines.iter().find(|p| p.shader.name == name).unwrap();
    let made = match name {
        "texture_words" => texture_words,
        "label_rows" => label_rows,
        "label_colours" => label_colours,
        other => panic!("{other} is no shader for textures"),
    };
    let uses = made(gpu, &pipeline.shader.source, &mut Random::new(71));
    uses.into_iter()
        .map(|one| Box::new(one) as Box<dyn Run>)
        .collect()
}

fn format_of(srgb: bool) -> wgpu::TextureFormat {
    match srgb {
        true => wgpu::TextureFormat::Rgba8UnormSrgb,
        false => wgpu::TextureFormat::Rgba8Unorm,
    }
}

fn texture_words(gpu: &Gpu, text: &str, random: &mut Random) -> Vec<Textured> {
    let [width, height] = [23u32, 17];
    let mut all = Vec::new();
    for srgb in [false, true] {
        for [begin, end] in [
            [0, width * height],
            [64, 200],
            [64, 128],
            [128, width * height],
        ] {
            let holds = bytes_of(random, (4 * width * height) as usize);
            let expected = &holds[4 * begin as usize..4 * end as usize];
            all.push(Textured {
                gpu: gpu.clone(),
                what: format!("pixels {begin} to {end}, sRGB: {srgb}"),
                text: text.to_owned(),
                size: [width, height],
                expected: then_poison(expected.to_vec()),
                bound: vec![
                    Bound::Texture {
                        format: format_of(srgb),
                        holds: holds.clone(),
                    },
                    Bound::Output(expected.len()),
                ],
                params: vec![width, begin, end, u32::from(srgb)],
                invocations: end - begin,
            });
        }
    }
    all
}

fn label_rows(gpu: &Gpu, text: &str, random: &mut Random) -> Vec<Textured> {
    let mut all = Vec::new();
    for ([width, rows], first) in [
        ([5u32, 3u32], 0u32),
        ([256, 2], 7),
        ([259, 3], 5),
        ([8, 1], 2),
        ([200, 5], 3),
    ] {
        for told in [&[][..], &[0, 9, 0, 9], &[0, 9, 1, 9], &[1, 9, 0, 9]] {
            let pitch = width.next_multiple_of(256);
            let labels = bytes_of(
                random,
                ((first + width * rows) as usize).next_multiple_of(4),
            );
            let saturated = told.iter().step_by(2).any(|word| *word > 0);
            let mut expected = Vec::new();
            for row in 0..rows {
                for column in 0..pitch {
                    let at = (first + row * width + column) as usize;
                    expected.push(match column < width {
                        true if saturated => 255,
                        true => labels[at],
                        false => 0,
                    });
                }
            }
            all.push(Textured {
                gpu: gpu.clone(),
                what: format!("{rows} rows of {width} labels from {first}, told: {told:?}"),
                text: text.to_owned(),
                size: [1, 1],
                bound: vec![
                    Bound::Words(words(&labels).collect()),
                    Bound::Words(told.iter().copied().chain([9; 4]).collect()),
                    Bound::Output(expected.len()),
                ],
                params: vec![width, pitch, rows, first, told.len() as u32 / 2, 2],
                invocations: rows * pitch / 4,
                expected: then_poison(expected),
            });
        }
    }
    all
}

fn label_colours(gpu: &Gpu, text: &str, random: &mut Random) -> Vec<Textured> {
    let [width, height] = [23u32, 17];
    let pixels = (width * height) as usize;
    let mut all = Vec::new();
    for srgb in [false, true] {
        for (opacity, [begin, end]) in [
            (0.0f32, [0, width * height]),
            (0.5, [0, width * height]),
            (1.0, [64, 200]),
            (0.25, [64, 128]),
            (0.7, [128, width * height]),
        ] {
            let picture = bytes_of(random, 4 * pixels);
            let labels = bytes_of(random, pixels);
            let palette: Vec<u32> = (0..256)
                .map(|_| random.below(1 << 24) as u32 | 255 << 24)
                .collect();
            let mut expected = BEFORE.repeat(pixels);
            for pixel in begin as usize..end as usize {
                let colour = palette[labels[pixel] as usize].to_le_bytes();
                for c in 0..3 {
                    let (under, over) = (f32::from(picture[4 * pixel + c]), f32::from(colour[c]));
                    let mixed = under * (1.0 - opacity) + over * opacity;
                    expected[4 * pixel + c] = (mixed + 0.5).floor() as u8;
                }
                expected[4 * pixel + 3] = 255;
            }
            all.push(Textured {
                gpu: gpu.clone(),
                what: format!("pixels {begin} to {end}, sRGB: {srgb}, opacity {opacity}"),
                text: text.to_owned(),
                size: [width, height],
                bound: vec![
                    Bound::Texture {
                        format: wgpu::TextureFormat::R8Uint,
                        holds: labels,
                    },
                    Bound::Texture {
                        format: format_of(srgb),
                        holds: picture,
                    },
                    Bound::Words(palette),
                    Bound::Target,
                ],
                params: vec![width, begin, end, u32::from(srgb), opacity.to_bits()],
                invocations: end - begin,
                expected,
            });
        }
    }
    all
}

//! Draws a picture and its labels, both textures on the device, into egui's own render pass.

use eframe::egui::{self, Rect};
use eframe::egui_wgpu::{self, CallbackResources, CallbackTrait, RenderState, ScreenDescriptor};
use fullconv::Size;
use fullconv::gpu::wgpu;
use std::mem::size_of;

/// `Settings` of view.wgsl.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Settings {
    first: [f32; 2],
    per_pixel: [f32; 2],
    size: [f32; 2],
    opacity: f32,
    linear: u32,
    palette: [[f32; 4]; 256],
}

/// The resources shared by all pictures.
pub struct View {
    device: wgpu::Device,
    pipeline: wgpu::RenderPipeline,
    settings: wgpu::Buffer,
    sampler: wgpu::Sampler,
    no_labels: wgpu::Texture,
    linear: bool,
}

/// A picture with its labels, ready to be drawn.
pub struct Scene {
    pub frame: wgpu::Texture,
    bind_group: wgpu::BindGroup,
    has_labels: bool,
}

/// How a scene is drawn.
pub struct Look {
    pub opacity: f32,
    /// The colour of each class, and whether the class is tinted.
    pub palette: [([u8; 3], bool); 256],
}

impl View {
    pub fn new(state: &RenderState) -> Self {
        let device = &state.device;
        let shader = device.create_shader_module(wgpu::include_wgsl!("view.wgsl"));
        let pipeline = device.create_render_pipeline(&wgpu::RenderPipelineDescriptor {
            label: Some("view"),
            layout: None,
            vertex: wgpu::VertexState {
                module: &shader,
                entry_point: Some("corner"),
                compilation_options: Default::default(),
                buffers: &[],
            },
            primitive: wgpu::PrimitiveState {
                topology: wgpu::PrimitiveTopology::TriangleStrip,
                ..Default::default()
            },
            depth_stencil: None,
            multisample: Default::default(),
            fragment: Some(wgpu::FragmentState {
                module: &shader,
                entry_point: Some("pixel"),
                compilation_options: Default::default(),
                targets: &[Some(state.target_format.into())],
            }),
            multiview_mask: None,
            cache: None,
        });
        Self {
            pipeline,
            settings: device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("view"),
                size: size_of::<Settings>() as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }),
            sampler: device.create_sampler(&wgpu::SamplerDescriptor {
                label: Some("view"),
                mag_filter: wgpu::FilterMode::Linear,
                min_filter: wgpu::FilterMode::Linear,
                ..Default::default()
            }),
            no_labels: texture(device, Size::square(1), wgpu::TextureFormat::R8Uint),
            linear: state.target_format.is_srgb(),
            device: device.clone(),
        }
    }

    /// A scene of `frame`, tinted by the class ids of `labels`, if given.
    pub fn scene(&self, frame: wgpu::Texture, labels: Option<&wgpu::Texture>) -> Scene {
        let view = |texture: &wgpu::Texture| texture.create_view(&Default::default());
        let views = [view(&frame), view(labels.unwrap_or(&self.no_labels))];
        let resources = [
            wgpu::BindingResource::TextureView(&views[0]),
            wgpu::BindingResource::TextureView(&views[1]),
            wgpu::BindingResource::Sampler(&self.sampler),
            self.settings.as_entire_binding(),
        ];
        let entries: Vec<_> = (0..)
            .zip(resources)
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("view"),
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Scene {
            frame,
            bind_group,
            has_labels: labels.is_some(),
        }
    }

    /// Draws `scene` into the rectangle `whole`, clipped by `painter`.
    pub fn paint(&self, painter: &egui::Painter, scene: &Scene, whole: Rect, look: &Look) {
        let seen = whole.intersect(painter.clip_rect());
        if !seen.is_positive() {
            return;
        }
        let scale = painter.pixels_per_point();
        let size = seen.size() * scale;
        // Texels per point.
        let density = egui::vec2(
            scene.frame.width() as f32 / whole.width(),
            scene.frame.height() as f32 / whole.height(),
        );
        let settings = Settings {
            first: ((seen.min - whole.min) * density).into(),
            per_pixel: (density / scale).into(),
            size: size.into(),
            opacity: if scene.has_labels { look.opacity } else { 0.0 },
            linear: self.linear.into(),
            palette: look.palette.map(|([r, g, b], seen)| {
                let [r, g, b] = [r, g, b].map(|byte| f32::from(byte) / 255.0);
                [r, g, b, f32::from(u8::from(seen))]
            }),
        };
        let drawn = Drawn {
            pipeline: self.pipeline.clone(),
            bind_group: scene.bind_group.clone(),
            buffer: self.settings.clone(),
            settings,
        };
        painter.add(egui_wgpu::Callback::new_paint_callback(seen, drawn));
    }
}

struct Drawn {
    pipeline: wgpu::RenderPipeline,
    bind_group: wgpu::BindGroup,
    buffer: wgpu::Buffer,
    settings: Settings,
}

impl CallbackTrait for Drawn {
    fn prepare(
        &self,
        _: &wgpu::Device,
        queue: &wgpu::Queue,
        _: &ScreenDescriptor,
        _: &mut wgpu::CommandEncoder,
        _: &mut CallbackResources,
    ) -> Vec<wgpu::CommandBuffer> {
        queue.write_buffer(&self.buffer, 0, bytemuck::bytes_of(&self.settings));
        Vec::new()
    }

    fn paint(
        &self,
        _: egui::PaintCallbackInfo,
        pass: &mut wgpu::RenderPass<'static>,
        _: &CallbackResources,
    ) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.draw(0..4, 0..1);
    }
}

/// A texture of `size` that the host writes and shaders read.
pub fn texture(device: &wgpu::Device, size: Size, format: wgpu::TextureFormat) -> wgpu::Texture {
    device.create_texture(&wgpu::TextureDescriptor {
        label: Some("picture"),
        size: wgpu::Extent3d {
            width: size.width as u32,
            height: size.height as u32,
            depth_or_array_layers: 1,
        },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format,
        usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
        view_formats: &[],
    })
}

//! Embedding in a program with its own device: the program's textures as input, masks as textures, several networks on
//! one device, and a lost device.

use crate::common::{Random, all_gpus, golden, gpu};
use fullconv::low_level::gpu::{Executor, MaskTextures, Network, texture_pipelines};
use fullconv::low_level::graph::Graph;
use fullconv::low_level::ops::{Argmax, Conv2d};
use fullconv::low_level::plan::Plan;
use fullconv::{
    Channels, Colours, ErrorKind, Gpu, GpuOptions, Model, Parameters, Picture, Precision,
    Segmenter, Shape, Size, Tensor, TensorFile,
};
use pollster::block_on;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wgpu::TextureFormat::{Bgra8Unorm, Bgra8UnormSrgb, Rgba8Unorm, Rgba8UnormSrgb};

const FORMATS: [wgpu::TextureFormat; 4] = [Rgba8Unorm, Rgba8UnormSrgb, Bgra8Unorm, Bgra8UnormSrgb];

fn noise(height: usize, width: usize, seed: u8) -> Picture {
    let mut random = Random::new(seed);
    let data = (0..3 * height * width).map(|_| (random.float() * 127.5 + 127.5) as u8);
    Picture::from_rgb(Size::new(height, width), data.collect()).unwrap()
}

/// An empty texture of the program, of the size of `picture`.
fn empty(gpu: &Gpu, picture: &Picture, format: wgpu::TextureFormat) -> wgpu::Texture {
    gpu.device().create_texture(&wgpu::TextureDescriptor {
        label: Some("frame"),
        size: wgpu::Extent3d {
            width: picture.width() as u32,
            height: picture.height() as u32,
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

/// A texture that stores the bytes of `picture`.
fn texture(gpu: &Gpu, picture: &Picture, format: wgpu::TextureFormat) -> wgpu::Texture {
    let texture = empty(gpu, picture, format);
    let bgr = matches!(format, Bgra8Unorm | Bgra8UnormSrgb);
    let pixels = picture.rgb().chunks_exact(3);
    // Alpha is ignored.
    let bytes = pixels.flat_map(|p| match bgr {
        true => [p[2], p[1], p[0], 9],
        false => [p[0], p[1], p[2], 9],
    });
    let layout = wgpu::TexelCopyBufferLayout {
        offset: 0,
        bytes_per_row: Some(4 * picture.width() as u32),
        rows_per_image: None,
    };
    let bytes: Vec<u8> = bytes.collect();
    let queue = gpu.queue();
    queue.write_texture(texture.as_image_copy(), &bytes, layout, texture.size());
    texture
}

fn open(gpu: &Gpu, model: &Model) -> Segmenter {
    block_on(Segmenter::new(gpu, model)).unwrap()
}

/// A golden model with this metadata, and with `change` applied to its tensor `changed`.
fn with(metadata: &str, changed: &str, change: impl Fn(&Tensor) -> Tensor) -> Model {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/");
    let path = format!("{folder}fcn8s-same.safetensors");
    let file = TensorFile::open(path.as_ref()).unwrap();
    let tensor = |(name, _): (&str, _)| {
        let tensor = file.tensor(name).unwrap();
        let tensor = if name == changed {
            change(&tensor)
        } else {
            tensor
        };
        (name.to_owned(), tensor)
    };
    let tensors: Vec<_> = file.tensors().map(tensor).collect();
    Model::from_bytes(crate::common::serialize(&tensors, Some(metadata))).unwrap()
}

const SAME: &str = r#"{"version":1,"geometry":"same"}"#;

/// A model that resizes pictures to a longer side of 40 pixels.
fn at_40() -> Model {
    let metadata = r#"{"version":1,"geometry":"same","preprocess":{"channels":"rgb","range":1.0,
        "mean":[0.5,0.4,0.3],"std":[0.2,0.3,0.4],"long_side":40}}"#;
    with(metadata, "", Tensor::clone)
}

/// A device opened with wgpu, as a program does.
fn device_of_the_program(limits: wgpu::Limits) -> Option<(wgpu::Device, wgpu::Queue)> {
    gpu(GpuOptions::default())?;
    let adapters = block_on(fullconv::gpu::adapters(None));
    let adapter = adapters.iter().find(|a| a.trouble().is_none()).unwrap();
    let descriptor = wgpu::DeviceDescriptor {
        required_limits: limits,
        ..wgpu::DeviceDescriptor::default()
    };
    Some(block_on(adapter.wgpu().request_device(&descriptor)).unwrap())
}

/// Panics unless textures get the picture's mask, from `segment_texture` and from a texture pass.
pub(super) fn check(segmenter: &Segmenter, gpu: &Gpu, picture: &Picture, what: &str) {
    let expected = segmenter.segment_blocking(picture).unwrap();
    let overlay = expected.overlay(picture, 0.5).unwrap();
    let colours = expected.overlay(picture, 1.0).unwrap();
    let pass = block_on(segmenter.texture_pass(picture.size())).unwrap();
    let reused = block_on(pass.mask(Colours::Classes)).unwrap();
    for format in FORMATS {
        let what = format!("{what}, {picture:?} as {format:?}");
        let frame = texture(gpu, picture, format);
        let mask = block_on(segmenter.segment_texture(&frame, Colours::Overlay(0.5))).unwrap();
        assert!(block_on(mask.read()).unwrap() == expected, "{what}");
        assert!(block_on(mask.read_colours()).unwrap() == overlay, "{what}");

        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        pass.encode(&mut encoder, &frame, &reused).unwrap();
        gpu.queue().submit([encoder.finish()]);
        assert!(block_on(reused.read()).unwrap() == expected, "{what}");
        let found = block_on(reused.read_colours()).unwrap();
        assert!(found == colours, "{what}");
    }
}

#[test]
fn a_texture_gets_the_same_mask_as_a_picture_of_its_bytes() {
    let (same, at_40) = (golden("fcn8s-same"), at_40());
    for (name, gpu) in all_gpus() {
        // First pictures that the network sees at their own size, then pictures that are resized.
        let segmenter = open(&gpu, &same);
        for (h, w) in [(21, 33), (5, 64), (7, 1)] {
            check(&segmenter, &gpu, &noise(h, w, 60), name);
        }
        let segmenter = open(&gpu, &at_40);
        for (h, w) in [(97, 61), (9, 15)] {
            check(&segmenter, &gpu, &noise(h, w, 61), name);
        }
    }
}

#[test]
fn a_texture_is_segmented_in_bands_under_low_limits() {
    let little = wgpu::Limits {
        max_buffer_size: 2 << 20,
        max_storage_buffer_binding_size: 64 << 10,
        max_compute_workgroups_per_dimension: 64,
        ..wgpu::Limits::default()
    };
    let Some((device, queue)) = device_of_the_program(little) else {
        return;
    };
    let gpu = Gpu::from_wgpu(device.clone(), queue.clone()).unwrap();
    let model = golden("fcn8s-same");
    let segmenter = open(&gpu, &model);
    check(&segmenter, &gpu, &noise(400, 401, 62), "little room");
    let pass = block_on(segmenter.texture_pass(Size::new(400, 401))).unwrap();
    assert!(!pass.plan().groups.is_empty(), "{}", pass.plan());
}

/// If the labels do not fit the device's memory, they reach the texture in bands.
#[test]
fn labels_in_bands_reach_the_mask_texture() {
    for (name, gpu) in all_gpus() {
        // In the first size, rows of labels begin within a u32, in the second they do not. Bands have several rows.
        for [h, w] in [[400, 18], [300, 20]] {
            let bytes = Bytes::of(0, 6, [h, w]);
            let outputs = [bytes.graph.output()];
            let shape = Shape::new(1, 3, h, w);
            let mut target = gpu.target().clone();
            let plan = loop {
                let plan = Plan::new(&bytes.graph, shape, &outputs, &target).unwrap();
                if plan.read_backs.len() > 2 {
                    break plan;
                }
                target.options.memory_bytes = plan.peak_device_bytes() - 1;
            };
            let data = (0..3 * h * w).map(|i| (i * i % 7) as u8).collect();
            let picture = Picture::from_rgb(Size::new(h, w), data).unwrap();
            bytes.check(&gpu, plan, &picture, 0, &format!("{name}, {h} {w}"));
        }
    }
}

/// A network whose label is the byte x of one channel, at most the last class: of the scores 2·k·x − k² of classes k,
/// that of k = x is the highest.
struct Bytes {
    graph: Graph,
    parameters: Parameters,
}

impl Bytes {
    fn of(channel: usize, classes: usize, size: [usize; 2]) -> Self {
        let [shape, vector] = [3, 1].map(|c| Shape::new(classes, c, 1, 1));
        let weight = Tensor::from_fn(shape, |k, c, _, _| match c == channel {
            true => 2.0 * k as f32,
            false => 0.0,
        });
        let bias = Tensor::from_fn(vector, |k, _, _, _| -((k * k) as f32));
        let tensors = [("weight", weight), ("bias", bias)];
        let tensors = tensors.map(|(name, tensor)| (name.to_owned(), tensor.unwrap()));
        let mut graph = Graph::new("picture");
        let preprocess = fullconv::low_level::ops::Preprocess {
            size,
            channels: Channels::Rgb,
            range: 255.0,
            mean: vec![0.0; 3],
            std: vec![1.0; 3],
        };
        let input = graph.op("input", preprocess, &[graph.input()]).unwrap();
        let weight = graph.parameter("weight", shape).unwrap();
        let bias = graph.parameter("bias", vector).unwrap();
        let scores = graph.op("scores", Conv2d::default(), &[input, weight, bias]);
        graph.op("labels", Argmax {}, &[scores.unwrap()]).unwrap();
        Self {
            graph,
            parameters: Parameters::new(crate::common::tensor_file(&tensors), BTreeMap::new()),
        }
    }

    /// Panics unless the labels of `picture` are the bytes of its channel, in every format.
    fn check(&self, gpu: &Gpu, plan: Plan, picture: &Picture, channel: usize, what: &str) {
        let network = Network::new(gpu);
        let made = Executor::new(&network, plan, &self.graph, &self.parameters);
        let mut executor = block_on(made).unwrap();
        block_on(executor.prepare_textures()).unwrap();
        let mask = block_on(MaskTextures::new(gpu, picture.size(), None)).unwrap();
        assert_eq!(mask.size(), picture.size());
        for format in FORMATS {
            let frame = texture(gpu, picture, format);
            block_on(executor.submit_textures(&frame, &mask)).unwrap();
            let found = block_on(mask.read_labels(executor.patience())).unwrap();
            let expected = picture.rgb().iter().skip(channel).step_by(3);
            // A byte above the last class gets the last class.
            let classes = self.classes() as u8;
            let expected = expected.map(|byte| *byte.min(&(classes - 1)));
            assert!(expected.eq(found.iter().copied()), "{what}, {format:?}");
        }
    }

    fn classes(&self) -> usize {
        let shapes = self.graph.shapes(Shape::new(1, 3, 9, 9)).unwrap();
        let scores = self.graph.find("scores").unwrap();
        shapes[scores.index()].c
    }
}

/// Every byte except 255, which is no class, in every channel and format.
#[test]
fn every_byte_of_a_texture_is_read_unchanged() {
    let rotated = |i: usize, by: usize| ((i + by) % 255) as u8;
    let data = (0..256).flat_map(|i| [rotated(i, 0), rotated(i, 85), rotated(i, 170)]);
    let picture = Picture::from_rgb(Size::square(16), data.collect()).unwrap();
    for (name, gpu) in all_gpus() {
        for channel in 0..3 {
            let bytes = Bytes::of(channel, 255, [16, 16]);
            let (shape, outputs) = (Shape::new(1, 3, 16, 16), [bytes.graph.output()]);
            let plan = Plan::new(&bytes.graph, shape, &outputs, gpu.target()).unwrap();
            bytes.check(&gpu, plan, &picture, channel, name);
        }
    }
}

#[test]
fn overlay_colours_agree_with_the_mask_at_every_opacity() {
    let data = (0..=255).flat_map(|i| [i, 255 - i, i ^ 85]).collect();
    let picture = Picture::from_rgb(Size::new(8, 32), data).unwrap();
    for (name, gpu) in all_gpus() {
        let segmenter = open(&gpu, &golden("fcn32s-same"));
        let expected = segmenter.segment_blocking(&picture).unwrap();
        for format in FORMATS {
            let frame = texture(&gpu, &picture, format);
            for opacity in [0.0, 0.25, 0.3, 0.5, 0.9, 1.0] {
                let made = segmenter.segment_texture(&frame, Colours::Overlay(opacity));
                let found = block_on(block_on(made).unwrap().read_colours()).unwrap();
                let expected = expected.overlay(&picture, opacity).unwrap();
                // A multiply-add may be rounded once or twice, which matters halfway between two bytes.
                let exact = [0.0, 0.25, 0.5, 1.0].contains(&opacity);
                let most = u8::from(!exact);
                let pairs = expected.rgb().iter().zip(found.rgb());
                let off = pairs.map(|(e, f)| e.abs_diff(*f)).max();
                assert!(off <= Some(most), "{name}, {format:?}, {opacity}: {off:?}");
            }
        }
    }
}

/// WGSL has no imports, so both shaders have a copy of the function.
#[test]
fn both_shaders_that_read_srgb_encode_it_alike() {
    let function = |source: &str| {
        let begin = source.find("fn encoded").unwrap();
        let end = begin + source[begin..].find("\n}").unwrap();
        source[begin..end].to_owned()
    };
    let [words, _, colours] = texture_pipelines();
    assert_eq!(
        function(&words.shader.source),
        function(&colours.shader.source)
    );
}

#[test]
fn a_recorded_pass_runs_when_the_program_submits_it() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let segmenter = open(&gpu, &golden("fcn8s-same"));
    let pictures = [64, 65].map(|seed| noise(30, 40, seed));
    let expected = pictures
        .each_ref()
        .map(|p| segmenter.segment_blocking(p).unwrap());
    assert!(expected[0] != expected[1]);
    let pass = block_on(segmenter.texture_pass(Size::new(30, 40))).unwrap();
    let masks = [0, 1].map(|_| block_on(pass.mask(Colours::None)).unwrap());
    let mut recorded = [0, 1].map(|i| {
        let frame = texture(&gpu, &pictures[i], Rgba8Unorm);
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        pass.encode(&mut encoder, &frame, &masks[i]).unwrap();
        Some(encoder.finish())
    });
    // The recorded commands do not need the pass. The second are submitted first, after other work of the segmenter.
    drop(pass);
    for i in [1, 0] {
        let before = block_on(masks[i].read()).unwrap();
        assert!(before.labels().iter().all(|l| *l == 0), "written too early");
        assert_eq!(
            segmenter.segment_blocking(&pictures[1]).unwrap(),
            expected[1]
        );
        gpu.queue().submit(recorded[i].take());
        assert_eq!(block_on(masks[i].read()).unwrap(), expected[i]);
    }
}

/// The number and bytes of wgpu's live buffers, and the names of the allocator's allocations.
fn buffers(gpu: &Gpu) -> ([isize; 2], Vec<String>) {
    let report = gpu.device().generate_allocator_report();
    let names = report.map_or(Vec::new(), |report| {
        report.allocations.into_iter().map(|a| a.name).collect()
    });
    let counters = gpu.device().get_internal_counters().hal;
    let counted = [counters.buffers.read(), counters.buffer_memory.read()];
    (counted, names)
}

#[test]
fn a_run_on_textures_creates_and_maps_no_buffer() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let segmenter = open(&gpu, &golden("fcn8s-same"));
    let picture = noise(30, 40, 66);
    let frame = texture(&gpu, &picture, Rgba8Unorm);
    let poll = || gpu.device().poll(wgpu::PollType::wait_indefinitely());
    // The number of staging buffers, for readback or upload.
    let through = |names: &[String]| {
        let is_staging = |name: &&String| *name == "output" || name.contains("Staging");
        names.iter().filter(is_staging).count()
    };
    block_on(segmenter.segment_texture(&frame, Colours::Overlay(0.5))).unwrap();
    poll().unwrap();
    let (_, names) = buffers(&gpu);
    assert_eq!(through(&names), 0, "{names:?}");

    let pass = block_on(segmenter.texture_pass(Size::new(30, 40))).unwrap();
    let mask = block_on(pass.mask(Colours::Overlay(0.5))).unwrap();
    gpu.queue().submit([]);
    poll().unwrap();
    let (before, _) = buffers(&gpu);
    assert!(before.iter().all(|n| *n > 0), "wgpu counts nothing");
    for _ in 0..3 {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        pass.encode(&mut encoder, &frame, &mask).unwrap();
        gpu.queue().submit([encoder.finish()]);
        // Not even while the device works.
        let (after, names) = buffers(&gpu);
        assert_eq!((after, through(&names)), (before, 0), "{names:?}");
    }
    // A run with readback changes these numbers.
    segmenter.segment_blocking(&picture).unwrap();
    let (after, names) = buffers(&gpu);
    assert!(after[1] > before[1], "{after:?}");
    assert!(names.is_empty() || through(&names) > 0, "{names:?}");
}

#[test]
fn segmenters_of_one_model_share_weights_and_pipelines() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let counted = || {
        gpu.queue().submit([]);
        gpu.device()
            .poll(wgpu::PollType::wait_indefinitely())
            .unwrap();
        let hal = gpu.device().get_internal_counters().hal;
        let memory = hal.buffer_memory.read() + hal.texture_memory.read();
        [memory, hal.compute_pipelines.read()]
    };
    let (model, other) = (golden("fcn8s-same"), golden("fcn16s-same"));
    let none = counted();
    let first = open(&gpu, &model);
    let one = counted();
    assert!(one[0] > none[0] && one[1] > none[1], "wgpu counts nothing");
    let second = open(&gpu, &model.clone());
    assert_eq!(counted(), one);
    // Another model has its own weights but shares pipelines: it adds fewer than the first model.
    let third = open(&gpu, &other);
    let two = counted();
    assert!(two[0] > one[0] && two[1] - one[1] < one[1] - none[1]);
    // When one segmenter is dropped, the others keep the shared weights.
    let picture = noise(20, 20, 67);
    let expected = second.segment_blocking(&picture).unwrap();
    drop(first);
    assert_eq!(second.segment_blocking(&picture).unwrap(), expected);
    let again = open(&gpu, &model);
    assert_eq!(again.segment_blocking(&picture).unwrap(), expected);
    drop((second, third, again));
    assert_eq!(counted(), none);
}

#[test]
fn invalid_texture_requests_are_errors() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let model = golden("fcn32s-same");
    let segmenter = open(&gpu, &model);
    let picture = noise(10, 12, 68);
    let frame = texture(&gpu, &picture, Rgba8Unorm);
    let pass = block_on(segmenter.texture_pass(Size::new(10, 12))).unwrap();
    let mask = block_on(pass.mask(Colours::None)).unwrap();
    let refused = |frame: &wgpu::Texture, mask, kind, part: &str| {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let error = pass.encode(&mut encoder, frame, mask).unwrap_err();
        assert!(
            error.kind() == kind && error.to_string().contains(part),
            "{error}"
        );
    };
    let float = empty(&gpu, &picture, wgpu::TextureFormat::Rgba16Float);
    refused(&float, &mask, ErrorKind::Picture, "Rgba16Float");
    let error = block_on(segmenter.segment_texture(&float, Colours::None)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Picture, "{error}");
    let unbound = gpu.device().create_texture(&wgpu::TextureDescriptor {
        label: None,
        size: frame.size(),
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: Rgba8Unorm,
        usage: wgpu::TextureUsages::COPY_DST,
        view_formats: &[],
    });
    refused(&unbound, &mask, ErrorKind::Picture, "TEXTURE_BINDING");
    let large = texture(&gpu, &noise(10, 13, 68), Rgba8Unorm);
    let sizes = "10x12 pixels (height x width); this texture has 10x13";
    refused(&large, &mask, ErrorKind::Shape, sizes);
    let wide = block_on(segmenter.segment_texture(&large, Colours::None)).unwrap();
    assert_eq!(wide.size(), Size::new(10, 13));
    let sizes = "10x13 pixels (height x width) does not fit a picture of 10x12";
    refused(&frame, &wide, ErrorKind::Shape, sizes);
    let same = Gpu::from_wgpu(gpu.device().clone(), gpu.queue().clone()).unwrap();
    let adopted = open(&same, &model);
    let foreign = block_on(adopted.segment_texture(&frame, Colours::None)).unwrap();
    refused(&frame, &foreign, ErrorKind::Request, "another device");
    for opacity in [-0.1, 1.1, f32::NAN] {
        let error = block_on(pass.mask(Colours::Overlay(opacity))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request, "{error}");
    }
    assert_eq!(
        block_on(mask.read_colours()).unwrap_err().kind(),
        ErrorKind::Request
    );
    let on_cpu = Segmenter::on_cpu(&model);
    let error = block_on(on_cpu.texture_pass(Size::new(10, 12))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
    // The segmenter works after these errors.
    check(&segmenter, &gpu, &picture, "after errors");
}

#[test]
fn a_device_with_too_low_limits_is_not_adopted() {
    let few = wgpu::Limits {
        max_storage_buffers_per_shader_stage: 4,
        ..wgpu::Limits::default()
    };
    let Some((device, queue)) = device_of_the_program(few) else {
        return;
    };
    let error = Gpu::from_wgpu(device, queue).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("4 storage buffers"), "{error}");
}

/// With textures, the words that report f16 overflow are not read back, so the mask itself must give the error.
#[test]
fn a_mask_texture_with_f16_overflow_is_an_error_when_read() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    if !gpu.device().features().contains(wgpu::Features::SHADER_F16) {
        eprintln!("SKIP: {gpu} has no f16");
        return;
    }
    let half = |model: &Model| {
        let made = Segmenter::builder(model)
            .gpu(&gpu)
            .precision(Precision::F16)
            .build();
        block_on(made).unwrap()
    };
    let picture = noise(20, 30, 69);
    check(&half(&golden("fcn8s-same")), &gpu, &picture, "f16");
    let saturated = half(&with(SAME, "conv1_2.bias", |bias| bias.map(|_| 1e6)));
    let frame = texture(&gpu, &picture, Rgba8Unorm);
    let mask = block_on(saturated.segment_texture(&frame, Colours::None)).unwrap();
    let error = block_on(mask.read()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFinite, "{error}");
    let error = saturated.segment_blocking(&picture).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFinite, "{error}");
}

fn is_lost<T>(result: fullconv::Result<T>, what: &str) {
    match result {
        Ok(_) => panic!("{what} worked on a lost device"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::DeviceLost, "{what}: {error}"),
    }
}

/// For an adopted device and our own: runs in flight end, and later requests are errors.
#[test]
fn a_segmenter_whose_device_is_lost_recovers_on_another() {
    let Some((device, queue)) = device_of_the_program(wgpu::Limits::default()) else {
        return;
    };
    let programs_was_told = Arc::new(AtomicBool::new(false));
    let told = programs_was_told.clone();
    device.set_device_lost_callback(move |_, _| told.store(true, Ordering::Relaxed));
    let adopted = Gpu::from_wgpu(device, queue).unwrap();
    let own = block_on(Gpu::new()).unwrap();
    for lost in [&adopted, &own] {
        check_recovery(lost);
    }
    adopted
        .device()
        .poll(wgpu::PollType::wait_indefinitely())
        .unwrap();
    assert!(programs_was_told.load(Ordering::Relaxed));
}

fn check_recovery(lost: &Gpu) {
    let (model, picture) = (golden("fcn8s-same"), noise(30, 40, 70));
    let segmenter = open(lost, &model);
    let expected = segmenter.segment_blocking(&picture).unwrap();
    let frame = texture(lost, &picture, Rgba8Unorm);
    let pass = block_on(segmenter.texture_pass(Size::new(30, 40))).unwrap();
    let mask = block_on(pass.mask(Colours::None)).unwrap();
    let mut frames = segmenter.frames();
    for _ in 0..2 {
        assert!(block_on(frames.push(&picture)).is_none());
    }
    lost.device().destroy();
    // A picture that ended before the loss gives its mask.
    for _ in 0..2 {
        match block_on(frames.next()).unwrap() {
            Ok(mask) => assert_eq!(mask, expected),
            Err(error) => assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}"),
        }
    }
    assert!(block_on(frames.push(&picture)).is_none());
    is_lost(block_on(frames.next()).unwrap(), "frames");
    drop(frames);
    is_lost(segmenter.segment_blocking(&picture), "segment");
    is_lost(segmenter.segment_blocking(&noise(9, 9, 1)), "another size");
    let texture = block_on(segmenter.segment_texture(&frame, Colours::Classes));
    is_lost(texture, "segment_texture");
    let mut encoder = lost.device().create_command_encoder(&Default::default());
    is_lost(pass.encode(&mut encoder, &frame, &mask), "encode");
    is_lost(block_on(pass.mask(Colours::None)), "mask");
    is_lost(block_on(mask.read()), "read");
    let input = Tensor::from_fn(Shape::new(1, 3, 9, 9), |_, _, _, _| 0.0).unwrap();
    is_lost(block_on(segmenter.run(&input, &[])), "run");
    is_lost(block_on(segmenter.profile(Size::square(9), 1, 1)), "target");
    is_lost(block_on(Segmenter::new(lost, &model)), "new");
    is_lost(block_on(segmenter.recover(lost)), "recover");

    let other = block_on(Gpu::new()).unwrap();
    block_on(segmenter.recover(&other)).unwrap();
    assert_eq!(segmenter.segment_blocking(&picture).unwrap(), expected);
    check(&segmenter, &other, &picture, "recovered");
}

//! Whole networks on pictures: the device against the CPU reference, at awkward sizes, in batches too large to run at
//! once, on devices that are shared, adopted, or have very low limits.

use crate::common::{Random, gpu, relative_error, wanted_backend};
use fullconv::gpu::wgpu;
use fullconv::{
    ErrorKind, Gpu, GpuOptions, Model, Picture, Run, Segmenter, Shape, Size, Tensor, compare,
};
use pollster::block_on;

fn golden(name: &str) -> Model {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/");
    Model::read(format!("{folder}{name}.safetensors")).unwrap()
}

fn any_gpu() -> Option<Gpu> {
    gpu(GpuOptions::default())
}

fn open(gpu: &Gpu, model: &Model) -> Segmenter {
    block_on(Segmenter::new(gpu, model)).unwrap()
}

/// A picture of noise, for which scores are close.
fn noise(height: usize, width: usize, seed: u8) -> Picture {
    let tensor = Random::new(seed).picture(Shape::new(1, 1, height, 3 * width));
    let bytes = tensor.data().iter().map(|v| *v as u8).collect();
    Picture::from_rgb(Size::new(height, width), bytes).unwrap()
}

/// Panics unless every node is within its bound. At most as many labels may differ from the reference's mask as pixels
/// have their two best scores within the margin.
fn check_picture(segmenter: &Segmenter, picture: &Picture) {
    let what = format!("{segmenter} at {}", picture.size());
    let report = block_on(compare::compare_picture(segmenter, picture)).unwrap();
    assert!(
        report.is_within_bounds(),
        "{what}: {:?}, {:?}",
        report.first_outside(),
        report.labels
    );
    let labels = report.labels.unwrap();
    assert_eq!(Some(labels.pixels), picture.size().pixels(), "{what}");
    let mask = block_on(segmenter.segment(picture)).unwrap();
    assert_eq!(mask.size(), picture.size(), "{what}");
    let on_cpu = Segmenter::on_cpu(segmenter.model());
    let expected = on_cpu.segment_blocking(picture).unwrap();
    let pairs = mask.labels().iter().zip(expected.labels());
    let others = pairs.filter(|(found, expected)| found != expected).count();
    assert!(
        others <= labels.within_margin,
        "{what}: {others} labels, {labels:?}"
    );
}

#[test]
fn the_demo_model_agrees_with_the_reference_on_a_street() {
    let Some(gpu) = any_gpu() else { return };
    let street = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/street.jpg");
    let street = Picture::open(street).unwrap();
    let segmenter = open(&gpu, &Model::from_bytes(fullconv_demo::MODEL).unwrap());
    check_picture(&segmenter, &street);
    // The mask shows a street.
    let mask = segmenter.segment_blocking(&street).unwrap();
    let shares = mask.shares();
    for name in ["Sky", "Building", "Road", "Pavement"] {
        let share = shares
            .iter()
            .find(|(class, _)| mask.class_name(*class) == name);
        assert!(
            share.is_some_and(|(_, share)| *share > 0.02),
            "{name} in {shares:?}"
        );
    }
}

/// Heights and widths, the least of one pixel.
const SIZES: [[usize; 2]; 4] = [[1, 1], [37, 1], [3, 5], [10, 200]];

#[test]
fn pictures_of_awkward_sizes_agree_with_the_reference_in_every_geometry() {
    let Some(gpu) = any_gpu() else { return };
    for name in ["fcn8s-caffe", "fcn8s-same", "fcn16s-floor", "fcn32s-same"] {
        let segmenter = open(&gpu, &golden(name));
        for (seed, size) in (0..).zip(SIZES) {
            check_picture(&segmenter, &noise(size[0], size[1], seed));
        }
    }
}

/// The geometry `floor` has no output for a picture of one pixel: the picture is enlarged, and the mask has the
/// picture's own size.
#[test]
fn a_picture_too_small_for_the_network_is_enlarged() {
    let model = golden("fcn8s-floor");
    let Size {
        height: h,
        width: w,
    } = model.network_size(Size::square(1)).unwrap();
    assert!(h > 1 && w > 1);
    assert!(model.graph().shapes(Shape::new(1, 3, h, w)).is_ok());
    assert!(
        model
            .graph()
            .shapes(Shape::new(1, 3, h - 1, w - 1))
            .is_err()
    );
    let Some(gpu) = any_gpu() else { return };
    check_picture(&open(&gpu, &model), &noise(1, 1, 5));
}

#[test]
fn earlier_runs_do_not_change_a_mask() {
    let Some(gpu) = any_gpu() else { return };
    let segmenter = open(&gpu, &golden("fcn8s-caffe"));
    let pictures = [noise(20, 31, 1), noise(31, 20, 2), noise(20, 31, 3)];
    let masks = pictures
        .each_ref()
        .map(|p| segmenter.segment_blocking(p).unwrap());
    assert_ne!(
        masks[0].labels(),
        masks[2].labels(),
        "both pictures have the same mask"
    );
    // The same picture twice, another size, another picture of the same size, each followed by runs of scores.
    for i in [0, 0, 1, 0, 2, 0, 1, 1, 2, 2] {
        assert_eq!(segmenter.segment_blocking(&pictures[i]).unwrap(), masks[i]);
        let input = pictures[i].to_tensor().unwrap();
        let run = || block_on(segmenter.run(&input, &["pool3"])).unwrap();
        assert_eq!(run(), run());
    }
}

#[test]
fn two_models_share_a_device() {
    let Some(gpu) = any_gpu() else { return };
    let picture = noise(30, 40, 7);
    // The models' tensors have the same names but different values.
    let models = ["fcn8s-caffe", "fcn8s-same", "fcn16s-same"].map(golden);
    let alone = models
        .each_ref()
        .map(|m| open(&gpu, m).segment_blocking(&picture).unwrap());
    let together = models.each_ref().map(|m| open(&gpu, m));
    for _ in 0..2 {
        for (segmenter, expected) in together.iter().zip(&alone) {
            assert_eq!(segmenter.segment_blocking(&picture).unwrap(), *expected);
        }
    }
    for segmenter in &together {
        check_picture(segmenter, &picture);
    }
}

#[test]
fn one_segmenter_serves_many_threads() {
    let Some(gpu) = any_gpu() else { return };
    let segmenter = open(&gpu, &golden("fcn8s-same"));
    let pictures = [
        noise(20, 31, 1),
        noise(31, 20, 2),
        noise(20, 31, 3),
        noise(9, 8, 4),
    ];
    let expected = pictures
        .each_ref()
        .map(|p| segmenter.segment_blocking(p).unwrap());
    std::thread::scope(|scope| {
        for (picture, expected) in pictures.iter().zip(&expected) {
            let segmenter = &segmenter;
            scope.spawn(move || {
                for _ in 0..5 {
                    assert_eq!(segmenter.segment_blocking(picture).unwrap(), *expected);
                }
            });
        }
    });
}

/// A `Gpu` that adopts a device opened by the test with `limits`.
fn adopted(limits: wgpu::Limits) -> Option<Gpu> {
    any_gpu()?;
    let adapters = block_on(fullconv::gpu::adapters(wanted_backend()));
    let adapter = adapters.iter().find(|a| a.trouble().is_none()).unwrap();
    let descriptor = wgpu::DeviceDescriptor {
        required_limits: limits,
        ..wgpu::DeviceDescriptor::default()
    };
    let (device, queue) = block_on(adapter.wgpu().request_device(&descriptor)).unwrap();
    Some(Gpu::from_wgpu(device, queue).unwrap())
}

/// Limits so low that a picture of a few dozen pixels reaches them. wgpu checks every call against them.
fn little() -> wgpu::Limits {
    wgpu::Limits {
        max_buffer_size: 2 << 20,
        max_storage_buffer_binding_size: 64 << 10,
        max_compute_workgroups_per_dimension: 64,
        ..wgpu::Limits::default()
    }
}

#[test]
fn an_adopted_device_with_low_limits_agrees_with_the_reference() {
    let Some(gpu) = adopted(little()) else { return };
    assert_eq!(gpu.target().device.max_buffer_bytes, 2 << 20);
    assert_eq!(gpu.target().device.max_binding_bytes, 64 << 10);
    for name in ["fcn8s-caffe", "fcn16s-same"] {
        let segmenter = open(&gpu, &golden(name));
        check_picture(&segmenter, &noise(97, 61, 9));
        // Maps larger than 2 MiB run in bands; a picture larger than 2 MiB is an error.
        check_picture(&segmenter, &noise(400, 400, 1));
        let error = segmenter.segment_blocking(&noise(700, 800, 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
        // The next picture runs.
        check_picture(&segmenter, &noise(3, 5, 9));
    }
}

/// The device is the program's: it works on after its `Gpu` is dropped, and can be adopted again.
#[test]
fn an_adopted_device_works_after_its_gpu_is_dropped() {
    let Some(gpu) = adopted(wgpu::Limits::default()) else {
        return;
    };
    let (device, queue) = (gpu.device().clone(), gpu.queue().clone());
    let expected = open(&gpu, &golden("fcn32s-same"))
        .segment_blocking(&noise(9, 9, 1))
        .unwrap();
    drop(gpu);
    let again = Gpu::from_wgpu(device, queue).unwrap();
    let mask = open(&again, &golden("fcn32s-same"))
        .segment_blocking(&noise(9, 9, 1))
        .unwrap();
    assert_eq!(mask, expected);
}

/// One image of a batch.
fn image(batch: &Tensor, n: usize) -> Tensor {
    let shape = batch.shape().with_batch(1);
    Tensor::from_fn(shape, |_, c, y, x| batch.at(n, c, y, x)).unwrap()
}

/// The part of a run that belongs to one image of its batch.
fn of_image(run: &Run, n: usize) -> Run {
    Run {
        output: image(&run.output, n),
        labels: run.labels.as_ref().map(|labels| image(labels, n)),
        fetched: run
            .fetched
            .iter()
            .map(|(name, t)| (name.clone(), image(t, n)))
            .collect(),
    }
}

#[test]
fn a_batch_too_large_to_run_at_once_runs_in_parts() {
    let Some(gpu) = adopted(little()) else { return };
    let segmenter = open(&gpu, &golden("fcn8s-same"));
    // The largest map of an image has 150² pixels of 16 bytes, 360 KB: five of them fit into 2 MiB.
    let batch = Random::new(3).tensor(Shape::new(12, 3, 150, 150));
    let fetch = ["pool4", "score_fr"];
    let whole = block_on(segmenter.run(&batch, &fetch)).unwrap();
    assert_eq!(whole.output.shape().n, 12);
    for n in 0..12 {
        let single = block_on(segmenter.run(&image(&batch, n), &fetch)).unwrap();
        assert_eq!(of_image(&whole, n), single, "image {n}");
    }
    let on_cpu = block_on(Segmenter::on_cpu(segmenter.model()).run(&batch, &fetch)).unwrap();
    assert!(relative_error(&on_cpu.output, &whole.output) < 1e-5);
    assert_eq!(on_cpu.fetched[0].0, "pool4");
    assert!(relative_error(&on_cpu.fetched[0].1, &whole.fetched[0].1) < 1e-5);
}

#[test]
fn pictures_too_many_to_run_at_once_run_in_parts() {
    let Some(gpu) = adopted(little()) else { return };
    let segmenter = open(&gpu, &golden("fcn8s-same"));
    let pictures: Vec<_> = (0..12).map(|i| noise(150, 150, i)).collect();
    let masks = block_on(segmenter.segment_batch(&pictures)).unwrap();
    assert_eq!(masks.len(), 12);
    for (i, (picture, mask)) in pictures.iter().zip(masks).enumerate() {
        let alone = segmenter.segment_blocking(picture).unwrap();
        assert_eq!(mask, alone, "picture {i}");
    }
    let error = block_on(segmenter.segment_batch(&[noise(700, 800, 1)])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

#[test]
fn a_batch_equals_its_images_run_alone() {
    let Some(gpu) = any_gpu() else { return };
    for name in ["fcn8s-caffe", "fcn16s-floor", "fcn8s-atonce-caffe"] {
        let segmenter = open(&gpu, &golden(name));
        let batch = Random::new(4).tensor(Shape::new(3, 3, 29, 43));
        let whole = block_on(segmenter.run(&batch, &["fuse_pool4"])).unwrap();
        for n in 0..3 {
            let single = block_on(segmenter.run(&image(&batch, n), &["fuse_pool4"])).unwrap();
            assert_eq!(of_image(&whole, n), single, "{name}, image {n}");
        }
    }
}

#[test]
fn a_batch_whose_images_do_not_fit_alone_is_a_limit_error() {
    let Some(gpu) = adopted(little()) else { return };
    let segmenter = open(&gpu, &golden("fcn8s-same"));
    let batch = Tensor::zeros(Shape::new(2, 3, 500, 500)).unwrap();
    let error = block_on(segmenter.run(&batch, &[])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    let nowhere = block_on(segmenter.run(&image(&batch, 0), &["pool9"])).unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::Request);
    assert!(nowhere.to_string().contains("pool9"), "{nowhere}");
}

/// If the file were memory-mapped, a signal would end the program here.
#[test]
fn a_model_file_cut_short_while_in_use_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::copy("tests/goldens/fcn8s-same.safetensors", &path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let model = Model::read(&path).unwrap();
    let segmenter = any_gpu().map(|gpu| (open(&gpu, &model), gpu));
    let picture = noise(7, 9, 1);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(whole.len() as u64 / 2).unwrap();
    let refused = |error: fullconv::Error| {
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        let message = error.to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
        for part in ["model.safetensors: tensor ", "cut short"] {
            assert!(message.contains(part), "{message}");
        }
    };
    let on_cpu = Segmenter::on_cpu(&model);
    refused(on_cpu.segment_blocking(&picture).unwrap_err());
    if let Some((segmenter, _gpu)) = segmenter {
        // The first device keeps its weights; another device needs the file.
        let expected = segmenter.segment_blocking(&picture).unwrap();
        let other = any_gpu().unwrap();
        refused(block_on(Segmenter::new(&other, &model)).unwrap_err());
        refused(block_on(segmenter.recover(&other)).unwrap_err());
        assert_eq!(segmenter.segment_blocking(&picture).unwrap(), expected);
        // With the file restored, the other device works.
        std::fs::write(&path, &whole).unwrap();
        block_on(segmenter.recover(&other)).unwrap();
        assert_eq!(segmenter.segment_blocking(&picture).unwrap(), expected);
    }
}

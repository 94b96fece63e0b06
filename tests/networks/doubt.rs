//! A device that gives one class for a whole picture is checked before its mask is believed.

use crate::common::faults::{give_zeros, write_nothing};
use crate::common::gpu;
use fullconv::low_level::gpu::Fault;
use fullconv::low_level::plan::Plan;
use fullconv::{ErrorKind, Gpu, GpuOptions, Mask, Model, Picture, Result, Segmenter, Size};
use std::sync::Arc;

fn demo() -> Model {
    Model::from_bytes(fullconv_demo::MODEL).unwrap()
}

/// A picture of one colour.
fn plain() -> Picture {
    let size = Size::new(48, 64);
    Picture::from_rgb(size, [90; 3].repeat(48 * 64)).unwrap()
}

fn street() -> Picture {
    Picture::open(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/street.jpg")).unwrap()
}

/// A device with a fault, which has no poison: its buffers begin as zeros.
fn faulty(fault: fn(&mut Plan)) -> Option<Gpu> {
    gpu(GpuOptions::default())?;
    let gpu = pollster::block_on(Gpu::new()).unwrap();
    gpu.set_fault(Some(Fault(Arc::new(fault))));
    Some(gpu)
}

/// The masks of pictures one by one, in a batch and as frames.
fn masks(gpu: &Gpu) -> Vec<Result<()>> {
    let segmenter = pollster::block_on(Segmenter::new(gpu, &demo())).unwrap();
    let (street, plain) = (street(), plain());
    let one = segmenter.segment_blocking(&street);
    let batch = pollster::block_on(segmenter.segment_batch(&[plain.clone(), plain.clone()]));
    let frames = segmenter.frames().blocking([&plain, &street]);
    let frames: Vec<Result<Mask>> = frames.collect();
    let mut all = vec![one.map(drop), batch.map(drop)];
    all.extend(frames.into_iter().map(|mask| mask.map(drop)));
    all
}

#[test]
fn a_device_that_gives_only_zeros_gives_no_mask() {
    let Some(gpu) = faulty(give_zeros) else {
        return;
    };
    for mask in masks(&gpu) {
        let error = mask.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Device, "{error}");
        let text = error.to_string();
        let parts = [gpu.to_string(), "`fullconv devices --check`".into()];
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}

/// The buffer of the labels may hold the picture.
#[test]
fn a_device_that_writes_nothing_gives_no_mask() {
    let Some(gpu) = faulty(write_nothing) else {
        return;
    };
    for mask in masks(&gpu) {
        let error = mask.unwrap_err();
        assert!(
            [ErrorKind::Device, ErrorKind::NotFinite].contains(&error.kind()),
            "{error}"
        );
    }
}

#[test]
fn a_mask_of_one_class_from_a_device_that_computes_right_is_believed() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let segmenter = pollster::block_on(Segmenter::new(&gpu, &demo())).unwrap();
    let plans = segmenter.pool_stats().plans;
    let tiny = Picture::from_rgb(Size::new(1, 1), vec![90; 3]).unwrap();
    let mask = segmenter.segment_blocking(&tiny).unwrap();
    assert_eq!(mask.labels().len(), 1);
    assert_eq!(segmenter.pool_stats().plans, plans + 1);
}

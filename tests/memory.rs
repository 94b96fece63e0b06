//! Memory does not grow over many runs.

mod common;

use common::{Random, gpu};
use fullconv::{Colours, Frames, Gpu, GpuOptions, Model, Picture, Segmenter, Size};
use pollster::block_on;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Runs before memory is first measured, so that allocators settle.
const WARM_UP: usize = 100;
const RUNS: usize = 1000;
const SIDE: usize = 64;

/// The most that the process may grow in a round of runs. Pictures have [`SIDE`]² pixels of four bytes, masks of one: a
/// leak of one such buffer per run, at least 4 KB, would be more.
const MOST_GROWTH: u64 = 1 << 20;
/// The number of rounds in a row with more growth that counts as a leak.
const ROUNDS: usize = 3;

/// Everything that wgpu counts on the device.
fn counts(gpu: &Gpu) -> Vec<(&'static str, isize)> {
    let hal = gpu.device().get_internal_counters().hal;
    vec![
        ("buffers", hal.buffers.read()),
        ("bind groups", hal.bind_groups.read()),
        ("bind group layouts", hal.bind_group_layouts.read()),
        ("pipelines", hal.compute_pipelines.read()),
        ("pipeline layouts", hal.pipeline_layouts.read()),
        ("shaders", hal.shader_modules.read()),
        ("texture views", hal.texture_views.read()),
        ("bytes of textures", hal.texture_memory.read()),
        ("query sets", hal.query_sets.read()),
        ("fences", hal.fences.read()),
        ("bytes of buffers", hal.buffer_memory.read()),
        ("allocations", hal.memory_allocations.read()),
    ]
}

/// The resident bytes of the process, if the system reports them.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// Calls `run` many times. Panics if wgpu's counts or the process grow in every round.
fn check(gpu: &Gpu, mut run: impl FnMut(usize)) {
    let settled = || {
        // Ended work is freed when the device is polled.
        gpu.device()
            .poll(wgpu::PollType::wait_indefinitely())
            .unwrap();
        (counts(gpu), resident())
    };
    (0..WARM_UP).for_each(&mut run);
    let (mut counted, mut before) = settled();
    assert!(counted[0].1 > 0, "wgpu counts nothing: {counted:?}");
    // A leak grows in every round. Once, an allocator may keep more memory on a busy machine, and the ring of staging
    // buffers may come to its full length.
    let mut grown = Vec::new();
    for _ in 0..ROUNDS {
        (WARM_UP..RUNS).for_each(&mut run);
        let (after_counted, after) = settled();
        eprintln!("{before:?} bytes before, {after:?} after");
        let growth = after.zip(before).map(|(to, from)| to.saturating_sub(from));
        if after_counted == counted && growth.is_none_or(|growth| growth < MOST_GROWTH) {
            return;
        }
        grown.push((growth, std::mem::replace(&mut counted, after_counted)));
        before = after;
    }
    panic!("grown in every round: {grown:#?}, at last {counted:?}");
}

fn segmenter() -> Option<(Gpu, Segmenter)> {
    let gpu = gpu(GpuOptions::default())?;
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/goldens/fcn32s-same.safetensors"
    );
    let model = Model::read(file).unwrap();
    let segmenter = block_on(Segmenter::new(&gpu, &model)).unwrap();
    Some((gpu, segmenter))
}

fn pictures() -> Vec<Picture> {
    let mut random = Random::new(50);
    let mut picture = |_| {
        let data = (0..3 * SIDE * SIDE).map(|_| (random.float() * 127.0 + 128.0) as u8);
        Picture::from_rgb(Size::square(SIDE), data.collect()).unwrap()
    };
    (0..5).map(&mut picture).collect()
}

#[test]
fn memory_does_not_grow_over_a_thousand_pictures() {
    let Some((gpu, segmenter)) = segmenter() else {
        return;
    };
    let pictures = pictures();
    check(&gpu, |i| {
        segmenter.segment_blocking(&pictures[i % 5]).unwrap();
    });
}

#[test]
fn memory_does_not_grow_over_a_thousand_pictures_in_flight() {
    let Some((gpu, segmenter)) = segmenter() else {
        return;
    };
    let pictures = pictures();
    let mut frames = segmenter.frames();
    check(&gpu, |i| {
        match block_on(frames.push(&pictures[i % 5])) {
            Some(mask) => assert_eq!(mask.unwrap().width(), SIDE),
            None => assert!(i < Frames::DEPTH || i % 50 < Frames::DEPTH),
        }
        // Now and then, pictures in flight are dropped.
        if i % 50 == 49 {
            frames = segmenter.frames();
        }
    });
}

/// Dropped runs give back their buffers and their frame of the ring, at whatever point they are dropped.
#[test]
fn memory_does_not_grow_over_a_thousand_dropped_runs() {
    let Some((gpu, segmenter)) = segmenter() else {
        return;
    };
    let pictures = pictures();
    let expected = segmenter.segment_blocking(&pictures[0]).unwrap();
    let mut given_up = 0;
    check(&gpu, |i| {
        let picture = &pictures[i % 5];
        {
            let mut run = pin!(segmenter.segment(picture));
            // Polled never, once or twice.
            for _ in 0..i % 3 {
                let context = &mut Context::from_waker(Waker::noop());
                if let Poll::Ready(mask) = run.as_mut().poll(context) {
                    assert_eq!(mask.unwrap().width(), SIDE);
                    return;
                }
            }
        }
        given_up += 1;
        if i % 10 == 0 {
            assert_eq!(segmenter.segment_blocking(&pictures[0]).unwrap(), expected);
        }
    });
    assert!(given_up > RUNS / 2, "only {given_up} were dropped");
}

#[test]
fn memory_does_not_grow_over_a_thousand_textures() {
    let Some((gpu, segmenter)) = segmenter() else {
        return;
    };
    let frame = gpu.device().create_texture(&wgpu::TextureDescriptor {
        label: Some("frame"),
        size: wgpu::Extent3d {
            width: SIDE as u32,
            height: SIDE as u32,
            depth_or_array_layers: 1,
        },
        mip_level_count: 1,
        sample_count: 1,
        dimension: wgpu::TextureDimension::D2,
        format: wgpu::TextureFormat::Rgba8UnormSrgb,
        usage: wgpu::TextureUsages::TEXTURE_BINDING,
        view_formats: &[],
    });
    let pass = block_on(segmenter.texture_pass(Size::square(SIDE))).unwrap();
    let mask = block_on(pass.mask(Colours::Overlay(0.5))).unwrap();
    check(&gpu, |i| {
        if i % 10 == 0 {
            // This mask is dropped at once, while the device may still write it.
            let made = segmenter.segment_texture(&frame, Colours::Classes);
            block_on(made).unwrap();
        }
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        pass.encode(&mut encoder, &frame, &mask).unwrap();
        // Now and then, the recorded commands are not submitted.
        if i % 7 > 0 {
            gpu.queue().submit([encoder.finish()]);
        }
        if i % 10 == 9 {
            block_on(mask.read()).unwrap();
        }
    });
}

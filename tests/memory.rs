//! Memory stays as it is, however many runs there are.

mod common;

use common::{Random, gpu};
use fullconv::{Frames, Gpu, GpuOptions, Model, Picture, Segmenter};
use pollster::block_on;

/// Runs before the first look at memory, which allocators need to settle.
const WARM_UP: usize = 100;
const RUNS: usize = 1000;
const SIDE: usize = 64;

/// How much the process may grow over all runs. Pictures have [`SIDE`]² pixels of four bytes, masks of one:
/// to lose one buffer of either a run, some 4 KB at least, would be more.
const MOST_GROWTH: u64 = 1 << 20;
/// How often it may grow by more before that counts as a leak.
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
        ("query sets", hal.query_sets.read()),
        ("fences", hal.fences.read()),
        ("bytes of buffers", hal.buffer_memory.read()),
        ("allocations", hal.memory_allocations.read()),
    ]
}

/// Bytes of the process that are in memory, where the system says.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// Calls `run` often, and panics if the process or what wgpu counts has grown after the first few.
fn check(gpu: &Gpu, mut run: impl FnMut(usize)) {
    let settled = || {
        // What has ended is let go of when the device is polled.
        gpu.device()
            .poll(wgpu::PollType::wait_indefinitely())
            .unwrap();
        (counts(gpu), resident())
    };
    (0..WARM_UP).for_each(&mut run);
    let (counted, mut before) = settled();
    assert!(counted[0].1 > 0, "wgpu counts nothing: {counted:?}");
    // What leaks grows every time; what an allocator keeps once, on a busy machine, does not.
    let mut growths = Vec::new();
    for _ in 0..ROUNDS {
        (WARM_UP..RUNS).for_each(&mut run);
        let (after_counted, after) = settled();
        assert_eq!(counted, after_counted);
        let (Some(from), Some(to)) = (before, after) else {
            return;
        };
        eprintln!("{from} bytes before, {to} after");
        growths.push(to.saturating_sub(from));
        if to.saturating_sub(from) < MOST_GROWTH {
            return;
        }
        before = after;
    }
    panic!("grown by {growths:?} bytes");
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
        Picture::from_rgb(SIDE, SIDE, data.collect()).unwrap()
    };
    (0..5).map(&mut picture).collect()
}

#[test]
fn memory_stays_over_a_thousand_pictures() {
    let Some((gpu, segmenter)) = segmenter() else {
        return;
    };
    let pictures = pictures();
    check(&gpu, |i| {
        segmenter.segment_blocking(&pictures[i % 5]).unwrap();
    });
}

#[test]
fn memory_stays_over_a_thousand_pictures_in_flight() {
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
        // Now and then nobody waits for what is under way.
        if i % 50 == 49 {
            frames = segmenter.frames();
        }
    });
}

//! Times whole networks, from pixels to class ids in host memory: the demo model, and FCN-8s at full width with random
//! weights. Also times the host's work for a small picture, where it matters most.
//!
//! `cargo bench --bench models -- [NAME…] [--runs N] [--peak-gflops X --peak-gbs Y]`

mod common;

use common::Options;
use fullconv::{Gpu, Model, Picture, Result, Segmenter, Size};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Names and weights `[out, in, k]` of the layers of FCN-8s; each has a bias. The upsampling layers are left out, and
/// so bilinear.
const LAYERS: &[(&str, [usize; 3])] = &[
    ("conv1_1", [64, 3, 3]),
    ("conv1_2", [64, 64, 3]),
    ("conv2_1", [128, 64, 3]),
    ("conv2_2", [128, 128, 3]),
    ("conv3_1", [256, 128, 3]),
    ("conv3_2", [256, 256, 3]),
    ("conv3_3", [256, 256, 3]),
    ("conv4_1", [512, 256, 3]),
    ("conv4_2", [512, 512, 3]),
    ("conv4_3", [512, 512, 3]),
    ("conv5_1", [512, 512, 3]),
    ("conv5_2", [512, 512, 3]),
    ("conv5_3", [512, 512, 3]),
    ("fc6", [4096, 512, 7]),
    ("fc7", [4096, 4096, 1]),
    ("score_fr", [21, 4096, 1]),
    ("score_pool4", [21, 512, 1]),
    ("score_pool3", [21, 256, 1]),
];

fn main() -> ExitCode {
    common::main(run)
}

fn run(options: &Options) -> Result<()> {
    let gpu = options.gpu()?;
    println!("{gpu}, median of {} runs", options.runs);
    host(&gpu, options)?;
    profile(&gpu, options, "demo", demo, &[Size::new(360, 480)])?;
    profile(
        &gpu,
        options,
        "fcn8s",
        full,
        &[Size::square(96), Size::square(500)],
    )
}

fn demo() -> Result<Model> {
    Model::from_bytes(fullconv_demo::MODEL)
}

/// Pictures for each run of [`host`].
const PICTURES: u32 = 100;

/// Times the calling thread's own work for a picture of 64 by 64 pixels, without its waits.
fn host(gpu: &Gpu, options: &Options) -> Result<()> {
    let name = "demo-64x64-host";
    if !options.wants(name) {
        return Ok(());
    }
    let segmenter = pollster::block_on(Segmenter::new(gpu, &demo()?))?;
    let pixels = common::noise(3 * 64 * 64, 127.0);
    let pixels = pixels.into_iter().map(|x| (x + 128.0) as u8);
    let picture = Picture::from_rgb(Size::square(64), pixels.collect())?;
    segmenter.segment_blocking(&picture)?;
    let mut times = Vec::with_capacity(options.runs.into());
    for _ in 0..options.runs {
        let (begin, busy) = (Instant::now(), processor_time());
        for _ in 0..PICTURES {
            segmenter.segment_blocking(&picture)?;
        }
        let busy = processor_time()
            .zip(busy)
            .map(|(after, before)| after - before);
        times.push((
            busy.unwrap_or_default() / PICTURES,
            begin.elapsed() / PICTURES,
        ));
    }
    times.sort();
    let (busy, all) = times[times.len() / 2];
    println!("{name:<20} {busy:10.1?} of the thread's work a picture, {all:.1?} in all");
    Ok(())
}

/// The processor time of this thread; `None` except on Linux.
fn processor_time() -> Option<Duration> {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = statistics.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

/// Times the model at each selected size of `sizes`.
fn profile(
    gpu: &Gpu,
    options: &Options,
    model: &str,
    open: fn() -> Result<Model>,
    sizes: &[Size],
) -> Result<()> {
    let named = sizes.iter().map(|size| (format!("{model}-{size}"), *size));
    let wanted: Vec<_> = named.filter(|(name, _)| options.wants(name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let segmenter = pollster::block_on(Segmenter::new(gpu, &open()?))?;
    for (name, size) in wanted {
        let profile = pollster::block_on(segmenter.profile(size, 1, options.runs.into()))?;
        let (flops, ms) = (profile.plan.flops(), profile.median_ms());
        let bytes = profile.plan.layers.iter().map(|layer| layer.bytes).sum();
        let rates = common::rates(&name, ms, flops, bytes);
        let floor = options.floor(flops, bytes);
        println!("{rates}  {floor}  first {:.1} ms", profile.first_ms);
    }
    Ok(())
}

/// FCN-8s with random weights.
fn full() -> Result<Model> {
    let tensors = LAYERS.iter().flat_map(|(name, [out, channels, k])| {
        let weight = (format!("{name}.weight"), vec![*out, *channels, *k, *k]);
        [weight, (format!("{name}.bias"), vec![*out])]
    });
    Model::from_bytes(common::random_file(&tensors.collect())?)
}

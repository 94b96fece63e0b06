//! The executor pool of a segmenter: which executor a request gets, the number of plans, eviction and freed memory, and
//! `Send` and `Sync` for servers.

use crate::common::{Random, golden, gpu, serialize};
use fullconv::{
    BlockingFrames, Frames, Gpu, GpuOptions, Mask, Model, Picture, Precision, Segmenter, Shape,
    Size, Tensor,
};
use futures_core::Stream;
use pollster::block_on;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

fn device() -> Option<Gpu> {
    gpu(GpuOptions::default())
}

fn noise(height: usize, width: usize, seed: u8) -> Picture {
    let mut random = Random::new(seed);
    let data = (0..3 * height * width).map(|_| (random.float() * 127.5 + 127.5) as u8);
    Picture::from_rgb(Size::new(height, width), data.collect()).unwrap()
}

/// A binary network, whose scores have the size of the picture.
fn binary() -> Model {
    let metadata = r#"{"version": 1, "graph": {"output": "score", "nodes": [
        {"name": "score", "op": "conv2d", "inputs": ["input", "score.weight", "score.bias"],
         "attributes": {"padding": 1}}]}}"#;
    let mut random = Random::new(1);
    let tensors = [
        ("score.weight", Shape::new(1, 3, 3, 3)),
        ("score.bias", Shape::vector(1)),
    ]
    .map(|(name, shape)| (name.to_owned(), random.tensor(shape)));
    Model::from_bytes(serialize(&tensors, Some(metadata))).unwrap()
}

/// The numbers that answer a request for a picture, by the request's name.
fn ask(segmenter: &Segmenter, what: &str, picture: &Picture) -> Vec<f32> {
    let data = |tensor: Tensor| tensor.into_data();
    match what {
        "labels" => {
            let mask = segmenter.segment_blocking(picture).unwrap();
            mask.labels()
                .iter()
                .map(|label| f32::from(*label))
                .collect()
        }
        "scores" => data(block_on(segmenter.scores(picture)).unwrap()),
        "probabilities" => data(block_on(segmenter.probabilities(picture)).unwrap()),
        _ => data(
            block_on(segmenter.run(&picture.to_tensor().unwrap(), &[]))
                .unwrap()
                .output,
        ),
    }
}

/// On the device, labels, scores and probabilities of a binary network have the same shape: only the request tells them
/// apart.
#[test]
fn requests_with_outputs_of_one_shape_are_told_apart_in_any_order() {
    let Some(gpu) = device() else { return };
    let (model, picture) = (binary(), noise(10, 13, 2));
    let on_cpu = Segmenter::on_cpu(&model);
    let asked = ["labels", "probabilities", "scores", "run"];
    let expected = asked.map(|what| (what, ask(&on_cpu, what, &picture)));
    let expected = HashMap::from(expected);
    let of = |what: &str, value: &dyn Fn(f64) -> f64| {
        let scores = expected["scores"].iter().map(|score| f64::from(*score));
        let near = |(score, found): (f64, &f32)| (value(score) - f64::from(*found)).abs() < 1e-6;
        assert!(scores.zip(&expected[what]).all(near), "{what}");
    };
    of("labels", &|score| f64::from(u8::from(score >= 0.0)));
    assert!([0.0, 1.0].iter().all(|l| expected["labels"].contains(l)));
    // First those of class 0, then those of class 1.
    of("probabilities", &|score| 1.0 / (1.0 + score.exp()));
    for first in asked {
        for second in asked {
            let segmenter = block_on(Segmenter::new(&gpu, &model)).unwrap();
            for what in [first, second, first] {
                let found = ask(&segmenter, what, &picture);
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
                let is_right = found.iter().zip(&expected[what]).all(near);
                assert!(is_right, "{what} after {first}, {second}: {found:?}");
                assert_eq!(found.len(), expected[what].len());
            }
            let kinds = if first == second { 1 } else { 2 };
            assert_eq!(segmenter.pool_stats().plans, kinds);
        }
    }
}

#[test]
fn four_threads_with_three_sizes_make_three_plans() {
    let Some(gpu) = device() else { return };
    let model = golden("fcn8s-same");
    let sizes = [[24, 24], [20, 33], [40, 17]];
    let pictures: Vec<_> = (0..100)
        .map(|i| noise(sizes[i % 3][0], sizes[i % 3][1], i as u8))
        .collect();
    let alone = block_on(Segmenter::new(&gpu, &model)).unwrap();
    let segment = |segmenter: &Segmenter, picture| segmenter.segment_blocking(picture).unwrap();
    let expected: Vec<_> = pictures.iter().map(|p| segment(&alone, p)).collect();

    let segmenter = block_on(Segmenter::new(&gpu, &model)).unwrap();
    let masks = |thread: usize| {
        let own = pictures.iter().enumerate().skip(thread).step_by(4);
        own.map(|(i, picture)| (i, segment(&segmenter, picture)))
            .collect::<Vec<(usize, Mask)>>()
    };
    let masks: Vec<_> = std::thread::scope(|scope| {
        let threads = [0, 1, 2, 3].map(|thread| scope.spawn(move || masks(thread)));
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(masks.len(), 100);
    for (i, mask) in masks {
        assert!(mask == expected[i], "picture {i}");
    }
    let stats = segmenter.pool_stats();
    eprintln!("{stats:?}");
    assert_eq!(stats.plans, 3);
    assert!(
        stats.plans <= stats.executors && stats.executors <= 12,
        "{stats:?}"
    );
    // All executors came back, and none was evicted.
    assert_eq!((stats.in_use, stats.evicted), (0, 0));
    assert_eq!(stats.idle as u64, stats.executors);
}

/// Bytes of buffers on the device, after ended work is freed.
fn buffer_bytes(gpu: &Gpu) -> isize {
    gpu.device()
        .poll(wgpu::PollType::wait_indefinitely())
        .unwrap();
    gpu.device()
        .get_internal_counters()
        .hal
        .buffer_memory
        .read()
}

#[test]
fn least_recently_used_executors_are_evicted_first_and_free_their_memory() {
    let Some(gpu) = device() else { return };
    let model = golden("fcn8s-same");
    let [a, b, c] = [noise(64, 64, 1), noise(48, 64, 2), noise(64, 48, 3)];
    let open =
        |bytes| block_on(Segmenter::builder(&model).gpu(&gpu).memory(bytes).build()).unwrap();
    let of = |picture: &Picture| {
        let segmenter = open(u64::MAX);
        segmenter.segment_blocking(picture).unwrap();
        segmenter.pool_stats().bytes
    };
    let [of_a, of_b, of_c] = [&a, &b, &c].map(of);
    assert!(of_a > of_b && of_b > 0 && of_c > 0);

    // Room for the two smaller executors, but not for the large one beside a smaller one.
    let segmenter = open(of_b + of_c);
    let plans = |picture: &Picture| {
        segmenter.segment_blocking(picture).unwrap();
        let stats = segmenter.pool_stats();
        assert!(stats.bytes <= of_b + of_c, "{stats:?}");
        (stats.plans, stats.idle)
    };
    let before = buffer_bytes(&gpu);
    assert_eq!(plans(&b), (1, 1));
    let with_b = buffer_bytes(&gpu);
    assert!(with_b - before >= of_b as isize);
    assert_eq!(plans(&c), (2, 2));
    assert_eq!(plans(&b), (2, 2));
    // The large one evicts both.
    assert_eq!(plans(&a), (3, 1));
    let with_a = buffer_bytes(&gpu);
    assert_eq!(plans(&b), (4, 1));
    assert_eq!(buffer_bytes(&gpu), with_b);
    assert_eq!(plans(&c), (5, 2));
    // The least recently used one is evicted; the other stays.
    assert_eq!(plans(&b), (5, 2));
    assert_eq!(plans(&noise(48, 48, 4)).0, 6);
    assert_eq!(plans(&b).0, 6);
    assert_eq!(plans(&a), (7, 1));
    assert_eq!(buffer_bytes(&gpu), with_a);
    drop(segmenter);
    // The weights are freed too.
    assert!(buffer_bytes(&gpu) < before);
}

#[test]
fn an_executor_larger_than_the_bound_is_used_and_evicted() {
    let Some(gpu) = device() else { return };
    let model = golden("fcn8s-same");
    let picture = noise(30, 40, 5);
    let usual = block_on(Segmenter::new(&gpu, &model)).unwrap();
    let expected = usual.segment_blocking(&picture).unwrap();
    let without = Segmenter::builder(&model).gpu(&gpu).memory(0).build();
    let without = block_on(without).unwrap();
    let before = buffer_bytes(&gpu);
    for round in 1..=2 {
        assert_eq!(without.segment_blocking(&picture).unwrap(), expected);
        let stats = without.pool_stats();
        assert_eq!((stats.executors, stats.evicted), (round, round));
        assert_eq!((stats.in_use, stats.idle, stats.bytes), (0, 0, 0));
        assert_eq!(buffer_bytes(&gpu), before);
    }
    // An executor in use stays, whatever other requests come.
    let mut frames = without.frames();
    assert!(block_on(frames.push(&picture)).is_none());
    without.segment_blocking(&noise(9, 9, 6)).unwrap();
    without.segment_blocking(&picture).unwrap();
    assert_eq!(without.pool_stats().in_use, 1);
    assert_eq!(block_on(frames.next()).unwrap().unwrap(), expected);
    drop(frames);
    assert_eq!(without.pool_stats().bytes, 0);
    assert_eq!(buffer_bytes(&gpu), before);
}

#[test]
fn a_batch_of_pictures_gets_the_same_masks_as_each_alone() {
    let model = golden("fcn8s-same");
    let on_device = device().map(|gpu| block_on(Segmenter::new(&gpu, &model)).unwrap());
    for segmenter in on_device.into_iter().chain([Segmenter::on_cpu(&model)]) {
        // 31 · 23 labels do not fill their last u32.
        let pictures: Vec<_> = (0..3).map(|i| noise(23, 31, i)).collect();
        let alone = pictures
            .iter()
            .map(|p| segmenter.segment_blocking(p).unwrap());
        let alone: Vec<_> = alone.collect();
        assert!(block_on(segmenter.segment_batch(&pictures)).unwrap() == alone);
        assert!(block_on(segmenter.segment_batch(&[])).unwrap().is_empty());
        let mixed = [noise(23, 31, 0), noise(31, 23, 0)];
        let error = block_on(segmenter.segment_batch(&mixed)).unwrap_err();
        assert_eq!(error.kind(), fullconv::ErrorKind::Shape);
        let sizes = "picture 1 of the batch has 31x23 pixels (height x width), the first has 23x31";
        assert!(error.to_string().contains(sizes), "{error}");
    }
}

#[test]
fn a_batch_without_a_plan_is_planned_once() {
    let picture = noise(64, 64, 1);
    let options = GpuOptions {
        memory_bytes: Some(2 << 20),
        ..GpuOptions::default()
    };
    let Some(gpu) = gpu(options) else { return };
    let segmenter = block_on(Segmenter::new(&gpu, &golden("fcn8s-same"))).unwrap();
    let expected = segmenter.segment_blocking(&picture).unwrap();
    let pictures = vec![picture; 150];
    let masks = block_on(segmenter.segment_batch(&pictures)).unwrap();
    assert!(masks.len() == 150 && masks.iter().all(|mask| *mask == expected));
    let first = segmenter.pool_stats();
    assert!(first.too_large > 0, "{first:?}");
    block_on(segmenter.segment_batch(&pictures)).unwrap();
    assert_eq!(segmenter.pool_stats().too_large, first.too_large);
}

#[test]
fn frames_are_a_stream_and_an_iterator() {
    let model = golden("fcn8s-same");
    let on_device = device().map(|gpu| block_on(Segmenter::new(&gpu, &model)).unwrap());
    for segmenter in on_device.into_iter().chain([Segmenter::on_cpu(&model)]) {
        let pictures: Vec<_> = (0..5).map(|i| noise(16, 20 + i / 4, i as u8)).collect();
        let alone = pictures
            .iter()
            .map(|p| segmenter.segment_blocking(p).unwrap());
        let alone: Vec<_> = alone.collect();

        let mut masks: BlockingFrames<_> = segmenter.frames().blocking(&pictures);
        let mut found = Vec::new();
        while let Some(mask) = masks.next() {
            found.push(mask.unwrap());
            assert!(masks.time().is_some());
        }
        assert!(found == alone);
        assert!(masks.next().is_none());

        // `Frames` owns what it needs, and outlives the segmenter handle that made it.
        let mut frames = segmenter.clone().frames();
        for picture in &pictures[..2] {
            assert!(block_on(frames.push(picture)).is_none());
        }
        let mut next = || block_on(std::future::poll_fn(|c| Pin::new(&mut frames).poll_next(c)));
        assert!(next().unwrap().unwrap() == alone[0]);
        assert!(next().unwrap().unwrap() == alone[1]);
        assert!(next().is_none());
    }
}

#[test]
fn clones_move_to_another_device_together() {
    let Some(gpu) = device() else { return };
    let (model, picture) = (golden("fcn8s-same"), noise(20, 30, 7));
    let segmenter = block_on(Segmenter::new(&gpu, &model)).unwrap();
    let clone = segmenter.clone();
    let expected = clone.segment_blocking(&picture).unwrap();
    let mut frames = clone.frames();
    assert!(block_on(frames.push(&picture)).is_none());
    block_on(frames.next()).unwrap().unwrap();
    let Some(other) = device() else { return };
    block_on(segmenter.recover(&other)).unwrap();
    gpu.device().destroy();
    assert_eq!(clone.segment_blocking(&picture).unwrap(), expected);
    assert!(block_on(frames.push(&picture)).is_none());
    assert_eq!(block_on(frames.next()).unwrap().unwrap(), expected);
    assert_eq!(clone.pool_stats().plans, 1);
}

#[test]
fn a_segmenter_has_the_precision_and_device_of_its_builder() {
    let Some(gpu) = device() else { return };
    let model = golden("fcn8s-same");
    let built = block_on(Segmenter::builder(&model).gpu(&gpu).build()).unwrap();
    assert_eq!(built.precision(), Precision::F32);
    assert_eq!(built.device(), gpu.to_string());
    let stats = built.pool_stats();
    assert_eq!((stats.plans, stats.executors, stats.bytes), (0, 0, 0));
    assert!(stats.weight_bytes > 0);
    if gpu.half_target().is_ok() {
        let half = Segmenter::builder(&model)
            .gpu(&gpu)
            .precision(Precision::F16);
        let half = block_on(half.build()).unwrap();
        assert_eq!(half.precision(), Precision::F16);
        block_on(half.recover(&gpu)).unwrap();
        assert_eq!(half.precision(), Precision::F16);
    }
}

#[test]
fn a_smaller_bound_drops_idle_executors_at_once_and_keeps_none_later() {
    let Some(gpu) = device() else { return };
    let segmenter = block_on(Segmenter::new(&gpu, &golden("fcn8s-same"))).unwrap();
    let pictures = [noise(20, 30, 1), noise(30, 20, 2)];
    let masks = pictures
        .each_ref()
        .map(|p| segmenter.segment_blocking(p).unwrap());
    assert_eq!(segmenter.pool_stats().idle, 2);
    segmenter.keep_within(0);
    let stats = segmenter.pool_stats();
    assert_eq!((stats.idle, stats.evicted, stats.bytes), (0, 2, 0));
    assert_eq!(segmenter.segment_blocking(&pictures[0]).unwrap(), masks[0]);
    assert_eq!(segmenter.pool_stats().idle, 0);
}

/// Concurrent creation of wgpu instances crashes a vendor's driver.
#[test]
fn devices_are_opened_from_several_threads() {
    if device().is_none() {
        return;
    }
    let together = std::sync::Barrier::new(6);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                together.wait();
                for _ in 0..3 {
                    device().unwrap();
                    block_on(fullconv::gpu::adapters(crate::common::wanted_backend()));
                }
            });
        }
    });
}

/// A server holds one segmenter, and spawns its futures on any thread.
#[test]
fn the_types_and_futures_of_a_server_are_send_and_sync() {
    fn is_shared<T: Send + Sync + Clone + 'static>() {}
    fn is_sent<T: Send + 'static>() {}
    fn is_sent_future<T: Send>(_: &T) {}
    is_shared::<Segmenter>();
    is_shared::<Model>();
    is_shared::<Gpu>();
    is_shared::<Picture>();
    is_shared::<Mask>();
    is_sent::<Frames>();
    is_sent::<fullconv::TexturePass>();
    is_sent::<fullconv::Error>();
    let segmenter = Arc::new(Segmenter::on_cpu(&binary()));
    let pictures = [noise(3, 4, 8)];
    is_sent_future(&segmenter.segment(&pictures[0]));
    is_sent_future(&segmenter.segment_batch(&pictures));
    is_sent_future(&segmenter.scores(&pictures[0]));
    let input = pictures[0].to_tensor().unwrap();
    is_sent_future(&segmenter.run(&input, &[]));
    let mut frames = segmenter.frames();
    is_sent_future(&frames.push(&pictures[0]));
    is_sent_future(&frames.next());
}

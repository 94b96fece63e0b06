//! Several runs in flight: order, cancellation, and a lost device.

use crate::common::{Random, gpu};
use fullconv::low_level::gpu::{Executor, IN_FLIGHT, Network};
use fullconv::low_level::graph::Graph;
use fullconv::low_level::ops::{Conv2d, Relu};
use fullconv::low_level::plan::Plan;
use fullconv::{
    ErrorKind, Frames, Gpu, GpuOptions, Mask, Model, Parameters, Picture, Segmenter, Shape, Size,
};
use pollster::block_on;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

fn device() -> Option<Gpu> {
    gpu(GpuOptions::default())
}

fn model() -> Model {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/");
    Model::read(format!("{folder}fcn8s-same.safetensors")).unwrap()
}

/// A picture of squares in random colours: different pictures have different masks.
fn picture(height: usize, width: usize, random: &mut Random) -> Picture {
    let colours: Vec<u8> = (0..3 * height * width)
        .map(|_| (random.float() * 127.0 + 128.0) as u8)
        .collect();
    let at = |x: usize, y: usize, c: usize| colours[(y / 8 * width + x / 8) * 3 + c];
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let data = pixels.flat_map(|(x, y)| [0, 1, 2].map(|c| at(x, y, c)));
    Picture::from_rgb(Size::new(height, width), data.collect()).unwrap()
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

async fn all_masks(segmenter: &Segmenter, pictures: &[Picture]) -> Vec<fullconv::Result<Mask>> {
    let begin = Instant::now();
    let mut frames = segmenter.frames();
    let (mut masks, mut times) = (Vec::new(), Vec::new());
    for picture in pictures {
        if let Some(mask) = frames.push(picture).await {
            times.extend(mask.as_ref().ok().and(frames.time()));
            masks.push(mask);
        }
        assert!(frames.len() <= Frames::DEPTH);
    }
    while let Some(mask) = frames.next().await {
        times.extend(mask.as_ref().ok().and(frames.time()));
        masks.push(mask);
    }
    assert!(frames.is_empty());
    // Every picture has its time, and no time is counted twice.
    assert_eq!(times.len(), masks.iter().flatten().count());
    assert!(times.iter().all(|time| !time.is_zero()));
    assert!(times.iter().sum::<Duration>() <= begin.elapsed());
    masks
}

#[test]
fn pictures_in_flight_get_the_same_masks_as_each_alone() {
    let mut random = Random::new(40);
    let sizes = [(30, 40); 7]
        .into_iter()
        .chain([(40, 33), (30, 40), (9, 9), (9, 9)]);
    let pictures: Vec<_> = sizes.map(|(h, w)| picture(h, w, &mut random)).collect();
    let on_device = device().map(|gpu| block_on(Segmenter::new(&gpu, &model())).unwrap());
    for segmenter in on_device.into_iter().chain([Segmenter::on_cpu(&model())]) {
        let alone: Vec<_> = pictures
            .iter()
            .map(|picture| segmenter.segment_blocking(picture).unwrap())
            .collect();
        for (i, mask) in alone[..7].iter().enumerate() {
            let same = alone[..i].iter().find(|m| m.labels() == mask.labels());
            assert!(same.is_none(), "equal masks would hide a mix-up");
        }
        let together = block_on(all_masks(&segmenter, &pictures));
        assert_eq!(together.len(), pictures.len());
        for (i, (alone, together)) in alone.iter().zip(together).enumerate() {
            assert_eq!(alone.labels(), together.unwrap().labels(), "picture {i}");
        }
    }
}

#[test]
fn a_failed_picture_is_reported_in_order_and_the_others_run() {
    let options = GpuOptions {
        memory_bytes: Some(16 << 20),
        ..GpuOptions::default()
    };
    let Some(gpu) = gpu(options) else { return };
    let segmenter = block_on(Segmenter::new(&gpu, &model())).unwrap();
    let mut random = Random::new(41);
    let mut pictures: Vec<_> = (0..5).map(|_| picture(24, 24, &mut random)).collect();
    pictures[2] = Picture::from_rgb(Size::square(2000), vec![0; 2000 * 2000 * 3]).unwrap();
    let masks = block_on(all_masks(&segmenter, &pictures));
    assert!(masks[2].is_err(), "the large picture ran");
    for (i, (picture, mask)) in pictures.iter().zip(masks).enumerate() {
        match mask {
            Err(e) => assert_eq!((i, e.kind()), (2, ErrorKind::Limit), "{e}"),
            Ok(mask) => {
                let alone = segmenter.segment_blocking(picture).unwrap();
                assert_eq!(mask.labels(), alone.labels(), "picture {i}");
            }
        }
    }
}

#[test]
fn a_cancelled_wait_loses_no_mask() {
    let Some(gpu) = device() else { return };
    let segmenter = block_on(Segmenter::new(&gpu, &model())).unwrap();
    let mut random = Random::new(42);
    let pictures: Vec<_> = (0..5).map(|_| picture(300, 400, &mut random)).collect();
    let mut frames = segmenter.frames();
    let (mut sent, mut masks, mut given_up) = (Vec::new(), Vec::new(), 0);
    for picture in &pictures {
        match poll_once(frames.push(picture)) {
            Poll::Ready(mask) => {
                masks.extend(mask);
                sent.push(picture);
            }
            // The push waited for the oldest mask and has not submitted its picture.
            Poll::Pending => given_up += 1,
        }
    }
    while !frames.is_empty() {
        match poll_once(frames.next()) {
            Poll::Ready(mask) => masks.extend(mask),
            Poll::Pending => given_up += 1,
        }
        std::thread::yield_now();
    }
    assert!(given_up > 0, "no wait was cancelled");
    assert!(block_on(frames.next()).is_none());
    assert_eq!(masks.len(), sent.len());
    for (picture, mask) in sent.into_iter().zip(masks) {
        let alone = segmenter.segment_blocking(picture).unwrap();
        assert_eq!(mask.unwrap().labels(), alone.labels());
    }
}

/// A network of one small convolution, and its inputs.
struct Small {
    graph: Graph,
    parameters: Parameters,
    shape: Shape,
}

impl Small {
    fn new(shape: Shape) -> Self {
        let weight = Random::new(43).tensor(Shape::new(8, shape.c, 3, 3));
        let mut graph = Graph::new("input");
        let id = graph.parameter("weight", weight.shape()).unwrap();
        let inputs = [graph.input(), id];
        let conv = graph.op("conv", Conv2d::padded(1), &inputs).unwrap();
        graph.op("relu", Relu {}, &[conv]).unwrap();
        let file = crate::common::tensor_file(&[("weight".into(), weight)]);
        Self {
            graph,
            parameters: Parameters::new(file, BTreeMap::new()),
            shape,
        }
    }

    fn executor(&self, gpu: &Gpu) -> Executor {
        let outputs = [self.graph.output()];
        let plan = Plan::new(&self.graph, self.shape, &outputs, gpu.target()).unwrap();
        let network = Network::new(gpu);
        block_on(Executor::new(&network, plan, &self.graph, &self.parameters)).unwrap()
    }

    /// An input in the device's layout, different for each `seed`.
    fn input(&self, seed: u8) -> Vec<u8> {
        let padded = Shape::new(1, 4 * self.shape.c4(), self.shape.h, self.shape.w);
        bytemuck::cast_slice(Random::new(seed).tensor(padded).data()).to_vec()
    }
}

const SMALL: Shape = Shape::new(1, 4, 20, 20);

#[test]
fn runs_in_flight_are_read_in_any_order() {
    let Some(gpu) = device() else { return };
    let small = Small::new(SMALL);
    let mut executor = small.executor(&gpu);
    let alone: Vec<_> = (0..3)
        .map(|i| block_on(executor.run_bytes(&small.input(i))).unwrap())
        .collect();
    assert!(alone[0] != alone[1] && alone[1] != alone[2]);
    let [a, b, c] = [0, 1, 2].map(|i| block_on(executor.submit(&small.input(i))).unwrap());
    assert_eq!(IN_FLIGHT, 3);
    assert!(poll_once(executor.submit(&small.input(0))).is_pending());
    assert_eq!(block_on(c).unwrap(), alone[2]);
    let d = block_on(executor.submit(&small.input(1))).unwrap();
    assert_eq!(block_on(a).unwrap(), alone[0]);
    assert_eq!(block_on(d).unwrap(), alone[1]);
    assert_eq!(block_on(b).unwrap(), alone[1]);
}

/// The staging buffer of a dropped run goes to a later run, which must not read it before writing it.
#[test]
fn dropped_runs_do_not_disturb_later_runs() {
    let Some(gpu) = device() else { return };
    let small = Small::new(Shape::new(1, 16, 150, 150));
    let mut executor = small.executor(&gpu);
    let (input, other) = (small.input(1), small.input(2));
    let expected = block_on(executor.run_bytes(&input)).unwrap();
    for round in 0..40 {
        // Some runs are never polled, some once.
        for i in 0..round % 4 {
            let mut pending = block_on(executor.submit(&other)).unwrap();
            if i % 2 == 1 {
                let _ = poll_once(&mut pending);
            }
        }
        let found = block_on(executor.run_bytes(&input)).unwrap();
        assert!(found == expected, "round {round}");
    }
}

#[test]
fn a_lost_device_ends_every_run_in_flight() {
    let Some(gpu) = device() else { return };
    let small = Small::new(SMALL);
    let mut executor = small.executor(&gpu);
    let segmenter = block_on(Segmenter::new(&gpu, &model())).unwrap();
    let picture = picture(24, 24, &mut Random::new(44));
    let alone = segmenter.segment_blocking(&picture).unwrap();
    let expected = block_on(executor.run_bytes(&small.input(1))).unwrap();

    let pending = [1; 3].map(|i| block_on(executor.submit(&small.input(i))).unwrap());
    let mut frames = segmenter.frames();
    for _ in 0..2 {
        assert!(block_on(frames.push(&picture)).is_none());
    }
    gpu.device().destroy();
    // A run that ended before the loss gives its result, any other an error, and no future waits for ever.
    for pending in pending {
        match block_on(pending) {
            Ok(found) => assert!(found == expected),
            Err(error) => assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}"),
        }
    }
    for _ in 0..2 {
        match block_on(frames.next()).unwrap() {
            Ok(mask) => assert_eq!(mask.labels(), alone.labels()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}"),
        }
    }
    let error = block_on(executor.run_bytes(&small.input(0))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
    assert!(block_on(frames.push(&picture)).is_none());
    let error = block_on(frames.next()).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeviceLost, "{error}");
}

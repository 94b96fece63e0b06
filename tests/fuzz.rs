//! Ops with random attributes on random shapes: the shape rules against PyTorch's formulas, and the
//! device against the reference implementations, with bindings as large as they may be and cut small.
//!
//! The cases are random but the same in every run.

mod common;

use common::{OneOp, Random, assert_labels, gpu, preferences};
use fullconv::device_profile::DeviceProfile;
use fullconv::ops::interpolate::InterpolateMode;
use fullconv::ops::preprocess::Channels;
use fullconv::ops::{
    AdaptiveAvgPool2d, Add, Argmax, AvgPool2d, BatchNorm2d, Case, Cat, Clamp, Conv2d,
    ConvTranspose2d, Crop, Elu, Hardsigmoid, Hardswish, Interpolate, LeakyRelu, Linear,
    LocalResponseNorm, MaxPool2d, MaxPool2dIndices, MaxUnpool2d, Mean, Mul, Op, Pad, PixelShuffle,
    Prelu, Preprocess, Relu, Scale, Sigmoid, Silu, Softmax, Sub, Tanh, pad,
};
use fullconv::plan::lowered::{Convolution, FusedArgmax, Scores, TransposedConvolution};
use fullconv::target::Target;
use fullconv::{ErrorKind, Gpu, GpuOptions, Shape, Tensor};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::sync::{Arc, OnceLock};

/// Cases that run on a device, each of which compiles kernels of its own.
const ON_DEVICE: u32 = 32;
/// Cases of shape rules, which cost nothing.
const OF_SHAPES: u32 = 2000;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(8),
        ..ProptestConfig::default()
    }
}

/// The devices, opened once for all tests: with all that they have, with WebGPU's default limits, and
/// planned for as GPUs.
fn devices() -> &'static [Gpu] {
    static DEVICES: OnceLock<Vec<Gpu>> = OnceLock::new();
    DEVICES.get_or_init(|| {
        let open = |(default_limits, plan_as_gpu)| {
            gpu(GpuOptions {
                default_limits,
                plan_as_gpu,
                ..GpuOptions::default()
            })
        };
        let ways = [(false, false), (true, false), (false, true)];
        ways.into_iter().filter_map(open).collect()
    })
}

/// An op on inputs of these shapes, and what else a run of it depends on.
#[derive(Debug)]
struct Sample {
    op: Arc<dyn Op>,
    shapes: Vec<Shape>,
    /// Its weight is zero off its diagonal.
    diagonal: bool,
    seed: u8,
    /// The largest binding that a plan may use, if it can be that small.
    binding: u64,
}

/// Samples from ops with their shapes.
fn samples<O: Op + 'static>(
    ops: impl Strategy<Value = (O, Vec<Shape>)>,
) -> impl Strategy<Value = Sample> {
    shared_samples(ops.prop_map(|(op, shapes)| (Arc::new(op) as Arc<dyn Op>, shapes)))
}

/// Samples from ops of several kinds with their shapes.
fn shared_samples(
    ops: impl Strategy<Value = (Arc<dyn Op>, Vec<Shape>)>,
) -> impl Strategy<Value = Sample> {
    (ops, any::<u8>(), 8u32..14).prop_map(|((op, shapes), seed, log2)| Sample {
        op,
        shapes,
        diagonal: false,
        seed,
        binding: 1 << log2,
    })
}

/// Samples of transposed convolutions whose weight is zero off its diagonal.
fn diagonal_samples() -> impl Strategy<Value = Sample> {
    samples(transposed(true)).prop_map(|sample| Sample {
        diagonal: true,
        ..sample
    })
}

impl Sample {
    /// Every device and cut against the reference.
    fn check(&self) {
        let case = Case {
            op: self.op.clone(),
            inputs: self.shapes.clone(),
            diagonal: self.diagonal,
        };
        let one = OneOp::of_case(case, &mut Random::new(self.seed));
        one.check_rows();
        for gpu in devices() {
            let mut plans = Vec::new();
            for target in preferences(gpu.target()) {
                let small = Target {
                    device: DeviceProfile {
                        max_binding_bytes: self.binding,
                        binding_alignment: target.device.binding_alignment.max(64),
                        ..target.device.clone()
                    },
                    ..target.clone()
                };
                plans.push(("uncut", one.plan(&target).unwrap()));
                match one.plan(&small) {
                    Ok(plan) => plans.push(("cut", plan)),
                    // Even one row is larger.
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Limit, "{e}"),
                }
            }
            let (names, plans): (Vec<_>, Vec<_>) = plans.into_iter().unzip();
            for (found, what) in one.run_plans(gpu, plans).iter().zip(names) {
                one.check_found(found, what);
            }
            if let Ok(half) = gpu.half_target() {
                let small = Target {
                    device: DeviceProfile {
                        max_binding_bytes: self.binding,
                        binding_alignment: half.device.binding_alignment.max(64),
                        ..half.device.clone()
                    },
                    ..half.clone()
                };
                one.check_half(gpu, &[half, small], "random");
            }
        }
    }
}

/// Two numbers, for height and width.
fn pair(range: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = [usize; 2]> {
    [range.clone(), range]
}

/// `[n, c, h, w]`, odd and even, aligned and not.
fn tensors(most_channels: usize) -> impl Strategy<Value = Shape> {
    (1usize..=3, 1..=most_channels, pair(1..=14)).prop_map(|(n, c, [h, w])| Shape::new(n, c, h, w))
}

fn conv2d() -> impl Strategy<Value = (Conv2d, Vec<Shape>)> {
    let geometry = (
        pair(1..=4),
        pair(1..=3),
        pair(0..=4),
        pair(1..=3),
        pair(0..=9),
    );
    let channels = (
        prop_oneof![Just(1usize), 1usize..=4],
        1usize..=9,
        1usize..=40,
    );
    (geometry, channels, 1usize..=3, any::<bool>()).prop_map(
        |((kernel, stride, padding, dilation, more), (groups, c, out), n, bias)| {
            // Groups of up to 10 outputs, and more than one tile of 32 without them.
            let out = if groups == 1 {
                out
            } else {
                out.div_ceil(4) * groups
            };
            let op = Conv2d {
                stride,
                padding,
                dilation,
                groups,
            };
            let size = |i: usize| {
                let window = dilation[i] * (kernel[i] - 1) + 1;
                window.saturating_sub(2 * padding[i]).max(1) + more[i]
            };
            let input = Shape::new(n, c * groups, size(0), size(1));
            let mut shapes = vec![input, Shape::new(out, c, kernel[0], kernel[1])];
            shapes.extend(bias.then_some(Shape::vector(out)));
            (op, shapes)
        },
    )
}

/// Perhaps with ReLU.
fn with_relu(
    convs: impl Strategy<Value = (Conv2d, Vec<Shape>)>,
) -> impl Strategy<Value = (Convolution, Vec<Shape>)> {
    (convs, any::<bool>()).prop_map(|((conv, shapes), relu)| {
        let op = Convolution {
            relu,
            ..conv.into()
        };
        (op, shapes)
    })
}

/// One of groups of whole fours of channels, or depthwise: groups, and channels in and out of each.
fn grouped_conv2d() -> impl Strategy<Value = (Conv2d, Vec<Shape>)> {
    let fours = (2usize..=4, 1usize..=3, 1usize..=9).prop_map(|(g, c, out)| (g, 4 * c, 4 * out));
    let depthwise = (2usize..=40, Just(1), 1usize..=5);
    (conv2d(), prop_oneof![fours, depthwise], 0usize..20).prop_map(
        |((op, mut shapes), (groups, c, out), wider)| {
            shapes[0].c = groups * c;
            shapes[0].w += wider;
            (shapes[1].n, shapes[1].c) = (groups * out, c);
            if let Some(bias) = shapes.get_mut(2) {
                *bias = Shape::vector(groups * out);
            }
            (Conv2d { groups, ..op }, shapes)
        },
    )
}

/// An ungrouped one, pooled.
fn pooled_conv2d() -> impl Strategy<Value = (Convolution, Vec<Shape>)> {
    (with_relu(conv2d()), any::<bool>()).prop_map(|((mut op, mut shapes), ceil_mode)| {
        shapes[0].c /= op.conv.groups;
        op.conv.groups = 1;
        let map = op.output_shape(&shapes).unwrap();
        // A window that reaches past both ends is there in ceil mode alone.
        let pool = MaxPool2d::square(2, 2, ceil_mode || map.h.min(map.w) == 1);
        op.pool = Some(pool);
        (op, shapes)
    })
}

fn conv_transpose2d() -> impl Strategy<Value = (ConvTranspose2d, Vec<Shape>)> {
    let geometry = (
        pair(1..=5),
        pair(1..=4),
        pair(0..=3),
        pair(0..=3),
        pair(1..=6),
    );
    let channels = (
        prop_oneof![Just(1usize), 1usize..=4],
        1usize..=9,
        1usize..=15,
    );
    (geometry, channels, 1usize..=3, any::<bool>()).prop_map(
        |((kernel, stride, padding, extra, size), (groups, c, out), n, bias)| {
            let output_padding = [0, 1].map(|i| extra[i] % stride[i]);
            // No more padding than leaves a pixel.
            let padding = [0, 1].map(|i| {
                let full = (size[i] - 1) * stride[i] + kernel[i] + output_padding[i];
                padding[i].min((full - 1) / 2)
            });
            let op = ConvTranspose2d {
                stride,
                padding,
                output_padding,
                groups,
            };
            let input = Shape::new(n, c * groups, size[0], size[1]);
            let mut shapes = vec![input, Shape::new(c * groups, out, kernel[0], kernel[1])];
            shapes.extend(bias.then_some(Shape::vector(out * groups)));
            (op, shapes)
        },
    )
}

/// A transposed convolution of which a window is wanted, perhaps.
fn windowed() -> impl Strategy<Value = (TransposedConvolution, Vec<Shape>)> {
    (conv_transpose2d(), any::<bool>(), pair(0..=7), pair(1..=20)).prop_map(
        |((conv, mut shapes), crop, offset, size)| {
            let mut op = TransposedConvolution::from(conv);
            if crop {
                let full = op.output_shape(&shapes).unwrap();
                let offset = [offset[0].min(full.h - 1), offset[1].min(full.w - 1)];
                let [h, w] = [
                    size[0].min(full.h - offset[0]),
                    size[1].min(full.w - offset[1]),
                ];
                op.crop = Some(Crop { offset });
                shapes.push(Shape::new(1, 1, h, w));
            }
            (op, shapes)
        },
    )
}

/// An ungrouped one of those, dense or diagonal, with rows long enough that many pixels share their taps.
fn transposed(diagonal: bool) -> impl Strategy<Value = (TransposedConvolution, Vec<Shape>)> {
    (windowed(), 0usize..30).prop_map(move |((op, shapes), longer)| {
        let mut shapes = shapes;
        shapes[0].w += longer;
        if let (Some(_), Some(like)) = (&op.crop, shapes.last_mut()) {
            like.w += longer * op.conv.stride[1];
        }
        let (c, out) = (shapes[0].c / op.conv.groups, shapes[1].c);
        let c = if diagonal { out } else { c };
        (shapes[0].c, shapes[1].n) = (c, c);
        if shapes.len() > 2 && shapes[2].n > 1 {
            shapes[2] = Shape::vector(out);
        }
        let op = TransposedConvolution {
            conv: ConvTranspose2d {
                groups: 1,
                ..op.conv
            },
            diagonal,
            ..op
        };
        (op, shapes)
    })
}

fn max_pool2d() -> impl Strategy<Value = (MaxPool2d, Vec<Shape>)> {
    (
        pair(1..=4),
        pair(1..=4),
        pair(0..=2),
        pair(1..=3),
        any::<bool>(),
        tensors(13),
    )
        .prop_map(
            |(kernel_size, stride, padding, dilation, ceil_mode, input)| {
                let padding = [0, 1].map(|i| padding[i].min(kernel_size[i] / 2));
                let least = |i: usize| {
                    let window = dilation[i] * (kernel_size[i] - 1) + 1;
                    // No window has all its taps outside.
                    let apart = if padding[i] > 0 { dilation[i] } else { 1 };
                    window.saturating_sub(2 * padding[i]).max(apart)
                };
                let input = input.with_size(input.h.max(least(0)), input.w.max(least(1)));
                (
                    MaxPool2d {
                        kernel_size,
                        stride,
                        padding,
                        dilation,
                        ceil_mode,
                    },
                    vec![input],
                )
            },
        )
}

/// Of sizes that a pooling can make, with the third input that says which, or without.
fn max_unpool2d() -> impl Strategy<Value = (MaxUnpool2d, Vec<Shape>)> {
    (max_pool2d(), 0..3).prop_filter_map(
        "the pooling is not one that is undone",
        |((pool, shapes), how)| {
            let plane = shapes[0];
            let input = MaxPool2d {
                dilation: [1; 2],
                ..pool.clone()
            };
            let input = input.output_shape(&[plane]).ok()?;
            let op = MaxUnpool2d {
                kernel_size: pool.kernel_size,
                stride: pool.stride,
                padding: pool.padding,
                output_size: (how == 0).then_some([plane.h, plane.w]),
            };
            let mut shapes = vec![input; 2];
            shapes.extend((how == 1).then_some(plane));
            let output = op.output_shape(&shapes).ok()?;
            // The last windows of a pooling begin inside of what is pooled.
            let begin = |size: usize, i: usize| (size - 1) * op.stride[i];
            let inside = begin(input.h, 0) < output.h + op.padding[0]
                && begin(input.w, 1) < output.w + op.padding[1];
            inside.then_some((op, shapes))
        },
    )
}

fn avg_pool2d() -> impl Strategy<Value = (AvgPool2d, Vec<Shape>)> {
    let divisor = prop_oneof![
        Just(None),
        Just(None),
        (-9..=-1).prop_map(Some),
        (1..=9).prop_map(Some)
    ];
    (
        pair(1..=12),
        pair(1..=4),
        pair(0..=6),
        any::<[bool; 2]>(),
        divisor,
        tensors(13),
    )
        .prop_map(
            |(
                kernel_size,
                stride,
                padding,
                [ceil_mode, count_include_pad],
                divisor_override,
                input,
            )| {
                let padding = [0, 1].map(|i| padding[i].min(kernel_size[i] / 2));
                let least = |i: usize| (kernel_size[i] - 2 * padding[i]).max(1);
                let input = input.with_size(input.h.max(least(0)), input.w.max(least(1)));
                let op = AvgPool2d {
                    kernel_size,
                    stride,
                    padding,
                    ceil_mode,
                    count_include_pad,
                    divisor_override,
                };
                (op, vec![input])
            },
        )
}

fn adaptive_avg_pool2d() -> impl Strategy<Value = (AdaptiveAvgPool2d, Vec<Shape>)> {
    let size = || prop_oneof![Just(None), Just(Some(1)), (1usize..=17).prop_map(Some)];
    ([size(), size()], tensors(13))
        .prop_map(|(output_size, input)| (AdaptiveAvgPool2d { output_size }, vec![input]))
}

fn local_response_norm() -> impl Strategy<Value = (LocalResponseNorm, Vec<Shape>)> {
    (
        1usize..=12,
        0.0..4.0f64,
        0.0..2.0f64,
        0.5..3.0f64,
        tensors(23),
    )
        .prop_map(|(size, alpha, beta, k, input)| {
            let op = LocalResponseNorm {
                size,
                alpha,
                beta,
                k,
            };
            (op, vec![input])
        })
}

fn crop() -> impl Strategy<Value = (Crop, Vec<Shape>)> {
    (tensors(9), pair(0..=5), pair(0..=5), 1usize..=5).prop_map(|(like, offset, rest, c)| {
        let [h, w] = [like.h + offset[0] + rest[0], like.w + offset[1] + rest[1]];
        let input = like.with_size(h, w).with_channels(c);
        (Crop { offset }, vec![input, like])
    })
}

/// By size, by factor, and to the size of a second input.
fn interpolate() -> impl Strategy<Value = (Interpolate, Vec<Shape>)> {
    let factors = [0.2..4.0f64, 0.2..4.0f64];
    (0..3, pair(1..=40), factors, any::<[bool; 4]>(), tensors(9)).prop_map(
        |(how, size, factors, [bilinear, corners, recompute, tenths], input)| {
            let factor = |factor: f64, size: usize| {
                let factor = match tenths {
                    true => (10.0 * factor).ceil() / 10.0,
                    false => factor,
                };
                // A pixel at least.
                factor.max(1.0 / size as f64)
            };
            let factors = [factor(factors[0], input.h), factor(factors[1], input.w)];
            let op = Interpolate {
                size: (how == 0).then_some(size),
                scale_factor: (how == 1).then_some(factors),
                mode: if bilinear {
                    InterpolateMode::Bilinear
                } else {
                    InterpolateMode::Nearest
                },
                align_corners: bilinear && corners,
                recompute_scale_factor: recompute,
            };
            let like = (how == 2).then_some(Shape::new(input.n, 2, size[0], size[1]));
            (op, std::iter::once(input).chain(like).collect())
        },
    )
}

/// A function of one number.
fn function() -> impl Strategy<Value = (Arc<dyn Op>, Vec<Shape>)> {
    let number = || -2.0f32..2.0;
    let op = prop_oneof![
        Just(Arc::new(Sigmoid {}) as Arc<dyn Op>),
        Just(Arc::new(Tanh {}) as Arc<dyn Op>),
        Just(Arc::new(Silu {}) as Arc<dyn Op>),
        Just(Arc::new(Hardsigmoid {}) as Arc<dyn Op>),
        Just(Arc::new(Hardswish {}) as Arc<dyn Op>),
        number().prop_map(|negative_slope| Arc::new(LeakyRelu { negative_slope }) as Arc<dyn Op>),
        number().prop_map(|alpha| Arc::new(Elu { alpha }) as Arc<dyn Op>),
        (number(), number()).prop_map(|(min, max)| {
            let (min, max) = (Some(min).filter(|min| *min > -0.9), Some(max));
            Arc::new(Clamp { min, max }) as Arc<dyn Op>
        }),
    ];
    (op, tensors(13)).prop_map(|(op, shape)| (op, vec![shape]))
}

/// Sum, difference or product; each size of either operand may be 1.
fn arithmetic() -> impl Strategy<Value = (Arc<dyn Op>, Vec<Shape>)> {
    let op = prop_oneof![
        Just(Arc::new(Add {}) as Arc<dyn Op>),
        Just(Arc::new(Sub {}) as Arc<dyn Op>),
        Just(Arc::new(Mul {}) as Arc<dyn Op>),
    ];
    (op, tensors(13), any::<[[bool; 4]; 2]>()).prop_map(|(op, shape, ones)| {
        let operand = |ones: [bool; 4]| {
            let size = |one: bool, size: usize| if one { 1 } else { size };
            Shape::new(
                size(ones[0], shape.n),
                size(ones[1], shape.c),
                size(ones[2], shape.h),
                size(ones[3], shape.w),
            )
        };
        (op, ones.map(operand).to_vec())
    })
}

/// A layer with parameters that are vectors, or a linear one.
fn layer() -> impl Strategy<Value = (Arc<dyn Op>, Vec<Shape>)> {
    let kind = (0usize..3, any::<bool>(), 1usize..40, 1.1f32..2.0);
    (kind, tensors(13)).prop_map(|((kind, more, out, eps), shape)| {
        let vector = Shape::vector(shape.c);
        let (op, others): (Arc<dyn Op>, _) = match kind {
            0 => (Arc::new(BatchNorm2d { eps }), vec![vector; 4]),
            1 if more => (Arc::new(Prelu {}), vec![vector]),
            1 => (Arc::new(Prelu {}), vec![Shape::vector(1)]),
            _ => {
                let mut others = vec![Shape::new(out, shape.c, 1, 1)];
                others.extend(more.then_some(Shape::vector(out)));
                (Arc::new(Linear {}), others)
            }
        };
        (op, [vec![shape], others].concat())
    })
}

fn cat() -> impl Strategy<Value = (Cat, Vec<Shape>)> {
    (tensors(1), prop::collection::vec(1usize..=9, 1..=12)).prop_map(|(shape, channels)| {
        let of = |c: &usize| shape.with_channels(*c);
        (Cat {}, channels.iter().map(of).collect())
    })
}

fn pad() -> impl Strategy<Value = (Pad, Vec<Shape>)> {
    let modes = prop_oneof![
        Just(pad::PadMode::Constant),
        Just(pad::PadMode::Reflect),
        Just(pad::PadMode::Replicate)
    ];
    (
        tensors(9),
        [0usize..=9, 0..=9, 0..=9, 0..=9],
        modes,
        -1.0f32..1.0,
    )
        .prop_map(|(shape, padding, mode, value)| {
            let most = |size: usize| match mode {
                pad::PadMode::Reflect => size - 1,
                _ => usize::MAX,
            };
            let [left, right, top, bottom] = padding;
            let (w, h) = (most(shape.w), most(shape.h));
            let padding = [left.min(w), right.min(w), top.min(h), bottom.min(h)];
            (
                Pad {
                    padding,
                    mode,
                    value,
                },
                vec![shape],
            )
        })
}

fn pixel_shuffle() -> impl Strategy<Value = (PixelShuffle, Vec<Shape>)> {
    (1usize..=4, tensors(7)).prop_map(|(upscale_factor, shape)| {
        let input = shape.with_channels(shape.c * upscale_factor * upscale_factor);
        (PixelShuffle { upscale_factor }, vec![input])
    })
}

/// Planes small enough for one sum, and larger.
fn mean() -> impl Strategy<Value = (Mean, Vec<Shape>)> {
    (tensors(9), pair(1..=4))
        .prop_map(|(shape, [h, w])| (Mean {}, vec![shape.with_size(shape.h * h, shape.w * w)]))
}

fn preprocess() -> impl Strategy<Value = (Preprocess, Vec<Shape>)> {
    let channels = prop_oneof![Just(Channels::Rgb), Just(Channels::Bgr)];
    let numbers = (
        prop::array::uniform3(-1.0f32..1.0),
        prop::array::uniform3(0.2f32..2.0),
    );
    let ranges = prop_oneof![Just(1.0f32), Just(255.0)];
    (
        pair(1..=24),
        pair(1..=40),
        1usize..=3,
        channels,
        ranges,
        numbers,
    )
        .prop_map(|(size, [h, w], n, channels, range, (mean, std))| {
            let (mean, std) = (mean.map(|m| m * range), std.map(|s| s * range));
            let op = Preprocess {
                size,
                channels,
                range,
                mean,
                std,
            };
            (op, vec![Shape::new(n, 3, h, w)])
        })
}

/// The scores that are resized and their size afterwards.
fn argmax_resized() -> impl Strategy<Value = (Interpolate, Shape)> {
    (pair(1..=40), any::<bool>(), tensors(23)).prop_map(|(size, align_corners, input)| {
        (Interpolate::bilinear(size, align_corners), input)
    })
}

proptest! {
    #![proptest_config(config(ON_DEVICE))]

    #[test]
    fn conv2d_is_the_reference(sample in samples(with_relu(conv2d()))) {
        sample.check();
    }

    #[test]
    fn grouped_conv2d_is_the_reference(sample in samples(with_relu(grouped_conv2d()))) {
        sample.check();
    }

    #[test]
    fn pooled_conv2d_is_the_reference(sample in samples(pooled_conv2d())) {
        sample.check();
    }

    #[test]
    fn conv_transpose2d_is_the_reference(sample in samples(windowed())) {
        sample.check();
    }

    #[test]
    fn conv_transpose2d_of_long_rows_is_the_reference(sample in samples(transposed(false))) {
        sample.check();
    }

    #[test]
    fn diagonal_conv_transpose2d_is_the_reference(sample in diagonal_samples()) {
        sample.check();
    }

    #[test]
    fn max_pool2d_is_the_reference(sample in samples(max_pool2d())) {
        sample.check();
    }

    #[test]
    fn relu_is_the_reference(sample in samples(tensors(13).prop_map(|s| (Relu {}, vec![s])))) {
        sample.check();
    }

    #[test]
    fn functions_are_the_reference(sample in shared_samples(function())) {
        sample.check();
    }

    #[test]
    fn arithmetic_is_the_reference(sample in shared_samples(arithmetic())) {
        sample.check();
    }

    #[test]
    fn layers_are_the_reference(sample in shared_samples(layer())) {
        sample.check();
    }

    #[test]
    fn cat_is_the_reference(sample in samples(cat())) {
        sample.check();
    }

    #[test]
    fn pad_is_the_reference(sample in samples(pad())) {
        sample.check();
    }

    #[test]
    fn pixel_shuffle_is_the_reference(sample in samples(pixel_shuffle())) {
        sample.check();
    }

    #[test]
    fn mean_is_the_reference(sample in samples(mean())) {
        sample.check();
    }

    #[test]
    fn scale_is_the_reference(
        sample in samples((-3.0f32..3.0, tensors(13)).prop_map(|(factor, s)| (Scale { factor }, vec![s])))
    ) {
        sample.check();
    }

    #[test]
    fn crop_is_the_reference(sample in samples(crop())) {
        sample.check();
    }

    #[test]
    fn interpolate_is_the_reference(sample in samples(interpolate())) {
        sample.check();
    }

    #[test]
    fn max_pool2d_indices_are_the_reference(
        sample in samples(max_pool2d().prop_map(|(pool, shapes)| (MaxPool2dIndices { pool }, shapes)))
    ) {
        sample.check();
    }

    #[test]
    fn max_unpool2d_is_the_reference(sample in samples(max_unpool2d())) {
        sample.check();
    }

    #[test]
    fn avg_pool2d_is_the_reference(sample in samples(avg_pool2d())) {
        sample.check();
    }

    #[test]
    fn adaptive_avg_pool2d_is_the_reference(sample in samples(adaptive_avg_pool2d())) {
        sample.check();
    }

    #[test]
    fn local_response_norm_is_the_reference(sample in samples(local_response_norm())) {
        sample.check();
    }

    #[test]
    fn softmax_is_the_reference(sample in samples(tensors(23).prop_map(|s| (Softmax {}, vec![s])))) {
        sample.check();
    }

    #[test]
    fn argmax_is_the_reference(
        sample in samples(tensors(23).prop_map(|s| (Argmax {}, vec![s])))
    ) {
        sample.check();
    }

    #[test]
    fn preprocess_is_the_reference(sample in samples(preprocess())) {
        sample.check();
    }

    #[test]
    fn argmax_of_resized_scores_is_the_reference((resize, shape) in argmax_resized(), seed: u8) {
        let case = Case {
            op: Arc::new(FusedArgmax { scores: Scores::Resized(resize) }),
            inputs: vec![shape],
            diagonal: false,
        };
        let one = OneOp::of_case(case, &mut Random::new(seed));
        let (scores, bounds) = one.scores_of_labels().unwrap();
        check_labels(&one, &scores, &bounds, 1 << 12);
    }

    #[test]
    fn argmax_of_upsampled_scores_is_the_reference(
        (op, shapes) in prop_oneof![transposed(false), transposed(true)],
        seed: u8,
        log2 in 8u32..14,
    ) {
        let of = |op: Arc<dyn Op>, diagonal| {
            let case = Case { op, inputs: shapes.clone(), diagonal };
            OneOp::of_case(case, &mut Random::new(seed))
        };
        let labels = FusedArgmax { scores: Scores::Upsampled(op.clone()) };
        let diagonal = op.diagonal;
        let (one, scores) = (of(Arc::new(labels), diagonal), of(Arc::new(op), diagonal));
        check_labels(&one, &scores.expected(), &scores.bounds(), 1 << log2);
    }
}

/// Panics unless labels of scores that are never seen agree with the reference, uncut and cut.
fn check_labels(one: &OneOp, scores: &Tensor, bounds: &Tensor, binding: u64) {
    one.check_rows();
    let expected = one.expected();
    for gpu in devices() {
        let small = Target {
            device: DeviceProfile {
                max_binding_bytes: binding,
                binding_alignment: gpu.target().device.binding_alignment.max(64),
                ..gpu.target().device.clone()
            },
            ..gpu.target().clone()
        };
        let mut plans = vec![one.plan(gpu.target()).unwrap()];
        match one.plan(&small) {
            Ok(plan) => plans.push(plan),
            Err(e) => assert_eq!(e.kind(), ErrorKind::Limit, "{e}"),
        }
        for found in one.run_plans(gpu, plans) {
            assert_labels(&expected, &found, scores, bounds, &format!("{:?}", one.op));
        }
    }
}

/// PyTorch's documentation of `Conv2d`: ⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride + 1⌋.
fn conv_size(size: usize, kernel: usize, op: &Conv2d, axis: usize) -> usize {
    let (padding, dilation) = (op.padding[axis] as f64, op.dilation[axis] as f64);
    let room = size as f64 + 2.0 * padding - dilation * (kernel as f64 - 1.0) - 1.0;
    (room / op.stride[axis] as f64 + 1.0).floor() as usize
}

/// PyTorch's documentation of `MaxPool2d`: ⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride + 1⌋, or ⌈…⌉
/// with `ceil_mode`, where windows that would start in the right padded region are ignored.
fn pool_size(size: usize, op: &MaxPool2d, axis: usize) -> usize {
    let (kernel, stride, padding) = (op.kernel_size[axis], op.stride[axis], op.padding[axis]);
    let (size, window) = (
        size as f64,
        op.dilation[axis] as f64 * (kernel as f64 - 1.0),
    );
    let outputs = (size + 2.0 * padding as f64 - window - 1.0) / stride as f64 + 1.0;
    if !op.ceil_mode {
        return outputs.floor() as usize;
    }
    let outputs = outputs.ceil();
    let last_starts_at = (outputs - 1.0) * stride as f64;
    let ignored = last_starts_at >= size + padding as f64;
    outputs as usize - usize::from(ignored)
}

proptest! {
    #![proptest_config(config(OF_SHAPES))]

    #[test]
    fn the_shape_of_conv2d_is_pytorchs((op, shapes) in conv2d()) {
        let (input, weight) = (shapes[0], shapes[1]);
        let [h, w] = [conv_size(input.h, weight.h, &op, 0), conv_size(input.w, weight.w, &op, 1)];
        prop_assert_eq!(op.output_shape(&shapes).unwrap(), Shape::new(input.n, weight.n, h, w));
    }

    #[test]
    fn the_shape_of_a_pooled_conv2d_is_that_of_both((op, shapes) in pooled_conv2d()) {
        let alone = Convolution { pool: None, ..op.clone() };
        let map = alone.output_shape(&shapes).unwrap();
        let pooled = op.pool.clone().unwrap().output_shape(&[map]).unwrap();
        prop_assert_eq!(op.output_shape(&shapes).unwrap(), pooled);
        prop_assert_eq!(op.flops(&shapes), alone.flops(&shapes));
    }

    /// (size − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1, dilation 1.
    #[test]
    fn the_shape_of_conv_transpose2d_is_pytorchs((op, shapes) in conv_transpose2d()) {
        let (input, weight) = (shapes[0], shapes[1]);
        let size = |axis: usize, size: usize, kernel: usize| {
            (size - 1) * op.stride[axis] + kernel + op.output_padding[axis] - 2 * op.padding[axis]
        };
        let expected = Shape::new(
            input.n,
            weight.c * op.groups,
            size(0, input.h, weight.h),
            size(1, input.w, weight.w),
        );
        prop_assert_eq!(op.output_shape(&shapes).unwrap(), expected);
    }

    #[test]
    fn the_shape_of_max_pool2d_is_pytorchs((op, shapes) in max_pool2d()) {
        let input = shapes[0];
        let expected = input.with_size(pool_size(input.h, &op, 0), pool_size(input.w, &op, 1));
        prop_assert_eq!(op.output_shape(&shapes).unwrap(), expected);
    }

    #[test]
    fn a_window_larger_than_its_input_is_an_error((op, shapes) in conv2d()) {
        let window = op.dilation[0] * (shapes[1].h - 1) + 1;
        let Some(height) = window.checked_sub(2 * op.padding[0] + 1) else {
            return Ok(());
        };
        let small = shapes[0].with_size(height, shapes[0].w);
        let error = op.output_shape(&[&[small], &shapes[1..]].concat()).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Shape);
    }
}

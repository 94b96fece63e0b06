//! Ops that move pixels: crops, resizes, paddings, on random attributes and shapes.

use super::*;

fn crop() -> impl Strategy<Value = (Crop, Vec<Shape>)> {
    (tensors(9), pair(0..=5), pair(0..=5), 1usize..=5).prop_map(|(like, offset, rest, c)| {
        let [h, w] = [like.h + offset[0] + rest[0], like.w + offset[1] + rest[1]];
        let input = like.with_size(h, w).with_channels(c);
        (Crop::at(offset), vec![input, like])
    })
}

/// A resize to a size, by a factor, or to the size of a second input.
fn interpolate() -> impl Strategy<Value = (Interpolate, Vec<Shape>)> {
    let factors = [0.2..4.0f64, 0.2..4.0f64];
    let modes = prop_oneof![
        Just(InterpolateMode::Nearest),
        Just(InterpolateMode::NearestExact),
        Just(InterpolateMode::Bilinear),
        Just(InterpolateMode::Bicubic)
    ];
    let flags = (modes, any::<[bool; 4]>());
    (0..3, pair(1..=40), factors, flags, tensors(9)).prop_map(
        |(how, size, factors, (mode, [corners, recompute, tenths, antialias]), input)| {
            let mixes = [InterpolateMode::Bilinear, InterpolateMode::Bicubic].contains(&mode);
            let factor = |factor: f64, size: usize| {
                let factor = match tenths {
                    true => (10.0 * factor).ceil() / 10.0,
                    false => factor,
                };
                // At least one pixel.
                factor.max(1.0 / size as f64)
            };
            let factors = [factor(factors[0], input.h), factor(factors[1], input.w)];
            let op = Interpolate {
                size: (how == 0).then_some(size),
                scale_factor: (how == 1).then_some(factors),
                mode,
                align_corners: mixes && corners,
                recompute_scale_factor: recompute,
                antialias: mixes && antialias,
            };
            let like = (how == 2).then_some(Shape::new(input.n, 2, size[0], size[1]));
            (op, std::iter::once(input).chain(like).collect())
        },
    )
}

/// Ops that gather elements along one dimension or several.
fn gather() -> impl Strategy<Value = (Arc<dyn Op>, Vec<Shape>)> {
    let attributes = (0..4, 1usize..=3, -16i64..16, -16i64..20, 1usize..=3);
    (tensors(13), attributes, [1usize..=3, 1..=3, 1..=3]).prop_map(
        |(shape, (which, dim, start, end, step), numbers)| {
            let slice = Slice {
                dim,
                start: Some(start),
                end: (end < 16).then_some(end),
                step,
            };
            let op: Arc<dyn Op> = match which {
                0 if slice.output_shape(&[shape]).is_ok() => Arc::new(slice),
                1 => Arc::new(Repeat { repeats: numbers }),
                2 => {
                    let groups = numbers[0];
                    let channels = shape.c.next_multiple_of(groups);
                    let op = Arc::new(ChannelShuffle { groups });
                    return (op as Arc<dyn Op>, vec![shape.with_channels(channels)]);
                }
                _ => Arc::new(Flip {
                    dims: (1..=3).filter(|dim| numbers[dim - 1] > 1).collect(),
                }),
            };
            (op, vec![shape])
        },
    )
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
        Just(pad::PadMode::Replicate),
        Just(pad::PadMode::Circular)
    ];
    (
        tensors(9),
        [-5i64..=9, -5..=9, -5..=9, -5..=9],
        modes,
        -1.0f32..1.0,
    )
        .prop_map(|(shape, [left, right, top, bottom], mode, value)| {
            let within = |size: usize, before: i64, after: i64| {
                let size = size as i64;
                let most = match mode {
                    pad::PadMode::Reflect => size - 1,
                    pad::PadMode::Circular => size,
                    _ => i64::MAX,
                };
                let least = match mode {
                    pad::PadMode::Circular => 0,
                    _ => -(size - 1),
                };
                let before = before.clamp(least, most);
                // At least one row is left.
                (before, after.clamp(least, most).max(1 - size - before))
            };
            let (left, right) = within(shape.w, left, right);
            let (top, bottom) = within(shape.h, top, bottom);
            (
                Pad::by([left, right, top, bottom], mode, value),
                vec![shape],
            )
        })
}

/// Padding to a multiple, or to the size of a second input.
fn pad_to_a_size() -> impl Strategy<Value = (Pad, Vec<Shape>)> {
    let aligns = prop_oneof![
        Just(pad::Align::Start),
        Just(pad::Align::Center),
        Just(pad::Align::End)
    ];
    (tensors(9), pair(1..=17), any::<bool>(), aligns).prop_map(|(shape, size, like, align)| {
        let op = Pad {
            multiple: (!like).then_some(size),
            align: Some(align),
            ..Pad::default()
        };
        let like = like.then(|| shape.with_channels(2).with_size(size[0], size[1]));
        (op, std::iter::once(shape).chain(like).collect())
    })
}

fn pixel_shuffle() -> impl Strategy<Value = (PixelShuffle, Vec<Shape>)> {
    (1usize..=4, tensors(7)).prop_map(|(upscale_factor, shape)| {
        let input = shape.with_channels(shape.c * upscale_factor * upscale_factor);
        (PixelShuffle { upscale_factor }, vec![input])
    })
}

/// Windows that fit the input.
fn unfold() -> impl Strategy<Value = (Unfold, Vec<Shape>)> {
    (
        tensors(6),
        pair(1..=4),
        pair(1..=3),
        pair(0..=3),
        pair(1..=3),
    )
        .prop_map(|(shape, kernel_size, dilation, padding, stride)| {
            let least = |axis: usize| {
                let reach = (kernel_size[axis] - 1) * dilation[axis] + 1;
                reach.saturating_sub(2 * padding[axis])
            };
            let input = shape.with_size(shape.h.max(least(0)), shape.w.max(least(1)));
            let op = Unfold {
                kernel_size,
                dilation,
                padding,
                stride,
            };
            (op, vec![input])
        })
}

fn pixel_unshuffle() -> impl Strategy<Value = (PixelUnshuffle, Vec<Shape>)> {
    (1usize..=4, tensors(7)).prop_map(|(downscale_factor, shape)| {
        let [h, w] = [shape.h, shape.w].map(|size| size.next_multiple_of(downscale_factor));
        (
            PixelUnshuffle { downscale_factor },
            vec![shape.with_size(h, w)],
        )
    })
}

fn conv1d_channels() -> impl Strategy<Value = (Conv1dChannels, Vec<Shape>)> {
    (tensors(19), 0usize..=4, 1usize..=7).prop_map(|(shape, padding, taps)| {
        let taps = taps.min(shape.c + 2 * padding);
        let weight = Shape::new(1, 1, 1, taps);
        (Conv1dChannels { padding }, vec![shape, weight])
    })
}

fn linspace() -> impl Strategy<Value = (Linspace, Vec<Shape>)> {
    (tensors(5), 2usize..=3, -3.0f32..3.0, -3.0f32..3.0)
        .prop_map(|(shape, dim, start, end)| (Linspace { dim, start, end }, vec![shape]))
}

fn full() -> impl Strategy<Value = (Full, Vec<Shape>)> {
    (tensors(5), 1usize..=9, -3.0f32..3.0).prop_map(|(shape, channels, fill_value)| {
        let op = Full {
            channels,
            fill_value,
        };
        (op, vec![shape])
    })
}

fn preprocess() -> impl Strategy<Value = (Preprocess, Vec<Shape>)> {
    // The channels, their number in the network, and in the picture.
    let channels = prop_oneof![
        Just((Channels::Rgb, 3, 3)),
        Just((Channels::Bgr, 3, 3)),
        Just((Channels::Grey, 1, 3)),
        Just((Channels::Grey, 2, 4)),
        Just((Channels::Rgba, 4, 4)),
        (1usize..=9).prop_map(|bands| (Channels::Bands, 0, bands)),
    ];
    let numbers = (
        prop::array::uniform4(-1.0f32..1.0),
        prop::array::uniform4(0.2f32..2.0),
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
        .prop_map(
            |(size, [h, w], n, (channels, count, of_picture), range, (mean, std))| {
                let scaled =
                    |numbers: [f32; 4]| numbers[..count].iter().map(|m| m * range).collect();
                let (mean, std) = (scaled(mean), scaled(std));
                let op = Preprocess {
                    size,
                    channels,
                    range,
                    mean,
                    std,
                };
                (op, vec![Shape::new(n, of_picture, h, w)])
            },
        )
}

proptest! {
    #![proptest_config(config(ON_DEVICE))]

    #[test]
    fn cat_agrees_with_the_reference(sample in samples(cat())) {
        sample.check();
    }

    #[test]
    fn pad_agrees_with_the_reference(sample in samples(pad())) {
        sample.check();
    }

    #[test]
    fn pad_to_a_size_agrees_with_the_reference(sample in samples(pad_to_a_size())) {
        sample.check();
    }

    #[test]
    fn pixel_shuffle_agrees_with_the_reference(sample in samples(pixel_shuffle())) {
        sample.check();
    }

    #[test]
    fn gathers_agree_with_the_reference(sample in shared_samples(gather())) {
        sample.check();
    }

    #[test]
    fn unfold_agrees_with_the_reference(sample in samples(unfold())) {
        sample.check();
    }

    #[test]
    fn pixel_unshuffle_agrees_with_the_reference(sample in samples(pixel_unshuffle())) {
        sample.check();
    }

    #[test]
    fn conv1d_channels_agrees_with_the_reference(sample in samples(conv1d_channels())) {
        sample.check();
    }

    #[test]
    fn linspace_agrees_with_the_reference(sample in samples(linspace())) {
        sample.check();
    }

    #[test]
    fn full_agrees_with_the_reference(sample in samples(full())) {
        sample.check();
    }

    #[test]
    fn crop_agrees_with_the_reference(sample in samples(crop())) {
        sample.check();
    }

    #[test]
    fn interpolate_agrees_with_the_reference(sample in samples(interpolate())) {
        sample.check();
    }

    #[test]
    fn preprocess_agrees_with_the_reference(sample in samples(preprocess())) {
        sample.check();
    }
}

//! Convolutions and transposed convolutions, on random attributes and shapes.

use super::*;

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
            // With groups, up to 10 outputs each; without, more than one tile of 32.
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

/// The convolution with or without an activation.
fn activated(
    convs: impl Strategy<Value = (Conv2d, Vec<Shape>)>,
) -> impl Strategy<Value = (Convolution, Vec<Shape>)> {
    let activations = [Activation::None, Activation::Relu, Activation::Clamp(0.5)];
    (convs, proptest::sample::select(activations.to_vec())).prop_map(
        |((conv, shapes), activation)| {
            let op = Convolution {
                activation,
                ..conv.into()
            };
            (op, shapes)
        },
    )
}

/// A depthwise convolution, or one whose groups have multiples of 4 channels, in and out.
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

/// An ungrouped convolution, pooled.
fn pooled_conv2d() -> impl Strategy<Value = (Convolution, Vec<Shape>)> {
    (activated(conv2d()), any::<bool>()).prop_map(|((mut op, mut shapes), ceil_mode)| {
        shapes[0].c /= op.conv.groups;
        op.conv.groups = 1;
        let map = op.output_shape(&shapes).unwrap();
        // A window that reaches past both ends exists only in ceil mode.
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
            // The padding leaves at least one pixel of output.
            let padding = [0, 1].map(|i| {
                let full = (size[i] - 1) * stride[i] + kernel[i] + output_padding[i];
                padding[i].min((full - 1) / 2)
            });
            let op = ConvTranspose2d {
                stride,
                padding,
                output_padding,
                dilation: [1, 1],
                groups,
            };
            let input = Shape::new(n, c * groups, size[0], size[1]);
            let mut shapes = vec![input, Shape::new(c * groups, out, kernel[0], kernel[1])];
            shapes.extend(bias.then_some(Shape::vector(out * groups)));
            (op, shapes)
        },
    )
}

/// A transposed convolution whose taps are apart.
fn dilated() -> impl Strategy<Value = (ConvTranspose2d, Vec<Shape>)> {
    (conv_transpose2d(), pair(1..=4)).prop_map(|((conv, shapes), dilation)| {
        let op = ConvTranspose2d { dilation, ..conv };
        (op, shapes)
    })
}

/// A transposed convolution, cropped to a window or whole.
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
                op.crop = Some(Crop::at(offset));
                shapes.push(Shape::new(1, 1, h, w));
            }
            (op, shapes)
        },
    )
}

/// An ungrouped transposed convolution, dense or diagonal, with long rows, in which many pixels share their taps.
pub fn transposed(diagonal: bool) -> impl Strategy<Value = (TransposedConvolution, Vec<Shape>)> {
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

/// Samples of transposed convolutions whose weight is zero off its diagonal.
fn diagonal_samples() -> impl Strategy<Value = Sample> {
    samples(transposed(true)).prop_map(|sample| Sample {
        diagonal: true,
        ..sample
    })
}

proptest! {
    #![proptest_config(config(ON_DEVICE))]

    #[test]
    fn conv2d_agrees_with_the_reference(sample in samples(activated(conv2d()))) {
        sample.check();
    }

    #[test]
    fn grouped_conv2d_agrees_with_the_reference(sample in samples(activated(grouped_conv2d()))) {
        sample.check();
    }

    #[test]
    fn pooled_conv2d_agrees_with_the_reference(sample in samples(pooled_conv2d())) {
        sample.check();
    }

    #[test]
    fn conv_transpose2d_agrees_with_the_reference(sample in samples(windowed())) {
        sample.check();
    }

    #[test]
    fn dilated_conv_transpose2d_agrees_with_the_reference(
        sample in samples(dilated().prop_map(|(op, shapes)| (TransposedConvolution::from(op), shapes)))
    ) {
        sample.check();
    }

    #[test]
    fn conv_transpose2d_of_long_rows_agrees_with_the_reference(sample in samples(transposed(false))) {
        sample.check();
    }

    #[test]
    fn diagonal_conv_transpose2d_agrees_with_the_reference(sample in diagonal_samples()) {
        sample.check();
    }
}

/// PyTorch's documentation of `Conv2d`: ⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride + 1⌋.
fn conv_size(size: usize, kernel: usize, op: &Conv2d, axis: usize) -> usize {
    let (padding, dilation) = (op.padding[axis] as f64, op.dilation[axis] as f64);
    let room = size as f64 + 2.0 * padding - dilation * (kernel as f64 - 1.0) - 1.0;
    (room / op.stride[axis] as f64 + 1.0).floor() as usize
}

proptest! {
    #![proptest_config(config(OF_SHAPES))]

    #[test]
    fn the_shape_of_conv2d_follows_pytorch((op, shapes) in conv2d()) {
        let (input, weight) = (shapes[0], shapes[1]);
        let [h, w] = [conv_size(input.h, weight.h, &op, 0), conv_size(input.w, weight.w, &op, 1)];
        prop_assert_eq!(op.output_shape(&shapes).unwrap(), Shape::new(input.n, weight.n, h, w));
    }

    #[test]
    fn the_shape_of_a_pooled_conv2d_is_that_of_conv2d_and_pool((op, shapes) in pooled_conv2d()) {
        let alone = Convolution { pool: None, ..op.clone() };
        let map = alone.output_shape(&shapes).unwrap();
        let pooled = op.pool.clone().unwrap().output_shape(&[map]).unwrap();
        prop_assert_eq!(op.output_shape(&shapes).unwrap(), pooled);
        prop_assert_eq!(op.flops(&shapes), alone.flops(&shapes));
    }

    /// (size − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1.
    #[test]
    fn the_shape_of_conv_transpose2d_follows_pytorch((op, shapes) in dilated()) {
        let (input, weight) = (shapes[0], shapes[1]);
        let size = |axis: usize, size: usize, kernel: usize| {
            let reach = op.dilation[axis] * (kernel - 1) + op.output_padding[axis] + 1;
            (size - 1) * op.stride[axis] + reach - 2 * op.padding[axis]
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

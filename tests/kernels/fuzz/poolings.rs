//! Poolings, on random attributes and shapes.

use super::*;

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
                    // No window has all its taps in the padding.
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

/// An unpooling of a size that a pooling can produce, with or without the third input, whose shape is the output's.
fn max_unpool2d() -> impl Strategy<Value = (MaxUnpool2d, Vec<Shape>)> {
    (max_pool2d(), 0..3).prop_filter_map("no pooling has this output", |((pool, shapes), how)| {
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
        // The last windows of a pooling begin inside its input.
        let begin = |size: usize, i: usize| (size - 1) * op.stride[i];
        let inside = begin(input.h, 0) < output.h + op.padding[0]
            && begin(input.w, 1) < output.w + op.padding[1];
        inside.then_some((op, shapes))
    })
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

fn adaptive_pool2d() -> impl Strategy<Value = (Arc<dyn Op>, Vec<Shape>)> {
    let size = || prop_oneof![Just(None), Just(Some(1)), (1usize..=17).prop_map(Some)];
    ([size(), size()], tensors(13), any::<bool>()).prop_map(|(output_size, input, max)| {
        let op: Arc<dyn Op> = match max {
            true => Arc::new(AdaptiveMaxPool2d { output_size }),
            false => Arc::new(AdaptiveAvgPool2d { output_size }),
        };
        (op, vec![input])
    })
}

proptest! {
    #![proptest_config(config(ON_DEVICE))]

    #[test]
    fn max_pool2d_agrees_with_the_reference(sample in samples(max_pool2d())) {
        sample.check();
    }

    #[test]
    fn max_pool2d_indices_agree_with_the_reference(
        sample in samples(max_pool2d().prop_map(|(pool, shapes)| (MaxPool2dIndices { pool }, shapes)))
    ) {
        sample.check();
    }

    #[test]
    fn max_unpool2d_agrees_with_the_reference(sample in samples(max_unpool2d())) {
        sample.check();
    }

    #[test]
    fn avg_pool2d_agrees_with_the_reference(sample in samples(avg_pool2d())) {
        sample.check();
    }

    #[test]
    fn adaptive_pool2d_agrees_with_the_reference(sample in shared_samples(adaptive_pool2d())) {
        sample.check();
    }
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
    fn the_shape_of_max_pool2d_follows_pytorch((op, shapes) in max_pool2d()) {
        let input = shapes[0];
        let expected = input.with_size(pool_size(input.h, &op, 0), pool_size(input.w, &op, 1));
        prop_assert_eq!(op.output_shape(&shapes).unwrap(), expected);
    }
}

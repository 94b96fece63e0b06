//! Functions of one number, arithmetic, and sums over channels, on random attributes and shapes.

use super::*;

/// Functions that have no attributes and a value everywhere.
const OTHERS: [&str; 12] = [
    "abs",
    "exp",
    "erf",
    "gelu",
    "mish",
    "selu",
    "softsign",
    "logsigmoid",
    "sin",
    "cos",
    "floor",
    "sign",
];

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
        (0usize..OTHERS.len()).prop_map(|i| from_name(OTHERS[i], json!({})).unwrap()),
        (0.1f32..3.0, number()).prop_map(|(beta, threshold)| {
            Arc::new(Softplus { beta, threshold }) as Arc<dyn Op>
        }),
        (0.1f32..3.0).prop_map(|alpha| Arc::new(Celu { alpha }) as Arc<dyn Op>),
        (0u8..7).prop_map(|exponent| {
            let exponent = f32::from(exponent);
            Arc::new(Pow { exponent }) as Arc<dyn Op>
        }),
        (number(), number()).prop_map(|(min, max)| {
            let (min, max) = (Some(min).filter(|min| *min > -0.9), Some(max));
            Arc::new(Clamp { min, max }) as Arc<dyn Op>
        }),
    ];
    (op, tensors(13)).prop_map(|(op, shape)| (op, vec![shape]))
}

/// Operations of two tensors whose errors do not depend on how close to zero a number is.
const OF_TWO: [&str; 9] = [
    "div", "maximum", "minimum", "gt", "ge", "lt", "le", "eq", "ne",
];

/// An operation of two tensors; each dimension of either operand may be 1.
fn arithmetic() -> impl Strategy<Value = (Arc<dyn Op>, Vec<Shape>)> {
    let op = prop_oneof![
        Just(Arc::new(Add {}) as Arc<dyn Op>),
        Just(Arc::new(Sub {}) as Arc<dyn Op>),
        Just(Arc::new(Mul {}) as Arc<dyn Op>),
        (0usize..OF_TWO.len()).prop_map(|i| from_name(OF_TWO[i], json!({})).unwrap()),
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

/// A layer whose parameters are vectors, or a linear layer.
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

/// A normalization by an image's own statistics.
fn norm() -> impl Strategy<Value = (Arc<dyn Op>, Vec<Shape>)> {
    (0usize..3, 0usize..3, 1usize..=5, tensors(4), 0.1f32..2.0).prop_map(
        |(kind, vectors, groups, shape, eps)| {
            let mut shape = shape.with_channels(groups * shape.c);
            let op: Arc<dyn Op> = match kind {
                0 => Arc::new(GroupNorm {
                    num_groups: groups,
                    eps,
                }),
                1 => {
                    shape.h += 1;
                    Arc::new(InstanceNorm { eps })
                }
                _ => Arc::new(LayerNorm { eps }),
            };
            let vector = Shape::vector(shape.c);
            // As many images as the vector has rows would be taken for activations of one batch.
            shape.n += usize::from(shape.n == shape.c);
            (op, [vec![shape], vec![vector; vectors]].concat())
        },
    )
}

/// A reduction over some dimensions.
fn reduction() -> impl Strategy<Value = (Arc<dyn Op>, Vec<Shape>)> {
    let dim = (any::<[bool; 3]>(), 0usize..3).prop_map(|([channels, height, width], one)| Dims {
        channels: channels || one == 0,
        height: height || one == 1,
        width: width || one == 2,
    });
    (0usize..5, dim, tensors(13), pair(1..=4)).prop_map(|(kind, dim, shape, [h, w])| {
        let op: Arc<dyn Op> = match kind {
            4 => Arc::new(Var { dim, correction: 0 }),
            0 => Arc::new(Mean { dim }),
            1 => Arc::new(Sum { dim }),
            2 => Arc::new(Amax { dim }),
            _ => Arc::new(Amin { dim }),
        };
        (op, vec![shape.with_size(shape.h * h, shape.w * w)])
    })
}

/// A softmax over channels or pixels, or its logarithm.
fn softmax() -> impl Strategy<Value = (Arc<dyn Op>, Vec<Shape>)> {
    (any::<[bool; 2]>(), tensors(23)).prop_map(|([log, pixels], shape)| {
        let dim = if pixels { Dims::PIXELS } else { Dims::CHANNELS };
        let op: Arc<dyn Op> = match log {
            true => Arc::new(LogSoftmax { dim }),
            false => Arc::new(Softmax { dim }),
        };
        (op, vec![shape])
    })
}

/// Means of planes small enough for one sum, and of larger ones.
fn mean() -> impl Strategy<Value = (Mean, Vec<Shape>)> {
    (tensors(9), pair(1..=4)).prop_map(|(shape, [h, w])| {
        (
            Mean::default(),
            vec![shape.with_size(shape.h * h, shape.w * w)],
        )
    })
}

proptest! {
    #![proptest_config(config(ON_DEVICE))]

    #[test]
    fn relu_agrees_with_the_reference(sample in samples(tensors(13).prop_map(|s| (Relu {}, vec![s])))) {
        sample.check();
    }

    #[test]
    fn functions_agree_with_the_reference(sample in shared_samples(function())) {
        sample.check();
    }

    #[test]
    fn arithmetic_agrees_with_the_reference(sample in shared_samples(arithmetic())) {
        sample.check();
    }

    #[test]
    fn layers_agree_with_the_reference(sample in shared_samples(layer())) {
        sample.check();
    }

    #[test]
    fn scale_agrees_with_the_reference(
        sample in samples((-3.0f32..3.0, tensors(13)).prop_map(|(factor, s)| (Scale { factor }, vec![s])))
    ) {
        sample.check();
    }

    #[test]
    fn mean_agrees_with_the_reference(sample in samples(mean())) {
        sample.check();
    }

    #[test]
    fn local_response_norm_agrees_with_the_reference(sample in samples(local_response_norm())) {
        sample.check();
    }

    #[test]
    fn softmax_agrees_with_the_reference(sample in shared_samples(softmax())) {
        sample.check();
    }

    #[test]
    fn norms_agree_with_the_reference(sample in shared_samples(norm())) {
        sample.check();
    }

    #[test]
    fn reductions_agree_with_the_reference(sample in shared_samples(reduction())) {
        sample.check();
    }
}

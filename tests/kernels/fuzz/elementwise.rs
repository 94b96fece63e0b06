//! Functions of one number, arithmetic, and sums over channels, on random attributes and shapes.

use super::*;

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

/// A sum, difference or product; each dimension of either operand may be 1.
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
    fn softmax_agrees_with_the_reference(sample in samples(tensors(23).prop_map(|s| (Softmax {}, vec![s])))) {
        sample.check();
    }
}

//! Shapes to try.

use super::{Activation, Convolution, SumParts};
use crate::ops::{Case, Conv2d, MaxPool2d, case};

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let with = |stride, padding, dilation, groups| Conv2d {
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [dilation; 2],
        groups,
    };
    let relu_of = |conv: Conv2d| Convolution {
        activation: Activation::Relu,
        ..conv.into()
    };
    let relu = relu_of(Conv2d::padded(1));
    let parts = Convolution {
        parts: 3,
        ..Conv2d::padded(1).into()
    };
    let sum = |channels, activation| SumParts {
        parts: 3,
        channels,
        activation,
        pool: None,
    };
    let clamp_of = |conv: Conv2d| Convolution {
        activation: Activation::Clamp(0.4),
        ..conv.into()
    };
    let clamped = clamp_of(Conv2d::padded(1));
    let pooled_by = |op: Convolution, ceil_mode| Convolution {
        pool: Some(MaxPool2d::square(2, 2, ceil_mode)),
        ..op
    };
    let pooled = |conv: Conv2d, ceil_mode| pooled_by(conv.into(), ceil_mode);
    let pooled_sum = SumParts {
        pool: Some(MaxPool2d::square(2, 2, true)),
        ..sum(10, Activation::Clamp(0.4))
    };
    vec![
        // Pooled: maps of odd and even sides, with and without ReLU, of few and many channels, and of several images.
        case(
            pooled_by(relu.clone(), true),
            [[2, 5, 9, 7], [20, 5, 3, 3], [20, 1, 1, 1]],
        ),
        case(
            pooled_by(relu.clone(), false),
            [[1, 16, 11, 38], [64, 16, 3, 3], [64, 1, 1, 1]],
        ),
        case(
            pooled(Conv2d::padded(1), true),
            [[2, 128, 13, 9], [132, 128, 3, 3], [132, 1, 1, 1]],
        ),
        case(
            pooled(Conv2d::padded(1), false),
            [[1, 64, 19, 8], [130, 64, 3, 3]],
        ),
        case(
            pooled_by(relu.clone(), true),
            [[2, 600, 5, 5], [12, 600, 3, 3], [12, 1, 1, 1]],
        ),
        case(
            pooled(Conv2d::padded(5), true),
            [[1, 4, 1, 1], [3, 4, 3, 3], [3, 1, 1, 1]],
        ),
        case(
            pooled(with(2, 2, 2, 1), true),
            [[1, 6, 17, 22], [33, 6, 3, 3], [33, 1, 1, 1]],
        ),
        case(
            pooled(Conv2d::padded(0), true),
            [[3, 9, 3, 1], [70, 9, 1, 1]],
        ),
        // Windows that Winograd's F(2×2, 7×7) computes.
        case(
            relu_of(Conv2d::padded(0)),
            [[2, 96, 15, 13], [132, 96, 7, 7], [132, 1, 1, 1]],
        ),
        case(
            pooled(Conv2d::padded(3), true),
            [[1, 98, 5, 8], [128, 98, 7, 7]],
        ),
        // So many channels that F(2×2, 3×3) computes them in f16, with dilation too.
        case(
            relu_of(Conv2d::padded(1)),
            [[2, 236, 5, 6], [37, 236, 3, 3], [37, 1, 1, 1]],
        ),
        case(
            clamp_of(with(1, 2, 2, 1)),
            [[1, 256, 8, 7], [12, 256, 3, 3]],
        ),
        case(pooled_sum, [[2, 36, 5, 7]]),
        case(
            parts.clone(),
            [[2, 18, 9, 7], [66, 18, 3, 3], [66, 1, 1, 1]],
        ),
        case(parts, [[1, 13, 5, 20], [6, 13, 2, 3]]),
        case(sum(5, Activation::None), [[2, 24, 7, 3]]),
        case(sum(12, Activation::Relu), [[1, 36, 4, 5]]),
        case(relu.clone(), [[3, 6, 8, 11], [70, 6, 3, 3], [70, 1, 1, 1]]),
        case(
            relu.clone(),
            [[1, 230, 6, 9], [68, 230, 3, 3], [68, 1, 1, 1]],
        ),
        case(relu, [[2, 16, 17, 5], [64, 16, 3, 3], [64, 1, 1, 1]]),
        // ReLU6 and its like, by every kernel.
        case(
            clamped.clone(),
            [[2, 16, 17, 5], [64, 16, 3, 3], [64, 1, 1, 1]],
        ),
        case(
            pooled_by(clamped.clone(), true),
            [[1, 96, 9, 11], [132, 96, 3, 3], [132, 1, 1, 1]],
        ),
        case(clamped, [[1, 5, 9, 7], [6, 5, 3, 3], [6, 1, 1, 1]]),
        case(
            clamp_of(with(1, 1, 1, 70)),
            [[1, 70, 5, 6], [70, 1, 3, 3], [70, 1, 1, 1]],
        ),
        case(
            clamp_of(with(1, 1, 1, 3)),
            [[1, 15, 5, 6], [9, 5, 3, 3], [9, 1, 1, 1]],
        ),
        // Depthwise, with ReLU.
        case(
            relu_of(with(1, 1, 1, 70)),
            [[2, 70, 9, 21], [70, 1, 3, 3], [70, 1, 1, 1]],
        ),
        // Groups of whole fours of channels, with ReLU.
        case(
            relu_of(with(1, 1, 1, 3)),
            [[2, 12, 9, 7], [24, 4, 3, 3], [24, 1, 1, 1]],
        ),
    ]
}

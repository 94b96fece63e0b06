//! Shapes to try.

use super::{Conv2d, SumParts};
use crate::ops::{Case, MaxPool2d, case};

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let with = |stride, padding, dilation, groups| Conv2d {
        stride: [stride; 2],
        padding: [padding; 2],
        dilation: [dilation; 2],
        groups,
        ..Conv2d::default()
    };
    let relu = Conv2d {
        relu: true,
        ..Conv2d::padded(1)
    };
    let relu_of = |op: Conv2d| Conv2d { relu: true, ..op };
    let parts = Conv2d {
        parts: 3,
        ..Conv2d::padded(1)
    };
    let sum = |channels, relu| SumParts {
        parts: 3,
        channels,
        relu,
        pool: None,
    };
    let pooled = |op: Conv2d, ceil_mode| Conv2d {
        pool: Some(MaxPool2d::square(2, 2, ceil_mode)),
        ..op
    };
    let pooled_sum = SumParts {
        pool: Some(MaxPool2d::square(2, 2, true)),
        ..sum(10, true)
    };
    vec![
        // Maps of odd and even sides, without ReLU, of few and many channels, and of several images.
        case(
            pooled(relu.clone(), true),
            [[2, 5, 9, 7], [20, 5, 3, 3], [20, 1, 1, 1]],
        ),
        case(
            pooled(relu.clone(), false),
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
            pooled(relu.clone(), true),
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
        case(pooled_sum, [[2, 36, 5, 7]]),
        case(
            parts.clone(),
            [[2, 18, 9, 7], [66, 18, 3, 3], [66, 1, 1, 1]],
        ),
        case(parts, [[1, 13, 5, 20], [6, 13, 2, 3]]),
        case(sum(5, false), [[2, 24, 7, 3]]),
        case(sum(12, true), [[1, 36, 4, 5]]),
        case(
            Conv2d::padded(0),
            [[2, 1100, 4, 5], [24, 1100, 1, 1], [24, 1, 1, 1]],
        ),
        case(
            Conv2d::padded(1),
            [[1, 3, 9, 7], [5, 3, 3, 3], [5, 1, 1, 1]],
        ),
        case(relu.clone(), [[3, 6, 8, 11], [70, 6, 3, 3], [70, 1, 1, 1]]),
        case(
            relu.clone(),
            [[1, 230, 6, 9], [68, 230, 3, 3], [68, 1, 1, 1]],
        ),
        case(relu, [[2, 16, 17, 5], [64, 16, 3, 3], [64, 1, 1, 1]]),
        case(
            Conv2d::padded(1),
            [[2, 128, 9, 10], [132, 128, 3, 3], [132, 1, 1, 1]],
        ),
        case(Conv2d::padded(0), [[1, 130, 23, 7], [129, 130, 3, 3]]),
        case(
            with(1, 2, 2, 1),
            [[2, 66, 11, 18], [130, 66, 3, 3], [130, 1, 1, 1]],
        ),
        case(with(1, 3, 4, 1), [[2, 64, 19, 21], [128, 64, 3, 3]]),
        case(Conv2d::padded(0), [[1, 13, 5, 5], [21, 13, 1, 1]]),
        case(
            Conv2d::padded(3),
            [[1, 8, 4, 6], [32, 8, 7, 7], [32, 1, 1, 1]],
        ),
        case(
            Conv2d::padded(100),
            [[1, 3, 1, 1], [4, 3, 3, 3], [4, 1, 1, 1]],
        ),
        case(
            with(2, 1, 1, 1),
            [[1, 5, 10, 9], [33, 5, 3, 3], [33, 1, 1, 1]],
        ),
        case(with(1, 2, 2, 1), [[1, 4, 9, 9], [8, 4, 3, 3]]),
        case(
            with(2, 3, 1, 1),
            [[1, 3, 30, 37], [64, 3, 7, 7], [64, 1, 1, 1]],
        ),
        case(with(2, 0, 1, 1), [[2, 20, 9, 21], [40, 20, 1, 1]]),
        case(
            with(1, 2, 2, 1),
            [[1, 9, 40, 25], [130, 9, 3, 3], [130, 1, 1, 1]],
        ),
        case(Conv2d::padded(2), [[1, 20, 12, 19], [36, 20, 5, 5]]),
        case(
            Conv2d::padded(0),
            [[3, 129, 11, 13], [16, 129, 1, 1], [16, 1, 1, 1]],
        ),
        case(
            Conv2d::padded(0),
            [[1, 70, 13, 12], [48, 70, 7, 7], [48, 1, 1, 1]],
        ),
        case(Conv2d::padded(0), [[1, 2, 3, 130], [4, 2, 1, 130]]),
        case(
            with(3, 0, 1, 3),
            [[2, 6, 12, 10], [9, 2, 3, 3], [9, 1, 1, 1]],
        ),
        case(with(1, 1, 1, 7), [[1, 7, 6, 6], [7, 1, 3, 3], [7, 1, 1, 1]]),
        // Depthwise: several outputs of an input channel, strides, dilations, large windows.
        case(
            relu_of(with(1, 1, 1, 70)),
            [[2, 70, 9, 21], [70, 1, 3, 3], [70, 1, 1, 1]],
        ),
        case(
            with(2, 1, 1, 6),
            [[1, 6, 11, 14], [12, 1, 3, 3], [12, 1, 1, 1]],
        ),
        case(with(1, 2, 2, 5), [[3, 5, 7, 9], [15, 1, 3, 3]]),
        case(
            with(3, 2, 1, 9),
            [[1, 9, 17, 16], [36, 1, 5, 5], [36, 1, 1, 1]],
        ),
        case(
            with(1, 0, 1, 2),
            [[1, 2, 3, 20], [10, 1, 1, 17], [10, 1, 1, 1]],
        ),
        // Groups of whole fours of channels, narrow and wide.
        case(
            relu_of(with(1, 1, 1, 3)),
            [[2, 12, 9, 7], [24, 4, 3, 3], [24, 1, 1, 1]],
        ),
        case(
            with(2, 1, 1, 2),
            [[1, 24, 10, 19], [40, 12, 3, 3], [40, 1, 1, 1]],
        ),
        case(
            with(1, 2, 2, 2),
            [[1, 16, 12, 9], [192, 8, 3, 3], [192, 1, 1, 1]],
        ),
        case(
            with(1, 2, 1, 2),
            [[2, 40, 9, 18], [128, 20, 5, 5], [128, 1, 1, 1]],
        ),
        case(with(1, 0, 1, 4), [[1, 80, 5, 6], [48, 20, 1, 1]]),
    ]
}

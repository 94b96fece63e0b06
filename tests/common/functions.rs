//! Functions of one number, and numbers that are hard for them.

use fullconv::low_level::ops::{
    Clamp, Elu, Hardsigmoid, Hardswish, LeakyRelu, Op, Relu, Sigmoid, Silu, Tanh, from_name,
};
use serde_json::json;
use std::f32::consts::{FRAC_PI_2, FRAC_PI_4, PI, SQRT_2, TAU};
use std::sync::Arc;

/// Numbers of many magnitudes and both signs, 0, infinity, NaN, and the limits between the pieces of formulas.
pub fn numbers() -> Vec<f32> {
    let mut numbers = vec![0.0, f32::INFINITY, f32::NAN];
    numbers.extend([
        1e-37, 1e-30, 1e-20, 1e-10, 1e-7, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.2, 0.249,
    ]);
    numbers.extend([
        0.25, 0.2501, 0.3, 0.4, 0.49999, 0.5, 0.50001, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5,
    ]);
    numbers.extend([
        2.0, 2.5, 2.999, 3.0, 3.001, 4.0, 5.0, 5.999, 6.0, 7.0, 8.0, 8.5, 9.0, 10.0,
    ]);
    numbers.extend([
        12.0, 15.0, 17.5, 20.0, 30.0, 43.0, 44.0, 60.0, 80.0, 86.0, 87.0, 87.5, 88.0, 88.72284,
    ]);
    numbers.extend([
        89.0, 90.0, 100.0, 103.0, 104.0, 105.0, 500.0, 1e4, 1e8, 1e20, 1e38, 3.4e38,
    ]);
    // Near 1, the root of 2, and multiples of pi / 4.
    numbers.extend([0.99, 0.9999, 0.999_999_9, 1.000_000_1, 1.0001, 1.01]);
    numbers.extend([SQRT_2, FRAC_PI_4, FRAC_PI_2, PI, TAU].map(f32::next_up));
    numbers.extend([SQRT_2, FRAC_PI_4, FRAC_PI_2, PI, TAU, 355.0, 16_367_173.0]);
    let negative: Vec<_> = numbers.iter().map(|x| -x).collect();
    numbers.extend(negative);
    numbers
}

/// Functions without required attributes.
const OTHERS: [&str; 20] = [
    "abs",
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "erf",
    "gelu",
    "softplus",
    "mish",
    "selu",
    "celu",
    "softsign",
    "logsigmoid",
    "hardshrink",
    "sin",
    "cos",
    "floor",
    "sign",
    "relu",
];

/// Functions of one number, with attributes that lead to each of their formulas.
pub fn functions() -> Vec<Arc<dyn Op>> {
    let clamp = |min, max| Arc::new(Clamp { min, max }) as Arc<dyn Op>;
    let named = |(name, attributes)| from_name(name, attributes).unwrap();
    let mut ops: Vec<Arc<dyn Op>> = vec![
        Arc::new(Relu {}),
        Arc::new(Sigmoid {}),
        Arc::new(Tanh {}),
        Arc::new(Silu {}),
        Arc::new(Hardsigmoid {}),
        Arc::new(Hardswish {}),
        Arc::new(LeakyRelu::default()),
        Arc::new(Elu { alpha: 0.7 }),
        clamp(Some(0.0), Some(6.0)),
        clamp(Some(0.3), None),
        clamp(Some(2.0), Some(-1.0)),
    ];
    ops.extend(OTHERS.map(|name| named((name, json!({})))));
    let exponents = [
        0.5, -0.5, 0.0, 1.0, 2.0, 3.0, -1.0, -3.0, 64.0, 0.3, -2.5, 65.0, 66.0, -67.0,
    ];
    ops.extend(exponents.map(|exponent| named(("pow", json!({"exponent": exponent})))));
    ops.extend(
        [
            ("gelu", json!({"approximate": "tanh"})),
            ("softplus", json!({"beta": 0.3, "threshold": 2.0})),
            ("softplus", json!({"beta": -2.0})),
            ("celu", json!({"alpha": 0.3})),
            ("hardshrink", json!({"lambd": 0.25})),
            ("threshold", json!({"threshold": 0.1, "value": 20.0})),
        ]
        .map(named),
    );
    ops
}

//! Quotient of two tensors, element by element: `out = a / b`. Sizes are equal; a size of 1 broadcasts.
//!
//! Source: `torch.div`.

use super::broadcast::{Arithmetic, broadcasting};
use super::numerics::{FLUSHED, Numerics, absolute};
use super::{Case, Probabilities, case};
use crate::tensor::Tensor;
use serde::Deserialize;

/// The operation has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Div {}

broadcasting!(
    Div,
    Arithmetic {
        name: "div",
        number: 3,
        value: |a, b| a / b,
    },
    // WGSL allows a division 2.5 ULP.
    Numerics::elements(1, |_, expected| {
        Ok(expected.map(|y| absolute(5.0, f64::from(y), FLUSHED) as f32))
    }),
    noise,
    Probabilities::Quotient
);

/// A relative error of either factor is one of the quotient.
fn noise(inputs: &[&Tensor]) -> f64 {
    let inverse = inputs[1].map(|b| b.recip()).root_mean_square();
    let quotient = inverse * inputs[0].root_mean_square();
    // An error of a divisor as large as all of them counts more for a small one.
    let squares = inputs[1].map(|b| (b * b).recip()).root_mean_square();
    quotient.hypot(squares * inputs[0].root_mean_square() * inputs[1].root_mean_square())
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Div {}, [[2, 5, 3, 7], [2, 5, 3, 7]]),
        case(Div {}, [[3, 8, 1, 9], [3, 8, 1, 9]]),
        case(Div {}, [[2, 10, 5, 4], [2, 10, 1, 1]]),
        case(Div {}, [[1, 1, 4, 5], [1, 6, 4, 5]]),
        case(Div {}, [[2, 7, 3, 1], [1, 7, 3, 6]]),
    ]
}

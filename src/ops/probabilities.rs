//! What an op makes of probabilities. A network that ends in an activation, or in a mean of several, gives probabilities of
//! its classes, and none have to be made of its output.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The function that makes probabilities of class scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Softmax over the classes, which exclude each other.
    Softmax,
    /// Sigmoid of each score: every class is there or not, independently of the others.
    Sigmoid,
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// What an op makes of probabilities of classes, one a channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Probabilities {
    /// Values of another kind: features, scores.
    No,
    /// Probabilities, made by this function.
    Of(Activation),
    /// Their natural logarithms.
    LogOf(Activation),
    /// What all inputs that the op reads hold: their values are moved, cut out, joined, interpolated or averaged.
    OfInputs,
    /// What the input holds, if those are probabilities: they are clamped.
    Clamped,
    /// What the second and the third input hold: a value of either, by the first.
    Chosen,
    /// The input, times this factor.
    Scaled(f32),
    /// The sum of two inputs.
    Sum,
    /// The difference of two inputs.
    Difference,
    /// The product of two inputs.
    Product,
    /// The first input, divided by the second.
    Quotient,
    /// The natural logarithm of the input.
    Logarithm,
    /// The exponential of the input.
    Exponential,
    /// This number everywhere.
    Number(f32),
    /// Another function of the inputs' values alone, without weights of its own.
    Changed,
}

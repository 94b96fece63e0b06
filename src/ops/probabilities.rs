//! What an op says about probabilities: a network that ends in such an op gives probabilities of its classes, and none
//! have to be made of its output.

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

/// Whether the output of an op holds probabilities of classes, one a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probabilities {
    /// No.
    No,
    /// Yes, made by this function.
    Of(Activation),
    /// Their natural logarithms.
    LogOf(Activation),
    /// If all inputs that the op reads do: their values are moved, cut out, joined, interpolated, averaged or clamped.
    OfInputs,
}

//! The choice between several ways to compute an operation, as measured on the device.
//!
//! Without a choice, a plan takes the first candidate in the op's list.

use crate::ops::Op;
use crate::target::Target;
use crate::tensor::Shape;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The fastest measured candidates, by op, input shapes, and whether activations are f16.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Choices(BTreeMap<String, Choice>);

/// A candidate of an op, identified by a fingerprint of its shaders. A choice without a matching candidate has no
/// effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The candidate's description, for people.
    pub kernel: String,
    /// The candidate's [`Lowering::fingerprint`](super::Lowering::fingerprint).
    pub fingerprint: u64,
    /// The measured time, in microseconds.
    pub microseconds: u64,
}

impl Choices {
    /// Sets the choice for `op` on inputs of these shapes, in the precision of `target`.
    pub fn insert(&mut self, op: &dyn Op, inputs: &[Shape], target: &Target, choice: Choice) {
        self.0.insert(key(op, inputs, target), choice);
    }

    /// The choice for `op` on inputs of these shapes, in the precision of `target`.
    pub fn get(&self, op: &dyn Op, inputs: &[Shape], target: &Target) -> Option<&Choice> {
        match self.0.is_empty() {
            true => None,
            false => self.0.get(&key(op, inputs, target)),
        }
    }

    /// Adds the choices of `others`, which replace existing ones.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// The number of choices.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no choices.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The key of a choice. It holds the precision, but not the device: each device has choices of its own.
pub(super) fn key(op: &dyn Op, inputs: &[Shape], target: &Target) -> String {
    let precision = if target.options.half { "f16 " } else { "" };
    format!("{precision}{op:?} {inputs:?}")
}

/// FNV-1a: the same on every machine and in every version of Rust.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

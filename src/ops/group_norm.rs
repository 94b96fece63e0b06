//! Group normalization: `out = (input − mean) / √(variance + eps) · weight[c] + bias[c]`, with the mean and the variance
//! of a group of consecutive channels of an image.
//!
//! Inputs: `[n, c, h, w]`, and perhaps weight and bias, each `[c, 1, 1, 1]`. Source: `torch.nn.functional.group_norm`.

use super::candidate::Candidate;
use super::normalize::Groups;
use super::numerics::Numerics;
use super::{Case, Op, case};
use crate::error::Result;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The attributes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// The number of groups.
    pub num_groups: usize,
    /// Added to the variance.
    #[serde(default = "eps")]
    pub eps: f32,
}

fn eps() -> f32 {
    1e-5
}

impl GroupNorm {
    fn groups(&self) -> Groups {
        Groups {
            name: "group_norm",
            groups: self.num_groups,
            eps: self.eps,
        }
    }
}

impl Op for GroupNorm {
    fn name(&self) -> &'static str {
        self.groups().name
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        self.groups().output_shape(inputs)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        self.groups().reference(inputs)
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        self.groups().numerics(inputs)
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        self.groups().noise(inputs)
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        self.groups().candidates(inputs)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let of = |num_groups| GroupNorm {
        num_groups,
        eps: 1e-3,
    };
    let vector = |c| [c, 1, 1, 1];
    vec![
        case(of(2), [[1, 6, 3, 7], vector(6), vector(6)]),
        case(of(4), [[3, 8, 5, 5], vector(8), vector(8)]),
        case(of(1), [[2, 7, 17, 16], vector(7)]),
        case(of(5), [[2, 15, 4, 3]]),
        case(of(2), [[1, 26, 1, 1], vector(26), vector(26)]),
        case(of(8), [[5, 256, 2, 3]]),
    ]
}

//! Instance normalization: `out = (input − mean) / √(variance + eps) · weight[c] + bias[c]`, with the mean and the
//! variance of each channel of each image.
//!
//! Inputs: `[n, c, h, w]`, and perhaps weight and bias, each `[c, 1, 1, 1]`. As in PyTorch, one pixel has no variance.
//! Source: `torch.nn.functional.instance_norm` without running statistics.

use super::candidate::Candidate;
use super::normalize::Groups;
use super::numerics::Numerics;
use super::{Case, Op, case};
use crate::error::{Result, bail};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The attribute.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstanceNorm {
    /// Added to the variance.
    pub eps: f32,
}

impl Default for InstanceNorm {
    fn default() -> Self {
        Self { eps: 1e-5 }
    }
}

impl InstanceNorm {
    /// As many groups as `input` has channels.
    fn groups(&self, input: Option<&Shape>) -> Groups {
        Groups {
            name: "instance_norm",
            groups: input.map_or(1, |input| input.c),
            eps: self.eps,
        }
    }
}

impl Op for InstanceNorm {
    fn name(&self) -> &'static str {
        self.groups(None).name
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let shape = self.groups(inputs.first()).output_shape(inputs)?;
        if shape.h * shape.w == 1 {
            bail!(
                Shape,
                "{} of {shape}: one pixel has no variance; take a larger picture",
                self.name()
            );
        }
        Ok(shape)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let shapes = super::shapes(inputs);
        self.output_shape(&shapes)?;
        self.groups(shapes.first()).reference(inputs)
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        self.groups(inputs.first()).numerics(inputs)
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        self.groups(super::shapes(inputs).first()).noise(inputs)
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        self.output_shape(inputs)?;
        self.groups(inputs.first()).candidates(inputs)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let op = || InstanceNorm { eps: 1e-3 };
    let vector = |c| [c, 1, 1, 1];
    vec![
        case(op(), [[1, 6, 3, 7], vector(6), vector(6)]),
        case(op(), [[3, 5, 17, 19], vector(5), vector(5)]),
        case(op(), [[2, 7, 1, 5]]),
        // Many images of few pixels: small bindings show a part of the statistics.
        case(op(), [[9, 20, 1, 3]]),
        case(InstanceNorm::default(), [[2, 8, 20, 13], vector(8)]),
    ]
}

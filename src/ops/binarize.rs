//! The class of each pixel of a binary network, from one channel of scores: 1 where `score ≥ threshold`, else 0.
//!
//! The output is `[n, 1, h, w]`, labels as those of argmax: a pixel with a score that is not finite gets [`NO_CLASS`].
//! Source: `torch.ge(input, threshold)`.

use super::argmax::{NO_CLASS, kernel};
use super::numerics::Numerics;
use super::{Case, Op, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Rows, shader};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// Labels of one channel of scores.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binarize {
    /// The least score of class 1.
    pub threshold: f32,
}

impl Op for Binarize {
    fn name(&self) -> &'static str {
        "binarize"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [scores] = take_inputs(self.name(), inputs)?;
        if scores.c != 1 {
            bail!(
                Shape,
                "{} takes one channel of scores, not {}",
                self.name(),
                scores.c
            );
        }
        if !self.threshold.is_finite() {
            bail!(Shape, "a threshold of {} is not finite", self.threshold);
        }
        Ok(scores)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        self.output_shape(&super::shapes(inputs))?;
        let [scores] = take_inputs(self.name(), inputs)?;
        Ok(scores.map(|score| match score.is_finite() {
            true => f32::from(u8::from(score >= self.threshold)),
            false => f32::from(NO_CLASS),
        }))
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::steps()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let (shader, rows) = (shader!("argmax"), Rows::shifted(0));
        let kernel = kernel(inputs[0], output, Some(self.threshold), shader, rows, &[]);
        Ok(vec![Candidate::kernel(kernel)])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Binarize { threshold: 0.0 }, [[1, 1, 3, 7]]),
        case(Binarize { threshold: 0.25 }, [[3, 1, 5, 13]]),
    ]
}

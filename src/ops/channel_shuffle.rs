//! Channels of all groups in turn: `out[n, j · groups + i] = input[n, i · (c / groups) + j]` for channel j of group i.
//!
//! Source: `torch.nn.functional.channel_shuffle`.

use super::gather::{Gather, Positions};
use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The number of groups.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelShuffle {
    /// Groups of channels, a divisor of their number.
    pub groups: usize,
}

impl ChannelShuffle {
    fn gather(&self, inputs: &[Shape]) -> Result<Gather> {
        let [input] = take_inputs(self.name(), inputs)?;
        let groups = self.groups;
        if groups == 0 || !input.c.is_multiple_of(groups) {
            bail!(
                Shape,
                "the channels of {input} are no multiple of groups, {groups}"
            );
        }
        Gather::all(input).along(1, |all| Positions {
            period: groups,
            step: (all.inputs / groups) as i64,
            jump: 1,
            ..all
        })
    }
}

impl Op for ChannelShuffle {
    fn name(&self) -> &'static str {
        "channel_shuffle"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        self.gather(inputs)?.output_shape(inputs[0])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        self.gather(&super::shapes(inputs))?.reference(inputs[0])
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        self.gather(inputs)?.candidates(inputs[0])
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::OfInputs
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let shuffle = |groups, shape| case(ChannelShuffle { groups }, [shape]);
    vec![
        shuffle(2, [2, 10, 3, 5]),
        shuffle(3, [1, 9, 4, 3]),
        shuffle(4, [3, 16, 2, 3]),
        shuffle(1, [1, 5, 2, 2]),
    ]
}

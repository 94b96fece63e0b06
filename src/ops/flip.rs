//! The reverse order of some dimensions: `out[n, c, y, x] = input[n, c, y, w − 1 − x]` for dim 3, the columns; dim 2 is
//! rows, dim 1 channels.
//!
//! Source: `torch.flip`.

use super::gather::{Gather, Positions};
use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The dimensions.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flip {
    /// 1 for channels, 2 for rows, 3 for columns; each at most once.
    pub dims: Vec<usize>,
}

impl Flip {
    fn gather(&self, inputs: &[Shape]) -> Result<Gather> {
        let [input] = take_inputs(self.name(), inputs)?;
        let mut gather = Gather::all(input);
        for (i, dim) in self.dims.iter().enumerate() {
            if self.dims[..i].contains(dim) {
                bail!(Shape, "dim {dim} is twice among {:?}", self.dims);
            }
            gather = gather.along(*dim, |all| Positions {
                begin: all.inputs.saturating_sub(1),
                step: -1,
                ..all
            })?;
        }
        Ok(gather)
    }
}

impl Op for Flip {
    fn name(&self) -> &'static str {
        "flip"
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
    let flip = |dims: &[usize], shape| {
        case(
            Flip {
                dims: dims.to_vec(),
            },
            [shape],
        )
    };
    vec![
        flip(&[3], [2, 5, 3, 7]),
        flip(&[2], [3, 6, 5, 4]),
        flip(&[1, 2, 3], [2, 7, 3, 5]),
    ]
}

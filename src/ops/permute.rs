//! Dimensions in another order; the batch stays first.
//!
//! Source: `torch.permute`.

use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, rearrange, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permute {
    /// For each dimension of the output, the input's dimension; negative ones count from the end.
    pub dims: [i64; 4],
}

impl Permute {
    /// For channels, height and width of the output, the position of the input's dimension among those three.
    fn order(&self) -> Result<[usize; 3]> {
        let dims = self.dims.map(|dim| if dim < 0 { dim + 4 } else { dim });
        if (0..4).any(|dim| !dims.contains(&dim)) {
            bail!(
                Shape,
                "dims {:?} do not name each dimension once",
                self.dims
            );
        }
        if dims[0] != 0 {
            bail!(
                Unsupported,
                "dims {:?} move the batch; the first has to be 0",
                self.dims
            );
        }
        Ok([dims[1], dims[2], dims[3]].map(|dim| dim as usize - 1))
    }

    /// The output's shape and the steps in the input.
    fn plan(&self, inputs: &[Shape]) -> Result<(Shape, [usize; 3])> {
        let [input] = take_inputs(self.name(), inputs)?;
        let sizes = [input.c, input.h, input.w];
        let steps = rearrange::steps(input);
        let order = self.order()?;
        let [c, h, w] = order.map(|dim| sizes[dim]);
        Ok((Shape::new(input.n, c, h, w), order.map(|dim| steps[dim])))
    }
}

impl Op for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        Ok(self.plan(inputs)?.0)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let (output, steps) = self.plan(&super::shapes(inputs))?;
        rearrange::rearranged(inputs[0], output, steps)
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let (output, steps) = self.plan(inputs)?;
        let kernel = rearrange::kernel(inputs[0], output, steps);
        Ok(vec![Candidate::kernel(kernel)])
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
    let permute = |dims, shape| case(Permute { dims }, [shape]);
    vec![
        permute([0, 2, 3, 1], [2, 5, 3, 6]),
        permute([0, 3, 1, 2], [1, 6, 7, 2]),
        permute([0, -1, -2, -3], [3, 4, 1, 9]),
        permute([0, 1, 3, 2], [2, 9, 4, 7]),
        permute([0, 2, 3, 1], [1, 3, 8, 5]),
    ]
}

//! The elements of each image in another shape, in the same order: `[n, c, h, w]` to `[n, shape[0], shape[1], shape[2]]`.
//! A second input gives the height and width; its values are not read.
//!
//! Source: `torch.reshape`, which keeps the batch.

use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, rearrange};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::target::Target;
use crate::tensor::{MAX_SIZE, Shape, Tensor};
use serde::Deserialize;

/// The shape.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    /// Channels, height and width. One of them may be −1: it follows from the number of elements. With a second input,
    /// height and width are −1: they are that input's.
    pub shape: [i64; 3],
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let (input, shape) = match (inputs, self.shape) {
            ([input], shape) => (*input, shape),
            ([input, like], [channels, -1, -1]) => {
                (*input, [channels, like.h as i64, like.w as i64])
            }
            ([_, _], shape) => bail!(
                Shape,
                "the second input gives height and width: shape {shape:?} has to be [channels, -1, -1]"
            ),
            _ => bail!(
                Shape,
                "{} takes 1 or 2 inputs, not {}",
                self.name(),
                inputs.len()
            ),
        };
        let all = Shape { n: 1, ..input }.elements();
        let known = |size: i64| {
            usize::try_from(size)
                .ok()
                .filter(|s| (1..=MAX_SIZE).contains(s))
        };
        let open = shape.iter().filter(|size| **size == -1).count();
        if open > 1 || shape.iter().any(|s| *s != -1 && known(*s).is_none()) {
            bail!(
                Shape,
                "shape {shape:?} is not of three sizes from 1 to {MAX_SIZE}, of which one may be -1"
            );
        }
        let product =
            |product: usize, size: &i64| product.saturating_mul(known(*size).unwrap_or(1));
        let rest = all / shape.iter().fold(1, product);
        let [c, h, w] = shape.map(|size| known(size).unwrap_or(rest));
        let output = Shape::new(input.n, c, h, w);
        if output.elements() != input.elements() || all == 0 {
            bail!(
                Shape,
                "{input} has not as many elements an image as shape {shape:?}"
            );
        }
        Ok(output)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        rearrange::rearranged(inputs[0], output, rearrange::steps(output))
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let kernel = rearrange::kernel(inputs[0], output, rearrange::steps(output));
        Ok(vec![Candidate::kernel(kernel)])
    }

    fn reads(&self, input: usize) -> bool {
        input == 0
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
    let reshape = |shape, input| case(Reshape { shape }, [input]);
    vec![
        reshape([6, 5, 2], [2, 5, 3, 4]),
        reshape([7, -1, 1], [1, 7, 4, 5]),
        reshape([-1, 1, 1], [3, 3, 2, 3]),
        reshape([1, 6, 9], [2, 54, 1, 1]),
        case(Reshape { shape: [5, -1, -1] }, [[2, 3, 4, 5], [2, 7, 2, 6]]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let to = |shape| Reshape { shape }.output_shape(&[Shape::new(2, 6, 2, 3)]);
        assert_eq!(to([4, -1, 3]).unwrap(), Shape::new(2, 4, 3, 3));
        for shape in [[5, -1, 1], [-1, -1, 4], [0, -1, 1], [6, 2, 2], [-2, 3, 6]] {
            assert!(to(shape).is_err(), "{shape:?}");
        }
        let like = |shape| {
            Reshape { shape }.output_shape(&[Shape::new(2, 6, 2, 3), Shape::new(2, 1, 3, 4)])
        };
        assert_eq!(like([3, -1, -1]).unwrap(), Shape::new(2, 3, 3, 4));
        for shape in [[4, -1, -1], [3, 3, 4], [3, -1, 4]] {
            assert!(like(shape).is_err(), "{shape:?}");
        }
    }
}

//! Zeros, with the batch and channels of the input and another height and width.
//!
//! Not an op of model files: planning uses it to compute what a network makes of zeros.

use crate::error::Result;
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Kernel, shader};
use crate::ops::numerics::Numerics;
use crate::ops::{Case, Op, case, take_inputs};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};

/// The size of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zeros {
    /// Height and width.
    pub size: [usize; 2],
}

impl Op for Zeros {
    fn name(&self) -> &'static str {
        "zeros"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        crate::ops::check_attributes(&[self.size])?;
        Ok(input.with_size(self.size[0], self.size[1]))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&crate::ops::shapes(inputs))?;
        Tensor::from_fn(output, |_, _, _, _| 0.0)
    }

    fn reads(&self, _input: usize) -> bool {
        false
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        Ok(vec![Candidate::kernel(Kernel::elementwise(
            shader!("zeros"),
            &[],
            &[],
            output,
        ))])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![case(Zeros { size: [5, 3] }, [[2, 6, 1, 4]])]
}

//! Sum of two tensors, then ReLU.

use crate::error::Result;
use crate::ops::add::ADD;
use crate::ops::candidate::Candidate;
use crate::ops::numerics::Numerics;
use crate::ops::{Add, Case, Op, Relu, case};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use std::any::Any;
use std::sync::Arc;

/// It has no attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddRelu {}

/// Fuses a sum with ReLU.
pub(super) fn fuse(before: &dyn Op, next: &dyn Op) -> Option<Arc<dyn Op>> {
    let (before, next): (&dyn Any, &dyn Any) = (before, next);
    (before.is::<Add>() && next.is::<Relu>()).then(|| Arc::new(AddRelu {}) as Arc<dyn Op>)
}

impl Op for AddRelu {
    fn name(&self) -> &'static str {
        Add {}.name()
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        Add {}.output_shape(inputs)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        Relu {}.reference(&[&Add {}.reference(inputs)?])
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        Add {}.noise(inputs)
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::rounded()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        Ok(vec![Candidate::kernel(ADD.kernel(inputs, true)?)])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(AddRelu {}, [[2, 6, 3, 5], [2, 6, 3, 5]]),
        case(AddRelu {}, [[1, 7, 3, 5], [1, 1, 1, 1]]),
    ]
}

//! Sum of two tensors, element by element: `out = a + b`. Sizes are equal, or 1 in one of the two,
//! whose values then count for all of the other.
//!
//! Source: `torch.add`; in the FCN papers, the fusion of two streams.

use super::broadcast::Operation;
use super::numerics::Numerics;
use super::{Case, Op, Relu, case};
use crate::device_profile::DeviceProfile;
use crate::error::Result;
use crate::ops::candidate::Candidate;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;
use std::any::Any;
use std::sync::Arc;

/// Addition has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Add {
    /// Apply ReLU to the result: set when planning fuses the two.
    #[serde(skip)]
    pub relu: bool,
}

impl Op for Add {
    fn name(&self) -> &'static str {
        Operation::Add.name()
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        Operation::Add.output_shape(inputs)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let sum = Operation::Add.reference(inputs)?;
        match self.relu {
            true => Relu {}.reference(&[&sum]),
            false => Ok(sum),
        }
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        inputs[0]
            .root_mean_square()
            .hypot(inputs[1].root_mean_square())
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::rounded()
    }

    fn candidates(&self, inputs: &[Shape], _device: &DeviceProfile) -> Result<Vec<Candidate>> {
        Ok(vec![Candidate::kernel(
            Operation::Add.kernel(inputs, self.relu)?,
        )])
    }

    fn fused_with(&self, next: &dyn Op) -> Option<Arc<dyn Op>> {
        let next: &dyn Any = next;
        (next.is::<Relu>() && !self.relu).then(|| Arc::new(Self { relu: true }) as Arc<dyn Op>)
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Add { relu: true }, [[2, 6, 3, 5], [2, 6, 3, 5]]),
        case(Add { relu: true }, [[1, 7, 3, 5], [1, 1, 1, 1]]),
        case(Add::default(), [[1, 5, 3, 7], [1, 5, 3, 7]]),
        case(Add::default(), [[3, 12, 1, 9], [3, 12, 1, 9]]),
        case(Add::default(), [[2, 5, 3, 7], [2, 5, 1, 1]]),
        case(Add::default(), [[3, 6, 4, 5], [1, 6, 4, 5]]),
        case(Add::default(), [[2, 1, 4, 3], [2, 7, 4, 3]]),
        case(Add::default(), [[2, 4, 1, 3], [1, 1, 5, 1]]),
    ]
}

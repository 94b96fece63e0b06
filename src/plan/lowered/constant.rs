//! A parameter as an activation: `out = parameter`, `[n, c, h, w]`.
//!
//! Not an op of model files: planning puts it before an operation that reads a parameter as an activation. ONNX calls
//! it `Constant`.

use crate::error::Result;
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Binding, Kernel, Packing, shader};
use crate::ops::numerics::Numerics;
use crate::ops::{Case, Op, case, take_inputs};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};

/// A constant has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constant {}

impl Op for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [parameter] = take_inputs(self.name(), inputs)?;
        Ok(parameter)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let [parameter] = take_inputs(self.name(), inputs)?;
        Ok(parameter.clone())
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::rounded()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let shape = self.output_shape(inputs)?;
        Ok(vec![Candidate::kernel(Kernel {
            bindings: vec![Binding::Parameter {
                input: 0,
                packing: Packing::Pixels,
            }],
            ..Kernel::elementwise(shader!("constant"), &[], &[], shape)
        })])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Constant {}, [[1, 5, 1, 1]]),
        case(Constant {}, [[2, 6, 3, 4]]),
    ]
}

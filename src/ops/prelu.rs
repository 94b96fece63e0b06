//! ReLU with a learned slope: `out = input` for a positive input, else `weight[c] · input`.
//!
//! Inputs: `[n, c, h, w]`, weight `[c, 1, 1, 1]`, or `[1, 1, 1, 1]` for all channels.
//! Source: `torch.nn.functional.prelu`.

use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Binding, Kernel, Packing, shader, sizes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// PReLU has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prelu {}

impl Op for Prelu {
    fn name(&self) -> &'static str {
        "prelu"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input, weight] = take_inputs(self.name(), inputs)?;
        if weight != Shape::vector(input.c) && weight != Shape::vector(1) {
            bail!(
                Shape,
                "a weight of shape {weight} has neither one value nor one for each channel of {input}"
            );
        }
        Ok(input)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let shape = self.output_shape(&super::shapes(inputs))?;
        let [input, weight] = take_inputs(self.name(), inputs)?;
        let shared = weight.data().len() == 1;
        Tensor::from_fn(shape, |n, c, y, x| {
            let slope = weight.data()[if shared { 0 } else { c }];
            match input.at(n, c, y, x) {
                value if value > 0.0 => value,
                value => (f64::from(slope) * f64::from(value)) as f32,
            }
        })
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::Changed
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::rounded()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let shape = self.output_shape(inputs)?;
        let shared = inputs[1].n == 1;
        let mut kernel = Kernel::elementwise(
            shader!("prelu"),
            &["input_start"],
            &sizes([("c4", shape.c4())]),
            shape,
        );
        kernel.constants = vec![("SHARED", f64::from(u8::from(shared)))];
        kernel.bindings.push(Binding::Parameter {
            input: 1,
            packing: Packing::Vector,
        });
        Ok(vec![Candidate::kernel(kernel)])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Prelu {}, [[1, 5, 3, 7], [5, 1, 1, 1]]),
        case(Prelu {}, [[3, 8, 2, 5], [1, 1, 1, 1]]),
        case(Prelu {}, [[2, 13, 4, 3], [13, 1, 1, 1]]),
    ]
}

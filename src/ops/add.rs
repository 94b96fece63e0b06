//! Sum of two tensors of one shape: `out = a + b`.
//!
//! Source: `torch.add` without broadcasting; in the FCN papers, the fusion of two streams.

use super::{Case, Op, case, take_inputs};
use crate::device_profile::DeviceProfile;
use crate::error::{Result, bail};
use crate::ops::kernel::{Kernel, shader};
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// Addition has no attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {}

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [a, b] = take_inputs(self.name(), inputs)?;
        if a != b {
            bail!(Shape, "cannot add tensors of shapes {a} and {b}");
        }
        Ok(a)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let shape = self.output_shape(&super::shapes(inputs))?;
        let [a, b] = take_inputs(self.name(), inputs)?;
        Tensor::new(
            shape,
            a.data().iter().zip(b.data()).map(|(a, b)| a + b).collect(),
        )
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        inputs[0].root_mean_square().hypot(inputs[1].root_mean_square())
    }

    fn kernels(&self, inputs: &[Shape], _device: &DeviceProfile) -> Result<Vec<Kernel>> {
        let shape = self.output_shape(inputs)?;
        Ok(vec![Kernel::elementwise(shader!("add"), 2, &[], shape)])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Add {}, [[1, 5, 3, 7], [1, 5, 3, 7]]),
        case(Add {}, [[3, 12, 1, 9], [3, 12, 1, 9]]),
    ]
}

//! One number everywhere: `out[n, c, y, x] = fill_value`, of the input's batch, height and width, with a number of
//! channels of its own. The input's values are not read.
//!
//! Source: `torch.full`, `zeros` and `ones` of the size of a tensor.

use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Kernel, floats, shader, sizes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The channels and the number.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Full {
    /// Channels of the output, at least 1.
    pub channels: usize,
    /// The number, which is finite.
    #[serde(default)]
    pub fill_value: f32,
}

impl Op for Full {
    fn name(&self) -> &'static str {
        "full"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        super::check_attributes(&[[self.channels; 2]])?;
        if self.channels == 0 {
            bail!(Shape, "channels are at least 1");
        }
        if !self.fill_value.is_finite() {
            bail!(Shape, "fill_value {} is not finite", self.fill_value);
        }
        Ok(input.with_channels(self.channels))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        Tensor::from_fn(output, |_, _, _, _| self.fill_value)
    }

    fn reads(&self, _input: usize) -> bool {
        false
    }

    fn probabilities(&self) -> Probabilities {
        Probabilities::Number(self.fill_value)
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::rounded()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let mut extra = sizes([("channels", output.c), ("c4", output.c4())]).to_vec();
        extra.extend(floats([("value", self.fill_value)]));
        let kernel = Kernel::elementwise(shader!("full"), &[], &extra, output);
        Ok(vec![Candidate::kernel(kernel)])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let full = |channels, fill_value, shape| {
        case(
            Full {
                channels,
                fill_value,
            },
            [shape],
        )
    };
    vec![
        full(5, 0.3, [2, 3, 4, 7]),
        full(4, -1.0, [1, 9, 3, 5]),
        full(1, 0.0, [3, 4, 2, 3]),
        full(6, 0.5, [1, 3, 2, 5]),
        full(7, -0.7, [2, 3, 5, 2]),
    ]
}

//! Softmax over the channels of each pixel: `out_c = exp(in_c − max) / Σ exp(in_k − max)`.
//!
//! Source: `torch.nn.functional.softmax(dim=1)`.

use super::{Case, Op, case, take_inputs};
use crate::device_profile::DeviceProfile;
use crate::error::{Result, bail};
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, shader};
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// Softmax is over dimension 1, the classes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        if input.c == 0 {
            bail!(Shape, "softmax of {input}, which has no channels");
        }
        Ok(input)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let shape = self.output_shape(&super::shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        let mut output = Tensor::zeros(shape)?;
        let plane = shape.h * shape.w;
        for n in 0..shape.n {
            for pixel in 0..plane {
                let at = |c: usize| (n * shape.c + c) * plane + pixel;
                let score = |c: usize| f64::from(input.data()[at(c)]);
                let max = (0..shape.c).map(score).fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = (0..shape.c).map(|c| (score(c) - max).exp()).sum();
                for c in 0..shape.c {
                    output.data_mut()[at(c)] = ((score(c) - max).exp() / sum) as f32;
                }
            }
        }
        Ok(output)
    }

    fn kernels(&self, inputs: &[Shape], _device: &DeviceProfile) -> Result<Vec<Kernel>> {
        let shape = self.output_shape(inputs)?;
        let mut params = Word::sizes([shape.w, shape.c, shape.c4()]).to_vec();
        params.extend([
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]);
        Ok(vec![Kernel {
            shader: shader!("softmax"),
            constants: Vec::new(),
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: Rows::shifted(0),
            }],
            output: Format::Nhwc4,
            params,
            grid: Grid::Tiles {
                pixels: 64,
                channels: 4 * shape.c4(),
            },
            terms: None,
            steps_per_term: 3 * shape.c4() as u64,
            fixed_steps: 0,
        }])
    }

    fn terms(&self, inputs: &[Shape]) -> usize {
        inputs[0].c
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    vec![
        case(Softmax {}, [[1, 21, 3, 7]]),
        case(Softmax {}, [[3, 2, 5, 13]]),
    ]
}

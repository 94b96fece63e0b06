//! What makes one sum of the parts that a convolution leaves: `out[n, o, y, x] = Σ input[n, p·C + o, y, x]`
//! over the parts p, C the channels padded to a multiple of 4; then perhaps ReLU.

use crate::device_profile::DeviceProfile;
use crate::error::{Result, bail};
use crate::ops::kernel::{Kernel, Word, shader};
use crate::ops::{Op, take_inputs};
use crate::tensor::{Shape, Tensor};

/// Planned behind a convolution in [`parts`](super::Conv2d::parts).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SumParts {
    /// How many parts.
    pub parts: usize,
    /// Channels of the sum.
    pub channels: usize,
    /// Apply ReLU to the sum.
    pub relu: bool,
}

impl Op for SumParts {
    fn name(&self) -> &'static str {
        "sum_parts"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        let output = input.with_channels(self.channels);
        if self.parts == 0 || input.c != self.parts * 4 * output.c4() {
            bail!(Shape, "{input} is not {} parts of {} channels", self.parts, self.channels);
        }
        Ok(output)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let [input] = take_inputs(self.name(), inputs)?;
        let output = self.output_shape(&[input.shape()])?;
        Tensor::from_fn(output, |n, c, y, x| {
            let part = |p: usize| f64::from(input.at(n, p * 4 * output.c4() + c, y, x));
            let sum = (0..self.parts).map(part).sum::<f64>() as f32;
            if self.relu && sum < 0.0 { 0.0 } else { sum }
        })
    }

    fn kernels(&self, inputs: &[Shape], _device: &DeviceProfile) -> Result<Vec<Kernel>> {
        let shape = self.output_shape(inputs)?;
        let extra = Word::sizes([shape.c4()]);
        let kernel = Kernel::elementwise(shader!("sum_parts"), 1, &extra, shape);
        Ok(vec![Kernel {
            constants: vec![
                ("PARTS", self.parts as f64),
                ("RELU", f64::from(u8::from(self.relu))),
            ],
            steps_per_term: self.parts as u64,
            ..kernel
        }])
    }

    fn terms(&self, _inputs: &[Shape]) -> usize {
        self.parts
    }
}

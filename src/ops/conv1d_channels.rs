//! Convolution along the channels of every pixel: `out[n, c, y, x] = Σ weight[j] · input[n, c + j − padding, y, x]`,
//! where channels outside are zero.
//!
//! Inputs: `[n, c, h, w]`, weight `[1, 1, 1, k]`. The output has c + 2·padding − k + 1 channels. Source:
//! `torch.nn.functional.conv1d` of the channels as one line, as in efficient channel attention (ECA).

use super::numerics::Numerics;
use super::{Case, Op, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Binding, Kernel, Packing, shader, sizes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The padding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conv1dChannels {
    /// Channels of zeros before the first and after the last.
    pub padding: usize,
}

impl Op for Conv1dChannels {
    fn name(&self) -> &'static str {
        "conv1d_channels"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input, weight] = take_inputs(self.name(), inputs)?;
        super::check_attributes(&[[self.padding; 2]])?;
        if weight != Shape::new(1, 1, 1, weight.w) || weight.w == 0 {
            bail!(Shape, "a weight of shape {weight} is not [1, 1, 1, k]");
        }
        match (input.c + 2 * self.padding + 1).checked_sub(weight.w) {
            None | Some(0) => bail!(
                Shape,
                "the channels of {input} with padding {} are fewer than the {} of the weight",
                self.padding,
                weight.w
            ),
            Some(channels) => Ok(input.with_channels(channels)),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [input, weight] = take_inputs(self.name(), inputs)?;
        Tensor::from_fn(output, |n, c, y, x| {
            let terms = weight.data().iter().enumerate().map(|(j, weight)| {
                let channel = (c + j).checked_sub(self.padding);
                let channel = channel.filter(|channel| *channel < input.shape().c);
                let value = channel.map_or(0.0, |channel| input.at(n, channel, y, x));
                f64::from(*weight) * f64::from(value)
            });
            terms.sum::<f64>() as f32
        })
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        Numerics::sum(inputs[1].w)
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let taps = inputs[1].data().len() as f64;
        inputs[0].root_mean_square() * inputs[1].root_mean_square() * taps.sqrt()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let [input, weight] = take_inputs(self.name(), inputs)?;
        let extra = sizes([
            ("in_channels", input.c),
            ("in_c4", input.c4()),
            ("channels", output.c),
            ("c4", output.c4()),
            ("taps", weight.w),
            ("padding", self.padding),
        ]);
        let mut kernel =
            Kernel::elementwise(shader!("conv1d_channels"), &["input_start"], &extra, output);
        kernel.bindings.push(Binding::Parameter {
            input: 1,
            packing: Packing::Pixels,
        });
        kernel.steps_per_term = weight.w as u64;
        Ok(vec![Candidate::kernel(kernel)])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let conv = |padding, input, taps| case(Conv1dChannels { padding }, [input, [1, 1, 1, taps]]);
    vec![
        conv(1, [3, 13, 1, 1], 3),
        conv(2, [2, 8, 3, 5], 5),
        conv(0, [1, 9, 4, 3], 4),
        conv(6, [2, 3, 2, 2], 7),
        conv(1, [1, 7, 3, 2], 3),
    ]
}

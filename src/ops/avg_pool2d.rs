//! 2-D average pooling: `out[n, c, y, x] = Σ input[n, c, y·stride − padding + ky, …] / divisor` over the taps inside
//! the input.
//!
//! The output size is that of [`MaxPool2d`](super::MaxPool2d) without dilation. The divisor is `divisor_override`. By
//! default it is the number of the window's positions up to the end of the padding, or without `count_include_pad` the
//! number of those inside the input. Source: `torch.nn.functional.avg_pool2d`.

use super::attributes::{optional_pair, pair};
use super::candidate::Candidate;
use super::max_pool2d::{check_windows, output_size};
use super::means::{Means, Windows};
use super::numerics::Numerics;
use super::{Case, Op, Probabilities, Window, case, take_inputs};
use crate::error::{Result, bail};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::Deserialize;

/// The attributes of an average pooling; pairs are `[vertical, horizontal]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Attributes")]
pub struct AvgPool2d {
    /// Size of the window.
    pub kernel_size: [usize; 2],
    /// Step between neighbouring windows; in a model file `kernel_size` by default.
    pub stride: [usize; 2],
    /// Zeros around the input, on each side; at most half the window.
    pub padding: [usize; 2],
    /// Keep a last window that reaches past the input.
    pub ceil_mode: bool,
    /// Count the padding in the divisor.
    pub count_include_pad: bool,
    /// A fixed divisor, not 0.
    pub divisor_override: Option<i32>,
}

/// The attributes as PyTorch takes them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attributes {
    #[serde(deserialize_with = "pair")]
    kernel_size: [usize; 2],
    #[serde(default, deserialize_with = "optional_pair")]
    stride: Option<[usize; 2]>,
    #[serde(default, deserialize_with = "pair")]
    padding: [usize; 2],
    #[serde(default)]
    ceil_mode: bool,
    #[serde(default = "yes")]
    count_include_pad: bool,
    #[serde(default)]
    divisor_override: Option<i32>,
}

fn yes() -> bool {
    true
}

impl From<Attributes> for AvgPool2d {
    fn from(attributes: Attributes) -> Self {
        let Attributes {
            kernel_size,
            stride,
            padding,
            ceil_mode,
            count_include_pad,
            divisor_override,
        } = attributes;
        Self {
            kernel_size,
            stride: stride.unwrap_or(kernel_size),
            padding,
            ceil_mode,
            count_include_pad,
            divisor_override,
        }
    }
}

impl AvgPool2d {
    /// A square window without padding.
    pub const fn square(kernel_size: usize, stride: usize, ceil_mode: bool) -> Self {
        Self {
            kernel_size: [kernel_size; 2],
            stride: [stride; 2],
            padding: [0; 2],
            ceil_mode,
            count_include_pad: true,
            divisor_override: None,
        }
    }

    /// The windows and the divisor for `input`.
    fn means(&self, input: Shape) -> Result<Means> {
        check_windows(self.kernel_size, self.stride, self.padding)?;
        if self.divisor_override == Some(0) {
            bail!(Shape, "divisor_override is 0");
        }
        let windows = Window {
            size: self.kernel_size,
            stride: self.stride,
            padding: self.padding,
            ceil_mode: self.ceil_mode,
        };
        let along = |axis: usize, inputs: usize| {
            let (kernel, padding) = (self.kernel_size[axis], self.padding[axis]);
            Ok(Windows {
                inputs,
                outputs: output_size(windows, axis, inputs)?,
                mul: self.stride[axis],
                div: 1,
                before: padding,
                last: kernel - 1 - padding,
                counted: if self.count_include_pad { padding } else { 0 },
                longest: kernel.min(inputs),
            })
        };
        Ok(Means {
            axes: [along(0, input.h)?, along(1, input.w)?],
            divisor: self.divisor_override.map(f64::from),
            largest: false,
        })
    }
}

impl Op for AvgPool2d {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        self.means(input)?.output_shape(inputs)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let [input] = take_inputs(self.name(), inputs)?;
        self.means(input.shape())?.reference(inputs)
    }

    fn candidates(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Candidate>> {
        let [input] = take_inputs(self.name(), inputs)?;
        self.means(input)?.candidates(inputs, target)
    }

    fn probabilities(&self) -> Probabilities {
        match self.divisor_override {
            None => Probabilities::OfInputs,
            Some(_) => Probabilities::Changed,
        }
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        Numerics::sum(
            self.means(inputs[0])
                .map_or(1, |means| means.reduction_length(inputs)),
        )
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let means = self.means(inputs[0].shape());
        means.map_or(0.0, |means| means.noise(inputs))
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let pool = |kernel, stride, padding, ceil_mode| AvgPool2d {
        padding: [padding; 2],
        ..AvgPool2d::square(kernel, stride, ceil_mode)
    };
    let without = AvgPool2d {
        count_include_pad: false,
        ..pool(3, 2, 1, true)
    };
    let overridden = AvgPool2d {
        divisor_override: Some(-7),
        ..pool(3, 2, 1, true)
    };
    vec![
        case(pool(2, 2, 0, false), [[1, 5, 7, 9]]),
        case(pool(3, 2, 1, true), [[3, 4, 7, 8]]),
        case(without, [[2, 9, 8, 6]]),
        case(overridden, [[1, 3, 5, 5]]),
        // Large windows: added up row by row first, and by the one kernel.
        case(pool(9, 5, 4, true), [[2, 6, 13, 17]]),
        case(pool(1, 1, 0, false), [[1, 3, 2, 2]]),
    ]
}

//! 2-D average pooling to a given size: output row y is the mean of the input rows from ⌊y · h / height⌋ up to, but
//! without, ⌈(y + 1) · h / height⌉; columns likewise. Size 1 gives the mean of all pixels.
//!
//! Source: `torch.nn.functional.adaptive_avg_pool2d`.

use super::candidate::Candidate;
use super::interpolate::lowest_terms;
use super::means::{Means, Windows};
use super::numerics::Numerics;
use super::{Case, Op, Probabilities, case, take_inputs};
use crate::error::{Result, bail};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::{Deserialize, Deserializer};

/// The size to pool to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveAvgPool2d {
    /// Height and width of the output; `None` keeps the input's.
    #[serde(deserialize_with = "sizes")]
    pub output_size: [Option<usize>; 2],
}

/// One size for both axes or one for each; each may be null.
pub(super) fn sizes<'de, D: Deserializer<'de>>(from: D) -> Result<[Option<usize>; 2], D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a number or null, or two: [height, width]")]
    enum Sizes {
        One(Option<usize>),
        Two([Option<usize>; 2]),
    }
    Ok(match Sizes::deserialize(from)? {
        Sizes::One(both) => [both; 2],
        Sizes::Two(sizes) => sizes,
    })
}

impl AdaptiveAvgPool2d {
    /// The mean of all pixels.
    pub const fn global() -> Self {
        Self {
            output_size: [Some(1); 2],
        }
    }

    /// The windows for `input`.
    fn means(&self, input: Shape) -> Result<Means> {
        windows(self.output_size, input, false)
    }
}

/// The windows of an adaptive pooling of `input` to `output_size`, for their means or their largest values.
pub(super) fn windows(
    output_size: [Option<usize>; 2],
    input: Shape,
    largest: bool,
) -> Result<Means> {
    let size = [(0, input.h), (1, input.w)].map(|(i, size)| output_size[i].unwrap_or(size));
    super::check_attributes(&[size])?;
    if input.elements() == 0 || size.contains(&0) {
        bail!(Shape, "cannot pool {input} to {size:?}");
    }
    let along = |inputs: usize, outputs: usize| {
        let (mul, div) = lowest_terms(inputs, outputs);
        Windows {
            inputs,
            outputs,
            mul,
            div,
            before: 0,
            // ⌈(i + 1) · mul / div⌉ − 1.
            last: mul - 1,
            counted: 0,
            longest: match div {
                1 => mul,
                _ => (mul.div_ceil(div) + 1).min(inputs),
            },
        }
    };
    Ok(Means {
        axes: [along(input.h, size[0]), along(input.w, size[1])],
        divisor: None,
        largest,
    })
}

impl Op for AdaptiveAvgPool2d {
    fn name(&self) -> &'static str {
        "adaptive_avg_pool2d"
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
        Probabilities::OfInputs
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
    let to = |h, w| AdaptiveAvgPool2d {
        output_size: [h, w],
    };
    vec![
        case(AdaptiveAvgPool2d::global(), [[2, 9, 5, 7]]),
        case(AdaptiveAvgPool2d::global(), [[1, 6, 11, 13]]),
        case(to(Some(2), Some(3)), [[3, 5, 7, 8]]),
        case(to(Some(6), None), [[1, 4, 4, 5]]),
        case(to(Some(3), Some(2)), [[1, 3, 6, 8]]),
        case(to(Some(9), Some(20)), [[2, 5, 4, 7]]),
    ]
}

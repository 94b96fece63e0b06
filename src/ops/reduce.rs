//! Reductions over dimensions, whose sizes become 1: the common part of means, sums, and largest and smallest values.
//! Each dimension is a stage of its own, columns first, so that many invocations with short sums replace few with long
//! ones.

use super::candidate::Candidate;
use super::numerics::Numerics;
use super::{Case, Op, Stage, StageInput, case, take_inputs};
use crate::error::{Result, bail};
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, floats, shader, sizes, words};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::sync::Arc;

/// Inputs of at least this many pixels take two stages for height and width: long sums err by more.
const LEAST_PIXELS: usize = 256;

/// The dimensions that a reduction covers: some of channels (1), height (2) and width (3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Whether it covers the channels.
    pub channels: bool,
    /// Whether it covers the height.
    pub height: bool,
    /// Whether it covers the width.
    pub width: bool,
}

impl Dims {
    /// Height and width.
    pub const PIXELS: Self = Self {
        channels: false,
        height: true,
        width: true,
    };

    /// The channels.
    pub const CHANNELS: Self = Self {
        channels: true,
        height: false,
        width: false,
    };

    /// `input` with a size of 1 in these dimensions.
    fn of(self, input: Shape) -> Shape {
        let size = |reduced: bool, size: usize| if reduced { 1 } else { size };
        Shape {
            n: input.n,
            c: size(self.channels, input.c),
            h: size(self.height, input.h),
            w: size(self.width, input.w),
        }
    }
}

impl Default for Dims {
    fn default() -> Self {
        Self::PIXELS
    }
}

/// `dim` is a list of dimensions, or one.
impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "dim is a list of 1, 2 and 3, or one of them")]
        enum Listed {
            One(usize),
            Several(Vec<usize>),
        }
        let listed = match Listed::deserialize(from)? {
            Listed::One(dim) => vec![dim],
            Listed::Several(dims) => dims,
        };
        let mut covered = [false; 3];
        for dim in &listed {
            match dim.checked_sub(1).and_then(|i| covered.get_mut(i)) {
                Some(covered) if !*covered => *covered = true,
                _ => {
                    return Err(D::Error::custom(format!(
                        "dim is {listed:?}, not a list of 1, 2 and 3 without repetitions"
                    )));
                }
            }
        }
        let [channels, height, width] = covered;
        match listed.is_empty() {
            true => Err(D::Error::custom("dim is empty")),
            false => Ok(Self {
                channels,
                height,
                width,
            }),
        }
    }
}

/// How values are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reduction {
    Mean,
    Sum,
    /// The sum divided by this number.
    Share(usize),
    Largest,
    Smallest,
}

impl Reduction {
    /// Its number in the shaders, the value of `REDUCTION`.
    const fn number(self) -> f64 {
        match self {
            Self::Mean | Self::Sum | Self::Share(_) => 0.0,
            Self::Largest => 1.0,
            Self::Smallest => 2.0,
        }
    }

    /// The combination of `count` values.
    fn of(self, count: usize, values: impl Iterator<Item = f64>) -> f64 {
        let best = |wins: fn(f64, f64) -> bool| {
            move |best: f64, x: f64| match best.is_nan() || !x.is_nan() && !wins(x, best) {
                true => best,
                false => x,
            }
        };
        match self {
            Self::Mean => values.sum::<f64>() / count as f64,
            Self::Sum => values.sum(),
            Self::Share(divisor) => values.sum::<f64>() / divisor as f64,
            Self::Largest => values.fold(f64::NEG_INFINITY, best(|x, best| x > best)),
            Self::Smallest => values.fold(f64::INFINITY, best(|x, best| x < best)),
        }
    }
}

/// A reduction of the op `name` over `dims`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reduce {
    pub name: &'static str,
    pub reduction: Reduction,
    pub dims: Dims,
}

impl Reduce {
    /// The values that one element of the output combines.
    pub(super) fn count(self, input: Shape) -> usize {
        let output = self.dims.of(input);
        let size = |size: usize, reduced: usize| if reduced == 1 { size } else { 1 };
        size(input.c, output.c)
            .saturating_mul(size(input.h, output.h))
            .saturating_mul(size(input.w, output.w))
    }

    /// The same reduction over some of its dimensions.
    pub(super) fn over(self, dims: Dims) -> Self {
        Self { dims, ..self }
    }

    /// The values that an element of the output combines.
    pub(super) fn values(
        self,
        input: &Tensor,
        [n, c, y, x]: [usize; 4],
    ) -> impl Iterator<Item = f64> {
        let from = input.shape();
        let range = |i: usize, reduced: bool, size: usize| match reduced {
            true => 0..size,
            false => i..i + 1,
        };
        let channels = range(c, self.dims.channels, from.c);
        let rows = range(y, self.dims.height, from.h);
        let columns = range(x, self.dims.width, from.w);
        channels.flat_map(move |c| {
            let columns = columns.clone();
            rows.clone().flat_map(move |y| {
                let row = &input.plane(n, c)[y * from.w..][columns.clone()];
                row.iter().map(|x| f64::from(*x))
            })
        })
    }

    /// The dimensions of each stage; height and width are one if they run together.
    pub(super) fn stages_of(self, input: Shape) -> Vec<Dims> {
        let none = Dims {
            channels: false,
            height: false,
            width: false,
        };
        let mut stages = Vec::new();
        let Dims {
            channels,
            height,
            width,
        } = self.dims;
        if height && width && (input.w == 1 || input.h * input.w < LEAST_PIXELS) {
            stages.push(Dims::PIXELS);
        } else {
            stages.extend(width.then_some(Dims {
                width: true,
                ..none
            }));
            stages.extend(height.then_some(Dims {
                height: true,
                ..none
            }));
        }
        stages.extend(channels.then_some(Dims::CHANNELS));
        stages
    }

    /// The kernel, for the dimensions of one stage.
    fn kernel(self, input: Shape) -> Kernel {
        let output = self.dims.of(input);
        let (shader, terms) = match self.dims.channels {
            true => (shader!("reduce_channels"), input.c4()),
            false => (shader!("reduce"), self.count(input)),
        };
        let mut extra = Vec::new();
        if self.dims.channels {
            extra.extend(sizes([("channels", input.c)]));
        }
        extra.extend(words([Word::TermBegin, Word::TermEnd]));
        extra.extend(sizes([("terms", terms)]));
        let divisor = match self.reduction {
            Reduction::Mean => self.count(input) as f32,
            Reduction::Share(divisor) => divisor as f32,
            _ => 1.0,
        };
        extra.extend(floats([("divisor", divisor)]));
        Kernel {
            constants: vec![("REDUCTION", self.reduction.number())],
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: rows(self.dims, input),
            }],
            terms: Some(terms),
            ..Kernel::elementwise(shader, &["input_start"], &extra, output)
        }
    }
}

/// The input rows that a row of a reduction over `dims` needs.
pub(super) fn rows(dims: Dims, input: Shape) -> Rows {
    match dims.height {
        true => Rows::all(input.h),
        false => Rows::shifted(0),
    }
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        self.name
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name, inputs)?;
        if self.count(input) == 0 {
            bail!(
                Shape,
                "{} of {input}, which has no values to combine",
                self.name
            );
        }
        Ok(self.dims.of(input))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&super::shapes(inputs))?;
        let [input] = take_inputs(self.name, inputs)?;
        let count = self.count(input.shape());
        Tensor::from_fn(output, |n, c, y, x| {
            self.reduction.of(count, self.values(input, [n, c, y, x])) as f32
        })
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        self.output_shape(inputs)?;
        let all = self.stages_of(inputs[0]);
        let kernel = || Candidate::kernel(self.kernel(inputs[0]));
        if all.len() == 1 {
            return Ok(vec![kernel()]);
        }
        let stages = all.iter().enumerate().map(|(i, dims)| Stage {
            op: Arc::new(self.over(*dims)),
            inputs: vec![match i {
                0 => StageInput::Op(0),
                i => StageInput::Stage(i - 1),
            }],
        });
        let mut candidates = vec![Candidate::stages(stages.collect())];
        if self.dims == Dims::PIXELS {
            candidates.push(kernel());
        }
        Ok(candidates)
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        numerics(*self, inputs)
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        let root = (self.count(inputs[0].shape()) as f64).sqrt();
        match self.reduction {
            Reduction::Mean => inputs[0].root_mean_square() / root,
            Reduction::Sum => inputs[0].root_mean_square() * root,
            Reduction::Share(divisor) => inputs[0].root_mean_square() * root / divisor as f64,
            // Each result has the error of one value.
            Reduction::Largest | Reduction::Smallest => inputs[0].root_mean_square(),
        }
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        inputs.first().map_or(0, |input| input.elements() as u64)
    }
}

/// The numerics of a reduction.
pub(super) fn numerics(reduce: Reduce, inputs: &[Shape]) -> Numerics<'static> {
    match reduce.reduction {
        Reduction::Mean | Reduction::Sum | Reduction::Share(_) => {
            Numerics::sum(reduce.count(inputs[0]))
        }
        Reduction::Largest | Reduction::Smallest => Numerics::exact(),
    }
}

/// Shapes to try for the reduction that `of` makes over dimensions.
pub(super) fn cases<O: Op>(of: impl Fn(Dims) -> O) -> Vec<Case> {
    let over = |channels, height, width, shape| {
        let dims = Dims {
            channels,
            height,
            width,
        };
        case(of(dims), [shape])
    };
    vec![
        over(true, false, false, [2, 7, 3, 5]),
        over(false, true, false, [3, 6, 5, 4]),
        over(false, false, true, [2, 5, 3, 9]),
        over(true, true, true, [2, 13, 16, 17]),
        over(false, true, true, [2, 5, 17, 19]),
        over(true, true, false, [3, 6, 4, 5]),
        over(true, false, false, [1, 2, 4, 5]),
        over(true, false, false, [2, 1, 3, 5]),
        over(true, false, false, [1, 8, 3, 5]),
        // Many rows of few pixels: small bindings show a part of the output.
        over(true, false, false, [1, 70, 72, 1]),
    ]
}

/// Implements [`Op`] for a type by the [`Reduce`] that its method `reduce` gives, and by what it makes of probabilities.
macro_rules! reduction {
    ($op:ident) => {
        $crate::ops::reduce::reduction!($op, |_| $crate::ops::Probabilities::Changed);
    };
    ($op:ident, $probabilities:expr) => {
        impl $crate::ops::Op for $op {
            fn name(&self) -> &'static str {
                self.reduce().name
            }

            fn output_shape(
                &self,
                inputs: &[$crate::tensor::Shape],
            ) -> $crate::error::Result<$crate::tensor::Shape> {
                self.reduce().output_shape(inputs)
            }

            fn reference(
                &self,
                inputs: &[&$crate::tensor::Tensor],
            ) -> $crate::error::Result<$crate::tensor::Tensor> {
                self.reduce().reference(inputs)
            }

            fn candidates(
                &self,
                inputs: &[$crate::tensor::Shape],
                target: &$crate::target::Target,
            ) -> $crate::error::Result<Vec<$crate::ops::candidate::Candidate>> {
                self.reduce().candidates(inputs, target)
            }

            fn probabilities(&self) -> $crate::ops::Probabilities {
                let probabilities: fn(Dims) -> $crate::ops::Probabilities = $probabilities;
                probabilities(self.dim)
            }

            fn numerics(
                &self,
                inputs: &[$crate::tensor::Shape],
            ) -> $crate::ops::numerics::Numerics<'_> {
                $crate::ops::reduce::numerics(self.reduce(), inputs)
            }

            fn noise(&self, inputs: &[&$crate::tensor::Tensor]) -> f64 {
                self.reduce().noise(inputs)
            }

            fn flops(&self, inputs: &[$crate::tensor::Shape]) -> u64 {
                self.reduce().flops(inputs)
            }
        }
    };
}
pub(super) use reduction;

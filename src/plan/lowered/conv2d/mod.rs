//! The lowered convolution, of linear layers too, and its kernels, with or without ReLU, pooling, and sums left in
//! parts.

mod activation;
mod cases;
mod coop;
mod depthwise;
mod direct;
mod grouped;
mod pool;
mod sum_parts;
mod template;
mod texels;
mod tiled;
mod winograd;

pub use activation::Activation;
pub use cases::cases;
pub use sum_parts::SumParts;

use super::bias_binding;
use crate::error::{Result, bail};
use crate::ops::candidate::{Candidate, Trust};
use crate::ops::grid::Grid;
use crate::ops::kernel::{
    Binding, Format, Kernel, Packing, Param, Rows, Shader, Word, sizes, words,
};
use crate::ops::numerics::Numerics;
use crate::ops::{Conv2d, Element, Linear, MaxPool2d, Op, Window, shapes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// A convolution, with the operations fused into its kernels.
#[derive(Clone, Debug, PartialEq)]
pub struct Convolution {
    /// The convolution.
    pub conv: Conv2d,
    /// Applied to the result.
    pub activation: Activation,
    /// Pool the result; only windows of 2×2 pixels, side by side.
    pub pool: Option<MaxPool2d>,
    /// Leave the sum in this many parts, 1 for the whole sum. A part is a run of groups of four input channels, in
    /// output channels of its own, padded to a multiple of 4; the bias is in the first part.
    pub parts: usize,
}

impl From<Conv2d> for Convolution {
    fn from(conv: Conv2d) -> Self {
        Self {
            conv,
            activation: Activation::None,
            pool: None,
            parts: 1,
        }
    }
}

/// Lowers a convolution, or a linear layer, which is a convolution with a window of one pixel.
pub(super) fn lower(op: &dyn Op) -> Option<Convolution> {
    let op: &dyn Any = op;
    let of_linear = || op.is::<Linear>().then(Conv2d::default);
    let conv = op.downcast_ref::<Conv2d>().cloned().or_else(of_linear)?;
    Some(conv.into())
}

/// Fuses a convolution with a pooling of 2×2 pixels, or with ReLU or ReLU6.
pub(super) fn fuse(before: &dyn Op, next: &dyn Op) -> Option<Arc<dyn Op>> {
    let activation = Activation::of(next);
    let (before, next): (&dyn Any, &dyn Any) = (before, next);
    let before = before.downcast_ref::<Convolution>()?;
    let fused = match next.downcast_ref::<MaxPool2d>() {
        Some(pool) => before.pooled_by(pool),
        None => activation
            .filter(|_| before.activation == Activation::None && before.parts == 1)
            .map(|activation| Convolution {
                activation,
                ..before.clone()
            }),
    };
    fused.map(|fused| Arc::new(fused) as Arc<dyn Op>)
}

impl Op for Convolution {
    fn name(&self) -> &'static str {
        self.conv.name()
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        pool::pooled(self.pool.as_ref(), self.map_shape(inputs)?)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let map = self.map_shape(&shapes(inputs))?;
        let weight = inputs[1].shape();
        let sums = (0..self.parts).map(|part| {
            self.conv
                .sums(inputs, self.channels(weight, part), part == 0)
        });
        let sums = sums.collect::<Result<Vec<_>>>()?;
        let padded = map.c.div_ceil(self.parts);
        let map = Tensor::from_planes(map, |n, o, plane| {
            let (part, o) = (o / padded, o % padded);
            if o >= weight.n {
                return;
            }
            for (out, sum) in plane.iter_mut().zip(sums[part].plane(n, o)) {
                *out = self.activation.apply(*sum);
            }
        })?;
        pool::pool_map(self.pool.as_ref(), map)
    }

    fn candidates(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Candidate>> {
        let map = self.map_shape(inputs)?;
        let transformed = winograd::stages(self, inputs, target).into_iter();
        let stages = transformed.chain(tiled::stages(self, inputs, target));
        let mut all: Vec<_> = stages.map(Candidate::stages).collect();
        all.extend(coop::candidates(self, inputs, map, target));
        let kernels = self.static_kernels(inputs, map, target)?;
        all.extend(kernels.into_iter().map(Candidate::kernel));
        let mut others = tiled::other_stages(self, inputs, target);
        others.extend(winograd::other_stages(self, inputs, target));
        let others = others.into_iter();
        all.extend(others.map(|stages| Candidate::stages(stages).trusted(Trust::Measured)));
        Ok(all)
    }

    fn windows(&self, inputs: &[Shape]) -> Vec<Window> {
        let of_pool = self.pool.as_ref().map(MaxPool2d::over_input);
        self.conv
            .window(inputs)
            .into_iter()
            .chain(of_pool)
            .collect()
    }

    fn with_padding(&self, padding: [usize; 2]) -> Option<Arc<dyn Op>> {
        Some(Arc::new(Self {
            conv: Conv2d {
                padding,
                ..self.conv.clone()
            },
            ..self.clone()
        }))
    }

    fn elements(&self, inputs: &[&Tensor], at: &[[usize; 4]]) -> Result<Vec<Element>> {
        let map = self.map_shape(&shapes(inputs))?;
        crate::parallel::try_map(at, |&[n, c, y, x]| {
            Ok(match self.pool {
                None => self.element(inputs, [n, c, y, x]),
                Some(_) => pool::largest(map, [y, x], |y, x| self.element(inputs, [n, c, y, x])),
            })
        })
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        let weight = inputs[1];
        let terms = self.channels(weight, 0).len() * weight.h * weight.w;
        self.activation.bounding(Numerics::weighted_sum(terms), || {
            Box::new(Self {
                activation: Activation::Relu,
                ..self.clone()
            })
        })
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        self.conv.noise(inputs)
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        let of_map = self
            .map_shape(inputs)
            .map_or(0, |map| map.elements() as u64);
        of_map.saturating_mul(2 * self.reduction_length(inputs) as u64)
    }
}

impl Convolution {
    /// The shape of the convolution, before it is pooled.
    fn map_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let map = self.conv.output_shape(inputs)?;
        let is_plain =
            self.conv.groups == 1 && self.activation == Activation::None && self.pool.is_none();
        match self.parts {
            1 => Ok(map),
            parts if parts > 1 && is_plain => Ok(map.with_channels(parts * 4 * map.c4())),
            parts => bail!(
                Shape,
                "a convolution with groups, ReLU or pooling cannot be left in {parts} parts"
            ),
        }
    }

    /// The input channels in one part of the sum.
    fn channels(&self, weight: Shape, part: usize) -> Range<usize> {
        let per_part = 4 * weight.c4().div_ceil(self.parts.max(1));
        let at = |part: usize| weight.c.min(part * per_part);
        at(part)..at(part + 1)
    }

    fn element(&self, inputs: &[&Tensor], [n, o, y, x]: [usize; 4]) -> Element {
        let weight = inputs[1].shape();
        let padded = 4 * weight.n.div_ceil(4);
        let (part, o) = (o / padded * usize::from(self.parts > 1), o % padded);
        if o >= weight.n {
            return Element {
                value: 0.0,
                magnitude: 0.0,
            };
        }
        let channels = self.channels(weight, part);
        let sum = self.conv.element(inputs, [n, o, y, x], channels, part == 0);
        Element {
            value: self.activation.apply(sum.value),
            ..sum
        }
    }

    /// The kernels that a plan may take unmeasured, best first.
    fn static_kernels(&self, inputs: &[Shape], map: Shape, target: &Target) -> Result<Vec<Kernel>> {
        let mut kernels = depthwise::kernels(self, inputs, map, target);
        if self.has_whole_quads(inputs[1]) {
            kernels.extend(tiled::kernels(self, inputs, map, target));
            if self.parts > 1 {
                return Ok(kernels);
            }
            kernels.extend(texels::kernels(self, inputs, map, target));
            kernels.push(direct::kernel(self, inputs, map)?);
        }
        if self.conv.groups > 1 && self.pool.is_none() {
            kernels.push(grouped::kernel(self, inputs, map)?);
        }
        Ok(kernels)
    }

    /// Whether the groups are whole fours of channels, so that no four lie in two groups. A kernel then finds the
    /// channels of a group by their offset.
    fn has_whole_quads(&self, weight: Shape) -> bool {
        self.conv.groups == 1
            || weight.c.is_multiple_of(4) && (weight.n / self.conv.groups).is_multiple_of(4)
    }

    /// Fours of output channels in one group of the convolution.
    fn group_quads(&self, weight: Shape) -> usize {
        (weight.n / self.conv.groups).div_ceil(4)
    }

    /// Further parameters of the kernels for whole fours of channels: the size of the map, and the number of fours that
    /// a group of the convolution reads and writes.
    fn sizes_of_groups(&self, map: Shape, weight: Shape) -> [Param; 4] {
        sizes([
            ("map_height", map.h),
            ("map_width", map.w),
            ("group_in_c4", weight.c4()),
            ("group_out_c4", self.group_quads(weight)),
        ])
    }

    /// The bindings, rows and parameters that all kernels of this op share; `map` is the shape of the convolution
    /// before it is pooled.
    fn kernel(&self, inputs: &[Shape], map: Shape, parts: KernelParts) -> Result<Kernel> {
        let (input, weight) = (inputs[0], inputs[1]);
        let output = pool::pooled(self.pool.as_ref(), map)?;
        let mut params = sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("in_c4", input.c4()),
            ("out_height", output.h),
            ("out_width", output.w),
            ("out_c4", output.c4() / self.parts),
            ("padding_h", self.conv.padding[0]),
            ("padding_w", self.conv.padding[1]),
        ])
        .to_vec();
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::ChannelBegin,
            Word::ChannelEnd,
        ]));
        if let Some(terms) = parts.terms {
            params.extend(words([Word::TermBegin, Word::TermEnd]));
            params.extend(sizes([("terms", terms)]));
        }
        params.extend(words([Word::InputStart(0), Word::OutputStart]));
        params.extend(parts.extra);
        let taps = (weight.h * weight.w) as u64;
        let quads = inputs[0].c4().min(weight.c4());
        let reach = self.conv.dilation[0] * (weight.h - 1);
        let side = self.pool_side();
        let kernel = Kernel {
            shader: parts.shader,
            constants: [
                ("KERNEL_H", weight.h as f64),
                ("KERNEL_W", weight.w as f64),
                ("STRIDE_H", self.conv.stride[0] as f64),
                ("STRIDE_W", self.conv.stride[1] as f64),
                ("DILATION_H", self.conv.dilation[0] as f64),
                ("DILATION_W", self.conv.dilation[1] as f64),
            ]
            .into_iter()
            .chain(self.activation.constants())
            .collect(),
            bindings: vec![
                Binding::Activation {
                    input: 0,
                    format: Format::Nhwc4,
                    rows: Rows {
                        mul: (side * self.conv.stride[0]) as i64,
                        div: 1,
                        first: -(self.conv.padding[0] as i64),
                        last: ((side - 1) * self.conv.stride[0] + reach) as i64
                            - self.conv.padding[0] as i64,
                    },
                },
                Binding::Parameter {
                    input: 1,
                    packing: parts.packing,
                },
                bias_binding(inputs.len() > 2, 2, weight.n),
            ],
            output: Format::Nhwc4,
            params,
            grid: parts.grid,
            terms: parts.terms,
            steps_per_term: match parts.terms {
                Some(_) => taps,
                None => taps * quads as u64,
            },
            fixed_steps: (weight.h * (weight.w + 1)) as u64,
        };
        // Only whole sums can be pooled.
        Ok(if side > 1 {
            kernel.of_all_terms()
        } else {
            kernel
        })
    }
}

/// The parts in which the kernels of a convolution differ.
struct KernelParts {
    shader: Shader,
    packing: Packing,
    grid: Grid,
    /// The length of the loop over input channels, if dispatches may continue each other's sums.
    terms: Option<usize>,
    extra: Vec<Param>,
}

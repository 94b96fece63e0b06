//! The lowered transposed convolution and its kernels, for any weight or a diagonal one, with or without a crop.

use super::bias_binding;
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::{Count, Grid, PixelRun};
use crate::ops::kernel::{
    Binding, Format, Kernel, Packing, Param, Rows, Word, counts, shader, sizes, words,
};
use crate::ops::numerics::Numerics;
use crate::ops::{Case, ConvTranspose2d, Crop, Op, case, diagonal_case, shapes};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use std::any::Any;
use std::sync::Arc;

/// A transposed convolution, with the diagonal and the crop that its kernels use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransposedConvolution {
    /// The transposed convolution.
    pub conv: ConvTranspose2d,
    /// Whether the weight `[c, c, kh, kw]` is zero off its diagonal, as in bilinear upsampling. Kernels then read only
    /// the diagonal; the reference implementation computes with the whole weight.
    pub diagonal: bool,
    /// Compute only a window of the result, at a fixed offset. The last input then gives the window's size.
    pub crop: Option<Crop>,
}

impl From<ConvTranspose2d> for TransposedConvolution {
    fn from(conv: ConvTranspose2d) -> Self {
        Self {
            conv,
            diagonal: false,
            crop: None,
        }
    }
}

/// Lowers a transposed convolution; `diagonal` says that its weight is zero off its diagonal.
pub(super) fn lower(op: &dyn Op, diagonal: bool) -> Option<TransposedConvolution> {
    let op: &dyn Any = op;
    let conv = op.downcast_ref::<ConvTranspose2d>()?.clone();
    Some(TransposedConvolution {
        // Groups make the weight smaller already, and the diagonal kernel knows no dilation.
        diagonal: diagonal && conv.groups == 1 && !conv.is_dilated(),
        ..conv.into()
    })
}

/// Fuses a transposed convolution with a crop.
pub(super) fn fuse(before: &dyn Op, next: &dyn Op) -> Option<Arc<dyn Op>> {
    let (before, next): (&dyn Any, &dyn Any) = (before, next);
    let before = before.downcast_ref::<TransposedConvolution>()?;
    let crop = next.downcast_ref::<Crop>()?;
    crop.fixed()?;
    before.crop.is_none().then(|| {
        Arc::new(TransposedConvolution {
            crop: Some(crop.clone()),
            ..before.clone()
        }) as Arc<dyn Op>
    })
}

/// The inputs by name.
#[derive(Clone, Copy)]
pub(super) struct Inputs<T> {
    pub input: T,
    pub weight: T,
    pub bias: Option<T>,
}

impl TransposedConvolution {
    /// The inputs of the convolution, and the one that gives the window's size if there is a crop.
    fn split<'a, T: Copy>(&self, inputs: &'a [T]) -> (&'a [T], Option<T>) {
        match (&self.crop, inputs) {
            (Some(_), [inputs @ .., like]) => (inputs, Some(*like)),
            _ => (inputs, None),
        }
    }

    pub(super) fn inputs<T: Copy>(&self, inputs: &[T]) -> Result<Inputs<T>> {
        let (input, weight, bias) = ConvTranspose2d::inputs(self.split(inputs).0)?;
        Ok(Inputs {
            input,
            weight,
            bias,
        })
    }

    /// Rows and columns cut from the top and the left of the full result.
    fn cut(&self) -> [usize; 2] {
        let offset = self.crop.as_ref().and_then(Crop::fixed);
        let offset = offset.unwrap_or([0, 0]);
        let padding = self.conv.padding;
        [padding[0] + offset[0], padding[1] + offset[1]]
    }

    /// The sizes among the parameters of all kernels.
    pub(super) fn sizes(
        &self,
        input: Shape,
        weight: Shape,
        output: Shape,
        channels: (&'static str, usize),
    ) -> [Param; 12] {
        let [top, left] = self.cut();
        sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("in_c4", input.c4()),
            ("out_height", output.h),
            ("out_width", output.w),
            channels,
            ("kernel_h", weight.h),
            ("kernel_w", weight.w),
            ("stride_h", self.conv.stride[0]),
            ("stride_w", self.conv.stride[1]),
            ("padding_h", top),
            ("padding_w", left),
        ])
    }

    /// The buffers that all kernels read.
    pub(super) fn bindings(&self, inputs: Inputs<Shape>, channels: usize) -> Vec<Binding> {
        let top = self.cut()[0] as i64;
        let packing = match self.diagonal {
            true => Packing::Diagonal,
            false => Packing::ConvTranspose {
                groups: self.conv.groups,
            },
        };
        vec![
            Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: Rows {
                    mul: 1,
                    div: self.conv.stride[0] as i64,
                    first: top - ((inputs.weight.h - 1) * self.conv.dilation[0]) as i64,
                    last: top,
                },
            },
            Binding::Parameter { input: 1, packing },
            bias_binding(inputs.bias.is_some(), 2, channels),
        ]
    }
}

impl Op for TransposedConvolution {
    fn name(&self) -> &'static str {
        self.conv.name()
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let (inputs, like) = self.split(inputs);
        let full = self.conv.output_shape(inputs)?;
        if self.diagonal && inputs[1].n != inputs[1].c {
            bail!(Shape, "a weight of shape {} has no diagonal", inputs[1]);
        }
        if self.diagonal && self.conv.is_dilated() {
            bail!(
                Shape,
                "a diagonal weight has no dilation, {:?}",
                self.conv.dilation
            );
        }
        match (&self.crop, like) {
            (Some(crop), Some(_)) if crop.fixed().is_none() => {
                bail!(Shape, "the window's offset {:?} is not fixed", crop.offset)
            }
            (Some(crop), Some(like)) => crop.output_shape(&[full, like]),
            _ => Ok(full),
        }
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        self.output_shape(&shapes(inputs))?;
        let (inputs, like) = self.split(inputs);
        let full = self.conv.reference(inputs)?;
        match (&self.crop, like) {
            (Some(crop), Some(like)) => crop.reference(&[&full, like]),
            _ => Ok(full),
        }
    }

    fn candidates(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let inputs = self.inputs(inputs)?;
        let dilated = self.conv.is_dilated();
        let mut kernel = if self.conv.groups > 1 || dilated {
            self.grouped(inputs, output)
        } else if self.diagonal {
            self.diagonal(inputs, output)
        } else {
            self.dense(inputs, output, target)
        };
        let [rows, columns] = self.conv.taps(inputs.weight).map(|taps| taps as u64);
        kernel.steps_per_term = rows * columns;
        kernel.fixed_steps = match dilated {
            // Every tap is looked at.
            true => (inputs.weight.h * (inputs.weight.w + 1)) as u64,
            false => rows * (columns + 1),
        };
        Ok(vec![Candidate::kernel(kernel)])
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        let [rows, columns] = self.conv.taps(inputs[1]);
        match self.diagonal {
            true => Numerics::weighted_sum(rows * columns),
            false => Numerics::weighted_sum(self.conv.reduction_length(inputs)),
        }
    }

    fn noise(&self, inputs: &[&Tensor]) -> f64 {
        // That of the whole weight, with the zeros off its diagonal.
        self.conv.noise(inputs)
    }
}

/// Groups of four output channels, out of `c4`, that an invocation computes: up to three, with as few as possible past
/// the last.
pub(super) fn groups_at_once(c4: usize) -> usize {
    c4.div_ceil(c4.div_ceil(3))
}

impl TransposedConvolution {
    /// The kernel for any weight of ungrouped channels. An invocation computes pixels of one row that read
    /// the same taps: on a CPU device, where loads cost the most, twice as many.
    fn dense(&self, inputs: Inputs<Shape>, output: Shape, target: &Target) -> Kernel {
        let groups = groups_at_once(output.c4());
        let pixels = if target.device.is_cpu { 8 } else { 4 };
        let mut kernel = self.kernel(inputs, output, true);
        kernel.shader = shader!("conv_transpose2d");
        kernel.constants = vec![
            ("GROUPS", groups as f64),
            ("WIDE", f64::from(u8::from(target.device.is_cpu))),
        ];
        kernel.params.extend(counts([Count::LineItems]));
        kernel.grid = Grid::Items {
            items: 64,
            run: self.run(pixels),
            channels: 4 * groups,
        };
        kernel.terms = Some(inputs.input.c4());
        kernel
    }

    /// The kernel for a weight that is zero off its diagonal.
    fn diagonal(&self, inputs: Inputs<Shape>, output: Shape) -> Kernel {
        let mut kernel = self.kernel(inputs, output, false);
        kernel.shader = shader!("conv_transpose2d_diagonal");
        kernel.params.extend(counts([Count::LineItems]));
        kernel.grid = Grid::Items {
            items: 64,
            run: self.run(4),
            channels: 4,
        };
        kernel
    }

    /// The kernel for groups or dilation.
    fn grouped(&self, inputs: Inputs<Shape>, output: Shape) -> Kernel {
        // The weight of a single group is padded.
        let group_inputs = match self.conv.groups {
            1 => 4 * inputs.input.c4(),
            groups => inputs.input.c / groups,
        };
        let mut kernel = self.kernel(inputs, output, true);
        kernel.params.extend(sizes([
            ("group_inputs", group_inputs),
            ("out_channels", output.c),
            ("group_outputs", inputs.weight.c),
            ("dilation_h", self.conv.dilation[0]),
            ("dilation_w", self.conv.dilation[1]),
        ]));
        let dilated = f64::from(u8::from(self.conv.is_dilated()));
        kernel.constants = vec![("DILATED", dilated)];
        kernel.terms = Some(group_inputs);
        kernel
    }

    /// The run of an invocation that computes `pixels` pixels of a row, all with the same taps.
    fn run(&self, pixels: usize) -> PixelRun {
        PixelRun {
            apart: self.conv.stride[1],
            ..PixelRun::of_row(pixels)
        }
    }

    /// The common part of the kernels; unchanged, most of the kernel for groups.
    fn kernel(&self, inputs: Inputs<Shape>, output: Shape, in_runs: bool) -> Kernel {
        let sizes = self.sizes(inputs.input, inputs.weight, output, ("out_c4", output.c4()));
        let mut params = sizes.to_vec();
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::ChannelBegin,
            Word::ChannelEnd,
        ]));
        if in_runs {
            params.extend(words([Word::TermBegin, Word::TermEnd]));
        }
        params.extend(words([
            Word::InputStart(0),
            Word::OutputStart,
            Word::Count(Count::PixelGroups),
        ]));
        Kernel {
            shader: shader!("conv_transpose2d_grouped"),
            constants: Vec::new(),
            bindings: self.bindings(inputs, output.c),
            output: Format::Nhwc4,
            params,
            grid: Grid::Tiles {
                pixels: 64,
                channels: 4,
            },
            terms: None,
            steps_per_term: 0,
            fixed_steps: 0,
        }
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let strided = ConvTranspose2d::strided;
    let odd = ConvTranspose2d {
        output_padding: [1, 1],
        ..strided(2, 1)
    };
    let grouped = ConvTranspose2d {
        groups: 2,
        ..odd.clone()
    };
    let window = |op: TransposedConvolution, y, x| TransposedConvolution {
        crop: Some(Crop::at([y, x])),
        ..op
    };
    let diagonal = |conv: ConvTranspose2d| TransposedConvolution {
        diagonal: true,
        ..conv.into()
    };
    vec![
        case(
            window(odd.clone().into(), 2, 1),
            [[3, 6, 4, 5], [6, 9, 3, 3], [9, 1, 1, 1], [3, 2, 5, 7]],
        ),
        case(
            window(grouped.into(), 0, 3),
            [[1, 6, 4, 5], [6, 3, 3, 3], [1, 1, 6, 6]],
        ),
        diagonal_case(diagonal(strided(8, 4)), [[2, 7, 3, 4], [7, 7, 16, 16]]),
        diagonal_case(diagonal(odd), [[3, 6, 4, 5], [6, 6, 3, 3], [6, 1, 1, 1]]),
        diagonal_case(
            window(diagonal(strided(4, 0)), 5, 3),
            [[1, 9, 3, 11], [9, 9, 8, 8], [1, 1, 8, 37]],
        ),
    ]
}

//! Labels fused with the op that makes the scores, a bilinear resize or a transposed convolution: the scores, by far
//! the largest tensor of a large picture, are never written.

use super::TransposedConvolution;
use super::conv_transpose2d::groups_at_once;
use crate::error::{Result, bail};
use crate::ops::argmax::{self, kernel};
use crate::ops::candidate::Candidate;
use crate::ops::grid::{Count, Grid, Line, PixelRun};
use crate::ops::interpolate::{InterpolateMode, lowest_terms};
use crate::ops::kernel::{Binding, Format, Kernel, Word, counts, shader, sizes, words};
use crate::ops::numerics::Numerics;
use crate::ops::{
    Argmax, Binarize, Case, ConvTranspose2d, Crop, Interpolate, Op, case, diagonal_case,
};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use std::any::Any;
use std::sync::Arc;

/// The op that makes the scores.
#[derive(Clone, Debug, PartialEq)]
pub enum Scores {
    /// A bilinear resize.
    Resized(Interpolate),
    /// A transposed convolution without groups.
    Upsampled(TransposedConvolution),
}

/// The class of each pixel of the scores.
#[derive(Clone, Debug, PartialEq)]
pub struct FusedArgmax {
    /// The op that makes the scores.
    pub scores: Scores,
    /// The op that labels one channel of scores, in place of argmax.
    pub binary: Option<Binarize>,
}

/// Fuses a bilinear resize without antialiasing, or a transposed convolution without groups and dilation, with the
/// labels.
pub(super) fn fuse(before: &dyn Op, next: &dyn Op) -> Option<Arc<dyn Op>> {
    let (before, next): (&dyn Any, &dyn Any) = (before, next);
    let binary = next.downcast_ref::<Binarize>();
    if binary.is_none() && !next.is::<Argmax>() {
        return None;
    }
    let resized = before.downcast_ref::<Interpolate>();
    let resized =
        resized.filter(|resize| resize.mode == InterpolateMode::Bilinear && !resize.antialias);
    let upsampled = before.downcast_ref::<TransposedConvolution>();
    let upsampled =
        upsampled.filter(|upsampling| upsampling.conv.groups == 1 && !upsampling.conv.is_dilated());
    let scores = match (resized, upsampled) {
        (Some(resize), _) => Scores::Resized(resize.clone()),
        (_, Some(upsampling)) => Scores::Upsampled(upsampling.clone()),
        _ => return None,
    };
    Some(Arc::new(FusedArgmax {
        scores,
        binary: binary.cloned(),
    }))
}

impl FusedArgmax {
    fn op(&self) -> &dyn Op {
        match &self.scores {
            Scores::Resized(op) => op,
            Scores::Upsampled(op) => op,
        }
    }

    fn labels(&self) -> &dyn Op {
        match &self.binary {
            Some(binary) => binary,
            None => &Argmax {},
        }
    }
}

impl Op for FusedArgmax {
    fn name(&self) -> &'static str {
        self.labels().name()
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        self.labels()
            .output_shape(&[self.op().output_shape(inputs)?])
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        self.output_shape(&crate::ops::shapes(inputs))?;
        self.labels().reference(&[&self.op().reference(inputs)?])
    }

    fn reads(&self, input: usize) -> bool {
        self.op().reads(input)
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }

    fn candidates(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let threshold = self.binary.as_ref().map(|binary| binary.threshold);
        let kernel = match &self.scores {
            Scores::Upsampled(op) => of_upsampling(op, threshold, inputs, target)?,
            Scores::Resized(resize) => of_resize(resize, threshold, inputs[0], output)?,
        };
        Ok(vec![Candidate::kernel(kernel)])
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        let made = match &self.scores {
            Scores::Upsampled(upsampling) => upsampling.flops(inputs),
            Scores::Resized(_) => 0,
        };
        let pixels = self.output_shape(inputs).map_or(0, |s| s.elements() as u64);
        made.saturating_add(pixels)
    }
}

/// The kernel that labels the resized input.
///
/// # Errors
/// `Unsupported` if the resize is not bilinear without antialiasing.
fn of_resize(
    resize: &Interpolate,
    threshold: Option<f32>,
    input: Shape,
    output: Shape,
) -> Result<Kernel> {
    if resize.mode != InterpolateMode::Bilinear || resize.antialias {
        bail!(Unsupported, "labels of {resize:?} are not computed at once");
    }
    let [rows, columns] = resize.positions(input, output)?;
    let mut positions = rows.params(["row_mul", "row_add", "row_div"]).to_vec();
    positions.extend(columns.params(["column_mul", "column_add", "column_div"]));
    let shader = shader!("argmax_resized");
    let rows = rows.rows();
    Ok(kernel(input, output, threshold, shader, rows, &positions))
}

/// The kernel that labels the result of `op` on `inputs`.
///
/// A label is a byte and four neighbours are a word; pixels that share their taps are a stride apart. So the words
/// of an invocation are a common multiple of four and the stride apart. If rows are whole words, an invocation
/// stays in one row. Otherwise it stays in the band, and takes new taps where its pixels continue in another row.
///
/// # Errors
/// `Limit` if the weight does not fit one binding: all classes of a pixel are computed in one dispatch. `Unsupported`
/// with groups or dilation.
fn of_upsampling(
    op: &TransposedConvolution,
    threshold: Option<f32>,
    inputs: &[Shape],
    target: &Target,
) -> Result<Kernel> {
    if op.conv.groups > 1 || op.conv.is_dilated() {
        bail!(
            Unsupported,
            "labels of {:?} are not computed at once",
            op.conv
        );
    }
    let output = op.output_shape(inputs)?;
    let by_name = op.inputs(inputs)?;
    let bindings = op.bindings(by_name, output.c);
    check_weight(&bindings, by_name.weight, target)?;

    let pixels = if target.device.is_cpu { 8 } else { 4 };
    let (across, _) = lowest_terms(4, op.conv.stride[1]);
    let step = op.conv.stride[1] * across;
    let whole_rows = output.w.is_multiple_of(4);

    let params = op.sizes(
        by_name.input,
        by_name.weight,
        output,
        ("channels", output.c),
    );
    let mut params = params.to_vec();
    params.extend(sizes([("step", step)]));
    params.extend(counts([Count::LinePixels, Count::LineItems]));
    params.extend(words([
        Word::RowBegin,
        Word::RowEnd,
        Word::InputStart(0),
        Word::OutputStart,
    ]));
    let wide = ("WIDE", f64::from(u8::from(target.device.is_cpu)));
    let groups = groups_at_once(output.c4());
    let [rows, columns] = op.conv.taps(by_name.weight);
    let (shader, mut constants, of_pixel) = if op.diagonal {
        let steps = output.c4() * (1 + rows * (1 + columns));
        (shader!("argmax_upsampled_diagonal"), vec![wide], steps)
    } else {
        let of_groups = 1 + rows * (1 + columns * (1 + by_name.input.c4()));
        let steps = output.c4().div_ceil(groups) * of_groups;
        let constants = vec![("GROUPS", groups as f64), wide];
        (shader!("argmax_upsampled"), constants, steps)
    };
    constants.extend(argmax::constants(threshold));
    // The most rows that the pixels in one of an invocation's four columns lie in.
    let lines = match whole_rows {
        true => 1,
        false => pixels.min(2 + (pixels - 1) * step / output.w),
    };
    Ok(Kernel {
        shader,
        constants,
        bindings,
        output: Format::Labels8,
        params,
        grid: Grid::Items {
            items: 64,
            run: PixelRun {
                elements: pixels,
                apart: step / 4,
                quads: 1,
                line: if whole_rows { Line::Row } else { Line::Band },
            },
            channels: 4,
        },
        terms: None,
        steps_per_term: (4 * (1 + lines * (1 + of_pixel)) + pixels) as u64,
        fixed_steps: 0,
    })
}

/// An error if the weight is larger than a binding.
fn check_weight(bindings: &[Binding], weight: Shape, target: &Target) -> Result<()> {
    let most = target
        .device
        .max_binding_bytes
        .min(target.device.max_buffer_bytes);
    for binding in bindings {
        let Binding::Parameter { input: 1, packing } = binding else {
            continue;
        };
        let bytes = packing
            .tile_bytes(weight)
            .saturating_mul(packing.tiles(weight) as u64);
        if bytes > most {
            bail!(
                Limit,
                "labels need all {} MiB of the weights at once; the device binds at most {} MiB",
                bytes >> 20,
                most >> 20
            );
        }
    }
    Ok(())
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let resized = |h, w| FusedArgmax {
        scores: Scores::Resized(Interpolate::bilinear([h, w], false)),
        binary: None,
    };
    let binary = |labels: FusedArgmax, threshold| FusedArgmax {
        binary: Some(Binarize { threshold }),
        ..labels
    };
    let upsampled = |stride, diagonal, offset: Option<[usize; 2]>| FusedArgmax {
        scores: Scores::Upsampled(TransposedConvolution {
            conv: ConvTranspose2d::strided(stride, 0),
            diagonal,
            crop: offset.map(Crop::at),
        }),
        binary: None,
    };
    let mut cases = vec![
        case(resized(9, 11), [[1, 11, 5, 4]]),
        case(resized(5, 7), [[2, 6, 10, 9]]),
        case(binary(resized(9, 11), 0.25), [[2, 1, 5, 4]]),
        // Dense weights: a partly filled group of channels, kernels of odd and even width, strides that are not
        // multiples of four, and rows of more than eight places.
        case(
            upsampled(8, false, None),
            [[2, 5, 3, 11], [5, 13, 16, 16], [13, 1, 1, 1]],
        ),
        case(upsampled(3, false, None), [[3, 2, 3, 2], [2, 2, 5, 4]]),
    ];
    for diagonal in [false, true] {
        let case = |op, inputs| match diagonal {
            true => diagonal_case(op, inputs),
            false => case(op, inputs),
        };
        cases.extend([
            case(
                upsampled(8, diagonal, Some([31, 30])),
                [[1, 21, 11, 10], [21, 21, 16, 16], [1, 3, 50, 45]],
            ),
            case(
                upsampled(2, diagonal, Some([1, 5])),
                [[3, 7, 6, 41], [7, 7, 4, 4], [3, 1, 9, 76]],
            ),
            case(
                binary(upsampled(4, diagonal, None), -0.5),
                [[2, 1, 5, 6], [1, 1, 8, 8], [1, 1, 1, 1]],
            ),
        ]);
    }
    cases.push(diagonal_case(
        upsampled(1, true, None),
        [[1, 6, 5, 9], [6, 6, 3, 3], [6, 1, 1, 1]],
    ));
    cases
}

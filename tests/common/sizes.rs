//! Cases at other sizes.

use fullconv::Shape;
use fullconv::low_level::ops::{Case, Crop, Interpolate, Mean, Op, Preprocess};
use fullconv::low_level::plan::lowered::{
    FusedArgmax, Paste, PasteAxis, Scores, TransposedConvolution, Zeros,
};
use std::any::Any;
use std::sync::Arc;

/// The largest side of an output.
pub const LARGEST: usize = 140;

/// The op and its inputs for a batch of `n` and an output of `[h, w]`; `None` if the op has no output of that size. If
/// two input sizes give that output, `larger` chooses the larger one.
pub fn at_size(case: &Case, n: usize, [h, w]: [usize; 2], larger: bool) -> Option<Case> {
    let any: &dyn Any = case.op.as_ref();
    let (mut op, mut inputs) = (case.op.clone(), case.inputs.clone());
    let cropped = any.is::<Crop>()
        || any
            .downcast_ref::<TransposedConvolution>()
            .is_some_and(|op| op.crop.is_some())
        || any
            .downcast_ref::<FusedArgmax>()
            .is_some_and(|op| matches!(&op.scores, Scores::Upsampled(up) if up.crop.is_some()));
    if let Some(FusedArgmax {
        scores: Scores::Resized(_),
        binary,
    }) = any.downcast_ref()
    {
        op = Arc::new(FusedArgmax {
            scores: Scores::Resized(Interpolate::bilinear([h, w], false)),
            binary: binary.clone(),
        });
    } else if let Some(resize) = any.downcast_ref::<Interpolate>() {
        op = Arc::new(Interpolate {
            size: Some([h, w]),
            scale_factor: None,
            ..resize.clone()
        });
        inputs.truncate(1);
    } else if let Some(preprocess) = any.downcast_ref::<Preprocess>() {
        op = Arc::new(Preprocess {
            size: [h, w],
            ..preprocess.clone()
        });
    }
    let first = inputs[0];
    let with = |size: [usize; 2]| -> Vec<Shape> {
        let last = inputs.len() - 1;
        let like_first = |shape: &Shape| [shape.n, shape.h, shape.w] == [first.n, first.h, first.w];
        let one = |(i, shape): (usize, &Shape)| match (i, cropped) {
            (i, true) if i == last => Shape {
                n,
                ..shape.with_size(h, w)
            },
            _ if i == 0 || like_first(shape) => Shape {
                n,
                ..shape.with_size(size[0], size[1])
            },
            _ => *shape,
        };
        inputs.iter().enumerate().map(one).collect()
    };
    // Each side of the output grows with the same side of the input.
    let output = |size: [usize; 2]| op.output_shape(&with(size)).ok();
    let fits = |size: [usize; 2], axis: usize| {
        output(size).is_some_and(|o| if axis == 0 { o.h == h } else { o.w == w })
    };
    let side = |axis: usize| {
        let at = |i: usize| if axis == 0 { [i, 60] } else { [60, i] };
        let least = (1..=2 * LARGEST + 8).find(|i| fits(at(*i), axis))?;
        let more = larger && fits(at(least + 1), axis);
        Some(least + usize::from(more))
    };
    let inputs = with([side(0)?, side(1)?]);
    let made = op.output_shape(&inputs).ok()?;
    ([made.h, made.w] == [h, w]).then_some(Case {
        op,
        inputs,
        diagonal: case.diagonal,
    })
}

/// A case from an op and `[n, c, h, w]` of each input.
pub fn case(op: impl Op + 'static, inputs: &[[usize; 4]]) -> Case {
    Case {
        op: Arc::new(op),
        inputs: inputs
            .iter()
            .map(|[n, c, h, w]| Shape::new(*n, *c, *h, *w))
            .collect(),
        diagonal: false,
    }
}

/// Ops whose output size is an attribute or 1×1, with outputs at the edges of 64 elements.
pub fn of_fixed_sizes() -> Vec<Case> {
    let paste = |h, w| {
        let axis = |size, near, far| PasteAxis {
            size,
            begin: 0,
            end: size,
            shift: 0,
            near,
            far,
        };
        let axes = [axis(h, 0, 0), axis(w, 1, 1)];
        case(Paste { axes }, &[[2, 4, h, w], [2, 4, h, w]])
    };
    let mean = |c| case(Mean::default(), &[[1, c, 3, 5]]);
    let zeros = |w| case(Zeros { size: [1, w] }, &[[1, 4, 1, 1]]);
    let sizes = [(4, 8), (3, 21), (5, 13), (8, 8)]
        .map(|(h, w)| paste(h, w))
        .into_iter();
    let means = [250, 256, 257, 508, 513].map(mean);
    sizes
        .chain(means)
        .chain([63, 64, 65, 129].map(zeros))
        .collect()
}

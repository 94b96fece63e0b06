//! The inside of a tensor `a`, set into the frame of a tensor `b`: `out[n, c, y, x] = a[n, c, y − shift, x − shift]`
//! from `begin` to `end`. Outside, the first `near` and the last `far` rows and columns are b's first and last ones;
//! those between them repeat b's row and column `near`.
//!
//! Not an op of model files: planning uses it where a large padding makes much of a tensor independent of the picture.

use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::Grid;
use crate::ops::kernel::{Binding, Format, Kernel, Rows, Word, shader, sizes, words};
use crate::ops::numerics::Numerics;
use crate::ops::{Case, Op, case, take_inputs};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};

/// One axis of a [`Paste`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasteAxis {
    /// Size of the output.
    pub size: usize,
    /// The first position of the output that is taken from `a`.
    pub begin: usize,
    /// The end of the positions from `a`.
    pub end: usize,
    /// Position in the output minus position in `a`.
    pub shift: usize,
    /// Size of the frame at the beginning.
    pub near: usize,
    /// Size of the frame at the end.
    pub far: usize,
}

impl PasteAxis {
    /// The position in `b`, of `size`, that fills position `i` of the output.
    fn in_frame(&self, i: usize, size: usize) -> usize {
        let from_end = self.size - 1 - i;
        match (i < self.near, from_end < self.far) {
            (true, _) => i,
            (_, true) => size - 1 - from_end,
            _ => self.near,
        }
    }

    /// Whether tensors of sizes `a` and `b` have all positions that are taken from them.
    fn fits(&self, a: usize, b: usize) -> bool {
        self.near + self.far < b
            && b <= self.size
            && self.shift <= self.begin
            && self.begin <= self.end
            && self.end <= self.size.min(a + self.shift)
    }
}

/// A paste along both axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paste {
    /// Rows, then columns.
    pub axes: [PasteAxis; 2],
}

impl Op for Paste {
    fn name(&self) -> &'static str {
        "paste"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [a, b] = take_inputs(self.name(), inputs)?;
        let [rows, columns] = self.axes;
        if (a.n, a.c) != (b.n, b.c) || !rows.fits(a.h, b.h) || !columns.fits(a.w, b.w) {
            bail!(
                Shape,
                "{:?} does not fit tensors of shapes {a} and {b}",
                self.axes
            );
        }
        Ok(a.with_size(rows.size, columns.size))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&crate::ops::shapes(inputs))?;
        let [a, b] = take_inputs(self.name(), inputs)?;
        let [rows, columns] = self.axes;
        let (h, w) = (b.shape().h, b.shape().w);
        Tensor::from_fn(output, |n, c, y, x| {
            let inside =
                (rows.begin..rows.end).contains(&y) && (columns.begin..columns.end).contains(&x);
            match inside {
                true => a.at(n, c, y - rows.shift, x - columns.shift),
                false => b.at(n, c, rows.in_frame(y, h), columns.in_frame(x, w)),
            }
        })
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::exact()
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let [a, b] = take_inputs(self.name(), inputs)?;
        let [rows, columns] = self.axes;
        let mut params = words([Word::RowBegin, Word::RowEnd]).to_vec();
        params.extend(sizes([("row_elements", output.w * output.c4())]));
        params.extend(words([Word::OutputStart]));
        params.extend([
            ("a_start", Word::InputStart(0)),
            ("b_start", Word::InputStart(1)),
        ]);
        params.extend(sizes([
            ("out_c4", output.c4()),
            ("out_height", output.h),
            ("out_width", output.w),
            ("a_height", a.h),
            ("a_width", a.w),
            ("b_height", b.h),
            ("b_width", b.w),
            ("begin_y", rows.begin),
            ("begin_x", columns.begin),
            ("end_y", rows.end),
            ("end_x", columns.end),
            ("shift_y", rows.shift),
            ("shift_x", columns.shift),
            ("near_y", rows.near),
            ("near_x", columns.near),
            ("far_y", rows.far),
            ("far_x", columns.far),
        ]));
        let shift = rows.shift as i64;
        let at = |input: usize, rows: Rows| Binding::Activation {
            input,
            format: Format::Nhwc4,
            rows,
        };
        Ok(vec![Candidate::kernel(Kernel {
            shader: shader!("paste"),
            constants: Vec::new(),
            bindings: vec![
                at(
                    0,
                    Rows {
                        mul: 1,
                        div: 1,
                        first: -shift,
                        last: -shift,
                    },
                ),
                at(
                    1,
                    Rows {
                        mul: 0,
                        div: 1,
                        first: 0,
                        last: b.h as i64 - 1,
                    },
                ),
            ],
            output: Format::Nhwc4,
            params,
            grid: Grid::Elements(64),
            terms: None,
            steps_per_term: 1,
            fixed_steps: 0,
        })])
    }
}

/// Shapes to try.
pub fn cases() -> Vec<Case> {
    let axis = |size, begin, end, shift, near, far| PasteAxis {
        size,
        begin,
        end,
        shift,
        near,
        far,
    };
    let wide = Paste {
        axes: [axis(11, 3, 8, 2, 1, 2), axis(9, 4, 6, 4, 2, 0)],
    };
    let all = Paste {
        axes: [axis(4, 0, 4, 0, 0, 0), axis(5, 0, 5, 0, 1, 1)],
    };
    vec![
        case(wide, [[2, 5, 7, 4], [2, 5, 7, 4]]),
        case(all, [[1, 8, 4, 5], [1, 8, 4, 5]]),
    ]
}

//! Elements of the input at other positions: `out[n, c, y, x] = input[n, C(c), Y(y), X(x)]` with a function of its own
//! for channels, rows and columns. The common part of `Slice`, `Flip`, `Repeat` and `ChannelShuffle`.

use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::kernel::{Binding, Format, Kernel, Param, Rows, Word, shader, sizes};
use crate::tensor::{MAX_SIZE, Shape, Tensor};

/// The input's positions along one dimension: position i of the output is that of
/// `begin` + (i mod `period`) · `step` + ⌊i / `period`⌋ · `jump`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Positions {
    /// Positions of the input.
    pub inputs: usize,
    /// Positions of the output.
    pub outputs: usize,
    /// The first position.
    pub begin: usize,
    /// Output positions that are `step` apart.
    pub period: usize,
    /// The distance of two positions within a period.
    pub step: i64,
    /// The distance of two periods.
    pub jump: usize,
}

impl Positions {
    /// Every position, in order.
    pub fn all(size: usize) -> Self {
        Self {
            inputs: size,
            outputs: size,
            begin: 0,
            period: size.max(1),
            step: 1,
            jump: 0,
        }
    }

    fn of(&self, i: usize) -> usize {
        let within = (i % self.period) as i64 * self.step;
        (self.begin as i64 + within) as usize + i / self.period * self.jump
    }

    /// The input rows that an output row needs: its own if they are in steps, else all.
    fn rows(&self) -> Rows {
        match self.step > 0 && self.outputs <= self.period {
            true => Rows {
                mul: self.step,
                div: 1,
                first: self.begin as i64,
                last: self.begin as i64,
            },
            false => Rows::all(self.inputs),
        }
    }

    /// Whether four output positions from a multiple of 4 on are four input positions from a multiple of 4 on.
    fn in_fours(&self) -> bool {
        let periods = self.outputs <= self.period
            || self.period.is_multiple_of(4) && self.jump.is_multiple_of(4);
        self.step == 1 && self.begin.is_multiple_of(4) && periods
    }

    fn params(&self, [begin, period, step, jump]: [&'static str; 4]) -> [Param; 4] {
        let [begin, period, jump] = sizes([
            (begin, self.begin),
            (period, self.period),
            (jump, self.jump),
        ]);
        [
            begin,
            period,
            (step, Word::Value(self.step as i32 as u32)),
            jump,
        ]
    }
}

/// The positions along channels, rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gather {
    axes: [Positions; 3],
}

impl Gather {
    /// Every element of `input`, in order.
    pub fn all(input: Shape) -> Self {
        Self {
            axes: [input.c, input.h, input.w].map(Positions::all),
        }
    }

    /// The same with other positions along `dim`: 1 for channels, 2 for rows, 3 for columns.
    ///
    /// # Errors
    /// `Shape` for another `dim`.
    pub fn along(
        mut self,
        dim: usize,
        positions: impl FnOnce(Positions) -> Positions,
    ) -> Result<Self> {
        let Some(axis) = dim.checked_sub(1).and_then(|axis| self.axes.get_mut(axis)) else {
            bail!(
                Shape,
                "dim is 1 for channels, 2 for rows or 3 for columns, not {dim}"
            );
        };
        *axis = positions(*axis);
        Ok(self)
    }

    /// The shape of the output.
    ///
    /// # Errors
    /// `Shape` if a size is 0 or too large.
    pub fn output_shape(&self, input: Shape) -> Result<Shape> {
        let [c, h, w] = self.axes.map(|axis| axis.outputs);
        let output = input.with_channels(c).with_size(h, w);
        if [c, h, w].contains(&0) || input.elements() == 0 {
            bail!(Shape, "nothing is left of {input}: {output}");
        }
        if [c, h, w].iter().any(|size| *size > MAX_SIZE) {
            bail!(Shape, "{output} is larger than {MAX_SIZE} in a dimension");
        }
        Ok(output)
    }

    /// The reference implementation.
    ///
    /// # Errors
    /// As [`Gather::output_shape`], and `Limit` if the host has no memory for the output.
    pub fn reference(&self, input: &Tensor) -> Result<Tensor> {
        let output = self.output_shape(input.shape())?;
        let [channels, rows, columns] = &self.axes;
        let width = input.shape().w;
        Tensor::from_planes(output, |n, c, plane| {
            let from = input.plane(n, channels.of(c));
            for (y, line) in plane.chunks_exact_mut(output.w).enumerate() {
                let row = &from[rows.of(y) * width..][..width];
                for (x, out) in line.iter_mut().enumerate() {
                    *out = row[columns.of(x)];
                }
            }
        })
    }

    /// The kernel.
    ///
    /// # Errors
    /// As [`Gather::output_shape`].
    pub fn candidates(&self, input: Shape) -> Result<Vec<Candidate>> {
        let output = self.output_shape(input)?;
        let [channels, rows, columns] = &self.axes;
        let mut extra = sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("in_c4", input.c4()),
            ("height", output.h),
            ("channels", output.c),
            ("c4", output.c4()),
        ])
        .to_vec();
        extra.extend(channels.params([
            "channel_begin_at",
            "channel_period",
            "channel_step",
            "channel_jump",
        ]));
        extra.extend(rows.params(["row_begin_at", "row_period", "row_step", "row_jump"]));
        extra.extend(columns.params([
            "column_begin_at",
            "column_period",
            "column_step",
            "column_jump",
        ]));
        Ok(vec![Candidate::kernel(Kernel {
            constants: vec![("IN_FOURS", f64::from(u8::from(channels.in_fours())))],
            bindings: vec![Binding::Activation {
                input: 0,
                format: Format::Nhwc4,
                rows: rows.rows(),
            }],
            ..Kernel::elementwise(shader!("gather"), &["input_start"], &extra, output)
        })])
    }
}

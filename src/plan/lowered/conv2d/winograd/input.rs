//! The input transform: points of tiles.

use super::{Order, Tiling, reading, text};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::{Count, Grid, Line, PixelRun};
use crate::ops::kernel::{Format, Kernel, Rows, Word, sizes, words};
use crate::ops::numerics::Numerics;
use crate::ops::packing::winograd::on_both_sides;
use crate::ops::{Op, shapes, take_inputs};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};

/// Transforms the tiles of the input.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) tiling: Tiling,
    pub(super) padding: [usize; 2],
    pub(super) order: Order,
}

impl Op for Input {
    fn name(&self) -> &'static str {
        "winograd_input"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        let [h, w] = [input.h + 2 * self.padding[0], input.w + 2 * self.padding[1]];
        let reach = self.tiling.reach();
        if h <= reach || w <= reach {
            bail!(
                Shape,
                "the window of {} pixels is larger than the padded input {input}",
                reach + 1
            );
        }
        let tiles = [h, w].map(|padded| self.tiling.tiles(padded - reach));
        Ok(self.order.shape(input, tiles, self.tiling.points()))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        let (size, of_point) = (input.shape(), output.w / self.tiling.points());
        let matrix = self.tiling.transform.of_inputs();
        Tensor::from_planes(output, |n, own, plane| {
            let pixel = |c: usize, y: usize, x: usize| {
                let y = y.checked_sub(self.padding[0]).filter(|y| *y < size.h);
                let x = x.checked_sub(self.padding[1]).filter(|x| *x < size.w);
                let inside = y.zip(x).filter(|_| c < size.c);
                inside.map_or(0.0, |(y, x)| f64::from(input.at(n, c, y, x)))
            };
            for tile in 0..output.h * of_point {
                let (row, position) = (tile / of_point, tile % of_point);
                let [c, column] = self.order.at(own, position);
                let [top, left] = [row, column].map(|tile| self.tiling.first_of(tile));
                let dilation = self.tiling.dilation;
                let at = |y, x| pixel(c, top + dilation * y, left + dilation * x);
                let values = on_both_sides(&matrix, self.tiling.transform.side(), at);
                for (point, value) in values.into_iter().flatten().enumerate() {
                    plane[row * output.w + point * of_point + position] = value as f32;
                }
            }
        })
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::sum(self.tiling.points())
    }

    fn candidates(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let is_cpu = target.device.is_cpu;
        let transform = self.tiling.transform;
        let dilation = self.tiling.dilation as i64;
        let (input, of_point) = (inputs[0], output.w / self.tiling.points());
        let columns = match self.order {
            Order::Channels => of_point,
            Order::Tiles => output.c4(),
        };
        let mut params = sizes([
            ("in_height", input.h),
            ("in_width", input.w),
            ("in_c4", input.c4()),
            ("tile_rows", output.h),
            ("tile_columns", columns),
            ("padding_h", self.padding[0]),
            ("padding_w", self.padding[1]),
        ])
        .to_vec();
        params.extend(words([
            Word::Count(Count::LineItems),
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]));
        let rows = Rows {
            mul: transform.outputs() as i64,
            div: 1,
            // With dilation, neighbouring tiles begin in neighbouring rows, not a tile's outputs apart.
            first: -(self.padding[0] as i64) - self.tiling.drift(),
            last: (transform.side() as i64 - 1) * dilation - self.padding[0] as i64,
        };
        Ok(vec![Candidate::kernel(Kernel {
            shader: text::input(transform, is_cpu),
            constants: vec![("DILATION", self.tiling.dilation as f64)],
            bindings: vec![reading(rows, Format::Nhwc4, is_cpu)],
            output: Format::Nhwc4Between,
            params,
            grid: Grid::Items {
                items: if is_cpu { 64 } else { 16 },
                // A tile has one value of each point, and those of a point stand side by side.
                run: PixelRun {
                    elements: transform.points(),
                    apart: of_point,
                    quads: output.c4(),
                    line: Line::Row,
                },
                channels: 4 * output.c4(),
            },
            terms: None,
            steps_per_term: 1,
            fixed_steps: 0,
        })])
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        let side = self.tiling.transform.side() as u64;
        // Both passes make each value of about half a row of the matrix.
        2 * side * self.output_shape(inputs).map_or(0, |s| s.elements() as u64)
    }
}

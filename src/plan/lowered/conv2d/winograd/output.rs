//! The output transform: pixels of points.

use super::{Tiling, reading, text};
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::{Count, Grid};
use crate::ops::kernel::{Format, Kernel, Rows, Word, counts, sizes, words};
use crate::ops::numerics::Numerics;
use crate::ops::packing::winograd::on_both_sides;
use crate::ops::{MaxPool2d, Op, shapes};
use crate::plan::lowered::bias_binding;
use crate::plan::lowered::conv2d::{Activation, pool};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};

/// Transforms the products into pixels.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) tiling: Tiling,
    pub(super) size: [usize; 2],
    pub(super) activation: Activation,
    pub(super) pool: Option<MaxPool2d>,
}

impl Output {
    /// The shape of the pixels, before they are pooled.
    fn map_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let (&[input], bias) = inputs.split_at(1.min(inputs.len())) else {
            bail!(Shape, "{} takes products and perhaps a bias", self.name());
        };
        let tiles = self.size.map(|size| self.tiling.tiles(size));
        if [input.h, input.w] != [tiles[0], self.tiling.points() * tiles[1]]
            || bias.iter().any(|b| *b != Shape::vector(input.c))
        {
            bail!(
                Shape,
                "products of {input} do not make {:?} pixels",
                self.size
            );
        }
        Ok(input.with_size(self.size[0], self.size[1]))
    }
}

impl Op for Output {
    fn name(&self) -> &'static str {
        "winograd_output"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        pool::pooled(self.pool.as_ref(), self.map_shape(inputs)?)
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.map_shape(&shapes(inputs))?;
        let (input, bias) = (inputs[0], inputs.get(1));
        let Tiling {
            transform,
            dilation,
        } = self.tiling;
        let (side, outputs) = (transform.side(), transform.outputs());
        let (width, columns) = (input.shape().w, input.shape().w / transform.points());
        let matrix = transform.of_outputs();
        let map = Tensor::from_planes(output, |n, c, plane| {
            let products = input.plane(n, c);
            let bias = bias.map_or(0.0, |b| f64::from(b.data()[c]));
            for tile in 0..input.shape().h * columns {
                let (row, column) = (tile / columns, tile % columns);
                let pixels = on_both_sides(&matrix, side, |i, j| {
                    f64::from(products[row * width + (i * side + j) * columns + column])
                });
                for (i, pixel) in pixels.into_iter().flatten().enumerate() {
                    let [top, left] = [row, column].map(|tile| self.tiling.first_of(tile));
                    let y = top + dilation * (i / outputs);
                    let x = left + dilation * (i % outputs);
                    if y < output.h && x < output.w {
                        let sum = (pixel + bias) as f32;
                        plane[y * output.w + x] = self.activation.apply(sum);
                    }
                }
            }
        })?;
        pool::pool_map(self.pool.as_ref(), map)
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        let numerics = Numerics::sum(self.tiling.points());
        self.activation.bounding(numerics, || {
            Box::new(Self {
                activation: Activation::Relu,
                ..self.clone()
            })
        })
    }

    fn candidates(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let (input, is_cpu) = (inputs[0], target.device.is_cpu);
        let Tiling {
            transform,
            dilation,
        } = self.tiling;
        let outputs = transform.outputs();
        let side = pool::side(self.pool.as_ref());
        let mut params = sizes([
            ("out_height", output.h),
            ("out_width", output.w),
            ("out_c4", output.c4()),
            ("tile_rows", input.h),
            ("tile_columns", input.w / transform.points()),
            ("map_height", self.size[0]),
            ("map_width", self.size[1]),
            ("pool", side),
        ])
        .to_vec();
        // A workgroup computes `dilation` rows and `tiles_x` columns of tiles.
        let (items, undilated) = if is_cpu { (64, 4) } else { (32, 2) };
        let tiles_x = if dilation == 1 { undilated } else { dilation };
        let rows = Rows {
            mul: 1,
            div: (outputs / side) as i64,
            // With dilation, neighbouring outputs belong to neighbouring tiles.
            first: -self.tiling.drift(),
            last: self.tiling.drift(),
        };
        params.extend(counts(Count::OF_BLOCKS));
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]));
        Ok(vec![Candidate::kernel(Kernel {
            shader: text::output(transform, is_cpu),
            constants: [("DILATION", dilation as f64)]
                .into_iter()
                .chain(self.activation.constants())
                .collect(),
            bindings: vec![
                reading(rows, Format::Nhwc4Between, is_cpu),
                bias_binding(inputs.len() > 1, 1, output.c),
            ],
            output: Format::Nhwc4,
            params,
            grid: Grid::Blocks {
                rows: outputs * dilation / side,
                columns: outputs * tiles_x / side,
                channels: 4 * items / (dilation * tiles_x),
                parts: 1,
            },
            terms: None,
            steps_per_term: 1,
            fixed_steps: 0,
        })])
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        let side = self.tiling.transform.side() as u64;
        // The first pass makes half as many values again as there are pixels; each value is of half a row.
        3 * side * self.map_shape(inputs).map_or(0, |s| s.elements() as u64)
    }
}

//! The products of the points: a matrix product for each.

use super::Order;
use super::coop;
use super::tiled::{self, Products};
use crate::device_profile::TEXELS_PER_ROW;
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::{Count, Grid};
use crate::ops::kernel::{
    Binding, Format, Kernel, MAX_LOOP_STEPS, Packing, Rows, Shader, Word, counts, sizes, words,
};
use crate::ops::numerics::Numerics;
use crate::ops::packing::winograd::Transform;
use crate::ops::{Op, narrow, shapes, take_inputs};
use crate::plan::lowered::conv2d::texels::{Tile, product_source};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};

/// The products, summed over input channels: a matrix product for each point.
#[derive(Clone, Debug)]
pub(super) struct Product {
    pub(super) transform: Transform,
    /// Whether the weights of points are rounded to f16.
    pub(super) half: bool,
    /// Of the points of inputs.
    pub(super) order: Order,
}

impl Product {
    /// The products of `input`, a tensor of points.
    fn products(&self, input: Shape, weight: Shape) -> Products {
        Products {
            transform: self.transform,
            tiles: input.n * input.h * input.w / self.transform.points(),
            inputs: weight.c,
            outputs: weight.n,
        }
    }

    /// The tile of the kernel for CPU devices, with the packing of its weights.
    pub(super) fn on_cpu(&self, weight: Shape, target: &Target) -> Option<(Tile, Packing)> {
        let tile = Tile::choose(weight.n.div_ceil(4), target);
        let packing = Packing::Winograd {
            tile: tile.channels(),
            transform: self.transform,
        };
        let fits = packing.tile_bytes(weight) <= target.max_texel_bytes()
            && weight.c4() <= TEXELS_PER_ROW as usize
            && (weight.c4() as u64) < MAX_LOOP_STEPS;
        fits.then_some((tile, packing))
    }
}

impl Op for Product {
    fn name(&self) -> &'static str {
        "winograd_product"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input, weight] = take_inputs(self.name(), inputs)?;
        let window = self.transform.window();
        let points = self.transform.points();
        let columns = self.order.columns(input, weight.c, points);
        let Some(columns) = columns.filter(|_| [weight.h, weight.w] == [window; 2]) else {
            bail!(
                Shape,
                "a weight of shape {weight} does not fit products of {input}"
            );
        };
        let products = input.with_channels(weight.n);
        Ok(products.with_size(input.h, points * columns))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let [input, weight] = take_inputs(self.name(), inputs)?;
        let columns = output.w / self.transform.points();
        let of_point = input.shape().w / self.transform.points();
        let side = self.transform.window();
        Tensor::from_planes(output, |n, o, plane| {
            let mut sums = vec![0.0f64; plane.len()];
            for i in 0..weight.shape().c {
                let taps = (0..side * side).map(|k| weight.at(o, i, k / side, k % side));
                let taps: Vec<_> = taps.collect();
                let rounded = |factor| match self.half {
                    true => narrow::rounded(factor),
                    false => factor,
                };
                let factors: Vec<_> = self.transform.weight(&taps).map(rounded).collect();
                for (at, sum) in sums.iter_mut().enumerate() {
                    let (row, point) = (at / output.w, at % output.w / columns);
                    let [plane, position] = self.order.place(i, at % columns);
                    let value = input.at(n, plane, row, point * of_point + position);
                    *sum += f64::from(factors[point]) * f64::from(value);
                }
            }
            for (out, sum) in plane.iter_mut().zip(sums) {
                *out = sum as f32;
            }
        })
    }

    fn candidates(&self, inputs: &[Shape], target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let (input, weight) = (inputs[0], inputs[1]);
        if self.half {
            return Ok(coop::candidates(
                self.products(input, weight),
                input,
                target,
            ));
        }
        if !target.device.is_cpu {
            let kernel = tiled::kernel(self.products(input, weight), input, target);
            return Ok(kernel.into_iter().map(Candidate::kernel).collect());
        }
        let Some((tile, packing)) = self.on_cpu(weight, target) else {
            bail!(
                Unsupported,
                "a weight of shape {weight} does not fit a texture"
            );
        };
        let columns = output.w / self.transform.points();
        let tile = tile.fitting(output.n * output.h * columns);
        let mut params = sizes([
            ("in_c4", weight.c4()),
            ("out_c4", output.c4()),
            ("tile_columns", columns),
        ])
        .to_vec();
        params.extend(counts([Count::PixelGroups, Count::ChannelGroups]));
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::ChannelBegin,
            Word::ChannelEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]));
        Ok(vec![Candidate::kernel(Kernel {
            shader: Shader::own("winograd_product", product_source(tile, self.transform)),
            constants: Vec::new(),
            bindings: vec![
                Binding::ActivationTexels {
                    input: 0,
                    rows: Rows::shifted(0),
                },
                Binding::ParameterTexels { input: 1, packing },
            ],
            output: Format::Nhwc4,
            params,
            grid: Grid::Planes {
                planes: self.transform.points(),
                items: tile.all_pixels(),
                channels: tile.channels(),
            },
            terms: None,
            steps_per_term: weight.c4() as u64,
            fixed_steps: 0,
        })])
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        Numerics::weighted_sum(inputs[1].c)
    }
}

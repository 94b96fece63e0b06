//! Winograd's F(4×4, 3×3) for CPU devices: a 3×3 convolution of stride 1 in three stages that take a quarter
//! of the multiplications.
//!
//! The matrices, and the sources, are those of [`packing::winograd`](crate::ops::packing::winograd); the products are
//! summed over input channels. Between the stages are tensors `[n, c, tile rows, 36 · tile columns]`: point p of a tile
//! lies in column p · tile columns + tile column.
//!
//! A convolution of dilation D is D undilated ones in each direction, each of every D-th row or column. Their tiles
//! stand side by side: tile T makes four outputs in each direction, from ⌊T / D⌋ · 4·D + T mod D on, D apart.

use super::texels::{Template, Tile};
use super::{Convolution, bias_binding, pool};
use crate::device_profile::TEXELS_PER_ROW;
use crate::error::{Result, bail};
use crate::ops::candidate::Candidate;
use crate::ops::grid::{Count, Grid, Line, PixelRun};
use crate::ops::kernel::{
    Binding, Format, Kernel, MAX_LOOP_STEPS, Packing, Rows, Shader, Word, counts, shader, sizes,
    words,
};
use crate::ops::numerics::Numerics;
use crate::ops::packing::winograd::{A, B, OUTPUTS, SIDE, on_both_sides, transform_weight};
use crate::ops::{MaxPool2d, Op, Stage, StageInput, shapes, take_inputs};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;

/// Points of a tile.
const POINTS: usize = SIDE * SIDE;
/// The dilations D that have stages: their blocks of D² tiles fill workgroups of the last stage.
const DILATIONS: [usize; 3] = [1, 2, 4];
/// With fewer input or output channels, the stages around the products cost more than is saved.
const LEAST_CHANNELS: [usize; 2] = [64, 128];

/// The number of tiles for `outputs` outputs along one axis.
fn tiles(outputs: usize, dilation: usize) -> usize {
    let block = OUTPUTS * dilation;
    outputs / block * dilation + (outputs % block).min(dilation)
}

/// The first output of a tile, and the first input that the tile reads, not counting the padding.
fn first_of(tile: usize, dilation: usize) -> usize {
    tile / dilation * OUTPUTS * dilation + tile % dilation
}

/// The stages of `op`, if Winograd's algorithm applies to it and the device gains by it.
pub(super) fn stages(op: &Convolution, inputs: &[Shape], target: &Target) -> Option<Vec<Stage>> {
    let (input, weight) = (inputs[0], inputs[1]);
    let dilation = op.conv.dilation[0];
    let plain =
        op.conv.groups == 1 && op.conv.stride == [1, 1] && op.conv.dilation == [dilation; 2];
    // The pixels of a pooled square lie in one tile only without dilation.
    let plain = plain && DILATIONS.contains(&dilation) && (dilation == 1 || op.pool.is_none());
    let large = input.c >= LEAST_CHANNELS[0] && weight.n >= LEAST_CHANNELS[1];
    if !target.device.is_cpu || !plain || !large || [weight.h, weight.w] != [3, 3] {
        return None;
    }
    let map = op.map_shape(inputs).ok()?;
    let product = Product {};
    product.kernel(input.c4(), weight, target)?;
    let mut last = vec![StageInput::Stage(1)];
    last.extend((inputs.len() > 2).then_some(StageInput::Op(2)));
    Some(vec![
        Stage {
            op: Arc::new(Input {
                padding: op.conv.padding,
                dilation,
            }),
            inputs: vec![StageInput::Op(0)],
        },
        Stage {
            op: Arc::new(product),
            inputs: vec![StageInput::Stage(0), StageInput::Op(1)],
        },
        Stage {
            op: Arc::new(Output {
                size: [map.h, map.w],
                relu: op.relu,
                pool: op.pool.clone(),
                dilation,
            }),
            inputs: last,
        },
    ])
}

/// Transforms the tiles of the input.
#[derive(Clone, Debug)]
struct Input {
    padding: [usize; 2],
    dilation: usize,
}

impl Op for Input {
    fn name(&self) -> &'static str {
        "winograd_input"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input] = take_inputs(self.name(), inputs)?;
        let [h, w] = [input.h + 2 * self.padding[0], input.w + 2 * self.padding[1]];
        let reach = 2 * self.dilation;
        if h <= reach || w <= reach {
            bail!(
                Shape,
                "the window of {} pixels is larger than the padded input {input}",
                reach + 1
            );
        }
        let tiles = |padded: usize| tiles(padded - reach, self.dilation);
        Ok(input.with_size(tiles(h), POINTS * tiles(w)))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let [input] = take_inputs(self.name(), inputs)?;
        let (size, columns) = (input.shape(), output.w / POINTS);
        Tensor::from_planes(output, |n, c, plane| {
            let image = input.plane(n, c);
            let pixel = |y: usize, x: usize| {
                let y = y.checked_sub(self.padding[0]).filter(|y| *y < size.h);
                let x = x.checked_sub(self.padding[1]).filter(|x| *x < size.w);
                y.zip(x)
                    .map_or(0.0, |(y, x)| f64::from(image[y * size.w + x]))
            };
            for tile in 0..output.h * columns {
                let (row, column) = (tile / columns, tile % columns);
                let [top, left] = [row, column].map(|tile| first_of(tile, self.dilation));
                let at = |y, x| pixel(top + self.dilation * y, left + self.dilation * x);
                let values = on_both_sides(&B, at);
                for (point, value) in values.into_iter().flatten().enumerate() {
                    plane[row * output.w + point * columns + column] = value as f32;
                }
            }
        })
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::sum(POINTS)
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let (input, columns) = (inputs[0], output.w / POINTS);
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
        Ok(vec![Candidate::kernel(Kernel {
            shader: shader!("winograd_input"),
            constants: vec![("DILATION", self.dilation as f64)],
            bindings: vec![Binding::ActivationTexels {
                input: 0,
                rows: Rows {
                    mul: OUTPUTS as i64,
                    div: 1,
                    // With dilation, neighbouring tiles begin in neighbouring rows, not in every fourth row.
                    first: -(self.padding[0] as i64) - 3 * (self.dilation as i64 - 1),
                    last: ((SIDE - 1) * self.dilation) as i64 - self.padding[0] as i64,
                },
            }],
            output: Format::Nhwc4,
            params,
            grid: Grid::Items {
                items: 64,
                // A tile has one value of each point, and the points of a row of tiles stand side by side.
                run: PixelRun {
                    elements: POINTS,
                    apart: columns,
                    quads: input.c4(),
                    line: Line::Row,
                },
                channels: 4 * input.c4(),
            },
            terms: None,
            steps_per_term: 1,
            fixed_steps: 0,
        })])
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        // Twelve transforms of 16 additions and 8 multiplications make 36 values.
        8 * self.output_shape(inputs).map_or(0, |s| s.elements() as u64)
    }
}

/// The products, summed over input channels: a matrix product for each point.
#[derive(Clone, Debug)]
struct Product {}

impl Product {
    fn kernel(&self, in_c4: usize, weight: Shape, target: &Target) -> Option<(Tile, Packing)> {
        let tile = Tile::choose(weight.n.div_ceil(4), target);
        let packing = Packing::Winograd {
            tile: tile.channels(),
        };
        let fits = packing.tile_bytes(weight) <= target.max_texel_bytes()
            && in_c4 <= TEXELS_PER_ROW as usize
            && (in_c4 as u64) < MAX_LOOP_STEPS;
        fits.then_some((tile, packing))
    }
}

impl Op for Product {
    fn name(&self) -> &'static str {
        "winograd_product"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let [input, weight] = take_inputs(self.name(), inputs)?;
        if [weight.c, weight.h, weight.w] != [input.c, 3, 3] || !input.w.is_multiple_of(POINTS) {
            bail!(
                Shape,
                "a weight of shape {weight} does not fit products of {input}"
            );
        }
        Ok(input.with_channels(weight.n))
    }

    fn reference(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let output = self.output_shape(&shapes(inputs))?;
        let [input, weight] = take_inputs(self.name(), inputs)?;
        let columns = output.w / POINTS;
        Tensor::from_planes(output, |n, o, plane| {
            let mut sums = vec![0.0f64; plane.len()];
            for i in 0..input.shape().c {
                let window: Vec<_> = (0..9).map(|k| weight.at(o, i, k / 3, k % 3)).collect();
                let factors: Vec<_> = transform_weight(&window).collect();
                let values = input.plane(n, i).iter();
                for ((at, sum), value) in sums.iter_mut().enumerate().zip(values) {
                    *sum += f64::from(factors[at % output.w / columns]) * f64::from(*value);
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
        let Some((tile, packing)) = self.kernel(input.c4(), weight, target) else {
            bail!(
                Unsupported,
                "a weight of shape {weight} does not fit a texture"
            );
        };
        let columns = output.w / POINTS;
        let mut params = sizes([
            ("in_c4", input.c4()),
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
            shader: Shader::own("winograd_product", Template::WinogradProduct.source(tile)),
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
                planes: POINTS,
                items: tile.all_pixels(),
                channels: tile.channels(),
            },
            terms: None,
            steps_per_term: input.c4() as u64,
            fixed_steps: 0,
        })])
    }

    fn numerics(&self, inputs: &[Shape]) -> Numerics<'_> {
        Numerics::weighted_sum(inputs[1].c)
    }
}

/// Transforms the products into pixels.
#[derive(Clone, Debug)]
struct Output {
    size: [usize; 2],
    relu: bool,
    pool: Option<MaxPool2d>,
    dilation: usize,
}

impl Output {
    /// The shape of the pixels, before they are pooled.
    fn map_shape(&self, inputs: &[Shape]) -> Result<Shape> {
        let (&[input], bias) = inputs.split_at(1.min(inputs.len())) else {
            bail!(Shape, "{} takes products and perhaps a bias", self.name());
        };
        let tiles = self.size.map(|size| tiles(size, self.dilation));
        if [input.h, input.w] != [tiles[0], POINTS * tiles[1]]
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
        let (width, columns) = (input.shape().w, input.shape().w / POINTS);
        let map = Tensor::from_planes(output, |n, c, plane| {
            let products = input.plane(n, c);
            let bias = bias.map_or(0.0, |b| f64::from(b.data()[c]));
            for tile in 0..input.shape().h * columns {
                let (row, column) = (tile / columns, tile % columns);
                let pixels = on_both_sides(&A, |i, j| {
                    f64::from(products[row * width + (i * SIDE + j) * columns + column])
                });
                for (i, pixel) in pixels.into_iter().flatten().enumerate() {
                    let [top, left] = [row, column].map(|tile| first_of(tile, self.dilation));
                    let y = top + self.dilation * (i / OUTPUTS);
                    let x = left + self.dilation * (i % OUTPUTS);
                    if y < output.h && x < output.w {
                        let sum = (pixel + bias) as f32;
                        plane[y * output.w + x] = if self.relu && sum < 0.0 { 0.0 } else { sum };
                    }
                }
            }
        })?;
        pool::pool_map(self.pool.as_ref(), map)
    }

    fn numerics(&self, _inputs: &[Shape]) -> Numerics<'_> {
        Numerics::sum(POINTS)
    }

    fn candidates(&self, inputs: &[Shape], _target: &Target) -> Result<Vec<Candidate>> {
        let output = self.output_shape(inputs)?;
        let input = inputs[0];
        let mut params = sizes([
            ("out_height", output.h),
            ("out_width", output.w),
            ("out_c4", output.c4()),
            ("tile_rows", input.h),
            ("tile_columns", input.w / POINTS),
            ("map_height", self.size[0]),
            ("map_width", self.size[1]),
        ])
        .to_vec();
        let side = pool::side(self.pool.as_ref());
        // A workgroup computes `dilation` rows and `tiles_x` columns of tiles.
        let tiles_x = if self.dilation == 1 { 4 } else { self.dilation };
        params.extend(counts(Count::OF_BLOCKS));
        params.extend(words([
            Word::RowBegin,
            Word::RowEnd,
            Word::InputStart(0),
            Word::OutputStart,
        ]));
        Ok(vec![Candidate::kernel(Kernel {
            shader: shader!("winograd_output"),
            constants: vec![
                ("RELU", f64::from(u8::from(self.relu))),
                ("POOL", side as f64),
                ("DILATION", self.dilation as f64),
            ],
            bindings: vec![
                Binding::ActivationTexels {
                    input: 0,
                    rows: Rows {
                        mul: 1,
                        div: (OUTPUTS / side) as i64,
                        // With dilation, neighbouring outputs belong to neighbouring tiles.
                        first: -3 * (self.dilation as i64 - 1),
                        last: 3 * (self.dilation as i64 - 1),
                    },
                },
                bias_binding(inputs.len() > 1, 1, output.c),
            ],
            output: Format::Nhwc4,
            params,
            grid: Grid::Blocks {
                rows: OUTPUTS * self.dilation / side,
                columns: OUTPUTS * tiles_x / side,
                channels: 4 * 64 / (self.dilation * tiles_x),
                parts: 1,
            },
            terms: None,
            steps_per_term: 1,
            fixed_steps: 0,
        })])
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        // Ten transforms of 12 additions and 6 multiplications make 16 values.
        12 * self.map_shape(inputs).map_or(0, |s| s.elements() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_profile::DeviceProfile;
    use crate::ops::Conv2d;

    #[test]
    fn every_output_belongs_to_one_tile() {
        for (outputs, dilation) in (1..70).flat_map(|o| DILATIONS.map(|d| (o, d))) {
            let of = |tile| (0..OUTPUTS).map(move |i| first_of(tile, dilation) + i * dilation);
            let mut made: Vec<_> = (0..tiles(outputs, dilation)).flat_map(of).collect();
            made.retain(|output| *output < outputs);
            made.sort_unstable();
            assert!(made.into_iter().eq(0..outputs), "{outputs} {dilation}");
        }
    }

    /// A tensor of numbers that look random.
    fn tensor(n: usize, c: usize, h: usize, w: usize) -> Tensor {
        let value = |i: usize| (i.wrapping_mul(2_654_435_761) >> 8) % 1000;
        let mut i = 0;
        Tensor::from_fn(Shape::new(n, c, h, w), |_, _, _, _| {
            i += 1;
            value(i) as f32 / 500.0 - 1.0
        })
        .unwrap()
    }

    #[test]
    fn the_references_of_the_stages_compute_the_convolution() {
        let target = Target {
            device: DeviceProfile {
                is_cpu: true,
                ..DeviceProfile::WEBGPU_DEFAULTS
            },
            ..Target::WEBGPU_DEFAULTS
        };
        for (h, w, padding, dilation) in [
            (9, 7, 1, 1),
            (4, 10, 0, 1),
            (1, 1, 5, 1),
            (11, 18, 2, 2),
            (19, 13, 3, 4),
            (1, 2, 4, 4),
        ] {
            let conv = Conv2d {
                dilation: [dilation; 2],
                ..Conv2d::padded(padding)
            };
            let op = Convolution {
                relu: true,
                ..conv.into()
            };
            let (input, weight) = (tensor(2, 128, h, w), tensor(128, 128, 3, 3));
            let bias = tensor(128, 1, 1, 1);
            let inputs = [&input, &weight, &bias];
            let expected = op.reference(&inputs).unwrap();
            let mut values: Vec<Tensor> = Vec::new();
            for stage in stages(&op, &shapes(&inputs), &target).unwrap() {
                let inputs: Vec<_> = stage
                    .inputs
                    .iter()
                    .map(|input| match input {
                        StageInput::Op(i) => inputs[*i],
                        StageInput::Stage(i) => &values[*i],
                    })
                    .collect();
                let value = stage.op.reference(&inputs).unwrap();
                values.push(value);
            }
            let found = values.last().unwrap();
            assert_eq!(found.shape(), expected.shape());
            for (e, f) in expected.data().iter().zip(found.data()) {
                assert!((e - f).abs() < 1e-4, "{e} {f}");
            }
        }
    }
}

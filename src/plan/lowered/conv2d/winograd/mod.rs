//! Winograd's transforms: a convolution of stride 1 in three stages that take a fraction of the multiplications.
//!
//! The matrices are those of [`Transform`]; the products are summed over input channels, in f16 by cooperative matrices
//! ([`coop`]), as other products would lose what the transforms take. Between the stages are tensors
//! `[n, c, tile rows, points · tile columns]`: point p of a tile lies in column p · tile columns + tile column. The
//! points of inputs are in another [`Order`] on CPU devices.
//!
//! A convolution of dilation D is D undilated ones in each direction, each of every D-th row or column. Their tiles
//! stand side by side ([`Tiling`]).

mod coop;
mod input;
mod output;
mod product;
mod text;
mod tiled;

use super::{Convolution, coop as direct_coop, texels, tiled as direct};
use crate::ops::kernel::{Binding, Format, Rows};
use crate::ops::packing::winograd::Transform;
use crate::ops::{Stage, StageInput};
use crate::target::Target;
use crate::tensor::Shape;
use input::Input;
use output::Output;
use product::Product;
use std::sync::Arc;
use tiled::Products;

/// The dilations D that have stages: their blocks of D² tiles fill workgroups of the last stage.
const DILATIONS: [usize; 3] = [1, 2, 4];
/// With fewer input or output channels, on CPU devices, the stages around the products cost more than is saved.
const LEAST_CHANNELS: [usize; 2] = [64, 128];
/// The most bytes of a tensor of points on GPUs. Larger ones, or ones larger than a buffer, would run in bands, whose
/// edges compute tiles twice.
const MOST_POINT_BYTES: u64 = 1 << 30;

/// How the outputs of a convolution are divided into tiles: tile T makes m outputs in each direction, from
/// ⌊T / D⌋ · m·D + T mod D on, D apart.
#[derive(Clone, Copy, Debug)]
struct Tiling {
    transform: Transform,
    dilation: usize,
}

impl Tiling {
    fn new(transform: Transform, op: &Convolution) -> Self {
        Self {
            transform,
            dilation: op.conv.dilation[0],
        }
    }

    /// The number of tiles for `outputs` outputs along one axis.
    fn tiles(self, outputs: usize) -> usize {
        let block = self.transform.outputs() * self.dilation;
        outputs / block * self.dilation + (outputs % block).min(self.dilation)
    }

    /// The first output of a tile, and the first input that the tile reads, not counting the padding.
    fn first_of(self, tile: usize) -> usize {
        tile / self.dilation * self.transform.outputs() * self.dilation + tile % self.dilation
    }

    /// Points of a tile.
    fn points(self) -> usize {
        self.transform.points()
    }

    /// From the first input of a window to the last.
    fn reach(self) -> usize {
        (self.transform.window() - 1) * self.dilation
    }

    /// The most by which a tile begins before m times its number.
    fn drift(self) -> i64 {
        ((self.transform.outputs() - 1) * (self.dilation - 1)) as i64
    }
}

/// The order of the points of a row of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// `[n, c, tile rows, points · tile columns]`: the channels of a tile are neighbours.
    Channels,
    /// `[n, 4 · tile columns, tile rows, points · c/4]`: the tiles of a row are neighbours, with four channels each. A
    /// CPU reads the points of many tiles for each four channels. If each tile's lay elsewhere, the CPU would not
    /// foresee its reads of weights, since it follows few streams at a time.
    Tiles,
}

impl Order {
    fn on(target: &Target) -> Self {
        match target.device.is_cpu {
            true => Self::Tiles,
            false => Self::Channels,
        }
    }

    /// The shape of the points of `channels` channels.
    fn shape(self, channels: Shape, tiles: [usize; 2], points: usize) -> Shape {
        let shape = channels.with_size(tiles[0], points);
        let (channels, of_point) = match self {
            Self::Channels => (shape.c, tiles[1]),
            Self::Tiles => (4 * tiles[1], shape.c4()),
        };
        shape
            .with_channels(channels)
            .with_size(tiles[0], points * of_point)
    }

    /// The columns of tiles, if points are of `shape` and of `channels` channels.
    fn columns(self, shape: Shape, channels: usize, points: usize) -> Option<usize> {
        let (of_channels, columns) = match self {
            Self::Channels => (shape.c, shape.w / points),
            Self::Tiles => (channels, shape.c / 4),
        };
        let expected = shape.with_channels(of_channels);
        let fits = self.shape(expected, [shape.h, columns], points) == shape;
        (fits && of_channels == channels).then_some(columns)
    }

    /// The plane of a tensor of points and the position among those of one point, for a channel of a column of tiles.
    fn place(self, channel: usize, column: usize) -> [usize; 2] {
        match self {
            Self::Channels => [channel, column],
            Self::Tiles => [4 * column + channel % 4, channel / 4],
        }
    }

    /// The channel and the column of tiles at a place.
    fn at(self, plane: usize, position: usize) -> [usize; 2] {
        match self {
            Self::Channels => [plane, position],
            Self::Tiles => [4 * position + plane % 4, plane / 4],
        }
    }
}

/// The stages of `op`, if Winograd's algorithm applies to it and the device gains by it.
pub(super) fn stages(op: &Convolution, inputs: &[Shape], target: &Target) -> Option<Vec<Stage>> {
    let map = op.map_shape(inputs).ok()?;
    let best = best(op, inputs, map, target)?;
    let (half, order) = (target.options.half, Order::on(target));
    Some(stages_of(op, best, inputs, map, half, order))
}

/// The stages of all other transforms that apply.
pub(super) fn other_stages(op: &Convolution, inputs: &[Shape], target: &Target) -> Vec<Vec<Stage>> {
    let Ok(map) = op.map_shape(inputs) else {
        return Vec::new();
    };
    let best = best(op, inputs, map, target);
    let is_other =
        |transform: &Transform| best != Some(*transform) && applies(op, *transform, inputs, target);
    let others = transforms(target).iter().copied().filter(is_other);
    let (half, order) = (target.options.half, Order::on(target));
    others
        .map(|transform| stages_of(op, transform, inputs, map, half, order))
        .collect()
}

/// The transforms for the target's precision. What F(4×4, 3×3) amplifies is too much for f16, and F(2×2, 3×3) saves less.
fn transforms(target: &Target) -> &'static [Transform] {
    match target.options.half {
        true => &[Transform::F2X3],
        false => &[Transform::F4X3, Transform::F2X7],
    }
}

/// The transform with the least cost, if it costs at most three quarters of the direct convolution; `map` is the
/// convolution's shape before it is pooled. Weights of small maps are read for few pixels, and transformed weights are
/// larger. In f16 there is none unless the device was found to compute right with its matrices.
fn best(op: &Convolution, inputs: &[Shape], map: Shape, target: &Target) -> Option<Transform> {
    let cost = |transform| match (target.device.is_cpu, target.options.half) {
        (true, _) => Some(cost_on_cpu(op, inputs, map, target, transform)),
        (false, false) => cost_on_gpu(op, inputs, map, target, transform),
        (false, true) => cost_by_matrices(op, inputs, map, target, transform),
    };
    let mut matrices = target.device.cooperative.iter();
    if target.options.half && !matrices.all(|matrix| matrix.checked) {
        return None;
    }
    let direct = cost(None)?;
    let all = transforms(target).iter().copied();
    all.filter(|transform| applies(op, *transform, inputs, target))
        .filter_map(|transform| Some((cost(Some(transform))?, transform)))
        .filter(|(cost, _)| *cost <= 0.75 * direct)
        .min_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, transform)| transform)
}

/// The cost of all products on a CPU device, of a transform or of the direct convolution.
fn cost_on_cpu(
    op: &Convolution,
    inputs: &[Shape],
    map: Shape,
    target: &Target,
    transform: Option<Transform>,
) -> f64 {
    let weight = inputs[1];
    let tile = texels::Tile::choose(weight.n.div_ceil(4), target);
    let work = |pixels: usize| tile.fitting(pixels).work(pixels);
    let all = match transform {
        Some(transform) => {
            let tiling = Tiling::new(transform, op);
            transform.points() * work(map.n * tiling.tiles(map.h) * tiling.tiles(map.w))
        }
        None => weight.h * weight.w * work(map.pixels()),
    };
    all as f64
}

/// The cost of the products on a GPU and of the tensors between the stages, or of the direct convolution; `None` if it
/// cannot be computed this way, or the tensors are too large.
fn cost_on_gpu(
    op: &Convolution,
    inputs: &[Shape],
    map: Shape,
    target: &Target,
    transform: Option<Transform>,
) -> Option<f64> {
    let (input, weight) = (inputs[0], inputs[1]);
    let Some(transform) = transform else {
        return direct::least_cost(op, inputs, map, target);
    };
    let (products, [of_input, of_output]) =
        points(op, input, weight, map, transform, Format::Nhwc4, target)?;
    let (_, cost) = tiled::Tile::cheapest(products, target)?;
    // Points are written and read, and the transforms read and write pixels.
    let pixels = Format::Nhwc4.bytes(input) + Format::Nhwc4.bytes(map);
    let traffic = 2 * (of_input + of_output) + pixels;
    Some(cost + direct::cost_of_traffic(traffic, target))
}

/// The same in f16, where products are those of matrices, and so fast that they may wait for the points they read and write.
fn cost_by_matrices(
    op: &Convolution,
    inputs: &[Shape],
    map: Shape,
    target: &Target,
    transform: Option<Transform>,
) -> Option<f64> {
    let (input, weight) = (inputs[0], inputs[1]);
    let Some(transform) = transform else {
        return direct_coop::least_cost(op, inputs, map, target);
    };
    let format = Format::Nhwc4Half;
    let (products, [of_input, of_output]) =
        points(op, input, weight, map, transform, format, target)?;
    let of_weight = (2 * transform.points() * weight.n * weight.c) as u64;
    let cost = |bytes| direct_coop::cost_of_traffic(bytes, target);
    let of_products = coop::least_cost(products, target)?;
    let of_products = of_products.max(cost(of_input + of_weight + of_output));
    let pixels = format.bytes(input) + format.bytes(map);
    Some(of_products + cost(of_input + of_output + pixels))
}

/// The products of a transform, and the bytes of the points before and after them; `None` if these are too large.
fn points(
    op: &Convolution,
    input: Shape,
    weight: Shape,
    map: Shape,
    transform: Transform,
    format: Format,
    target: &Target,
) -> Option<(Products, [u64; 2])> {
    let tiling = Tiling::new(transform, op);
    let [rows, columns] = [map.h, map.w].map(|side| tiling.tiles(side));
    let points = [input, map].map(|of| of.with_size(rows, transform.points() * columns));
    let bytes = points.map(|points| format.bytes(points));
    let most = MOST_POINT_BYTES.min(target.device.max_buffer_bytes);
    let products = Products {
        transform,
        tiles: map.n * rows * columns,
        inputs: input.c,
        outputs: weight.n,
    };
    bytes
        .iter()
        .all(|bytes| *bytes <= most)
        .then_some((products, bytes))
}

/// Whether the stages of a transform compute `op` on the device, as precisely as a sum.
fn applies(op: &Convolution, transform: Transform, inputs: &[Shape], target: &Target) -> bool {
    let (input, weight) = (inputs[0], inputs[1]);
    let (dilation, window) = (op.conv.dilation[0], transform.window());
    let is_plain = op.conv.groups == 1
        && op.parts == 1
        && op.conv.stride == [1, 1]
        && op.conv.dilation == [dilation; 2]
        && [weight.h, weight.w] == [window; 2];
    // The pixels of a pooled square lie in one tile only without dilation.
    let is_tiled = DILATIONS.contains(&dilation) && (dilation == 1 || op.pool.is_none());
    // Where most of a window is padding, a sum has few of its K products, and errs less than √K units. On CPU devices
    // nothing is saved on such maps.
    let reach = (transform.side() - 1) * dilation;
    let is_filled = target.device.is_cpu || input.h.min(input.w) > reach;
    let is_precise = match target.options.half {
        true => transform.errs_as_half_sum(weight.c),
        false => transform.errs_as_sum(weight.c),
    };
    let is_computed = match (target.device.is_cpu, target.options.half) {
        (true, half) => !half && applies_on_cpu(transform, input, weight, target),
        (false, half) => !half || !target.device.cooperative.is_empty(),
    };
    is_plain && is_tiled && is_filled && is_precise && is_computed
}

fn applies_on_cpu(transform: Transform, input: Shape, weight: Shape, target: &Target) -> bool {
    let gains = input.c >= LEAST_CHANNELS[0] && weight.n >= LEAST_CHANNELS[1];
    let product = Product {
        transform,
        half: false,
        order: Order::Tiles,
    };
    gains && product.on_cpu(weight, target).is_some()
}

/// How a stage reads a tensor in `format`.
fn reading(rows: Rows, format: Format, is_cpu: bool) -> Binding {
    match is_cpu {
        true => Binding::ActivationTexels { input: 0, rows },
        false => Binding::Activation {
            input: 0,
            format,
            rows,
        },
    }
}

/// The stages of `transform`, where it applies; `map` is the shape of the convolution before it is pooled.
fn stages_of(
    op: &Convolution,
    transform: Transform,
    inputs: &[Shape],
    map: Shape,
    half: bool,
    order: Order,
) -> Vec<Stage> {
    let tiling = Tiling::new(transform, op);
    let mut last = vec![StageInput::Stage(1)];
    last.extend((inputs.len() > 2).then_some(StageInput::Op(2)));
    vec![
        Stage {
            op: Arc::new(Input {
                tiling,
                padding: op.conv.padding,
                order,
            }),
            inputs: vec![StageInput::Op(0)],
        },
        Stage {
            op: Arc::new(Product {
                transform,
                half,
                order,
            }),
            inputs: vec![StageInput::Stage(0), StageInput::Op(1)],
        },
        Stage {
            op: Arc::new(Output {
                tiling,
                size: [map.h, map.w],
                activation: op.activation,
                pool: op.pool.clone(),
            }),
            inputs: last,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_profile::{CooperativeMatrix, MATRIX_FLOPS_PER_BYTE};
    use crate::ops::{Conv2d, Op, shapes};
    use crate::plan::lowered::conv2d::Activation;
    use crate::tensor::Tensor;

    /// The layers of FCN-8s at 500×500 that GPUs compute by a transform: where points are few, the tensors between the
    /// stages cost more than the products that are saved.
    #[test]
    fn gpus_transform_the_layers_of_many_channels() {
        let best_of = |channels: usize, side: usize, out: usize, window: usize| {
            let op = Convolution::from(Conv2d::padded(if window == 3 { 1 } else { 0 }));
            let inputs = [[1, channels, side, side], [out, channels, window, window]]
                .map(|[n, c, h, w]| Shape::new(n, c, h, w));
            let map = op.map_shape(&inputs).unwrap();
            best(&op, &inputs, map, &Target::WEBGPU_DEFAULTS)
        };
        assert_eq!(best_of(3, 698, 64, 3), None);
        assert_eq!(best_of(64, 698, 64, 3), None);
        for (channels, side, out) in [
            (128, 349, 128),
            (256, 175, 256),
            (512, 88, 512),
            (512, 44, 512),
        ] {
            assert_eq!(
                best_of(channels, side, out, 3),
                Some(Transform::F4X3),
                "{channels}"
            );
        }
        assert_eq!(best_of(512, 22, 4096, 7), Some(Transform::F2X7));
        assert_eq!(best_of(4096, 16, 4096, 1), None);
    }

    /// The layers of FCN-8s at 500×500 that devices compute by F(2×2, 3×3) in f16: those of many channels, unless matrices
    /// are so fast that the points take longer.
    #[test]
    fn matrices_compute_points_of_many_channels() {
        let best_of = |checked, flops_per_byte, channels: usize, side: usize, out: usize| {
            let op = Convolution::from(Conv2d::padded(1));
            let inputs = [[1, channels, side, side], [out, channels, 3, 3]]
                .map(|[n, c, h, w]| Shape::new(n, c, h, w));
            let map = op.map_shape(&inputs).unwrap();
            let mut target = Target::WEBGPU_DEFAULTS.in_half(true);
            target.device.max_workgroup_bytes = 32 << 10;
            target.device.matrix_flops_per_byte = flops_per_byte;
            target.device.cooperative = vec![CooperativeMatrix {
                size: [16; 3],
                subgroup: 32,
                vectors: true,
                checked,
            }];
            best(&op, &inputs, map, &target)
        };
        let usual = MATRIX_FLOPS_PER_BYTE;
        for (channels, side, out) in [(64, 586, 64), (128, 293, 128), (128, 147, 256)] {
            assert_eq!(best_of(true, usual, channels, side, out), None);
        }
        for side in [88, 44] {
            assert_eq!(
                best_of(true, usual, 512, side, 512),
                Some(Transform::F2X3),
                "{side}"
            );
            assert_eq!(best_of(false, usual, 512, side, 512), None);
        }
        assert_eq!(best_of(true, 4 * usual, 512, 88, 512), None);
    }

    #[test]
    fn every_output_belongs_to_one_tile() {
        let tilings = Transform::ALL.into_iter().flat_map(|transform| {
            DILATIONS.map(|dilation| Tiling {
                transform,
                dilation,
            })
        });
        for (outputs, tiling) in tilings.flat_map(|tiling| (1..70).map(move |o| (o, tiling))) {
            let of = |tile| {
                (0..tiling.transform.outputs())
                    .map(move |i| tiling.first_of(tile) + i * tiling.dilation)
            };
            let mut made: Vec<_> = (0..tiling.tiles(outputs)).flat_map(of).collect();
            made.retain(|output| *output < outputs);
            made.sort_unstable();
            assert!(made.into_iter().eq(0..outputs), "{outputs} {tiling:?}");
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
        let all = [
            (Transform::F4X3, 9, 7, 1, 1),
            (Transform::F4X3, 4, 10, 0, 1),
            (Transform::F4X3, 1, 1, 5, 1),
            (Transform::F4X3, 11, 18, 2, 2),
            (Transform::F4X3, 19, 13, 3, 4),
            (Transform::F4X3, 1, 2, 4, 4),
            (Transform::F2X7, 9, 13, 0, 1),
            (Transform::F2X7, 5, 4, 3, 1),
            (Transform::F2X7, 12, 15, 3, 2),
            (Transform::F2X3, 7, 6, 1, 1),
            (Transform::F2X3, 9, 11, 2, 2),
        ];
        let orders = [Order::Channels, Order::Tiles].into_iter();
        for (order, (transform, h, w, padding, dilation)) in
            orders.flat_map(|order| all.map(|case| (order, case)))
        {
            let conv = Conv2d {
                dilation: [dilation; 2],
                ..Conv2d::padded(padding)
            };
            let op = Convolution {
                activation: Activation::Relu,
                ..conv.into()
            };
            let side = transform.window();
            let (input, weight) = (tensor(2, 10, h, w), tensor(10, 10, side, side));
            let bias = tensor(10, 1, 1, 1);
            let inputs = [&input, &weight, &bias];
            let expected = op.reference(&inputs).unwrap();
            let mut values: Vec<Tensor> = Vec::new();
            let map = op.map_shape(&shapes(&inputs)).unwrap();
            for stage in stages_of(&op, transform, &shapes(&inputs), map, false, order) {
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

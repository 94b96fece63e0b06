//! Winograd's transforms for CPU devices: a convolution of stride 1 in three stages that take a fraction of the
//! multiplications.
//!
//! The matrices are those of [`Transform`]; the products are summed over input channels. Between the stages are tensors
//! `[n, c, tile rows, points · tile columns]`: point p of a tile lies in column p · tile columns + tile column.
//!
//! A convolution of dilation D is D undilated ones in each direction, each of every D-th row or column. Their tiles
//! stand side by side ([`Tiling`]).

mod input;
mod output;
mod product;
mod text;

use super::Convolution;
use super::texels::Tile;
use crate::ops::packing::winograd::Transform;
use crate::ops::{Stage, StageInput};
use crate::target::Target;
use crate::tensor::Shape;
use input::Input;
use output::Output;
use product::Product;
use std::sync::Arc;

/// The dilations D that have stages: their blocks of D² tiles fill workgroups of the last stage.
const DILATIONS: [usize; 3] = [1, 2, 4];
/// With fewer input or output channels, the stages around the products cost more than is saved.
const LEAST_CHANNELS: [usize; 2] = [64, 128];

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

/// The stages of `op`, if Winograd's algorithm applies to it and the device gains by it.
pub(super) fn stages(op: &Convolution, inputs: &[Shape], target: &Target) -> Option<Vec<Stage>> {
    let map = op.map_shape(inputs).ok()?;
    let best = best(op, inputs, map, target)?;
    Some(stages_of(op, best, inputs, map))
}

/// The stages of all other transforms that apply.
pub(super) fn other_stages(op: &Convolution, inputs: &[Shape], target: &Target) -> Vec<Vec<Stage>> {
    let Ok(map) = op.map_shape(inputs) else {
        return Vec::new();
    };
    let best = best(op, inputs, map, target);
    let is_other =
        |transform: &Transform| best != Some(*transform) && applies(op, *transform, inputs, target);
    let others = Transform::ALL.into_iter().filter(is_other);
    others
        .map(|transform| stages_of(op, transform, inputs, map))
        .collect()
}

/// The transform with the least work, if it takes at most three quarters of the work of the whole convolution;
/// `map` is the convolution's shape before it is pooled. Weights of small maps are read for few pixels, and
/// transformed weights are larger.
fn best(op: &Convolution, inputs: &[Shape], map: Shape, target: &Target) -> Option<Transform> {
    let weight = inputs[1];
    let tile = Tile::choose(weight.n.div_ceil(4), target);
    let work = |pixels: usize| tile.fitting(pixels).work(pixels);
    let of_transform = |transform: Transform| {
        let tiling = Tiling::new(transform, op);
        transform.points() * work(map.n * tiling.tiles(map.h) * tiling.tiles(map.w))
    };
    let whole = weight.h * weight.w * work(map.pixels());
    let all = Transform::ALL.into_iter();
    all.filter(|transform| applies(op, *transform, inputs, target))
        .map(|transform| (of_transform(transform), transform))
        .filter(|(work, _)| 4 * work <= 3 * whole)
        .min_by_key(|(work, _)| *work)
        .map(|(_, transform)| transform)
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
    let gains = input.c >= LEAST_CHANNELS[0] && weight.n >= LEAST_CHANNELS[1];
    target.device.is_cpu
        && is_plain
        && is_tiled
        && gains
        && transform.errs_as_sum(weight.c)
        && (Product { transform })
            .kernel(input.c4(), weight, target)
            .is_some()
}

/// The stages of `transform`, where it applies; `map` is the shape of the convolution before it is pooled.
fn stages_of(op: &Convolution, transform: Transform, inputs: &[Shape], map: Shape) -> Vec<Stage> {
    let tiling = Tiling::new(transform, op);
    let mut last = vec![StageInput::Stage(1)];
    last.extend((inputs.len() > 2).then_some(StageInput::Op(2)));
    vec![
        Stage {
            op: Arc::new(Input {
                tiling,
                padding: op.conv.padding,
            }),
            inputs: vec![StageInput::Op(0)],
        },
        Stage {
            op: Arc::new(Product { transform }),
            inputs: vec![StageInput::Stage(0), StageInput::Op(1)],
        },
        Stage {
            op: Arc::new(Output {
                tiling,
                size: [map.h, map.w],
                relu: op.relu,
                pool: op.pool.clone(),
            }),
            inputs: last,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Conv2d, Op, shapes};
    use crate::tensor::Tensor;

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
        for (transform, h, w, padding, dilation) in [
            (Transform::F4X3, 9, 7, 1, 1),
            (Transform::F4X3, 4, 10, 0, 1),
            (Transform::F4X3, 1, 1, 5, 1),
            (Transform::F4X3, 11, 18, 2, 2),
            (Transform::F4X3, 19, 13, 3, 4),
            (Transform::F4X3, 1, 2, 4, 4),
            (Transform::F2X7, 9, 13, 0, 1),
            (Transform::F2X7, 5, 4, 3, 1),
            (Transform::F2X7, 12, 15, 3, 2),
        ] {
            let conv = Conv2d {
                dilation: [dilation; 2],
                ..Conv2d::padded(padding)
            };
            let op = Convolution {
                relu: true,
                ..conv.into()
            };
            let side = transform.window();
            let (input, weight) = (tensor(2, 12, h, w), tensor(10, 12, side, side));
            let bias = tensor(10, 1, 1, 1);
            let inputs = [&input, &weight, &bias];
            let expected = op.reference(&inputs).unwrap();
            let mut values: Vec<Tensor> = Vec::new();
            let map = op.map_shape(&shapes(&inputs)).unwrap();
            for stage in stages_of(&op, transform, &shapes(&inputs), map) {
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

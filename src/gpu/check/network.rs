//! The networks of checks, with random weights. That of [`Gpu::check`](crate::Gpu::check) has the layers of the
//! architectures that fullconv runs, each once; its outputs are labels by each kernel that makes them, and
//! probabilities.

use super::super::random::Random;
use super::noise;
use crate::error::Result;
use crate::graph::{Graph, NodeId};
use crate::ops::{
    AdaptiveAvgPool2d, Add, Argmax, AvgPool2d, Cat, Conv2d, ConvTranspose2d, Crop, Interpolate,
    MaxPool2d, MaxPool2dIndices, MaxUnpool2d, Op, Relu, Sigmoid, Softmax,
};
use crate::parameters::{Parameters, TensorFile};
use crate::preprocess::{Form, Preprocessing};
use crate::size::Size;
use crate::tensor::{Shape, Tensor};
use std::collections::BTreeMap;

/// The size of the picture: odd, so that edges of tiles are reached.
const PICTURE: Size = Size {
    height: 45,
    width: 61,
};
/// The size of the network's input.
const INPUT: Size = Size {
    height: 32,
    width: 48,
};
/// The number of classes, not a multiple of 4.
const CLASSES: usize = 7;

/// A network with its input.
pub(super) struct CheckNetwork {
    pub graph: Graph,
    pub parameters: Parameters,
    pub input: Tensor,
    pub outputs: Vec<NodeId>,
}

/// Adds layers with random weights.
struct Builder {
    graph: Graph,
    tensors: Vec<(String, Tensor)>,
    random: Random,
}

impl Builder {
    /// Random numbers of this shape, so large that sums of `terms` products are as large as their inputs.
    fn parameter(&mut self, name: String, shape: Shape, terms: usize) -> Result<NodeId> {
        let scale = (6.0 / terms as f32).sqrt();
        let random = &mut self.random;
        let value = Tensor::from_fn(shape, |_, _, _, _| scale * random.float())?;
        self.tensors.push((name.clone(), value));
        self.graph.parameter(name, shape)
    }

    /// A convolution to `channels` channels with a bias; `from` are the input channels of a group.
    fn conv(
        &mut self,
        name: &str,
        conv: Conv2d,
        [from, channels, side]: [usize; 3],
        input: NodeId,
    ) -> Result<NodeId> {
        let shape = Shape::new(channels, from, side, side);
        let weight = self.parameter(format!("{name}.weight"), shape, from * side * side)?;
        let bias = Shape::new(channels, 1, 1, 1);
        let bias = self.parameter(format!("{name}.bias"), bias, 6)?;
        self.graph.op(name, conv, &[input, weight, bias])
    }

    /// As [`Builder::conv`], with a ReLU called `NAME.relu`.
    fn conv_relu(
        &mut self,
        name: &str,
        conv: Conv2d,
        sizes: [usize; 3],
        input: NodeId,
    ) -> Result<NodeId> {
        let conv = self.conv(name, conv, sizes, input)?;
        self.op(&format!("{name}.relu"), Relu {}, &[conv])
    }

    /// A transposed convolution of the classes by 2, with a kernel of 4.
    fn up(&mut self, name: &str, input: NodeId) -> Result<NodeId> {
        let shape = Shape::new(CLASSES, CLASSES, 4, 4);
        let weight = self.parameter(format!("{name}.weight"), shape, 4 * CLASSES)?;
        self.op(name, ConvTranspose2d::strided(2, 1), &[input, weight])
    }

    fn op(&mut self, name: &str, op: impl Op + 'static, inputs: &[NodeId]) -> Result<NodeId> {
        self.graph.op(name, op, inputs)
    }

    /// The first layers, to 16 channels at half the input's size.
    fn encoder(&mut self, input: NodeId) -> Result<NodeId> {
        let first = self.conv_relu("conv1", Conv2d::padded(1), [3, 16, 3], input)?;
        let second = self.conv_relu("conv2", Conv2d::padded(1), [16, 16, 3], first)?;
        let pooled = self.op("pool", MaxPool2d::square(2, 2, false), &[second])?;
        let depthwise = Conv2d {
            groups: 16,
            ..Conv2d::padded(1)
        };
        let depthwise = self.conv_relu("depthwise", depthwise, [1, 16, 3], pooled)?;
        let grouped = Conv2d {
            groups: 8,
            ..Conv2d::padded(1)
        };
        let grouped = self.conv_relu("grouped", grouped, [2, 16, 3], depthwise)?;
        let sum = self.op("residual", Add {}, &[pooled, grouped])?;
        self.op("residual.relu", Relu {}, &[sum])
    }

    /// Indices of a pooling, and the unpooling by them.
    fn unpooled(&mut self, half: NodeId) -> Result<NodeId> {
        let pool = MaxPool2d::square(2, 2, true);
        let indices = MaxPool2dIndices { pool: pool.clone() };
        let indices = self.op("unpool.indices", indices, &[half])?;
        let pooled = self.op("unpool.pool", pool, &[half])?;
        self.op("unpool", MaxUnpool2d::square(2, 2), &[pooled, indices])
    }

    /// The deep layers, at a quarter of the input's size, and the scores there.
    fn deep(&mut self, half: NodeId) -> Result<NodeId> {
        let pool = MaxPool2d {
            padding: [1; 2],
            ..MaxPool2d::square(3, 2, false)
        };
        let pooled = self.op("overlapping", pool, &[half])?;
        let wide = self.conv_relu("wide", Conv2d::default(), [16, 64, 1], pooled)?;
        // As many channels as the kernels for CPUs by Winograd's algorithm need.
        let deep = self.conv_relu("deep", Conv2d::padded(1), [64, 128, 3], wide)?;
        // Few pixels and long sums, as the first layer of a head has.
        let long = self.conv_relu("long", Conv2d::padded(3), [128, 16, 7], deep)?;
        let global = self.op("global", AdaptiveAvgPool2d::global(), &[long])?;
        let size = [INPUT.height / 4, INPUT.width / 4];
        let spread = self.op("spread", Interpolate::bilinear(size, false), &[global])?;
        let together = self.op("together", Cat {}, &[long, spread])?;
        self.conv("scores", Conv2d::default(), [32, CLASSES, 1], together)
    }

    /// The labels and probabilities of `scores`, at half the input's size.
    fn outputs(&mut self, scores: NodeId) -> Result<Vec<NodeId>> {
        let probabilities = Interpolate::bilinear([PICTURE.height, PICTURE.width], false);
        let resized = self.op("resized", probabilities.clone(), &[scores])?;
        let softmax = Softmax::default();
        let softmax = self.op("probabilities", softmax, &[resized])?;
        let sigmoid = self.op("sigmoids", Sigmoid {}, &[scores])?;
        let averaged = AvgPool2d::square(2, 2, false);
        let averaged = self.op("averaged", averaged, &[scores])?;
        let plain = self.op("labels", Argmax {}, &[averaged])?;
        let at_size = self.op("labels_resized.scores", probabilities, &[scores])?;
        let at_size = self.op("labels_resized", Argmax {}, &[at_size])?;
        let dense = self.up("labels_upsampled.scores", scores)?;
        let dense = self.op("labels_upsampled", Argmax {}, &[dense])?;
        let weight = Shape::new(CLASSES, CLASSES, 4, 4);
        let name = "labels_bilinear.weight";
        let bilinear = Tensor::from_fn(weight, |to, from, y, x| match to == from {
            true => triangle(y) * triangle(x),
            false => 0.0,
        })?;
        self.tensors.push((name.to_owned(), bilinear));
        let weight = self.graph.parameter(name, weight)?;
        self.graph.mark_diagonal(weight);
        let up = ConvTranspose2d::strided(2, 1);
        let smooth = self.op("labels_bilinear.scores", up.clone(), &[scores, weight])?;
        let smooth = self.op("labels_bilinear", Argmax {}, &[smooth])?;
        let diagonal = self.op("upsampled", up, &[scores, weight])?;
        Ok(vec![
            softmax, sigmoid, averaged, plain, at_size, dense, smooth, diagonal,
        ])
    }
}

/// The weight of a tap of bilinear upsampling by 2, with four taps.
fn triangle(tap: usize) -> f32 {
    [0.25, 0.75, 0.75, 0.25][tap]
}

/// The network of [`Gpu::check`](crate::Gpu::check).
///
/// # Errors
/// None but the host's: it has no memory.
pub(super) fn build() -> Result<CheckNetwork> {
    let mut builder = Builder {
        graph: Graph::new("picture"),
        tensors: Vec::new(),
        random: Random(1),
    };
    let preprocessing = Preprocessing::assumed(3);
    let picture = builder.graph.input();
    let preprocess = preprocessing.op(INPUT, Form::Words);
    let input = builder.op("preprocessed", preprocess, &[picture])?;
    let half = builder.encoder(input)?;
    let unpooled = builder.unpooled(half)?;
    let deep = builder.deep(half)?;
    let up = builder.up("up", deep)?;
    let skip = builder.conv("skip", Conv2d::default(), [16, CLASSES, 1], half)?;
    let crop = builder.op("cropped", Crop::at([0, 0]), &[skip, up])?;
    let scores = builder.op("fused", Add {}, &[up, crop])?;
    let mut outputs = vec![unpooled];
    outputs.extend(builder.outputs(scores)?);
    let file = TensorFile::of(&builder.tensors)?;
    Ok(CheckNetwork {
        input: noise(preprocessing.input(1, PICTURE, Form::Words).shape, true)?,
        graph: builder.graph,
        parameters: Parameters::new(file, BTreeMap::new()),
        outputs,
    })
}

/// A network of convolutions for kernels with cooperative matrices: pooled and not, with channels that fill a tile and
/// with fewer, on a map that ends within a tile; and one of so many channels that Winograd's algorithm computes it.
///
/// # Errors
/// None but the host's: it has no memory.
pub(super) fn of_matrices() -> Result<CheckNetwork> {
    let mut builder = Builder {
        graph: Graph::new("input"),
        tensors: Vec::new(),
        random: Random(2),
    };
    let input = builder.graph.input();
    let wide = builder.conv_relu("wide", Conv2d::padded(1), [40, 136, 3], input)?;
    let pooled = builder.op("pool", MaxPool2d::square(2, 2, true), &[wide])?;
    let narrow = builder.conv("narrow", Conv2d::default(), [136, 40, 1], pooled)?;
    let many = builder.conv("many", Conv2d::default(), [40, 256, 1], input)?;
    let transformed = builder.conv("transformed", Conv2d::padded(1), [256, 120, 3], many)?;
    let file = TensorFile::of(&builder.tensors)?;
    Ok(CheckNetwork {
        input: noise(Shape::new(1, 40, 13, 17), false)?,
        graph: builder.graph,
        parameters: Parameters::new(file, BTreeMap::new()),
        outputs: vec![narrow, transformed],
    })
}

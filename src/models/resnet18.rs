//! FCN on ResNet-18, as in *Dive into Deep Learning* (section "Fully Convolutional Networks"): an
//! `nn.Sequential` of torchvision's ResNet-18 without its last two layers, a 1×1 convolution to the classes, and one
//! transposed convolution of stride 32.

use super::{Builder, Checkpoint, Family, InputConvention, NetworkDefinition, no_geometry};
use crate::error::Result;
use crate::graph::NodeId;
use crate::ops::{Add, Conv2d, ConvTranspose2d, MaxPool2d, Relu};

const ARCHITECTURE: &str = "fcn_resnet18";

pub(super) const FAMILY: Family = Family {
    architectures: &[ARCHITECTURE],
    recognise,
    build,
};

fn recognise(checkpoint: &Checkpoint) -> Option<&'static str> {
    let names = [
        "0.weight",
        "1.running_mean",
        "4.0.conv1.weight",
        "final_conv.weight",
    ];
    names
        .iter()
        .all(|name| checkpoint.has(name))
        .then_some(ARCHITECTURE)
}

fn build(
    checkpoint: &Checkpoint,
    architecture: &'static str,
    geometry: Option<&str>,
) -> Result<NetworkDefinition> {
    no_geometry(geometry)?;
    let mut net = Net(Builder::new(checkpoint));
    net.build()?;
    Ok(net
        .0
        .network(architecture, None, InputConvention::Torchvision))
}

struct Net<'a>(Builder<'a>);

impl Net<'_> {
    fn build(&mut self) -> Result<NodeId> {
        let image = self.0.graph.input();
        let stem = Conv2d {
            stride: [2, 2],
            ..Conv2d::padded(3)
        };
        let x = self.0.conv_norm("0", "1", stem, image)?;
        let x = self.0.graph.op("2", Relu {}, &[x])?;
        let pool = MaxPool2d {
            padding: [1, 1],
            ..MaxPool2d::square(3, 2, false)
        };
        let mut x = self.0.graph.op("3", pool, &[x])?;
        for layer in 4..8 {
            let has = |i: &usize| self.0.checkpoint.has(&format!("{layer}.{i}.conv1.weight"));
            for i in 0..(0..).take_while(has).count() {
                let stride = if layer > 4 && i == 0 { 2 } else { 1 };
                x = self.basic_block(&format!("{layer}.{i}"), stride, x)?;
            }
        }
        let score = self.0.conv("final_conv", Conv2d::default(), x, false)?;
        let upsampling = ConvTranspose2d::strided(32, 16);
        if self.0.checkpoint.has("transpose_conv.weight") {
            return self.0.conv_transpose("transpose_conv", upsampling, score);
        }
        let classes = self.0.checkpoint.dimensions("final_conv.weight")?[0];
        self.0
            .upscore("transpose_conv", upsampling, 64, classes, score)
    }

    fn basic_block(&mut self, name: &str, stride: usize, x: NodeId) -> Result<NodeId> {
        let part = |part: &str| format!("{name}.{part}");
        let strided = |padding| Conv2d {
            stride: [stride; 2],
            ..Conv2d::padded(padding)
        };
        let out = self
            .0
            .conv_norm(&part("conv1"), &part("bn1"), strided(1), x)?;
        let out = self.0.graph.op(part("relu1"), Relu {}, &[out])?;
        let out = self
            .0
            .conv_norm(&part("conv2"), &part("bn2"), Conv2d::padded(1), out)?;
        let identity = match self.0.checkpoint.has(&part("downsample.0.weight")) {
            true => {
                self.0
                    .conv_norm(&part("downsample.0"), &part("downsample.1"), strided(0), x)?
            }
            false => x,
        };
        let sum = self.0.graph.op(part("add"), Add {}, &[out, identity])?;
        self.0.graph.op(part("relu2"), Relu {}, &[sum])
    }
}

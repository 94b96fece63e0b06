//! torchvision's `fcn_resnet50` and `fcn_resnet101`: FCN on a dilated ResNet.
//!
//! Source: `torchvision.models.segmentation.fcn`, `torchvision.models.resnet` (He et al. 2015, the stride on the 3×3
//! convolution). The number of blocks and all widths come from the tensors. `aux_classifier` is for training alone.

use super::{Builder, Checkpoint, Family, InputConvention, NetworkDefinition, no_geometry};
use crate::error::{Result, bail};
use crate::graph::NodeId;
use crate::ops::interpolate::InterpolateMode;
use crate::ops::{Add, Conv2d, Interpolate, MaxPool2d, Relu};

pub(super) const FAMILY: Family = Family {
    architectures: &["fcn_resnet50", "fcn_resnet101"],
    recognise,
    build,
};

/// The blocks of each of the four layers.
fn blocks(checkpoint: &Checkpoint) -> [usize; 4] {
    let has = |layer, i: &usize| checkpoint.has(&format!("backbone.layer{layer}.{i}.conv3.weight"));
    [1, 2, 3, 4].map(|layer| (0..).take_while(|i| has(layer, i)).count())
}

fn recognise(checkpoint: &Checkpoint) -> Option<&'static str> {
    let has_head = checkpoint.has("classifier.0.weight") && checkpoint.has("classifier.4.weight");
    match blocks(checkpoint) {
        [3, 4, 6, 3] if has_head => Some("fcn_resnet50"),
        [3, 4, 23, 3] if has_head => Some("fcn_resnet101"),
        _ => None,
    }
}

fn build(
    checkpoint: &Checkpoint,
    architecture: &'static str,
    geometry: Option<&str>,
) -> Result<NetworkDefinition> {
    no_geometry(geometry)?;
    let blocks = blocks(checkpoint);
    let wanted = match architecture {
        "fcn_resnet50" => [3, 4, 6, 3],
        _ => [3, 4, 23, 3],
    };
    if blocks != wanted {
        bail!(
            ModelFile,
            "its layers have {wanted:?} blocks; the file has {blocks:?}"
        );
    }
    let mut net = Net(Builder::new(checkpoint));
    net.build(blocks)?;
    Ok(net
        .0
        .network(architecture, None, InputConvention::Torchvision))
}

struct Net<'a>(Builder<'a>);

impl Net<'_> {
    fn build(&mut self, blocks: [usize; 4]) -> Result<NodeId> {
        let image = self.0.graph.input();
        let stem = Conv2d {
            stride: [2, 2],
            ..Conv2d::padded(3)
        };
        let x = self
            .0
            .conv_norm("backbone.conv1", "backbone.bn1", stem, image)?;
        let x = self.0.graph.op("backbone.relu", Relu {}, &[x])?;
        let pool = MaxPool2d {
            padding: [1, 1],
            ..MaxPool2d::square(3, 2, false)
        };
        let mut x = self.0.graph.op("backbone.maxpool", pool, &[x])?;
        // In layers 3 and 4, dilation replaces strides, from the second block on.
        let layers = [(1, 1, 1, 1), (2, 2, 1, 1), (3, 1, 1, 2), (4, 1, 2, 4)];
        for (layer, stride, first_dilation, dilation) in layers {
            for i in 0..blocks[layer - 1] {
                let name = format!("backbone.layer{layer}.{i}");
                let (stride, dilation) = match i {
                    0 => (stride, first_dilation),
                    _ => (1, dilation),
                };
                x = self.bottleneck(&name, stride, dilation, x)?;
            }
        }
        let x = self
            .0
            .conv_norm("classifier.0", "classifier.1", Conv2d::padded(1), x)?;
        let x = self.0.graph.op("classifier.2", Relu {}, &[x])?;
        let score = self.0.conv("classifier.4", Conv2d::default(), x, false)?;
        let interpolate = Interpolate {
            mode: InterpolateMode::Bilinear,
            ..Interpolate::default()
        };
        self.0.graph.op("out", interpolate, &[score, image])
    }

    fn bottleneck(
        &mut self,
        name: &str,
        stride: usize,
        dilation: usize,
        x: NodeId,
    ) -> Result<NodeId> {
        let part = |part: &str| format!("{name}.{part}");
        let conv = Conv2d {
            stride: [stride; 2],
            dilation: [dilation; 2],
            ..Conv2d::padded(dilation)
        };
        let shortcut = Conv2d {
            stride: [stride; 2],
            ..Conv2d::default()
        };
        let out = self
            .0
            .conv_norm(&part("conv1"), &part("bn1"), Conv2d::default(), x)?;
        let out = self.0.graph.op(part("relu1"), Relu {}, &[out])?;
        let out = self.0.conv_norm(&part("conv2"), &part("bn2"), conv, out)?;
        let out = self.0.graph.op(part("relu2"), Relu {}, &[out])?;
        let out = self
            .0
            .conv_norm(&part("conv3"), &part("bn3"), Conv2d::default(), out)?;
        let identity = match self.0.checkpoint.has(&part("downsample.0.weight")) {
            true => self
                .0
                .conv_norm(&part("downsample.0"), &part("downsample.1"), shortcut, x)?,
            false => x,
        };
        let sum = self.0.graph.op(part("add"), Add {}, &[out, identity])?;
        self.0.graph.op(part("relu3"), Relu {}, &[sum])
    }
}

//! FCN-AlexNet, `voc-fcn-alexnet` of the paper's repository: CaffeNet with its fully connected layers as
//! convolutions, and one transposed convolution of stride 32 (Long, Shelhamer, Darrell 2015).

use super::{Builder, Checkpoint, Family, InputConvention, NetworkDefinition, no_geometry};
use crate::error::{Result, bail};
use crate::graph::NodeId;
use crate::ops::{Conv2d, ConvTranspose2d, Crop, LocalResponseNorm, MaxPool2d};

const ARCHITECTURE: &str = "fcn-alexnet";

pub(super) const FAMILY: Family = Family {
    architectures: &[ARCHITECTURE],
    recognise,
    build,
};

/// Has the names of AlexNet, and not `conv6` of the numbered rewrites of FCN on VGG16.
fn recognise(checkpoint: &Checkpoint) -> Option<&'static str> {
    let names = [
        "conv1.weight",
        "conv5.weight",
        "fc6.weight",
        "fc7.weight",
        "score_fr.weight",
    ];
    let is_alexnet =
        names.iter().all(|name| checkpoint.has(name)) && !checkpoint.has("conv6.weight");
    is_alexnet.then_some(ARCHITECTURE)
}

fn build(
    checkpoint: &Checkpoint,
    architecture: &'static str,
    geometry: Option<&str>,
) -> Result<NetworkDefinition> {
    no_geometry(geometry)?;
    let mut net = Net(Builder::new(checkpoint));
    net.build()?;
    Ok(net.0.network(architecture, None, InputConvention::Caffe))
}

struct Net<'a>(Builder<'a>);

impl Net<'_> {
    fn build(&mut self) -> Result<NodeId> {
        let image = self.0.graph.input();
        let first = Conv2d {
            stride: [4, 4],
            ..Conv2d::padded(100)
        };
        let relu1 = self.conv_relu("conv1", first, image)?;
        let pool1 = self.pool("pool1", relu1)?;
        let norm1 = self.norm("norm1", pool1)?;
        let relu2 = self.conv_relu("conv2", Conv2d::padded(2), norm1)?;
        let pool2 = self.pool("pool2", relu2)?;
        let norm2 = self.norm("norm2", pool2)?;
        let relu3 = self.conv_relu("conv3", Conv2d::padded(1), norm2)?;
        let relu4 = self.conv_relu("conv4", Conv2d::padded(1), relu3)?;
        let relu5 = self.conv_relu("conv5", Conv2d::padded(1), relu4)?;
        let pool5 = self.pool("pool5", relu5)?;
        let relu6 = self.conv_relu("fc6", Conv2d::default(), pool5)?;
        let relu7 = self.conv_relu("fc7", Conv2d::default(), relu6)?;
        let score_fr = self.0.conv("score_fr", Conv2d::default(), relu7, false)?;
        let classes = self.0.checkpoint.dimensions("score_fr.weight")?[0];
        let upsampling = ConvTranspose2d::strided(32, 0);
        let upscore = self
            .0
            .upscore("upscore", upsampling, 63, classes, score_fr)?;
        let crop = Crop::at([18, 18]);
        self.0.graph.op("score", crop, &[upscore, image])
    }

    /// A convolution with ReLU. The groups follow from the weight and the input's channels.
    fn conv_relu(&mut self, name: &str, op: Conv2d, x: NodeId) -> Result<NodeId> {
        let per_group = self
            .0
            .checkpoint
            .parameter_shape(&format!("{name}.weight"))?
            .c;
        let channels = match name {
            "conv1" => 3,
            _ => self.channels_before(name)?,
        };
        if per_group == 0 || !channels.is_multiple_of(per_group) {
            bail!(
                ModelFile,
                "tensor {name}.weight is for groups of {per_group} channels; its input has {channels}"
            );
        }
        let op = Conv2d {
            groups: channels / per_group,
            ..op
        };
        let x = self.0.conv(name, op, x, false)?;
        self.0.relu(name, x)
    }

    /// The output channels of the convolution before `name`.
    fn channels_before(&self, name: &str) -> Result<usize> {
        let before = match name {
            "conv2" => "conv1",
            "conv3" => "conv2",
            "conv4" => "conv3",
            "conv5" => "conv4",
            "fc6" => "conv5",
            _ => "fc6",
        };
        Ok(self
            .0
            .checkpoint
            .parameter_shape(&format!("{before}.weight"))?
            .n)
    }

    fn pool(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        self.0.graph.op(name, MaxPool2d::square(3, 2, true), &[x])
    }

    fn norm(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        let norm = LocalResponseNorm {
            size: 5,
            alpha: 1e-4,
            beta: 0.75,
            k: 1.0,
        };
        self.0.graph.op(name, norm, &[x])
    }
}

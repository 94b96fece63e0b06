//! FCN on VGG16: FCN-32s, FCN-16s, FCN-8s (Long, Shelhamer, Darrell 2015) and FCN-8s at once
//! (Shelhamer, Long, Darrell 2017).
//!
//! Widths come from the tensors. Names are those of pytorch-fcn and Caffe (`conv1_1`, `fc6`,
//! `upscore8`) or of the numbered rewrites (`conv1` … `conv15`, `upscore2x2`).

use super::{Builder, Checkpoint, Family, FcnStage, InputConvention, NetworkDefinition};
use crate::error::{Result, bail};
use crate::graph::NodeId;
use crate::ops::{Add, Conv2d, ConvTranspose2d, Crop, MaxPool2d, Scale};

pub(super) const FAMILY: Family = Family {
    architectures: &["fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce"],
    recognise,
    build,
};

/// Convolutions in each of the five stages.
const STAGES: [usize; 5] = [2, 2, 3, 3, 3];

/// The treatment of borders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Geometry {
    name: &'static str,
    /// Padding of the first convolution.
    first_padding: usize,
    /// Pools keep a last, incomplete window.
    ceil_mode: bool,
    /// Padding of fc6.
    fc6_padding: usize,
    /// Upsampled maps are cut at the right and bottom only, and transposed convolutions are padded.
    same: bool,
    /// Offset of the last crop of FCN-32s.
    crop_32s: usize,
}

const GEOMETRIES: [Geometry; 3] = [
    Geometry {
        name: "caffe",
        first_padding: 100,
        ceil_mode: true,
        fc6_padding: 0,
        same: false,
        crop_32s: 19,
    },
    Geometry {
        name: "floor",
        first_padding: 100,
        ceil_mode: false,
        fc6_padding: 0,
        same: false,
        crop_32s: 6,
    },
    Geometry {
        name: "same",
        first_padding: 1,
        ceil_mode: true,
        fc6_padding: 3,
        same: true,
        crop_32s: 0,
    },
];

/// The names of the geometries.
pub(super) fn geometries() -> [&'static str; 3] {
    GEOMETRIES.map(|geometry| geometry.name)
}

/// The two ways in which checkpoints name their layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// `conv1_1`, `fc6`, `upscore8`.
    Staged,
    /// `conv1`, `conv14`, `upscore2x2`.
    Numbered,
}

impl Names {
    fn of(checkpoint: &Checkpoint) -> Option<Self> {
        if checkpoint.has("conv1_1.weight") {
            Some(Self::Staged)
        } else if checkpoint.has("conv1.weight") && checkpoint.has("conv15.weight") {
            Some(Self::Numbered)
        } else {
            None
        }
    }

    /// The name of convolution `i` of `stage`, both counted from 1.
    fn conv(self, stage: usize, i: usize) -> String {
        match self {
            Self::Staged => format!("conv{stage}_{i}"),
            Self::Numbered => format!("conv{}", STAGES[..stage - 1].iter().sum::<usize>() + i),
        }
    }

    /// The name of a layer in this scheme, given its name in Caffe's FCN-8s.
    fn layer(self, caffe: &'static str) -> &'static str {
        match (self, caffe) {
            (Self::Numbered, "fc6") => "conv14",
            (Self::Numbered, "fc7") => "conv15",
            (Self::Numbered, "upscore") => "upscore32",
            (Self::Numbered, "upscore_pool4") => "upscore2x2",
            _ => caffe,
        }
    }
}

/// The architecture whose score layers the checkpoint has. FCN-8s at once has the names of FCN-8s.
fn recognise(checkpoint: &Checkpoint) -> Option<&'static str> {
    Names::of(checkpoint)?;
    checkpoint.dimensions("score_fr.weight").ok()?;
    Some(if checkpoint.has("score_pool3.weight") {
        "fcn8s"
    } else if checkpoint.has("score_pool4.weight") {
        "fcn16s"
    } else {
        "fcn32s"
    })
}

/// Builds `architecture` for the checkpoint, in `geometry` or by default in the one of the naming scheme.
fn build(
    checkpoint: &Checkpoint,
    architecture: &'static str,
    geometry: Option<&str>,
) -> Result<NetworkDefinition> {
    let Some(names) = Names::of(checkpoint) else {
        bail!(ModelFile, "tensor conv1_1.weight is missing");
    };
    let geometry = match (geometry, names) {
        (None, Names::Staged) => "caffe",
        (None, Names::Numbered) => "floor",
        (Some(name), _) => name,
    };
    let Some(geometry) = GEOMETRIES.into_iter().find(|g| g.name == geometry) else {
        bail!(
            Request,
            "unknown geometry {geometry:?}; known are {}",
            geometries().join(", ")
        );
    };
    let mut net = Net {
        b: Builder::new(checkpoint),
        names,
        geometry,
    };
    net.build(architecture)?;
    Ok(net
        .b
        .network(architecture, Some(geometry.name), InputConvention::Caffe))
}

struct Net<'a> {
    b: Builder<'a>,
    names: Names,
    geometry: Geometry,
}

impl Net<'_> {
    fn build(&mut self, architecture: &str) -> Result<NodeId> {
        let image = self.b.graph.input();
        let pool1 = self.stage(1, image)?;
        let pool2 = self.stage(2, pool1)?;
        let pool3 = self.stage(3, pool2)?;
        let pool4 = self.stage(4, pool3)?;
        let pool5 = self.stage(5, pool4)?;
        let relu6 = self.fc("fc6", self.geometry.fc6_padding, pool5)?;
        let relu7 = self.fc("fc7", 0, relu6)?;
        let score_fr = self.b.conv("score_fr", Conv2d::default(), relu7, false)?;

        if architecture == "fcn32s" {
            let upscore = self.upscore("upscore", 32, score_fr)?;
            return self.crop("score", self.geometry.crop_32s, upscore, image);
        }
        self.stage_of(32, self.geometry.crop_32s, score_fr);
        let at_once = architecture == "fcn8s-atonce";
        let upscore2 = self.upscore("upscore2", 2, score_fr)?;
        let factor = at_once.then_some(0.01);
        let fuse_pool4 = self.fuse("pool4", factor, pool4, 5, upscore2, "upscore2c")?;
        if architecture == "fcn16s" {
            let upscore16 = self.upscore("upscore16", 16, fuse_pool4)?;
            return self.crop("score", 27, upscore16, image);
        }
        self.stage_of(16, 27, fuse_pool4);
        let upscore_pool4 = self.upscore("upscore_pool4", 2, fuse_pool4)?;
        let factor = at_once.then_some(0.0001);
        let fuse_pool3 = self.fuse("pool3", factor, pool3, 9, upscore_pool4, "upscore_pool4c")?;
        let upscore8 = self.upscore("upscore8", 8, fuse_pool3)?;
        self.crop("score", 31, upscore8, image)
    }

    /// 3×3 convolutions with ReLU, then a 2×2 max pool.
    fn stage(&mut self, stage: usize, mut x: NodeId) -> Result<NodeId> {
        for i in 1..=STAGES[stage - 1] {
            let name = self.names.conv(stage, i);
            let padding = match (stage, i) {
                (1, 1) => self.geometry.first_padding,
                _ => 1,
            };
            x = self.b.conv(&name, Conv2d::padded(padding), x, false)?;
            x = self.b.relu(&name, x)?;
        }
        let pool = MaxPool2d::square(2, 2, self.geometry.ceil_mode);
        self.b.graph.op(format!("pool{stage}"), pool, &[x])
    }

    /// A layer that was fully connected in VGG16, with ReLU. Dropout is the identity.
    fn fc(&mut self, name: &'static str, padding: usize, x: NodeId) -> Result<NodeId> {
        let name = self.names.layer(name);
        let fc = self.b.conv(name, Conv2d::padded(padding), x, false)?;
        self.b.relu(name, fc)
    }

    /// A transposed convolution without bias; bilinear if the file does not hold its weight.
    fn upscore(&mut self, name: &'static str, stride: usize, x: NodeId) -> Result<NodeId> {
        let name = self.names.layer(name);
        let padding = if self.geometry.same { stride / 2 } else { 0 };
        let classes = self.b.checkpoint.dimensions("score_fr.weight")?[0];
        let op = ConvTranspose2d::strided(stride, padding);
        self.b.upscore(name, op, 2 * stride, classes, x)
    }

    /// Records that `scores` are the scores of the FCN of `stride`, whose last crop is at `offset`.
    fn stage_of(&mut self, stride: usize, offset: usize, scores: NodeId) {
        let padding = if self.geometry.same { stride / 2 } else { 0 };
        let offset = if self.geometry.same { 0 } else { offset };
        self.b.stages.push(FcnStage {
            node: scores,
            stride,
            upsampling: ConvTranspose2d::strided(stride, padding),
            kernel: 2 * stride,
            weight: format!("stage{stride}.weight"),
            offset,
        });
    }

    /// The score layer of a pool, times `factor`, cropped to the upsampled map and added to it. In the geometry
    /// `same`, the upsampled map is cropped instead.
    fn fuse(
        &mut self,
        pool: &str,
        factor: Option<f32>,
        mut x: NodeId,
        offset: usize,
        upsampled: NodeId,
        cut: &str,
    ) -> Result<NodeId> {
        if let Some(factor) = factor {
            x = self
                .b
                .graph
                .op(format!("scale_{pool}"), Scale { factor }, &[x])?;
        }
        let score = format!("score_{pool}");
        let skip = self.b.conv(&score, Conv2d::default(), x, true)?;
        let (a, b) = if self.geometry.same {
            (self.crop(cut, 0, upsampled, skip)?, skip)
        } else {
            (
                upsampled,
                self.crop(&format!("{score}c"), offset, skip, upsampled)?,
            )
        };
        self.b.graph.op(format!("fuse_{pool}"), Add {}, &[a, b])
    }

    fn crop(&mut self, name: &str, offset: usize, x: NodeId, like: NodeId) -> Result<NodeId> {
        let offset = if self.geometry.same { 0 } else { offset };
        self.b.graph.op(name, Crop::at([offset; 2]), &[x, like])
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ArchitectureOverride, build};
    use super::{Checkpoint, NetworkDefinition, STAGES};
    use crate::tensor::Shape;

    /// The tensors of a network of full width, with 21 classes.
    fn checkpoint(score_layers: &[&str]) -> Checkpoint {
        let widths = [3, 64, 128, 256, 512, 512];
        let mut tensors = Vec::new();
        let mut layer = |name: &str, out: usize, c: usize, k: usize| {
            tensors.push((format!("{name}.weight"), vec![out, c, k, k]));
            tensors.push((format!("{name}.bias"), vec![out]));
        };
        for stage in 1..=5 {
            for i in 1..=STAGES[stage - 1] {
                let c = if i == 1 {
                    widths[stage - 1]
                } else {
                    widths[stage]
                };
                layer(&format!("conv{stage}_{i}"), widths[stage], c, 3);
            }
        }
        layer("fc6", 4096, 512, 7);
        layer("fc7", 4096, 4096, 1);
        layer("score_fr", 21, 4096, 1);
        for name in score_layers {
            layer(name, 21, if *name == "score_pool3" { 256 } else { 512 }, 1);
        }
        tensors.into_iter().collect()
    }

    fn shape_of(network: &NetworkDefinition, node: &str, size: usize) -> Shape {
        let shapes = network.graph.shapes(Shape::new(1, 3, size, size)).unwrap();
        shapes[network.graph.find(node).unwrap().index()]
    }

    #[test]
    fn the_sizes_are_those_of_the_paper() {
        let network = build(
            &checkpoint(&["score_pool4", "score_pool3"]),
            &ArchitectureOverride::default(),
        )
        .unwrap();
        assert_eq!(
            (network.architecture, network.geometry),
            ("fcn8s", Some("caffe"))
        );
        let size = |node| shape_of(&network, node, 500).h;
        let sizes = ["conv1_1", "pool3", "pool4", "pool5", "fc6", "score"].map(size);
        assert_eq!(sizes, [698, 88, 44, 22, 16, 500]);
    }

    #[test]
    fn every_size_fits_in_the_caffe_and_same_geometries() {
        for layers in [&[][..], &["score_pool4"], &["score_pool4", "score_pool3"]] {
            for geometry in ["caffe", "same"] {
                let overrides = ArchitectureOverride {
                    geometry: Some(geometry.into()),
                    ..ArchitectureOverride::default()
                };
                let network = build(&checkpoint(layers), &overrides).unwrap();
                for size in 1..300 {
                    assert_eq!(shape_of(&network, "score", size).w, size);
                }
            }
        }
    }

    #[test]
    fn a_missing_tensor_is_named() {
        let mut checkpoint = checkpoint(&[]);
        checkpoint.shapes.remove("conv3_2.bias");
        let error = build(&checkpoint, &ArchitectureOverride::default())
            .unwrap_err()
            .to_string();
        assert_eq!(error, "fcn32s: tensor conv3_2.bias is missing");
    }
}

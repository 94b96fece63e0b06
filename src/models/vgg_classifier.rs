//! torchvision's VGG classifiers made convolutional: their fully connected layers slide over the map, so that any
//! picture of at least 224 × 224 pixels gives a heat map of the classes, at stride 32 (Long, Shelhamer, Darrell
//! 2015, section 3.1).
//!
//! The gaps between the numbers of `features` show which of them are convolutions and which are followed by a pool,
//! with batch normalisation (`vgg16_bn`) or without.

use super::{Builder, Checkpoint, Family, InputConvention, NetworkDefinition, no_geometry};
use crate::error::{Result, bail};
use crate::graph::NodeId;
use crate::ops::{Conv2d, MaxPool2d, Relu};

const ARCHITECTURE: &str = "vgg";

/// The side of the map that the first fully connected layer sees for a picture of 224 × 224.
const SIDE: usize = 7;

pub(super) const FAMILY: Family = Family {
    architectures: &[ARCHITECTURE],
    recognise,
    build,
};

fn recognise(checkpoint: &Checkpoint) -> Option<&'static str> {
    let names = [
        "features.0.weight",
        "classifier.0.weight",
        "classifier.3.weight",
        "classifier.6.weight",
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
        let checkpoint = self.0.checkpoint;
        let is_conv = |i: &usize| {
            let dimensions = checkpoint.dimensions(&format!("features.{i}.weight"));
            dimensions.is_ok_and(|d| d.len() == 4)
        };
        // The longest VGG, VGG19 with normalisation, has 53 features.
        let convs: Vec<_> = (0..100).filter(is_conv).collect();
        let mut x = self.0.graph.input();
        for (n, i) in convs.iter().enumerate() {
            let has_norm = checkpoint.has(&format!("features.{}.running_mean", i + 1));
            x = self
                .0
                .conv(&format!("features.{i}"), Conv2d::padded(1), x, false)?;
            let mut next = i + 1;
            if has_norm {
                x = self.0.batch_norm(&format!("features.{next}"), x)?;
                next += 1;
            }
            x = self.0.graph.op(format!("features.{next}"), Relu {}, &[x])?;
            next += 1;
            match convs.get(n + 1) {
                Some(conv) if *conv == next => {}
                Some(conv) if *conv != next + 1 => {
                    bail!(
                        ModelFile,
                        "features.{conv} follows features.{i}, as in no VGG"
                    )
                }
                _ => {
                    let pool = MaxPool2d::square(2, 2, false);
                    x = self.0.graph.op(format!("features.{next}"), pool, &[x])?;
                }
            }
        }
        x = self.0.fully_connected("classifier.0", [SIDE; 2], x)?;
        x = self.0.graph.op("classifier.1", Relu {}, &[x])?;
        x = self.0.fully_connected("classifier.3", [1, 1], x)?;
        x = self.0.graph.op("classifier.4", Relu {}, &[x])?;
        self.0.fully_connected("classifier.6", [1, 1], x)
    }
}

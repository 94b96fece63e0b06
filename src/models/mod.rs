//! The networks: each file reads line for line like its original, under the checkpoint's names.

pub mod vgg;

use crate::error::{Result, bail};
use crate::graph::{Graph, NodeId};
use crate::ops::{Conv2d, Relu};
use crate::tensor::Shape;
use std::collections::BTreeMap;

/// What a model file holds, as far as building a network depends on it: names and shapes.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    shapes: BTreeMap<String, Vec<usize>>,
}

impl FromIterator<(String, Vec<usize>)> for Checkpoint {
    fn from_iter<I: IntoIterator<Item = (String, Vec<usize>)>>(tensors: I) -> Self {
        Self {
            shapes: tensors.into_iter().collect(),
        }
    }
}

impl Checkpoint {
    /// Whether there is a tensor called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    /// The dimensions of the tensor called `name`.
    ///
    /// # Errors
    /// `ModelFile` if it is not there.
    pub fn dimensions(&self, name: &str) -> Result<&[usize]> {
        match self.shapes.get(name) {
            Some(shape) => Ok(shape),
            None => bail!(ModelFile, "tensor {name} is missing"),
        }
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.shapes.keys().map(String::as_str)
    }
}

/// What is asked for instead of being recognised: an architecture, a geometry, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// `fcn8s`, `fcn16s` …, see [`ARCHITECTURES`].
    pub architecture: Option<String>,
    /// `caffe`, `floor` or `same`.
    pub geometry: Option<String>,
}

/// A network built for a checkpoint.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its graph, whose parameters have the checkpoint's names.
    pub graph: Graph,
    /// Its name.
    pub architecture: &'static str,
    /// How its borders are treated.
    pub geometry: &'static str,
    /// Transposed convolutions that the checkpoint does not hold: they are bilinear.
    pub bilinear: BTreeMap<String, Shape>,
}

/// The architectures there are, as `--arch` and model files name them.
pub const ARCHITECTURES: &[&str] = &["fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce"];

/// The geometries there are, as `--geometry` and model files name them.
pub fn geometries() -> impl Iterator<Item = &'static str> {
    vgg::geometries().into_iter()
}

/// Builds the network that `choice` names, or the one recognised from names and shapes.
///
/// # Errors
/// `Request` for a name that is unknown, `ModelFile` if the tensors are none of the known networks, or
/// if one is missing or has another shape than the network needs.
pub fn build(checkpoint: &Checkpoint, choice: &Choice) -> Result<Network> {
    let architecture = match &choice.architecture {
        Some(name) => match ARCHITECTURES.iter().find(|a| *a == name) {
            Some(known) => known,
            None => bail!(
                Request,
                "unknown architecture {name:?}; known are {}",
                ARCHITECTURES.join(", ")
            ),
        },
        None => match vgg::recognise(checkpoint) {
            Some(architecture) => architecture,
            None if checkpoint.shapes.is_empty() => bail!(ModelFile, "the file holds no tensors"),
            None => bail!(
                ModelFile,
                "the tensor names are those of no known network ({}); the first are {}",
                ARCHITECTURES.join(", "),
                checkpoint.names().take(4).collect::<Vec<_>>().join(", ")
            ),
        },
    };
    vgg::build(checkpoint, architecture, choice.geometry.as_deref())
}

/// Adds layers to a graph, with weights under the checkpoint's names.
struct Builder<'a> {
    graph: Graph,
    checkpoint: &'a Checkpoint,
    bilinear: BTreeMap<String, Shape>,
}

impl<'a> Builder<'a> {
    fn new(checkpoint: &'a Checkpoint) -> Self {
        Self {
            graph: Graph::new("input"),
            checkpoint,
            bilinear: BTreeMap::new(),
        }
    }

    /// The parameter called `name`, which has four dimensions, or one (a bias).
    fn parameter(&mut self, name: &str) -> Result<NodeId> {
        let shape = match *self.checkpoint.dimensions(name)? {
            [n, c, h, w] => Shape::new(n, c, h, w),
            [n] => Shape::vector(n),
            ref other => bail!(
                ModelFile,
                "tensor {name} has shape {other:?}; weights have 4 dimensions, biases 1"
            ),
        };
        self.graph.parameter(name, shape)
    }

    /// A convolution with bias; without one only where `bias_optional` and the file has none.
    fn conv(&mut self, name: &str, op: Conv2d, x: NodeId, bias_optional: bool) -> Result<NodeId> {
        let mut inputs = vec![x, self.parameter(&format!("{name}.weight"))?];
        let bias = format!("{name}.bias");
        if !bias_optional || self.checkpoint.has(&bias) {
            inputs.push(self.parameter(&bias)?);
        }
        self.graph.op(name, op, &inputs)
    }

    /// A ReLU named after the layer before it: `relu1_1` after `conv1_1`, `relu6` after `fc6`.
    fn relu(&mut self, after: &str, x: NodeId) -> Result<NodeId> {
        let number = after.trim_start_matches(|c: char| !c.is_ascii_digit());
        self.graph.op(format!("relu{number}"), Relu {}, &[x])
    }
}

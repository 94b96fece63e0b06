//! The networks: each file reads line for line like its original, under the checkpoint's names.

mod alexnet;
mod described;
mod names;
mod near;
mod resnet;
mod resnet18;
mod vgg;
mod vgg_classifier;

pub use described::Description;
pub(crate) use names::prefix;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use names::prefix_or_shared;

use crate::error::{Result, bail};
use crate::graph::{Graph, NodeId, NodeKind};
use crate::ops::{BatchNorm2d, Conv2d, ConvTranspose2d, Crop, Relu};
use crate::size::Size;
use crate::tensor::Shape;
use std::collections::BTreeMap;

/// The names and shapes of a model file's tensors: all that building a network depends on.
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

    /// The shape of a tensor as a network's parameter: four dimensions as they are; a vector or a matrix gets ones for
    /// the missing dimensions.
    ///
    /// # Errors
    /// `ModelFile` if it is not there, or has another number of dimensions.
    pub fn parameter_shape(&self, name: &str) -> Result<Shape> {
        match *self.dimensions(name)? {
            [n, c, h, w] => Ok(Shape::new(n, c, h, w)),
            [n, c] => Ok(Shape::new(n, c, 1, 1)),
            [n] => Ok(Shape::vector(n)),
            ref other => bail!(
                ModelFile,
                "tensor {name} has shape {other:?}; weights have 4 dimensions or 2, biases 1"
            ),
        }
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.shapes.keys().map(String::as_str)
    }
}

/// An architecture, a geometry, or both, to use instead of the recognised ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArchitectureOverride {
    /// `fcn8s`, `fcn16s` …, see [`architectures`].
    pub architecture: Option<String>,
    /// `caffe`, `floor` or `same`, for FCN on VGG16.
    pub geometry: Option<String>,
}

/// A network built for a checkpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NetworkDefinition {
    /// Its graph, whose parameters have the checkpoint's names.
    pub graph: Graph,
    /// Its name.
    pub architecture: &'static str,
    /// The channels of its input.
    pub channels: usize,
    /// The only size of its input, if it takes no other.
    pub size: Option<Size>,
    /// The treatment of its borders, if there are several.
    pub geometry: Option<&'static str>,
    /// Transposed convolutions that the checkpoint does not hold: they are bilinear.
    pub bilinear: BTreeMap<String, Shape>,
    /// The training convention of its input.
    pub input_convention: InputConvention,
    /// Its predictions at coarser strides, the coarsest first; empty if it has only one.
    pub stages: Vec<FcnStage>,
    /// Pixels of the picture from one of its own predictions to the next, if it has coarser ones.
    pub stride: Option<usize>,
}

/// Class scores inside a network, and the bilinear upsampling that makes them scores of the whole picture, as in the
/// FCN of that stride.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FcnStage {
    /// The node of the scores.
    pub node: NodeId,
    /// Pixels of the picture from one score to the next.
    pub stride: usize,
    /// The upsampling.
    pub upsampling: ConvTranspose2d,
    /// Rows and columns of the upsampling's kernel.
    pub kernel: usize,
    /// The name of the upsampling's weight.
    pub weight: String,
    /// Where the picture begins in the upsampled scores.
    pub offset: usize,
}

impl FcnStage {
    /// Adds its scores of the whole picture to `graph`. `scores` is the node of the stage in that graph, and `image`
    /// the network's input.
    ///
    /// # Errors
    /// `Request` if the graph has nodes of these names.
    pub fn add_to(
        &self,
        graph: &mut Graph,
        [scores, image]: [NodeId; 2],
        classes: usize,
    ) -> Result<NodeId> {
        let shape = Shape::new(classes, classes, self.kernel, self.kernel);
        let weight = graph.parameter(self.weight.as_str(), shape)?;
        let name = graph.free_name(&format!("stage{}", self.stride));
        let upsampled = graph.op(name.as_str(), self.upsampling.clone(), &[scores, weight])?;
        let crop = Crop::at([self.offset; 2]);
        let name = graph.free_name(&format!("{name}c"));
        graph.op(name, crop, &[upsampled, image])
    }
}

/// Whose training convention a network follows: the default preprocessing, if its file has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputConvention {
    /// Caffe's.
    Caffe,
    /// torchvision's.
    Torchvision,
}

/// Networks with a file of their own here.
struct Family {
    architectures: &'static [&'static str],
    /// The architecture whose names the checkpoint has.
    recognise: fn(&Checkpoint) -> Option<&'static str>,
    build: fn(&Checkpoint, &'static str, Option<&str>) -> Result<NetworkDefinition>,
}

static FAMILIES: [Family; 5] = [
    vgg::FAMILY,
    alexnet::FAMILY,
    resnet::FAMILY,
    resnet18::FAMILY,
    vgg_classifier::FAMILY,
];

/// The architectures there are, as `--arch` and model files name them.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    let families = FAMILIES.iter();
    families.flat_map(|family| family.architectures.iter().copied())
}

/// The geometries there are, as `--geometry` and model files name them.
pub fn geometries() -> impl Iterator<Item = &'static str> {
    vgg::geometries().into_iter()
}

/// Builds the network that `overrides` names, or else the one recognised from names and shapes.
///
/// # Errors
/// `Request` for an unknown name, `ModelFile` if the tensors match no known network, or if one is missing or has
/// another shape than the network needs.
pub fn build(
    checkpoint: &Checkpoint,
    overrides: &ArchitectureOverride,
) -> Result<NetworkDefinition> {
    let list = || architectures().collect::<Vec<_>>().join(", ");
    let of_name = |name: &str| {
        let known = |family: &Family| family.architectures.iter().copied().find(|a| *a == name);
        FAMILIES.iter().find_map(|f| Some((f, known(f)?)))
    };
    let (family, architecture) = match &overrides.architecture {
        Some(name) => match of_name(name) {
            Some(known) => known,
            None => bail!(
                Request,
                "unknown architecture {name:?}; known are {}",
                list()
            ),
        },
        None => match recognise(checkpoint) {
            Some(recognised) => recognised,
            None if checkpoint.shapes.is_empty() => bail!(ModelFile, "the file holds no tensors"),
            None => bail!(
                ModelFile,
                "the tensor names are those of no known network, and the file holds no graph: {}",
                near::hint(checkpoint).unwrap_or_else(|| format!(
                    "the first names are {}; known are {}, and tools/export.py writes files of other networks",
                    checkpoint.names().take(4).collect::<Vec<_>>().join(", "),
                    list()
                ))
            ),
        },
    };
    (family.build)(checkpoint, architecture, overrides.geometry.as_deref())
        .map_err(|error| error.at(architecture))
}

fn recognise(checkpoint: &Checkpoint) -> Option<(&'static Family, &'static str)> {
    FAMILIES
        .iter()
        .find_map(|family| Some((family, (family.recognise)(checkpoint)?)))
}

/// Builds the network that a file describes; one of any size takes squares of `side`.
///
/// # Errors
/// `ModelFile`, with all faults, node by node.
pub fn build_described(
    checkpoint: &Checkpoint,
    description: &Description,
    side: usize,
) -> Result<NetworkDefinition> {
    described::build(checkpoint, description, side)
}

/// The channels that the first convolution of `graph` reads.
fn input_channels(graph: &Graph) -> Option<usize> {
    let mut readers = graph.nodes().iter().filter(|node| node.op().is_some());
    let first = readers.find(|node| node.inputs.first() == Some(&graph.input()))?;
    match graph.node(*first.inputs.get(1)?).kind {
        NodeKind::Parameter(weight) => Some(weight.c),
        _ => None,
    }
}

/// Adds layers to a graph, with weights under the checkpoint's names.
struct Builder<'a> {
    graph: Graph,
    checkpoint: &'a Checkpoint,
    bilinear: BTreeMap<String, Shape>,
    stages: Vec<FcnStage>,
}

impl<'a> Builder<'a> {
    fn new(checkpoint: &'a Checkpoint) -> Self {
        Self {
            graph: Graph::new("input"),
            checkpoint,
            bilinear: BTreeMap::new(),
            stages: Vec::new(),
        }
    }

    /// The network, whose last op is its output.
    fn network(
        self,
        architecture: &'static str,
        geometry: Option<&'static str>,
        input_convention: InputConvention,
    ) -> NetworkDefinition {
        NetworkDefinition {
            channels: input_channels(&self.graph).unwrap_or(3),
            size: None,
            graph: self.graph,
            architecture,
            geometry,
            bilinear: self.bilinear,
            input_convention,
            // Each stage of an FCN halves the stride of the one before it.
            stride: self.stages.last().map(|stage| stage.stride / 2),
            stages: self.stages,
        }
    }

    /// The parameter called `name`.
    fn parameter(&mut self, name: &str) -> Result<NodeId> {
        let shape = self.checkpoint.parameter_shape(name)?;
        self.graph.parameter(name, shape)
    }

    /// A convolution with bias; the bias may be missing in the file if `bias_optional`.
    fn conv(&mut self, name: &str, op: Conv2d, x: NodeId, bias_optional: bool) -> Result<NodeId> {
        let weight = self.parameter(&format!("{name}.weight"))?;
        let bias = self.bias(name, bias_optional)?;
        let inputs: Vec<_> = [x, weight].into_iter().chain(bias).collect();
        self.graph.op(name, op, &inputs)
    }

    fn bias(&mut self, name: &str, optional: bool) -> Result<Option<NodeId>> {
        let bias = format!("{name}.bias");
        match optional && !self.checkpoint.has(&bias) {
            true => Ok(None),
            false => self.parameter(&bias).map(Some),
        }
    }

    /// A fully connected layer over `c` × `size` values of the map before it, as a convolution. Its weight is stored
    /// as the matrix `[out, c · h · w]` of the original layer.
    fn fully_connected(&mut self, name: &str, size: [usize; 2], x: NodeId) -> Result<NodeId> {
        let weight = format!("{name}.weight");
        let stored = self.checkpoint.parameter_shape(&weight)?;
        let [h, w] = size;
        let inputs = stored.with_batch(1).elements();
        if !inputs.is_multiple_of(h * w) {
            bail!(
                ModelFile,
                "tensor {weight} has {inputs} columns, no multiple of {h} × {w}"
            );
        }
        let shape = Shape::new(stored.n, inputs / (h * w), h, w);
        let weight = self.graph.parameter(weight, shape)?;
        let bias = self.bias(name, false)?;
        let inputs: Vec<_> = [x, weight].into_iter().chain(bias).collect();
        self.graph.op(name, Conv2d::default(), &inputs)
    }

    /// A batch normalisation with PyTorch's `eps`.
    fn batch_norm(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        let mut inputs = vec![x];
        for part in ["weight", "bias", "running_mean", "running_var"] {
            inputs.push(self.parameter(&format!("{name}.{part}"))?);
        }
        self.graph.op(name, BatchNorm2d::default(), &inputs)
    }

    /// A convolution, with bias if the file has one, and the batch normalisation after it.
    fn conv_norm(&mut self, conv: &str, norm: &str, op: Conv2d, x: NodeId) -> Result<NodeId> {
        let x = self.conv(conv, op, x, true)?;
        self.batch_norm(norm, x)
    }

    /// A transposed convolution, with bias if the file has one.
    fn conv_transpose(&mut self, name: &str, op: ConvTranspose2d, x: NodeId) -> Result<NodeId> {
        let weight = self.parameter(&format!("{name}.weight"))?;
        let bias = self.bias(name, true)?;
        let inputs: Vec<_> = [x, weight].into_iter().chain(bias).collect();
        self.graph.op(name, op, &inputs)
    }

    /// A transposed convolution to `classes` classes without bias, with kernel `kernel`; bilinear if the file does not
    /// hold its weight.
    fn upscore(
        &mut self,
        name: &str,
        op: ConvTranspose2d,
        kernel: usize,
        classes: usize,
        x: NodeId,
    ) -> Result<NodeId> {
        let weight = format!("{name}.weight");
        if !self.checkpoint.has(&weight) {
            let shape = Shape::new(classes, classes, kernel, kernel);
            self.bilinear.insert(weight.clone(), shape);
            let weight = self.graph.parameter(weight, shape)?;
            return self.graph.op(name, op, &[x, weight]);
        }
        let weight = self.parameter(&weight)?;
        self.graph.op(name, op, &[x, weight])
    }

    /// A ReLU named after the layer before it: `relu1_1` after `conv1_1`, `relu6` after `fc6`.
    fn relu(&mut self, after: &str, x: NodeId) -> Result<NodeId> {
        let number = after.trim_start_matches(|c: char| !c.is_ascii_digit());
        self.graph.op(format!("relu{number}"), Relu {}, &[x])
    }
}

/// An error for any geometry: only FCN on VGG16 has several.
fn no_geometry(geometry: Option<&str>) -> Result<()> {
    match geometry {
        Some(name) => bail!(Request, "it has only one geometry, none called {name:?}"),
        None => Ok(()),
    }
}

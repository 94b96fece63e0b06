//! A model file: safetensors → [`Model`], with graph, weights, preprocessing and class names.
//!
//! The format of the `fullconv` metadata is documented in `docs/model-file.md`.

mod end;
mod head;
mod prepare;

pub use end::Values;
pub use head::Head;

use crate::error::{Error, ErrorKind, Result, bail};
use crate::graph::{Graph, Node, NodeKind};
use crate::mask::Palette;
use crate::models::{
    self, ArchitectureOverride, Checkpoint, Description, FcnStage, InputConvention,
    NetworkDefinition,
};
use crate::ops::Activation;
use crate::ops::argmax::MAX_CLASSES;
use crate::parameters::{Derived, Parameters, TensorFile};
use crate::preprocess::Preprocessing;
use crate::size::Size;
use crate::tensor::Shape;
use head::Declared;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;
use std::sync::Arc;

/// The version of the metadata that this crate reads.
pub(crate) const METADATA_VERSION: u32 = 1;
/// Pictures of this side fit every known network; shapes are checked with it at load.
const NOMINAL_SIDE: usize = 512;
/// Sides tried in search of one that a network takes: VGG classifiers begin at 224.
const SIDES_TRIED: usize = 256;

/// The most numbers of a tensor that is looked at when a file is opened: a factor, one for each channel.
const MOST_NUMBERS: usize = 1 << 16;

/// The `fullconv` entry of a file's metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metadata {
    pub version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub geometry: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<Description>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocessing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Values>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub palette: Vec<[u8; 3]>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub license: String,
}

/// A network with its weights and everything needed to read pictures and make masks. Cheap to clone.
///
/// ```
/// let model = fullconv::Model::from_bytes(fullconv_demo::MODEL)?;
/// assert_eq!(model.stride(), Some(8));
/// assert_eq!(model.classes()[0], "Sky");
/// # Ok::<(), fullconv::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Model(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    graph: Graph,
    parameters: Arc<Parameters>,
    architecture: &'static str,
    geometry: Option<&'static str>,
    stages: Vec<FcnStage>,
    stride: Option<usize>,
    channels: usize,
    size: Option<Size>,
    preprocessing: Preprocessing,
    /// The file does not say how pictures are preprocessed.
    assumes_preprocessing: bool,
    classes: Arc<[String]>,
    head: Head,
    palette: Palette,
    description: String,
    license: String,
    prefix: String,
}

impl Model {
    /// Opens the model file at `path`. Weights are read when they are used: the file must not change while the model
    /// lives.
    ///
    /// # Errors
    /// `Io` if it cannot be opened; `ModelFile` if it is damaged, incomplete, or of no known network.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Self::read_as(path, &ArchitectureOverride::default())
    }

    /// As [`Model::read`], with a given architecture or geometry instead of the recognised one.
    ///
    /// # Errors
    /// As [`Model::read`], and `Request` for an unknown name.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_as(path: impl AsRef<Path>, overrides: &ArchitectureOverride) -> Result<Self> {
        let path = path.as_ref();
        Self::from_file(TensorFile::open(path)?, overrides)
            .map_err(|e| of_shard(e, path).at(path.display()))
    }

    /// A model file in memory: a vector, or static bytes of the program, which are not copied.
    ///
    /// # Errors
    /// As [`Model::read`].
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        Self::from_file(
            TensorFile::from_bytes(bytes)?,
            &ArchitectureOverride::default(),
        )
    }

    fn from_file(file: TensorFile, overrides: &ArchitectureOverride) -> Result<Self> {
        let metadata = match file.metadata("fullconv") {
            Some(text) => Self::metadata(text)?,
            None => Metadata::default(),
        };
        let (file, prefix) = unwrapped(file, &metadata)?;
        let checkpoint = checkpoint(&file);
        let mut network = network(&checkpoint, overrides, &metadata)?;
        let channels = network.channels;
        let Size { height, width } = network.size.unwrap_or(Size::square(NOMINAL_SIDE));
        let nominal = Shape::new(1, channels, height, width);
        let shapes = network.graph.shapes(nominal).map_err(|e| {
            let error = Error::new(ErrorKind::ModelFile, e.to_string());
            error.at(network.architecture).with_source(e)
        })?;
        let declared = Declared {
            activation: metadata.activation,
            values: metadata.values,
            threshold: metadata.threshold,
        };
        let end = end::of(&network.graph, &shapes, &|node| number(&file, node));
        let head = Head::of(shapes[network.graph.output().index()].c, end, declared)?;
        let classes = head.class_names(metadata.classes)?;
        let palette = head.palette(metadata.palette)?;
        let assumes_preprocessing = metadata.preprocess.is_none();
        let preprocessing =
            metadata
                .preprocess
                .unwrap_or(match (network.channels, network.input_convention) {
                    (3, InputConvention::Caffe) => Preprocessing::CAFFE,
                    (3, InputConvention::Torchvision) => Preprocessing::TORCHVISION,
                    (channels, _) => Preprocessing::assumed(channels),
                });
        preprocessing.validate(channels)?;
        check_sizes(&preprocessing, network.size)?;
        let of_stages = network.stages.iter().map(|stage| stage.weight.clone());
        let bilinear = network.bilinear.into_keys().chain(of_stages);
        let mut derived = bilinear.map(|name| (name, Derived::Bilinear)).collect();
        prepare::add_folds(&mut network.graph, &mut derived)?;
        let parameters = Parameters::new(file, derived);
        prepare::mark_diagonal_weights(&mut network.graph, &parameters);
        let model = Self(Arc::new(Inner {
            parameters: Arc::new(parameters),
            graph: network.graph,
            architecture: network.architecture,
            geometry: network.geometry,
            stages: network.stages,
            stride: network.stride,
            channels,
            size: network.size,
            preprocessing,
            assumes_preprocessing,
            classes: classes.into(),
            head,
            palette,
            description: metadata.description,
            license: metadata.license,
            prefix,
        }));
        model.check_parameters()?;
        Ok(model)
    }

    pub(crate) fn metadata(text: &str) -> Result<Metadata> {
        let metadata: Metadata = serde_json::from_str(text).map_err(|e| {
            Error::new(ErrorKind::ModelFile, format!("fullconv metadata: {e}")).with_source(e)
        })?;
        let unprintable = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
        let name = |class: &String| class.contains('\n') || unprintable(class);
        if metadata.classes.iter().any(name)
            || unprintable(&metadata.description)
            || unprintable(&metadata.license)
        {
            bail!(
                ModelFile,
                "fullconv metadata: names and texts hold control characters"
            );
        }
        if metadata.version != METADATA_VERSION {
            bail!(
                ModelFile,
                "fullconv metadata of version {}; this program reads version {METADATA_VERSION}",
                metadata.version
            );
        }
        Ok(metadata)
    }

    /// An error unless every parameter is there and of a type that can be read.
    fn check_parameters(&self) -> Result<()> {
        for node in self.0.graph.nodes() {
            if let NodeKind::Parameter(shape) = node.kind {
                self.0.parameters.get(&node.name, shape)?;
            }
        }
        Ok(())
    }

    /// The network, from a preprocessed input to the scores.
    pub fn graph(&self) -> &Graph {
        &self.0.graph
    }

    /// Its weights.
    pub fn parameters(&self) -> &Parameters {
        &self.0.parameters
    }

    /// The architecture, such as `fcn8s`; `graph` for a file with a graph of its own.
    pub fn architecture(&self) -> &'static str {
        self.0.architecture
    }

    /// The treatment of borders, if the architecture leaves it open: `caffe`, `floor` or `same`.
    pub fn geometry(&self) -> Option<&'static str> {
        self.0.geometry
    }

    /// Its predictions at coarser strides, the coarsest first; empty if it has only one.
    pub fn stages(&self) -> &[FcnStage] {
        &self.0.stages
    }

    /// Pixels from one of its own predictions to the next, if it has coarser ones.
    pub fn stride(&self) -> Option<usize> {
        self.0.stride
    }

    /// The size and normalisation of its input pictures.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.0.preprocessing
    }

    /// Whether its file does not say how pictures are preprocessed, so that [`Model::preprocessing`] is an assumption.
    pub fn assumes_preprocessing(&self) -> bool {
        self.0.assumes_preprocessing
    }

    /// The number of its input channels.
    pub fn input_channels(&self) -> usize {
        self.0.channels
    }

    /// The only size of its input, if it takes no other: pictures are resized to it.
    pub fn input_size(&self) -> Option<Size> {
        self.0.size
    }

    /// An error unless it takes a preprocessed input of `shape`.
    pub(crate) fn check_input(&self, shape: Shape) -> Result<()> {
        let size = Size::new(shape.h, shape.w);
        if let Some(only) = self.input_size().filter(|only| *only != size) {
            bail!(
                Shape,
                "the input has {size} pixels (height x width); {self} takes {only} only"
            );
        }
        Ok(())
    }

    /// The names of its classes; empty if the file has none.
    pub fn classes(&self) -> &Arc<[String]> {
        &self.0.classes
    }

    /// Its number of classes; 2 for a binary network, whose output has one channel.
    pub fn class_count(&self) -> usize {
        self.0.head.class_count()
    }

    /// What the channels of its output mean.
    pub fn head(&self) -> &Head {
        &self.0.head
    }

    /// The same model with another threshold: the probability, between 0 and 1, from which a pixel is class 1.
    ///
    /// # Errors
    /// `Request` for another number, or if the network is not binary.
    pub fn with_threshold(mut self, threshold: f32) -> Result<Self> {
        Arc::make_mut(&mut self.0).head = self.0.head.with_threshold(threshold)?;
        Ok(self)
    }

    /// Whether its class ids fit a byte, as masks need: at most 255 classes.
    pub fn has_labels(&self) -> bool {
        self.class_count() <= MAX_CLASSES
    }

    /// The colours of its classes.
    pub fn palette(&self) -> &Palette {
        &self.0.palette
    }

    /// The file's description of itself.
    pub fn description(&self) -> &str {
        &self.0.description
    }

    /// The licence of its weights; empty if the file has none.
    pub fn license(&self) -> &str {
        &self.0.license
    }

    /// What stands before the name of each of the network's tensors in the file, such as `module.`, and is left out of
    /// [`Model::parameters`]; empty if nothing does.
    pub fn name_prefix(&self) -> &str {
        &self.0.prefix
    }

    /// The tensors in the file that the network does not use.
    pub fn unused_tensors(&self) -> Vec<&str> {
        let names = self.0.parameters.file().tensors().map(|(name, _)| name);
        names.filter(|n| self.0.graph.find(n).is_none()).collect()
    }

    /// The size at which the network gets a picture of `size`: that of the preprocessing, or the next larger size that
    /// the network takes.
    ///
    /// # Errors
    /// `Shape` if the network takes no size near it.
    pub fn network_size(&self, size: Size) -> Result<Size> {
        if let Some(only) = self.input_size() {
            return Ok(only);
        }
        let Size { height, width } = self.0.preprocessing.network_size(size);
        Ok(Size::new(self.side_from(height)?, self.side_from(width)?))
    }

    /// The least side, from `side` on, that the network takes.
    pub(crate) fn side_from(&self, side: usize) -> Result<usize> {
        let square = |side: usize| Shape::new(1, self.0.channels, side, side);
        let fits = |side: &usize| self.0.graph.shapes(square(*side)).is_ok();
        match (side..side.saturating_add(SIDES_TRIED)).find(fits) {
            Some(side) => Ok(side),
            None => bail!(
                Shape,
                "{self} takes no picture with a side of {side} pixels"
            ),
        }
    }
}

/// The architecture, and the geometry if there are several.
impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.architecture())?;
        self.geometry()
            .map_or(Ok(()), |geometry| write!(f, " ({geometry})"))
    }
}

/// An error if `preprocessing` resizes pictures to anything but the network's only size, if it has one.
fn check_sizes(preprocessing: &Preprocessing, only: Option<Size>) -> Result<()> {
    let Some(only) = only else { return Ok(()) };
    let others = preprocessing.long_side.is_some() || preprocessing.short_side.is_some();
    let size = preprocessing.size.unwrap_or(only.axes());
    if others || size != only.axes() {
        bail!(
            ModelFile,
            "preprocess: the network takes {only} only (graph.size): leave long_side, short_side and size out"
        );
    }
    Ok(())
}

/// `error` with what to do if the file is only a shard, `NAME-00001-of-00002.safetensors`.
#[cfg(not(target_arch = "wasm32"))]
fn of_shard(error: Error, path: &Path) -> Error {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let parts = name.strip_suffix(".safetensors").and_then(|name| {
        let (before, of) = name.rsplit_once("-of-")?;
        let (before, number) = before.rsplit_once('-')?;
        Some((before, number, of))
    });
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    match parts {
        Some((before, number, of)) if is_number(number) && is_number(of) => {
            let text = format!(
                "{error}; the file is shard {number} of {of}: open the index, {before}.safetensors.index.json"
            );
            Error::new(error.kind(), text)
        }
        _ => error,
    }
}

/// The number that the tensor of a node holds everywhere, if it is a small tensor and does.
fn number(file: &TensorFile, node: &Node) -> Option<f64> {
    let NodeKind::Parameter(shape) = node.kind else {
        return None;
    };
    if shape.elements() > MOST_NUMBERS {
        return None;
    }
    let tensor = file.tensor(&node.name).ok()?;
    let first = *tensor.data().first()?;
    let same = tensor.data().iter().all(|x| *x == first);
    same.then_some(f64::from(first))
}

/// Names and shapes of the tensors of `file`.
fn checkpoint(file: &TensorFile) -> Checkpoint {
    let tensors = file.tensors();
    tensors
        .map(|(name, shape)| (name.to_owned(), shape.to_vec()))
        .collect()
}

/// The file without what stands before the names of a known network, and that prefix. A graph names its tensors whole.
fn unwrapped(file: TensorFile, metadata: &Metadata) -> Result<(TensorFile, String)> {
    if metadata.graph.is_some() {
        return Ok((file, String::new()));
    }
    let prefix = models::prefix(&checkpoint(&file))?;
    Ok((file.without_prefix(&prefix), prefix))
}

/// The network that is chosen, or else described or named in the file, or else recognised from its tensors.
pub(crate) fn network(
    checkpoint: &Checkpoint,
    overrides: &ArchitectureOverride,
    metadata: &Metadata,
) -> Result<NetworkDefinition> {
    match (&metadata.graph, &overrides.architecture) {
        (Some(_), None) if metadata.architecture.is_some() => bail!(
            ModelFile,
            "fullconv metadata: a file has a graph of its own or an architecture, not both"
        ),
        (Some(_), None) if overrides.geometry.is_some() || metadata.geometry.is_some() => bail!(
            Request,
            "the file holds a graph of its own, which has no other geometry"
        ),
        (Some(graph), None) => models::build_described(checkpoint, graph, NOMINAL_SIDE),
        _ => {
            let overrides = ArchitectureOverride {
                architecture: overrides
                    .architecture
                    .clone()
                    .or(metadata.architecture.clone()),
                geometry: overrides.geometry.clone().or(metadata.geometry.clone()),
            };
            models::build(checkpoint, &overrides)
        }
    }
}

//! Turns checkpoints into model files: the network's tensor names, weights in f16, metadata. Turns VGG16 classifiers
//! into FCNs to start training from.

use crate::error::{Error, ErrorKind, Result, bail};
use crate::files;
use crate::graph::NodeKind;
use crate::model_file::{self, METADATA_VERSION, Metadata, Model, Values};
use crate::models::{self, ArchitectureOverride, Checkpoint};
use crate::ops::Activation;
use crate::ops::narrow;
use crate::ops::packing::RowSource;
use crate::parameters::{Parameter, TensorFile};
use crate::preprocess::Preprocessing;
use crate::tensor::Shape;
use safetensors::{Dtype, View};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// How a checkpoint is converted.
#[derive(Clone, Debug, Default)]
pub struct Conversion {
    /// Prefixes of tensor names and their replacements: the first that matches is used.
    pub renames: Vec<(String, String)>,
    /// Architecture and geometry, if the names do not tell.
    pub overrides: ArchitectureOverride,
    /// The FCN architecture, and its number of classes, to make of a VGG16 classifier as the start of training.
    pub start: Option<(String, usize)>,
    /// Store weights in f16.
    pub half: bool,
    /// The preprocessing in the metadata; by default the checkpoint's own, or the network's usual one.
    pub preprocess: Option<Preprocessing>,
    /// The function that makes probabilities of the scores; by default the checkpoint's own.
    pub activation: Option<Activation>,
    /// What the network's output holds, if its graph does not tell; by default the checkpoint's own.
    pub values: Option<Values>,
    /// The probability from which a pixel is class 1 of a binary network; by default the checkpoint's own.
    pub threshold: Option<f32>,
    /// The names of the classes.
    pub classes: Vec<String>,
}

/// The result of a conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Converted {
    /// The tensors written, by their new names, with their origins.
    pub written: Vec<(String, Origin)>,
    /// Tensors of the checkpoint that the network does not use, by their old names.
    pub left_out: Vec<String>,
    /// The architecture and geometry of the model file.
    pub model: String,
}

/// The origin of a model file's tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A tensor of the checkpoint.
    Tensor(String),
    /// Zeros.
    Zeros,
    /// Bilinear interpolation.
    Bilinear,
}

/// The convolutions in the five stages of VGG16, by their numbers in torchvision's `features`.
const VGG16: [&[usize]; 5] = [
    &[0, 2],
    &[5, 7],
    &[10, 12, 14],
    &[17, 19, 21],
    &[24, 26, 28],
];

impl Conversion {
    /// Writes the model file at `output`, whole or not at all, and checks that it opens.
    ///
    /// # Errors
    /// `ModelFile` if the tensors match no known network, or one is missing, not finite or too large for f16;
    /// `Request` for an unknown architecture; `Io` if the file cannot be written, or is the checkpoint itself.
    pub fn run(&self, file: &TensorFile, output: &Path) -> Result<Converted> {
        if file.reads(output) {
            bail!(
                Io,
                "cannot write {}: it is the file that is read; give the model file another name",
                output.display()
            );
        }
        let metadata = match file.metadata("fullconv") {
            Some(text) => Model::metadata(text)?,
            None => Metadata::default(),
        };
        let metadata = self.metadata(metadata);
        let mut tensors = self.tensors(file, &metadata)?;
        let left_out = self.left_out(file, &mut tensors, &metadata)?;
        for (name, tensor) in &tensors {
            tensor.check(file, name, self.half)?;
        }
        let text = serde_json::to_string(&metadata)
            .map_err(|e| Error::new(ErrorKind::Request, format!("metadata: {e}")).with_source(e))?;
        let entries = HashMap::from([("fullconv".to_owned(), text)]);
        let mut model = String::new();
        files::write_atomically_with(output, |path| {
            let unread = RefCell::new(None);
            let views = tensors.iter().map(|(name, tensor)| {
                let stored = Rewritten {
                    tensor,
                    file,
                    half: self.half,
                    unread: &unread,
                };
                (name, stored)
            });
            safetensors::serialize_to_file(views, Some(entries), path).map_err(|e| {
                let text = format!("cannot write {}: {e}", output.display());
                Error::new(ErrorKind::Io, text).with_source(e)
            })?;
            if let Some(error) = unread.take() {
                return Err(error);
            }
            model = Model::read(path)
                .map_err(|error| {
                    // The file has its name only when it is whole.
                    let (temporary, name) = (path.display(), output.display());
                    let text = error
                        .to_string()
                        .replace(&temporary.to_string(), &name.to_string());
                    Error::new(error.kind(), text)
                })?
                .to_string();
            Ok(())
        })?;
        let written = tensors
            .into_iter()
            .map(|(name, tensor)| (name, tensor.origin));
        Ok(Converted {
            written: written.collect(),
            left_out,
            model,
        })
    }

    /// The metadata of the new file.
    fn metadata(&self, old: Metadata) -> Metadata {
        let (architecture, geometry) = match &self.start {
            Some((architecture, _)) => {
                (Some(architecture.clone()), self.overrides.geometry.clone())
            }
            None => (
                self.overrides.architecture.clone().or(old.architecture),
                self.overrides.geometry.clone().or(old.geometry),
            ),
        };
        Metadata {
            version: METADATA_VERSION,
            architecture,
            geometry,
            preprocess: self.preprocess.clone().or(old.preprocess).or_else(|| {
                // The weights are torchvision's, although networks of this family are Caffe's by default.
                self.start.is_some().then_some(Preprocessing::TORCHVISION)
            }),
            activation: self.activation.or(old.activation),
            values: self.values.or(old.values),
            threshold: self.threshold.or(old.threshold),
            classes: match self.classes.is_empty() {
                true => old.classes,
                false => self.classes.clone(),
            },
            ..old
        }
    }

    /// All tensors under the network's names.
    fn tensors(&self, file: &TensorFile, metadata: &Metadata) -> Result<BTreeMap<String, Made>> {
        let mut tensors = BTreeMap::new();
        for (old, dimensions) in file.tensors() {
            let name = self.renamed(old);
            let made = Made {
                dimensions: dimensions.to_vec(),
                origin: Origin::Tensor(old.to_owned()),
            };
            if let Some(Made {
                origin: Origin::Tensor(other),
                ..
            }) = tensors.insert(name.clone(), made)
            {
                bail!(Request, "{other} and {old} would both be called {name}");
            }
        }
        if metadata.graph.is_none() {
            unwrap_names(&mut tensors)?;
        }
        match &self.start {
            Some((architecture, classes)) => start(tensors, architecture, *classes),
            None => {
                name_trunk(&mut tensors);
                Ok(tensors)
            }
        }
    }

    fn renamed(&self, name: &str) -> String {
        let renamed = self.renames.iter().find_map(|(old, new)| {
            let rest = name.strip_prefix(old.as_str())?;
            Some(format!("{new}{rest}"))
        });
        renamed.unwrap_or_else(|| name.to_owned())
    }

    /// Removes the tensors that the network does not use, and returns their old names.
    fn left_out(
        &self,
        file: &TensorFile,
        tensors: &mut BTreeMap<String, Made>,
        metadata: &Metadata,
    ) -> Result<Vec<String>> {
        // The chosen architecture and geometry are in the metadata.
        let network = model_file::network(
            &checkpoint(tensors),
            &ArchitectureOverride::default(),
            metadata,
        )?;
        let is_used = |name: &str| {
            let node = network.graph.find(name).map(|id| network.graph.node(id));
            node.is_some_and(|node| matches!(node.kind, NodeKind::Parameter(_)))
        };
        tensors.retain(|name, _| is_used(name));
        let used: Vec<_> = tensors.values().map(|t| &t.origin).collect();
        let names = file.tensors().map(|(name, _)| name.to_owned());
        Ok(names
            .filter(|name| !used.contains(&&Origin::Tensor(name.clone())))
            .collect())
    }
}

/// Names and shapes of all tensors.
fn checkpoint(tensors: &BTreeMap<String, Made>) -> Checkpoint {
    tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.dimensions.clone()))
        .collect()
}

/// Removes what stands before the names of the network, such as `module.`.
fn unwrap_names(tensors: &mut BTreeMap<String, Made>) -> Result<()> {
    let prefix = models::prefix_or_shared(&checkpoint(tensors))?;
    if prefix.is_empty() {
        return Ok(());
    }
    let (own, others): (Vec<_>, Vec<_>) = std::mem::take(tensors)
        .into_iter()
        .partition(|(name, _)| name.starts_with(&prefix));
    let own = own.into_iter();
    let own = own.map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor));
    // The network's own tensors come last: they replace others of their names.
    tensors.extend(others.into_iter().chain(own));
    Ok(())
}

/// Gives a VGG16 trunk Caffe's names if it has torchvision's names beside the score layers of an FCN; its fully
/// connected layers become convolutions.
fn name_trunk(tensors: &mut BTreeMap<String, Made>) {
    if tensors.contains_key("features.0.weight") && tensors.contains_key("score_fr.weight") {
        *tensors = std::mem::take(tensors)
            .into_iter()
            .map(|(name, tensor)| match caffe_name(&name) {
                Some(caffe) => convolutional(caffe, tensor),
                None => (name, tensor),
            })
            .collect();
    }
}

/// Caffe's name of a tensor of torchvision's VGG16.
fn caffe_name(name: &str) -> Option<String> {
    let (layer, part) = name.rsplit_once('.')?;
    let caffe = match layer {
        "classifier.0" => "fc6".to_owned(),
        "classifier.3" => "fc7".to_owned(),
        _ => {
            let i: usize = layer.strip_prefix("features.")?.parse().ok()?;
            let stages = VGG16.iter().enumerate();
            let mut at =
                stages.filter_map(|(s, convs)| Some((s, convs.iter().position(|c| *c == i)?)));
            let (stage, conv) = at.next()?;
            format!("conv{}_{}", stage + 1, conv + 1)
        }
    };
    Some(format!("{caffe}.{part}"))
}

/// The tensor under Caffe's name; the matrix of a fully connected layer becomes the weight of a convolution.
fn convolutional(name: String, tensor: Made) -> (String, Made) {
    let side = match name.as_str() {
        "fc6.weight" => 7,
        "fc7.weight" => 1,
        _ => return (name, tensor),
    };
    let dimensions = match tensor.dimensions[..] {
        [out, inputs] if inputs.is_multiple_of(side * side) => {
            vec![out, inputs / (side * side), side, side]
        }
        _ => tensor.dimensions,
    };
    let origin = tensor.origin;
    (name, Made { dimensions, origin })
}

/// An FCN to start training from, made of a VGG16 classifier: score layers are zero, upsampling is bilinear (Long,
/// Shelhamer, Darrell 2015, section 4).
fn start(
    classifier: BTreeMap<String, Made>,
    architecture: &str,
    classes: usize,
) -> Result<BTreeMap<String, Made>> {
    if classes == 0 {
        bail!(Request, "a network has at least one class");
    }
    let mut tensors: BTreeMap<String, Made> = classifier
        .into_iter()
        .filter_map(|(name, tensor)| Some(convolutional(caffe_name(&name)?, tensor)))
        .collect();
    let layers = ["fc6.weight", "fc7.weight"];
    if let Some(missing) = layers.iter().find(|name| !tensors.contains_key(**name)) {
        bail!(
            ModelFile,
            "not a VGG16 classifier: tensor {missing} is missing (classifier.0, classifier.3)"
        );
    }
    let channels = |name: &str| match tensors.get(name).and_then(|t| t.dimensions.first()) {
        Some(channels) => Ok(*channels),
        None => Err(Error::new(
            ErrorKind::ModelFile,
            format!("tensor {name} is missing"),
        )),
    };
    let scores: &[(&str, &str)] = match architecture {
        "fcn32s" => &[("score_fr", "fc7")],
        "fcn16s" => &[("score_fr", "fc7"), ("score_pool4", "conv4_3")],
        _ => &[
            ("score_fr", "fc7"),
            ("score_pool4", "conv4_3"),
            ("score_pool3", "conv3_3"),
        ],
    };
    let upsampling: &[(&str, usize)] = match architecture {
        "fcn32s" => &[("upscore", 64)],
        "fcn16s" => &[("upscore2", 4), ("upscore16", 32)],
        _ => &[("upscore2", 4), ("upscore_pool4", 4), ("upscore8", 16)],
    };
    let mut added = Vec::new();
    for (name, of) in scores {
        let inputs = channels(&format!("{of}.weight"))?;
        added.push((
            format!("{name}.weight"),
            vec![classes, inputs, 1, 1],
            Origin::Zeros,
        ));
        added.push((format!("{name}.bias"), vec![classes], Origin::Zeros));
    }
    for (name, side) in upsampling {
        let dimensions = vec![classes, classes, *side, *side];
        added.push((format!("{name}.weight"), dimensions, Origin::Bilinear));
    }
    let added = added.into_iter();
    tensors.extend(added.map(|(name, dimensions, origin)| (name, Made { dimensions, origin })));
    Ok(tensors)
}

/// A tensor of the new file.
#[derive(Clone, Debug)]
struct Made {
    dimensions: Vec<usize>,
    origin: Origin,
}

impl Made {
    fn elements(&self) -> usize {
        self.dimensions.iter().product()
    }

    /// Its numbers, row by row; `None` for zeros.
    fn rows<'a>(&'a self, file: &'a TensorFile) -> Result<Option<Parameter<'a>>> {
        let (n, c, h, w) = match self.dimensions[..] {
            [] => (1, 1, 1, 1),
            [n, c, h, w] => (n, c, h, w),
            [n, ref others @ ..] => (n, others.iter().product(), 1, 1),
        };
        let shape = Shape::new(n, c, h, w);
        match &self.origin {
            Origin::Tensor(old) => file.view(old, shape).map(Some),
            Origin::Bilinear => Ok(Some(Parameter::bilinear(shape))),
            Origin::Zeros => Ok(None),
        }
    }

    /// An error unless every number is finite and fits its stored type.
    fn check(&self, file: &TensorFile, name: &str, half: bool) -> Result<()> {
        let Some(rows) = self.rows(file)? else {
            return Ok(());
        };
        for i in 0..self.dimensions.first().copied().unwrap_or(1) {
            let row = rows.row(i)?;
            if half && let Some(large) = row.iter().find(|x| !narrow::holds(**x)) {
                bail!(
                    ModelFile,
                    "{name} has a weight of {large}: f16 holds numbers up to {}; convert without --half",
                    narrow::MAX
                );
            }
        }
        Ok(())
    }
}

/// A tensor as it is written: in its own type, or in f16 if `half`.
struct Rewritten<'a> {
    tensor: &'a Made,
    file: &'a TensorFile,
    half: bool,
    /// The error of a tensor that could not be read while it was written: a view cannot return it.
    unread: &'a RefCell<Option<Error>>,
}

impl Rewritten<'_> {
    /// The type and the name of the checkpoint's tensor, if it is one.
    fn own(&self) -> Option<(Dtype, &str)> {
        match &self.tensor.origin {
            Origin::Tensor(old) => Some((self.file.type_of(old)?, old)),
            _ => None,
        }
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let dtype = self.dtype();
        if let Some((own, name)) = self.own()
            && own == dtype
        {
            return self.file.raw(name);
        }
        let mut data = Vec::with_capacity(self.data_len());
        if let Some(rows) = self.tensor.rows(self.file)? {
            for i in 0..self.tensor.dimensions.first().copied().unwrap_or(1) {
                let row = rows.row(i)?;
                match self.half {
                    true => data.extend(
                        narrow::from_f32(&row)
                            .into_iter()
                            .flat_map(u16::to_le_bytes),
                    ),
                    false => data.extend(row.iter().flat_map(|x| x.to_le_bytes())),
                }
            }
        }
        data.resize(self.data_len(), 0);
        Ok(Cow::Owned(data))
    }
}

impl View for Rewritten<'_> {
    fn dtype(&self) -> Dtype {
        match (self.half, self.own()) {
            (true, _) => Dtype::F16,
            (false, Some((dtype, _))) => dtype,
            (false, None) => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.dimensions
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes().unwrap_or_else(|error| {
            self.unread.borrow_mut().get_or_insert(error);
            Cow::Owned(vec![0; self.data_len()])
        })
    }

    fn data_len(&self) -> usize {
        self.tensor.elements() * self.dtype().bitsize() / 8
    }
}

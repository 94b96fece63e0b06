//! The request to a network: the key of the executor pool, and the graph that answers it.
//!
//! The nodes that a request adds have names that no node of the network has.

use crate::error::{Result, bail};
use crate::graph::{Graph, NodeId};
use crate::model_file::Model;
use crate::ops::{Interpolate, Op};
use crate::preprocess::{Form, PictureInput};
use crate::size::Size;
use crate::tensor::Shape;
use std::sync::Arc;

/// The node that holds the class of each pixel.
const LABELS: &str = "labels";
/// The input of a graph that begins with a picture.
const PICTURE: &str = "picture";
/// Pipelines and weights are loaded for a picture of about this side, and serve all sizes.
const NOMINAL_SIDE: usize = 64;

/// The requested outputs of a network, and the shape of the input. Equal requests to one model have equal graphs, and
/// share a plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    wanted: Wanted,
    /// `[n, c, h, w]`: of the pictures, or of the preprocessed input.
    input: Shape,
    /// The form of the pictures; of a preprocessed input, values.
    form: Form,
}

/// The requested outputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    /// The class of each pixel of a picture, at the picture's size.
    Labels,
    /// The network's output for a picture, at its own size.
    Scores,
    /// The network's output for a picture, as probabilities, at the picture's size.
    Probabilities,
    /// The labels at each of the network's strides, at the picture's size, the coarsest first.
    Stages,
    /// For a preprocessed input: the scores, the nodes of these names, and the labels if the network has any.
    Run { fetch: Vec<String> },
    /// The nodes of these names, from preprocessing or the network's input to the labels.
    Nodes { begin: Begin, names: Vec<String> },
}

/// The input of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Begin {
    /// Pictures in this form, which are preprocessed first.
    Picture(Form),
    /// A preprocessed input.
    Tensor,
}

/// The graph that answers a request.
#[derive(Debug)]
pub(crate) struct Task {
    pub graph: Graph,
    /// The nodes whose values are the answer, in the order of the answer.
    pub outputs: Vec<NodeId>,
}

impl Request {
    /// The labels of `pictures`.
    pub(super) fn labels(pictures: PictureInput) -> Self {
        Self::of_pictures(Wanted::Labels, pictures)
    }

    /// The scores of `pictures`.
    pub(super) fn scores(pictures: PictureInput) -> Self {
        Self::of_pictures(Wanted::Scores, pictures)
    }

    /// The probabilities at each pixel of `pictures`.
    pub(super) fn probabilities(pictures: PictureInput) -> Self {
        Self::of_pictures(Wanted::Probabilities, pictures)
    }

    /// The labels of `pictures` at each stride of the network.
    pub(super) fn stages(pictures: PictureInput) -> Self {
        Self::of_pictures(Wanted::Stages, pictures)
    }

    /// The outputs of [`Segmenter::run`](super::Segmenter::run) for an input of shape `input`.
    pub(super) fn run(input: Shape, fetch: &[&str]) -> Self {
        let fetch = fetch.iter().map(|name| name.to_string()).collect();
        Self {
            wanted: Wanted::Run { fetch },
            input,
            form: Form::Values,
        }
    }

    /// The values of the nodes called `names` of [`whole_graph`], for an input of shape `input`.
    pub(crate) fn nodes(begin: Begin, input: Shape, names: Vec<String>) -> Self {
        Self {
            wanted: Wanted::Nodes { begin, names },
            input,
            form: Form::Values,
        }
    }

    fn of_pictures(wanted: Wanted, pictures: PictureInput) -> Self {
        Self {
            wanted,
            input: pictures.shape,
            form: pictures.form,
        }
    }

    /// The shape of the input.
    pub(super) fn input(&self) -> Shape {
        self.input
    }

    /// The same request for `n` images.
    pub(super) fn with_batch(&self, n: usize) -> Self {
        Self {
            wanted: self.wanted.clone(),
            input: self.input.with_batch(n),
            form: self.form,
        }
    }

    /// The graph of `model` that answers it.
    ///
    /// # Errors
    /// `Shape` if the network cannot take the size; `Request` for an unknown node, or if the network has no
    /// stages.
    pub(super) fn task(&self, model: &Model) -> Result<Task> {
        let size = Size::new(self.input.h, self.input.w);
        let pictures = PictureInput {
            shape: self.input,
            form: self.form,
        };
        match &self.wanted {
            Wanted::Labels => {
                let graph = picture_graph(model, pictures, model.network_size(size)?)?;
                Ok(Task::of_output(graph))
            }
            Wanted::Scores => {
                let graph = network_graph(model, self.form, model.network_size(size)?)?;
                Ok(Task::of_output(graph))
            }
            Wanted::Probabilities => {
                let mut graph = network_graph(model, self.form, model.network_size(size)?)?;
                let output = graph.output();
                let scores = at_size(&mut graph, "resized", output, self.input)?;
                if let Some(op) = model.head().to_probabilities() {
                    add(&mut graph, "probabilities", op, scores)?;
                }
                Ok(Task::of_output(graph))
            }
            Wanted::Stages => stages(model, pictures),
            Wanted::Run { fetch } => {
                model.check_input(self.input)?;
                let mut graph = model.graph().clone();
                let mut outputs = vec![graph.output()];
                for name in fetch {
                    outputs.push(graph.find_op(name)?);
                }
                outputs.extend(add_labels(&mut graph, model)?);
                Ok(Task { graph, outputs })
            }
            Wanted::Nodes { begin, names } => {
                let graph = whole_graph(model, *begin, self.input)?;
                let outputs = names.iter().map(|name| graph.find_op(name));
                let outputs = outputs.collect::<Result<_>>()?;
                Ok(Task { graph, outputs })
            }
        }
    }
}

impl Task {
    fn of_output(graph: Graph) -> Self {
        let outputs = vec![graph.output()];
        Self { graph, outputs }
    }
}

/// The whole graph of `model` to the labels, for an input of shape `input`.
pub(crate) fn whole_graph(model: &Model, begin: Begin, input: Shape) -> Result<Graph> {
    match begin {
        Begin::Picture(form) => {
            let pictures = PictureInput { shape: input, form };
            let size = Size::new(input.h, input.w);
            picture_graph(model, pictures, model.network_size(size)?)
        }
        Begin::Tensor => {
            model.check_input(input)?;
            let mut graph = model.graph().clone();
            add_labels(&mut graph, model)?;
            Ok(graph)
        }
    }
}

/// Graphs of small pictures, with and without a resize of the scores. Together they need every pipeline and weight
/// that a picture of any size needs.
pub(super) fn nominal_graphs(model: &Model) -> Result<Vec<(Graph, Shape)>> {
    let size = match model.input_size() {
        Some(only) => only,
        None => Size::square(model.side_from(NOMINAL_SIDE)?),
    };
    let Size { height, width } = size;
    if !model.has_labels() {
        let input = Shape::new(1, model.input_channels(), height, width);
        return Ok(vec![(model.graph().clone(), input)]);
    }
    let preprocessing = model.preprocessing();
    [size, Size::new(height + 1, width + 1)]
        .map(|of_picture| {
            let pictures = preprocessing.input(1, of_picture, preprocessing.usual_form());
            let graph = picture_graph(model, pictures, size)?;
            Ok((graph, pictures.shape))
        })
        .into_iter()
        .collect()
}

/// The graph that [`Segmenter::segment`](super::Segmenter::segment) runs for a picture of `size`, and the shape of its
/// input.
///
/// # Errors
/// `Shape` if the network cannot take the size.
pub fn labels_graph(model: &Model, size: Size) -> Result<(Graph, Shape)> {
    let preprocessing = model.preprocessing();
    let pictures = preprocessing.input(1, size, preprocessing.usual_form());
    let graph = picture_graph(model, pictures, model.network_size(size)?)?;
    Ok((graph, pictures.shape))
}

/// Preprocess, the network at `network_size`, scores at the pictures' size, labels.
fn picture_graph(model: &Model, pictures: PictureInput, network_size: Size) -> Result<Graph> {
    let mut graph = network_graph(model, pictures.form, network_size)?;
    let output = graph.output();
    let scores = at_size(&mut graph, "resized", output, pictures.shape)?;
    add(&mut graph, LABELS, model.head().labels(), scores)?;
    Ok(graph)
}

/// Pictures in `form`, preprocessed to `network_size`, and the network.
fn network_graph(model: &Model, form: Form, network_size: Size) -> Result<Graph> {
    let (graph, preprocess) = (model.graph(), model.preprocessing().op(network_size, form));
    graph.after(&graph.free_name(PICTURE), preprocess)
}

/// Adds the labels to the network's own graph, if it has any.
fn add_labels(graph: &mut Graph, model: &Model) -> Result<Option<NodeId>> {
    if !model.has_labels() {
        return Ok(None);
    }
    let output = graph.output();
    add(graph, LABELS, model.head().labels(), output).map(Some)
}

/// Adds a node of this name, or of one like it that is free.
fn add(graph: &mut Graph, name: &str, op: Arc<dyn Op>, input: NodeId) -> Result<NodeId> {
    graph.shared_op(graph.free_name(name), op, &[input])
}

/// The labels of `pictures` at each of the network's strides, the network's own last.
fn stages(model: &Model, pictures: PictureInput) -> Result<Task> {
    let size = Size::new(pictures.shape.h, pictures.shape.w);
    let mut graph = network_graph(model, pictures.form, model.network_size(size)?)?;
    let output = graph.output();
    let image = graph.find_op(&model.graph().node(model.graph().input()).name)?;
    let mut scores: Vec<NodeId> = Vec::with_capacity(model.stages().len() + 1);
    for stage in model.stages() {
        let coarse = graph.find_op(&model.graph().node(stage.node).name)?;
        scores.push(stage.add_to(&mut graph, [coarse, image], model.head().channels)?);
    }
    scores.push(output);
    let mut outputs = Vec::with_capacity(scores.len());
    for (scores, stride) in scores.into_iter().zip(strides(model)?) {
        let name = format!("resized{stride}");
        let resized = at_size(&mut graph, &name, scores, pictures.shape)?;
        let name = format!("labels{stride}");
        outputs.push(add(&mut graph, &name, model.head().labels(), resized)?);
    }
    Ok(Task { graph, outputs })
}

/// Pixels from one prediction to the next at each of the network's strides, the coarsest first, its own last.
///
/// # Errors
/// `Request` for a network without coarser stages.
pub(super) fn strides(model: &Model) -> Result<Vec<usize>> {
    let Some(own) = model.stride().filter(|_| model.has_labels()) else {
        bail!(
            Request,
            "{model} has no coarser stages: FCN-8s and FCN-16s have, and graphs whose file names them"
        );
    };
    let coarse = model.stages().iter().map(|stage| stage.stride);
    Ok(coarse.chain([own]).collect())
}

/// The `scores` of pictures of shape `input` at their size: a resize called `name`, unless they already have this size.
fn at_size(graph: &mut Graph, name: &str, scores: NodeId, input: Shape) -> Result<NodeId> {
    let shapes = graph.shapes(input.with_batch(1))?;
    let Shape { h, w, .. } = shapes[scores.index()];
    let size = Size::new(input.h, input.w);
    if Size::new(h, w) == size {
        return Ok(scores);
    }
    let resize = Interpolate::bilinear(size.axes(), false);
    add(graph, name, Arc::new(resize), scores)
}

//! Picture → [`Mask`]: preprocess, network, labels, all of it on the device.

mod frames;
mod insight;
mod on_gpu;
mod texture;

pub use frames::Frames;
pub use insight::StageMask;
pub use texture::{Colours, MaskTexture, TexturePass};

use crate::error::{ErrorKind, Result, bail};
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::{self, TunedLayer};
use crate::gpu::{Gpu, LayerTimes, Network};
use crate::graph::{Graph, NodeId};
use crate::mask::Mask;
use crate::model_file::Model;
use crate::ops::argmax::NO_CLASS;
use crate::ops::{Argmax, Interpolate};
use crate::picture::Picture;
use crate::plan::Plan;
use crate::reference;
use crate::tensor::{Shape, Tensor};
use on_gpu::{OnGpu, Task};
use std::fmt;
#[cfg(not(target_arch = "wasm32"))]
use std::time::Duration;

/// The node that holds the class of each pixel.
const LABELS: &str = "labels";
/// The input of a graph that begins with a picture.
const PICTURE: &str = "picture";
/// Pipelines and weights are loaded for a picture of about this side; other sizes need no others.
const NOMINAL_SIDE: usize = 64;

/// How activations and weights are kept on a device. Sums are `f32` in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As `f32`.
    #[default]
    F32,
    /// As `f16`: half the memory, for devices with the feature `SHADER_F16`. A value larger than `f16`
    /// holds is an error that names the layer.
    F16,
}

/// A model on a device, ready for pictures of any size.
///
/// ```no_run
/// # async fn example() -> fullconv::Result<()> {
/// use fullconv::{Gpu, Model, Picture, Segmenter};
///
/// let gpu = Gpu::new().await?;
/// let segmenter = Segmenter::new(&gpu, &Model::read("fcn8s.safetensors")?).await?;
/// let picture = Picture::open("street.jpg")?;
/// let mask = segmenter.segment(&picture).await?;
/// mask.overlay(&picture, 0.5)?.save("street.overlay.png")?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Segmenter {
    model: Model,
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    Gpu(Box<OnGpu>),
    Reference,
}

/// What [`Segmenter::run`] gives back.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Class scores before softmax, `[n, classes, h, w]`.
    pub output: Tensor,
    /// The class of each pixel, `[n, 1, h, w]`; absent for a network of more than 255 classes.
    pub labels: Option<Tensor>,
    /// The nodes asked for, by name, in the order asked.
    pub fetched: Vec<(String, Tensor)>,
}

/// What [`Segmenter::profile`] measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// What was run.
    pub plan: Plan,
    /// Milliseconds of the first run, planning and making buffers included.
    pub first_ms: f64,
    /// Milliseconds of each run after it.
    pub run_ms: Vec<f64>,
    /// How long each layer took in one more run.
    pub layers: LayerTimes,
}

impl Profile {
    /// The median of the runs, in milliseconds.
    pub fn median_ms(&self) -> f64 {
        let mut sorted = self.run_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => 0.0,
            n if n % 2 == 1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        }
    }
}

impl Segmenter {
    /// Compiles the model's pipelines and uploads its weights.
    ///
    /// # Errors
    /// `ModelFile` if a weight cannot be used; `Limit` or `Device` if the device cannot hold or run it, and
    /// `DeviceLost` if it is lost, which ends every function here that uses it.
    pub async fn new(gpu: &Gpu, model: &Model) -> Result<Self> {
        Self::with_precision(gpu, model, Precision::F32).await
    }

    /// The same, with activations and weights kept as `precision` says.
    ///
    /// # Errors
    /// As [`Segmenter::new`]; `Unsupported` if the device cannot keep them so, and `ModelFile` if a weight
    /// is too large.
    pub async fn with_precision(gpu: &Gpu, model: &Model, precision: Precision) -> Result<Self> {
        // Another segmenter may have loaded all of it, so that nothing below would tell.
        gpu.check_lost()?;
        let profile = match precision {
            Precision::F32 => gpu.profile().clone(),
            Precision::F16 => gpu.half_profile()?,
        };
        let network = Network::sharing_weights(gpu, model.parameters(), profile.half);
        for (graph, input) in nominal_graphs(model)? {
            let (outputs, choices) = ([graph.output()], gpu.choices());
            let plan = Plan::with_choices(&graph, input, &outputs, &profile, &choices)?;
            network.load(&plan, &graph, model.parameters()).await?;
        }
        gpu.keep_pipelines();
        Ok(Self {
            model: model.clone(),
            engine: Engine::Gpu(Box::new(OnGpu::new(network, profile))),
        })
    }

    /// The same on another device, when the one it has is lost: from the model, whose weights the host has or
    /// reads again. All that was under way has ended in errors of the kind
    /// [`DeviceLost`](ErrorKind::DeviceLost). What was made for the old device, as a [`TexturePass`] is, has to be
    /// made again.
    ///
    /// ```no_run
    /// # async fn example(segmenter: &mut fullconv::Segmenter, picture: &fullconv::Picture) -> fullconv::Result<()> {
    /// use fullconv::{ErrorKind, Gpu};
    ///
    /// let mask = match segmenter.segment(picture).await {
    ///     Err(error) if error.kind() == ErrorKind::DeviceLost => {
    ///         segmenter.recover(&Gpu::new().await?).await?;
    ///         segmenter.segment(picture).await?
    ///     }
    ///     result => result?,
    /// };
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Segmenter::with_precision`]; the segmenter is then as it was. `Request` on the CPU reference.
    pub async fn recover(&mut self, gpu: &Gpu) -> Result<()> {
        self.on_gpu()?;
        *self = Self::with_precision(gpu, &self.model, self.precision()).await?;
        Ok(())
    }

    /// A segmenter that runs on the CPU reference: slow, but right, and on any machine.
    pub fn on_cpu(model: &Model) -> Self {
        Self {
            model: model.clone(),
            engine: Engine::Reference,
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The device, for people.
    pub fn device(&self) -> String {
        match &self.engine {
            Engine::Gpu(on) => on.network.gpu().to_string(),
            Engine::Reference => "CPU reference".into(),
        }
    }

    /// How activations and weights are kept.
    pub fn precision(&self) -> Precision {
        match &self.engine {
            Engine::Gpu(on) if on.profile.half => Precision::F16,
            _ => Precision::F32,
        }
    }

    /// The class of each pixel of a picture, at the picture's own size.
    ///
    /// # Errors
    /// `Limit` if the picture is too large for the device, `Device` if that fails, `NotFinite` if the scores
    /// of a pixel are not finite, or a value is larger than `f16` holds where that is asked for.
    pub async fn segment(&self, picture: &Picture) -> Result<Mask> {
        let task = self.task(picture)?;
        let labels = match &self.engine {
            Engine::Reference => {
                let input = picture.to_tensor()?;
                let (graph, parameters) = (&task.graph, self.model.parameters());
                let outputs = reference::run(graph, parameters, &input, task.outputs())?;
                let labels = first(outputs.into_iter().map(|(_, value)| value))?;
                vec![labels.data().iter().map(|l| *l as u8).collect()]
            }
            Engine::Gpu(on) => {
                let mut lent = on.lend(&self.model, task).await?;
                let words = picture.to_rgba_words();
                lent.executor()?
                    .run_bytes(bytemuck::cast_slice(&words))
                    .await?
            }
        };
        self.mask([picture.height(), picture.width()], labels)
    }

    /// Many pictures, one after the other, several under way at a time.
    pub fn frames(&self) -> Frames<'_> {
        Frames::new(self)
    }

    /// What it takes to find the labels of `picture`.
    fn task(&self, picture: &Picture) -> Result<Task> {
        self.task_of([picture.height(), picture.width()])
    }

    /// The same, of a picture of `size` `[h, w]`.
    fn task_of(&self, size: [usize; 2]) -> Result<Task> {
        let graph = picture_graph(&self.model, size)?;
        let outputs = [graph.output()];
        Task::new(graph, Shape::new(1, 3, size[0], size[1]), &outputs)
    }

    /// The mask of a picture of `size` `[h, w]` from what its task gave back, which may be padded.
    fn mask(&self, [h, w]: [usize; 2], outputs: Vec<Vec<u8>>) -> Result<Mask> {
        let mut labels = outputs.into_iter().next().unwrap_or_default();
        labels.truncate(h * w);
        check_labels(labels.iter().copied(), w)?;
        let (classes, palette) = (self.model.classes().clone(), self.model.palette().clone());
        Mask::new(w, h, labels, classes, palette)
    }

    /// [`Segmenter::segment`] for programs that are not async.
    ///
    /// # Errors
    /// As [`Segmenter::segment`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn segment_blocking(&self, picture: &Picture) -> Result<Mask> {
        pollster::block_on(self.segment(picture))
    }

    /// Measures which kernels are the fastest for `batch` pictures that the network sees at `size` `[h, w]`,
    /// see [`Model::network_size`], for as long as `time`, and uses them from then on. Each is held to the CPU
    /// reference first. Where [`GpuOptions::cache`](crate::GpuOptions::cache) says so, the choice is kept for
    /// the next time.
    ///
    /// # Errors
    /// `Request` on the CPU reference, `Shape` if the network cannot take the size, else as
    /// [`Segmenter::segment`].
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn tune(
        &self,
        batch: usize,
        size: [usize; 2],
        time: Duration,
    ) -> Result<Vec<TunedLayer>> {
        let Engine::Gpu(on) = &self.engine else {
            bail!(Request, "the CPU reference has no kernels to choose from");
        };
        // Its buffers go before those of the candidates come, and its plan is an old one.
        on.forget();
        let (graph, parameters) = (self.model.graph(), self.model.parameters());
        let input = Shape::new(batch, 3, size[0], size[1]);
        let outputs = [graph.output()];
        let profile = &on.profile;
        gpu::tune(
            &on.network,
            profile,
            graph,
            input,
            &outputs,
            parameters,
            time,
        )
        .await
    }

    /// Measures the whole way of `batch` pictures of `size` `[h, w]`, from pixels in host memory to class
    /// ids in host memory: `runs` times after a first one, and then layer by layer.
    ///
    /// # Errors
    /// `Request` on the CPU reference or for no runs, else as [`Segmenter::segment`].
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn profile(&self, size: [usize; 2], batch: usize, runs: usize) -> Result<Profile> {
        if runs == 0 || batch == 0 {
            bail!(
                Request,
                "a profile is of at least one run of at least one picture"
            );
        }
        let graph = picture_graph(&self.model, size)?;
        let shape = Shape::new(batch, 3, size[0], size[1]);
        let begin = std::time::Instant::now();
        let outputs = [graph.output()];
        let task = Task::new(graph, shape, &outputs)?;
        let mut lent = self.on_gpu()?.lend(&self.model, task).await?;
        let executor = lent.executor()?;
        // Pixels of many colours; what they show does not matter.
        let words: Vec<u32> = (0..shape.pixels() as u32)
            .map(|i| i.wrapping_mul(2_654_435_761))
            .collect();
        executor.run_bytes(bytemuck::cast_slice(&words)).await?;
        let first_ms = begin.elapsed().as_secs_f64() * 1e3;
        let mut run_ms = Vec::with_capacity(runs);
        for _ in 0..runs {
            let begin = std::time::Instant::now();
            executor.run_bytes(bytemuck::cast_slice(&words)).await?;
            run_ms.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        let layers = executor.time_layers().await?;
        Ok(Profile {
            plan: executor.plan().clone(),
            first_ms,
            run_ms,
            layers,
        })
    }

    /// Runs the network on an input that is preprocessed already, `[n, 3, h, w]`, and gives back scores,
    /// labels and the values of the nodes in `fetch`. A batch too large for the device runs in parts.
    ///
    /// # Errors
    /// `Request` if there is no such node, `Shape` if the network cannot take the input, `Limit` if even
    /// one image is too large for the device, `NotFinite` as in [`Segmenter::segment`].
    pub async fn run(&self, input: &Tensor, fetch: &[&str]) -> Result<Run> {
        let mut graph = self.model.graph().clone();
        let mut outputs = vec![graph.output()];
        for name in fetch {
            outputs.push(graph.find_op(name)?);
        }
        if self.model.has_labels() {
            outputs.push(graph.op(LABELS, Argmax::default(), &[graph.output()])?);
        }
        let mut values = self.values(&graph, input, &outputs).await?.into_iter();
        let output = first(values.by_ref())?;
        let fetched = fetch.iter().map(|name| name.to_string());
        let fetched = fetched.zip(values.by_ref().take(fetch.len())).collect();
        let labels = values.next();
        if let Some(labels) = &labels {
            check_labels(labels.data().iter().map(|l| *l as u8), labels.shape().w)?;
        }
        Ok(Run {
            output,
            labels,
            fetched,
        })
    }

    /// The values of `outputs` of `graph`, on this segmenter's device, each whole.
    pub(crate) async fn values(
        &self,
        graph: &Graph,
        input: &Tensor,
        outputs: &[NodeId],
    ) -> Result<Vec<Tensor>> {
        if let Engine::Reference = self.engine {
            let values = reference::run(graph, self.model.parameters(), input, outputs)?;
            return Ok(values.into_iter().map(|(_, value)| value).collect());
        }
        let shape = input.shape();
        let mut at_once = shape.n;
        let mut parts: Vec<Vec<Tensor>> = Vec::new();
        let mut done = 0;
        while done < shape.n {
            let n = at_once.min(shape.n - done);
            let task = Task::new(graph.clone(), shape.with_batch(n), outputs)?;
            match self.on_gpu()?.lend(&self.model, task).await {
                Err(e) if e.kind() == ErrorKind::Limit && n > 1 => at_once = n.div_ceil(2),
                Err(e) => return Err(e),
                Ok(mut lent) => {
                    let input = images(input, done, n)?;
                    let values = lent.executor()?.run(&input).await?;
                    parts.push(values.into_iter().map(|(_, value)| value).collect());
                    done += n;
                }
            }
        }
        join(parts)
    }

    fn on_gpu(&self) -> Result<&OnGpu> {
        match &self.engine {
            Engine::Gpu(on) => Ok(on),
            Engine::Reference => bail!(Request, "the CPU reference is no device"),
        }
    }
}

impl fmt::Display for Segmenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.model.architecture(), self.device())
    }
}

/// The whole way of a picture of `size` `[h, w]`: preprocess, network, scores at the picture's size,
/// labels.
pub(crate) fn picture_graph(model: &Model, size: [usize; 2]) -> Result<Graph> {
    picture_graph_at(model, size, model.network_size(size)?)
}

/// The same, with the network at `network_size`.
fn picture_graph_at(model: &Model, size: [usize; 2], network_size: [usize; 2]) -> Result<Graph> {
    let mut graph = network_graph(model, network_size)?;
    let output = graph.output();
    let scores = at_size(&mut graph, "resized", output, size)?;
    graph.op(LABELS, Argmax::default(), &[scores])?;
    Ok(graph)
}

/// A picture, preprocessed to `network_size`, and the network.
fn network_graph(model: &Model, network_size: [usize; 2]) -> Result<Graph> {
    let preprocess = model.preprocessing().op(network_size);
    model.graph().after(PICTURE, preprocess)
}

/// The node that has `scores` of a picture of `size` `[h, w]` at that size: a resize called `name`, unless they have it.
fn at_size(graph: &mut Graph, name: &str, scores: NodeId, size: [usize; 2]) -> Result<NodeId> {
    let shapes = graph.shapes(Shape::new(1, 3, size[0], size[1]))?;
    let Shape { h, w, .. } = shapes[scores.index()];
    if [h, w] == size {
        return Ok(scores);
    }
    graph.op(name, Interpolate::bilinear(size, false), &[scores])
}

/// Graphs of small pictures, with a resize of the scores and without, that need every pipeline and weight
/// that a picture of any size does.
fn nominal_graphs(model: &Model) -> Result<Vec<(Graph, Shape)>> {
    let side = model.side_from(NOMINAL_SIDE)?;
    if !model.has_labels() {
        return Ok(vec![(model.graph().clone(), Shape::new(1, 3, side, side))]);
    }
    [side, side + 1]
        .map(|size| {
            let graph = picture_graph_at(model, [size; 2], [side; 2])?;
            Ok((graph, Shape::new(1, 3, size, size)))
        })
        .into_iter()
        .collect()
}

/// An error if a label is no class: its pixel's scores are not finite.
fn check_labels(labels: impl IntoIterator<Item = u8>, width: usize) -> Result<()> {
    if let Some(i) = labels.into_iter().position(|label| label == NO_CLASS) {
        bail!(
            NotFinite,
            "the scores of pixel ({}, {}) are not finite: the weights or the input are too large for f32 \
             (`fullconv compare` shows where)",
            i % width,
            i / width
        );
    }
    Ok(())
}

fn first(values: impl IntoIterator<Item = Tensor>) -> Result<Tensor> {
    match values.into_iter().next() {
        Some(value) => Ok(value),
        None => bail!(Request, "the network has no output"),
    }
}

/// `count` images of a batch, from `first` on.
fn images(batch: &Tensor, first: usize, count: usize) -> Result<Tensor> {
    let shape = batch.shape();
    let size = shape.with_batch(1).elements();
    let data = batch.data()[first * size..(first + count) * size].to_vec();
    Tensor::new(shape.with_batch(count), data)
}

/// Parts of batches, each with one tensor an output, to whole batches.
fn join(parts: Vec<Vec<Tensor>>) -> Result<Vec<Tensor>> {
    let mut whole: Vec<(Shape, Vec<f32>)> = Vec::new();
    for part in parts {
        for (i, value) in part.into_iter().enumerate() {
            let shape = value.shape();
            match whole.get_mut(i) {
                Some((all, data)) => {
                    all.n += shape.n;
                    data.extend(value.into_data());
                }
                None => whole.push((shape, value.into_data())),
            }
        }
    }
    whole
        .into_iter()
        .map(|(shape, data)| Tensor::new(shape, data))
        .collect()
}

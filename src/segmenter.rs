//! Picture → [`Mask`]: preprocess, network, labels, all of it on the device.

mod builder;
mod doubt;
mod executors;
mod frames;
mod insight;
mod request;
mod texture;

pub use builder::SegmenterBuilder;
pub use executors::PoolStats;
#[cfg(not(target_arch = "wasm32"))]
pub use frames::BlockingFrames;
pub use frames::Frames;
pub use insight::StageMask;
pub use request::labels_graph;
pub(crate) use request::{Begin, Request, whole_graph};
pub use texture::{Colours, MaskTexture, TexturePass};

use crate::error::{Result, bail};
use crate::gpu::low_level::{Executor, Pending};
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::{self, TunedLayer};
use crate::gpu::{Gpu, LayerTimes};
use crate::mask::Mask;
use crate::model_file::Model;
use crate::ops::argmax::NO_CLASS;
use crate::picture::Picture;
use crate::plan::Plan;
use crate::preprocess::Form;
use crate::reference;
use crate::size::Size;
use crate::tensor::{Shape, Tensor};
use builder::OnGpu;
use executors::{BatchParts, Executors};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
#[cfg(not(target_arch = "wasm32"))]
use std::time::Duration;

/// The precision of activations and weights on a device. Sums are always `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// As `f32`.
    #[default]
    F32,
    /// As `f16`: half the memory, for devices with the feature `SHADER_F16`. A value beyond the range of `f16`
    /// is an error that names the layer.
    F16,
}

/// A model on a device, ready for pictures of any size.
///
/// Cheap to clone; clones share everything, and serve any number of threads at a time. Each run has an executor of its
/// own, with the buffers of one size. Executors are kept for the next pictures of the same size, within a bound on
/// memory ([`SegmenterBuilder::memory`]).
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
#[derive(Clone, Debug)]
pub struct Segmenter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    model: Model,
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    Gpu(OnGpu),
    Reference,
}

/// The result of [`Segmenter::run`].
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// The network's output, `[n, channels, h, w]`: class scores, or what [`Model::head`] says.
    pub output: Tensor,
    /// The class of each pixel, `[n, 1, h, w]`; absent for a network of more than 255 classes.
    pub labels: Option<Tensor>,
    /// The fetched nodes, by name, in the order of the request.
    pub fetched: Vec<(String, Tensor)>,
}

/// The measurements of [`Segmenter::profile`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Profile {
    /// The plan that was run.
    pub plan: Plan,
    /// Milliseconds of the first run, planning and making buffers included.
    pub first_ms: f64,
    /// Milliseconds of each run after it.
    pub run_ms: Vec<f64>,
    /// The time of each layer in one more run.
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
    /// A builder of a segmenter for `model`, which sets the device, the precision and the memory.
    pub fn builder(model: &Model) -> SegmenterBuilder {
        SegmenterBuilder::new(model)
    }

    /// A segmenter on `gpu`, with the defaults of [`Segmenter::builder`]. Compiles the model's pipelines and uploads
    /// its weights.
    ///
    /// # Errors
    /// `ModelFile` if a weight cannot be used, `Io` if it cannot be read; `Limit` or `Device` if the device cannot
    /// hold or run the model; `DeviceLost` if the device is lost, as from every function here that uses it.
    pub async fn new(gpu: &Gpu, model: &Model) -> Result<Self> {
        Self::builder(model).gpu(gpu).build().await
    }

    /// A segmenter that runs on the CPU reference: slow, but right, and on any machine.
    pub fn on_cpu(model: &Model) -> Self {
        Self::with_engine(model, Engine::Reference)
    }

    fn with_engine(model: &Model, engine: Engine) -> Self {
        let model = model.clone();
        Self(Arc::new(Inner { model, engine }))
    }

    /// Moves this segmenter and its clones to another device, when their device is lost. The weights are read again
    /// from the model. Runs under way on the lost device end in errors of the kind
    /// [`DeviceLost`](crate::ErrorKind::DeviceLost). Objects made for the old device, such as a [`TexturePass`], have
    /// to be made again.
    ///
    /// ```no_run
    /// # async fn example(segmenter: &fullconv::Segmenter, picture: &fullconv::Picture) -> fullconv::Result<()> {
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
    /// As [`SegmenterBuilder::build`]; the segmenter is then unchanged. `Request` on the CPU reference.
    pub async fn recover(&self, gpu: &Gpu) -> Result<()> {
        self.on_gpu()?.move_to(gpu, self.model()).await
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.0.model
    }

    /// The name of the device, for people.
    pub fn device(&self) -> String {
        match &self.0.engine {
            Engine::Gpu(on) => on.executors().gpu().to_string(),
            Engine::Reference => "CPU reference".into(),
        }
    }

    /// The precision of activations and weights.
    pub fn precision(&self) -> Precision {
        match &self.0.engine {
            Engine::Gpu(on) => on.precision(),
            Engine::Reference => Precision::F32,
        }
    }

    /// Counts of plans and executors, and the memory of the executors. All 0 on the CPU reference.
    pub fn pool_stats(&self) -> PoolStats {
        match &self.0.engine {
            Engine::Gpu(on) => on.executors().stats(),
            Engine::Reference => PoolStats::default(),
        }
    }

    /// Changes the bound of [`SegmenterBuilder::memory`]; idle executors beyond it are dropped now. It lasts until
    /// [`Segmenter::recover`]. Without effect on the CPU reference.
    pub fn keep_within(&self, bytes: u64) {
        if let Engine::Gpu(on) = &self.0.engine {
            on.executors().keep_within(bytes);
        }
    }

    /// The class of each pixel of a picture, at the picture's own size.
    ///
    /// # Errors
    /// `Limit` if the picture is too large for the device, `Device` if the device fails, or gives one class for the whole
    /// picture and computes a small picture wrongly, `NotFinite` if the scores of a
    /// pixel are not finite or, in `f16`, a value is beyond its range.
    pub async fn segment(&self, picture: &Picture) -> Result<Mask> {
        let size = picture.size();
        let preprocessing = self.model().preprocessing();
        let form = preprocessing.form_of(picture)?;
        let request = Request::labels(preprocessing.input(1, size, form));
        let pictures = std::slice::from_ref(picture);
        let labels = match &self.0.engine {
            Engine::Reference => {
                let input = preprocessing.tensor(pictures, form)?;
                let labels = first(self.on_reference(&request, &input)?)?;
                labels.data().iter().map(|l| *l as u8).collect()
            }
            Engine::Gpu(on) => {
                let mut lent = on.executors().lend(&request).await?;
                let run = self.submit(lent.executor()?, pictures, form).await?;
                let outputs = run.await?;
                outputs.into_iter().next().unwrap_or_default()
            }
        };
        let mask = self.mask(size, labels)?;
        self.without_doubt(mask).await
    }

    /// The class of each pixel of pictures of one size, all in one run; a batch too large for the device runs in parts.
    /// Each mask equals that of [`Segmenter::segment`].
    ///
    /// ```no_run
    /// # async fn example(segmenter: &fullconv::Segmenter, tiles: &[fullconv::Picture]) -> fullconv::Result<()> {
    /// let masks = segmenter.segment_batch(tiles).await?;
    /// assert_eq!(masks.len(), tiles.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if a picture has another size than the first; else as [`Segmenter::segment`], with the position of the
    /// picture.
    pub async fn segment_batch(&self, pictures: &[Picture]) -> Result<Vec<Mask>> {
        let Some(first) = pictures.first() else {
            return Ok(Vec::new());
        };
        let size = first.size();
        for (i, picture) in pictures.iter().enumerate() {
            if picture.size() != size {
                bail!(
                    Shape,
                    "picture {i} of the batch has {} pixels (height x width), the first has {size}: pictures of one \
                     batch have one size",
                    picture.size()
                );
            }
        }
        let mut masks = Vec::with_capacity(pictures.len());
        let Engine::Gpu(on) = &self.0.engine else {
            for (i, picture) in pictures.iter().enumerate() {
                let mask = self.segment(picture).await;
                masks.push(mask.map_err(|e| e.at(format!("picture {i} of the batch")))?);
            }
            return Ok(masks);
        };
        let pixels = size.height * size.width;
        let form = self.form_of(pictures)?;
        let pool = on.executors();
        let input = self
            .model()
            .preprocessing()
            .input(pictures.len(), size, form);
        let mut parts = BatchParts::of(Request::labels(input));
        while let Some((images, mut lent)) = parts.next(&pool).await? {
            let pictures = &pictures[images];
            let run = self.submit(lent.executor()?, pictures, form).await?;
            let labels = run.await?;
            let labels = labels.into_iter().next().unwrap_or_default();
            for labels in labels.chunks(pixels).take(pictures.len()) {
                let mask = self.mask(size, labels.to_vec());
                let at = format!("picture {} of the batch", masks.len());
                let mask = mask.map_err(|e| e.at(at))?;
                masks.push(self.without_doubt(mask).await?);
            }
        }
        Ok(masks)
    }

    /// The form in which all of `pictures` can go to the device.
    fn form_of(&self, pictures: &[Picture]) -> Result<Form> {
        let preprocessing = self.model().preprocessing();
        let mut form = preprocessing.usual_form();
        for (i, picture) in pictures.iter().enumerate() {
            let of_picture = preprocessing.form_of(picture);
            if of_picture.map_err(|e| e.at(format!("picture {i} of the batch")))? == Form::Values {
                form = Form::Values;
            }
        }
        Ok(form)
    }

    /// Submits a run on `pictures` in `form`, for which `executor` was made.
    async fn submit(
        &self,
        executor: &mut Executor,
        pictures: &[Picture],
        form: Form,
    ) -> Result<Pending> {
        match (form, pictures) {
            (Form::Words, [picture]) => executor.submit(&picture.rgba()).await,
            (Form::Words, pictures) => {
                let bytes: Vec<u8> = pictures
                    .iter()
                    .flat_map(|p| p.rgba().into_owned())
                    .collect();
                executor.submit(&bytes).await
            }
            (Form::Values, pictures) => {
                let input = self.model().preprocessing().tensor(pictures, form)?;
                executor.submit_tensor(&input).await
            }
        }
    }

    /// Many pictures, one after the other, several under way at a time.
    pub fn frames(&self) -> Frames {
        Frames::new(self.clone())
    }

    /// The mask of a picture of `size` from its labels, which may be padded.
    fn mask(&self, size: Size, mut labels: Vec<u8>) -> Result<Mask> {
        labels.truncate(size.height * size.width);
        check_labels(labels.iter().copied(), size.width)?;
        let model = self.model();
        let (classes, palette) = (model.classes().clone(), model.palette().clone());
        Mask::new(size, labels, classes, palette)
    }

    /// [`Segmenter::segment`] for programs that are not async.
    ///
    /// # Errors
    /// As [`Segmenter::segment`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn segment_blocking(&self, picture: &Picture) -> Result<Mask> {
        pollster::block_on(self.segment(picture))
    }

    /// Measures the fastest kernels for `batch` pictures that the network gets at `size`, see
    /// [`Model::network_size`], for as long as `time`, and uses them from then on. Each kernel is checked against the
    /// CPU reference first. With [`GpuOptions::cache`](crate::GpuOptions::cache), the choice is kept for the next
    /// start.
    ///
    /// # Errors
    /// `Request` on the CPU reference, `Shape` if the network cannot take the size, else as
    /// [`Segmenter::segment`].
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn tune(&self, batch: usize, size: Size, time: Duration) -> Result<Vec<TunedLayer>> {
        let Engine::Gpu(on) = &self.0.engine else {
            bail!(Request, "the CPU reference has no kernels to choose from");
        };
        let pool = on.executors();
        // Frees buffers before the candidates allocate theirs; the plans also have the old choices.
        pool.forget();
        let (graph, parameters) = (self.model().graph(), self.model().parameters());
        let input = Shape::new(
            batch,
            self.model().input_channels(),
            size.height,
            size.width,
        );
        let outputs = [graph.output()];
        let tuned = gpu::low_level::tune(
            pool.network(),
            pool.target(),
            graph,
            input,
            &outputs,
            parameters,
            time,
        )
        .await;
        // Other threads may have planned with the old choices meanwhile.
        pool.forget();
        tuned
    }

    /// Measures whole runs of `batch` pictures of `size`, from pixels in host memory to class ids in host
    /// memory: `runs` runs after a first one, and then layer by layer.
    ///
    /// # Errors
    /// `Request` on the CPU reference or for no runs, else as [`Segmenter::segment`].
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn profile(&self, size: Size, batch: usize, runs: usize) -> Result<Profile> {
        if runs == 0 || batch == 0 {
            bail!(
                Request,
                "a profile is of at least one run of at least one picture"
            );
        }
        let begin = std::time::Instant::now();
        let preprocessing = self.model().preprocessing();
        let input = preprocessing.input(batch, size, preprocessing.usual_form());
        let mut lent = self.pool()?.lend(&Request::labels(input)).await?;
        let executor = lent.executor()?;
        // Pixels of many colours; what they show does not matter.
        let bytes = executor.input_of(|i| i.wrapping_mul(2_654_435_761))?;
        executor.run_bytes(&bytes).await?;
        let first_ms = begin.elapsed().as_secs_f64() * 1e3;
        let mut run_ms = Vec::with_capacity(runs);
        for _ in 0..runs {
            let begin = std::time::Instant::now();
            executor.run_bytes(&bytes).await?;
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

    /// Runs the network on a preprocessed input, `[n, c, h, w]`, and returns its output, labels and the values of the
    /// nodes in `fetch`. A batch too large for the device runs in parts.
    ///
    /// # Errors
    /// `Request` for an unknown node, `Shape` if the network cannot take the input, `Limit` if even
    /// one image is too large for the device, `NotFinite` as in [`Segmenter::segment`].
    pub async fn run(&self, input: &Tensor, fetch: &[&str]) -> Result<Run> {
        let request = Request::run(input.shape(), fetch);
        let mut values = self.values(&request, input).await?.into_iter();
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

    /// The outputs of `request` for `input` on this segmenter's device, joined over the parts of a batch.
    pub(crate) async fn values(&self, request: &Request, input: &Tensor) -> Result<Vec<Tensor>> {
        let Engine::Gpu(on) = &self.0.engine else {
            return self.on_reference(request, input);
        };
        let pool = on.executors();
        let mut parts = BatchParts::of(request.clone());
        let mut values = Vec::new();
        while let Some((images, mut lent)) = parts.next(&pool).await? {
            let input = part_of(input, images)?;
            let outputs = lent.executor()?.run(&input).await?;
            values.push(outputs.into_iter().map(|(_, value)| value).collect());
        }
        join(values)
    }

    /// The outputs of `request` for `input` on the CPU.
    fn on_reference(&self, request: &Request, input: &Tensor) -> Result<Vec<Tensor>> {
        let (model, task) = (self.model(), request.task(self.model())?);
        let values = reference::run(&task.graph, model.parameters(), input, &task.outputs)?;
        Ok(values.into_iter().map(|(_, value)| value).collect())
    }

    fn on_gpu(&self) -> Result<&OnGpu> {
        match &self.0.engine {
            Engine::Gpu(on) => Ok(on),
            Engine::Reference => bail!(Request, "the CPU reference is no device"),
        }
    }

    /// The executors on the current device.
    fn pool(&self) -> Result<Arc<Executors>> {
        Ok(self.on_gpu()?.executors())
    }
}

impl fmt::Display for Segmenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.model().architecture(), self.device())
    }
}

/// An error if a label is [`NO_CLASS`]: the scores of its pixel are not finite.
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

/// These images of a batch.
fn part_of(batch: &Tensor, images: Range<usize>) -> Result<Cow<'_, Tensor>> {
    let shape = batch.shape();
    if images == (0..shape.n) {
        return Ok(Cow::Borrowed(batch));
    }
    let size = shape.with_batch(1).elements();
    let data = &batch.data()[images.start * size..images.end * size];
    let part = Tensor::new(shape.with_batch(images.len()), data.to_vec())?;
    Ok(Cow::Owned(part))
}

/// Joins the parts of a batch, each with one tensor per output.
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

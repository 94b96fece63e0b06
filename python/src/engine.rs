//! A model, and the worker that runs it.

use crate::devices::DeviceOptions;
use crate::errors::{detached, error, exception};
use crate::labels::Labels;
use crate::picture::{Picture, Sizes, of_tensor, tensor};
use crate::worker::{Coming, Control, Opening};
use crate::{process, reports};
use fullconv::compare::{compare_picture, compare_tensor};
use fullconv::{Channels, ErrorKind, Mask, Model, Precision, Samples, Size, Tensor};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A model with the options of its device. The device is opened by the first call that needs it.
#[pyclass(frozen, weakref, module = "fullconv._fullconv")]
pub struct Engine {
    opening: Arc<Opening>,
    worker: Mutex<State>,
}

enum State {
    Unused,
    At(Arc<Control>),
    Closed,
}

/// The labels of a picture that come.
#[pyclass(frozen, module = "fullconv._fullconv")]
pub struct Ticket(Coming<Mask>);

#[pymethods]
impl Ticket {
    /// Waits for the mask.
    fn wait(&self, py: Python<'_>) -> PyResult<Labels> {
        Ok(Labels::new(Arc::new(self.0.wait(py)?)))
    }

    /// Says that nobody waits for the mask.
    fn give_up(&self) {
        self.0.give_up();
    }
}

/// The name, the sizes and the bytes of a tensor.
type Named<'py> = (String, Sizes, Bound<'py, PyByteArray>);

#[pymethods]
impl Engine {
    /// Opens the model: a path, or the bytes of a file.
    #[new]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    #[pyo3(signature = (model, *, device, precision, memory, cache, tune, threshold))]
    fn make(
        py: Python<'_>,
        model: &Bound<'_, PyAny>,
        device: String,
        precision: &str,
        memory: Option<u64>,
        cache: bool,
        tune: bool,
        threshold: Option<f32>,
    ) -> PyResult<Self> {
        let precision = match precision {
            "f32" => Precision::F32,
            "f16" => Precision::F16,
            other => {
                let text = format!("precision is \"f32\" or \"f16\", not {other:?}");
                return Err(exception(py, &error(ErrorKind::Request, text), None));
            }
        };
        let (model, file) = match model.cast::<PyBytes>() {
            Ok(bytes) => {
                let bytes = bytes.as_bytes().to_vec();
                (detached(py, None, || Model::from_bytes(bytes))?, None)
            }
            Err(_) => {
                let path: PathBuf = model.extract()?;
                let name = path.display().to_string();
                let model = detached(py, Some(&name), || Model::read(&path))?;
                (model, Some(name))
            }
        };
        let model = match threshold {
            Some(threshold) => detached(py, None, || model.with_threshold(threshold))?,
            None => model,
        };
        let device = DeviceOptions {
            device,
            memory,
            cache,
        };
        Ok(Self {
            opening: Arc::new(Opening {
                model,
                file,
                device,
                precision,
                tune,
            }),
            worker: Mutex::new(State::Unused),
        })
    }

    /// What the model's file says.
    fn model<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let model = &self.opening.model;
        let about = PyDict::new(py);
        let name = |i: usize| match model.classes().get(i) {
            Some(name) if !name.is_empty() => name.clone(),
            _ => format!("class {i}"),
        };
        let classes: Vec<_> = (0..model.class_count()).map(name).collect();
        let ids = 0..model.class_count().min(256);
        let palette: Vec<_> = ids.map(|id| model.palette().colour(id as u8)).collect();
        let palette: Vec<_> = palette.iter().map(|&[r, g, b]| (r, g, b)).collect();
        about.set_item("architecture", model.to_string())?;
        about.set_item("classes", classes)?;
        about.set_item("palette", palette)?;
        about.set_item("channels", model.input_channels())?;
        let channels = match model.preprocessing().channels {
            Channels::Rgb | Channels::Bgr => "colour",
            Channels::Grey => "grey",
            Channels::Rgba => "rgba",
            Channels::Bands => "bands",
        };
        about.set_item("pictures", channels)?;
        about.set_item("description", model.description())?;
        about.set_item("license", model.license())?;
        about.set_item("threshold", model.head().threshold)?;
        about.set_item("multi_label", model.head().is_multi_label())?;
        Ok(about)
    }

    /// The device, opened if it was not.
    fn device(&self, py: Python<'_>) -> PyResult<String> {
        let control = self.control(py)?;
        let name = control.ask(|segmenter, _| Some(Ok(segmenter.device())));
        name.wait(py)
    }

    /// Has a picture segmented.
    fn submit(&self, py: Python<'_>, picture: &Bound<'_, Picture>) -> PyResult<Ticket> {
        let control = self.control(py)?;
        let picture = picture.get().0.clone();
        Ok(Ticket(py.detach(|| control.label(picture))))
    }

    /// The probabilities of a picture.
    fn probabilities<'py>(
        &self,
        py: Python<'py>,
        picture: &Bound<'_, Picture>,
    ) -> PyResult<(Sizes, Bound<'py, PyByteArray>)> {
        let picture = picture.get().0.clone();
        let found = self
            .control(py)?
            .ask(move |segmenter, stop| stop.block_on(segmenter.probabilities(&picture)));
        Ok(of_tensor(py, &found.wait(py)?))
    }

    /// The network's output for a preprocessed input, the fetched nodes, and last the labels if it has any.
    fn run<'py>(
        &self,
        py: Python<'py>,
        data: PyBuffer<f32>,
        sizes: Sizes,
        fetch: Vec<String>,
    ) -> PyResult<Vec<Named<'py>>> {
        let input = tensor(py, &data, sizes)?;
        let done = self.control(py)?.ask(move |segmenter, stop| {
            let fetch: Vec<&str> = fetch.iter().map(String::as_str).collect();
            stop.block_on(segmenter.run(&input, &fetch))
        });
        let run = done.wait(py)?;
        let named = |(name, tensor): (String, Tensor)| {
            let (sizes, bytes) = of_tensor(py, &tensor);
            (name, sizes, bytes)
        };
        let all = std::iter::once(("output".to_owned(), run.output));
        let all = all.chain(run.fetched);
        let all = all.chain(run.labels.map(|labels| ("labels".to_owned(), labels)));
        Ok(all.map(named).collect())
    }

    /// Compares every node with the reference, for a picture.
    fn compare_picture<'py>(
        &self,
        py: Python<'py>,
        picture: &Bound<'_, Picture>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let picture = picture.get().0.clone();
        let report = self
            .control(py)?
            .ask(move |segmenter, stop| stop.block_on(compare_picture(segmenter, &picture)));
        reports::comparison(py, &report.wait(py)?)
    }

    /// Compares every node with the reference, for a preprocessed input.
    fn compare_tensor<'py>(
        &self,
        py: Python<'py>,
        data: PyBuffer<f32>,
        sizes: Sizes,
    ) -> PyResult<Bound<'py, PyDict>> {
        let input = tensor(py, &data, sizes)?;
        let report = self
            .control(py)?
            .ask(move |segmenter, stop| stop.block_on(compare_tensor(segmenter, &input)));
        reports::comparison(py, &report.wait(py)?)
    }

    /// Times runs for pictures of a size, and their layers.
    fn profile<'py>(
        &self,
        py: Python<'py>,
        height: usize,
        width: usize,
        batch: usize,
        runs: usize,
    ) -> PyResult<Bound<'py, PyDict>> {
        let size = Size::new(height, width);
        let profile = self
            .control(py)?
            .ask(move |segmenter, stop| stop.block_on(segmenter.profile(size, batch, runs)));
        reports::profile(py, &profile.wait(py)?)
    }

    /// Measures kernels for pictures of a size.
    fn tune<'py>(
        &self,
        py: Python<'py>,
        height: usize,
        width: usize,
        batch: usize,
        seconds: f64,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let Ok(time) = Duration::try_from_secs_f64(seconds) else {
            let text = format!("a time limit is a number of seconds from 0 on, not {seconds}");
            return Err(exception(py, &error(ErrorKind::Request, text), None));
        };
        let tuned = self.control(py)?.ask(move |segmenter, stop| {
            let size = segmenter.model().network_size(Size::new(height, width));
            match size {
                Ok(size) => stop.block_on(segmenter.tune(batch, size, time)),
                Err(error) => Some(Err(error)),
            }
        });
        reports::tuned(py, &tuned.wait(py)?)
    }

    /// Does everything once for pictures of a size: the device is open, and its buffers are made.
    fn warm_up(&self, py: Python<'_>, height: usize, width: usize) -> PyResult<()> {
        let bands = self.opening.model.input_channels();
        let elements = height.checked_mul(width).and_then(|n| n.checked_mul(bands));
        // Of many colours; what they show does not matter.
        let samples = (0..elements.unwrap_or(0)).map(|i| (i * 37 % 251) as u8);
        let picture = detached(py, None, || {
            let samples = Samples::U8(samples.collect());
            fullconv::Picture::from_bands(Size::new(height, width), bands, samples)
        })?;
        let done =
            self.control(py)?.ask(
                move |segmenter, stop| match segmenter.model().has_labels() {
                    true => stop.block_on(async { segmenter.segment(&picture).await.map(drop) }),
                    false => {
                        stop.block_on(async { segmenter.probabilities(&picture).await.map(drop) })
                    }
                },
            );
        done.wait(py)
    }

    /// Ends the worker, and waits until the device is free.
    fn close(&self, py: Python<'_>) {
        if process::is_forked() {
            return;
        }
        py.detach(|| {
            if let Some(control) = self.end() {
                control.wait_for_end();
            }
        });
    }
}

impl Engine {
    /// The worker, started if there was none.
    fn control(&self, py: Python<'_>) -> PyResult<Arc<Control>> {
        process::enter()?;
        detached(py, None, || {
            let mut state = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
            match &*state {
                State::At(control) => Ok(control.clone()),
                State::Closed => Err(error(ErrorKind::Request, "the segmenter is closed")),
                State::Unused => {
                    let control = Control::start(self.opening.clone())?;
                    *state = State::At(control.clone());
                    Ok(control)
                }
            }
        })
    }

    /// Has the worker end, if there is one.
    fn end(&self) -> Option<Arc<Control>> {
        let mut state = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Closed) {
            State::At(control) => {
                control.stop();
                Some(control)
            }
            _ => None,
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if process::is_forked() {
            // The worker's thread and locks are those of another process.
            let state = self
                .worker
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(std::mem::replace(state, State::Closed));
        } else {
            self.end();
        }
    }
}

//! Confusion matrices.

use crate::errors::{detached, exception};
use fullconv::ConfusionMatrix;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts of pixels by true and predicted class; the base of `fullconv.ConfusionMatrix`.
#[pyclass(frozen, subclass, module = "fullconv._fullconv")]
pub struct Confusion(Mutex<ConfusionMatrix>);

impl Confusion {
    fn lock(&self) -> MutexGuard<'_, ConfusionMatrix> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Confusion {
    #[new]
    fn make(py: Python<'_>, classes: usize) -> PyResult<Self> {
        let matrix = ConfusionMatrix::new(classes).map_err(|error| exception(py, &error, None))?;
        Ok(Self(Mutex::new(matrix)))
    }

    /// Counts pixels: labels and predictions of one byte each.
    fn count_pixels(
        &self,
        py: Python<'_>,
        truth: PyBuffer<u8>,
        predicted: PyBuffer<u8>,
    ) -> PyResult<()> {
        let (truth, predicted) = (truth.to_vec(py)?, predicted.to_vec(py)?);
        detached(py, None, || self.lock().add(&truth, &predicted))
    }

    /// Adds the counts of `other`.
    fn add_counts(&self, py: Python<'_>, other: &Bound<'_, Self>) -> PyResult<()> {
        // Two locks at a time would wait for each other in `a.merge(b)` beside `b.merge(a)`.
        let other = other.get();
        let other = py.detach(|| other.lock().clone());
        detached(py, None, || self.lock().merge(&other))
    }

    /// n_ij, row by row.
    fn all_counts(&self, py: Python<'_>) -> Vec<u64> {
        py.detach(|| {
            let matrix = self.lock();
            let classes = 0..matrix.classes();
            let row = |t| classes.clone().map(move |p| (t, p));
            classes
                .clone()
                .flat_map(row)
                .map(|(t, p)| matrix.count(t, p))
                .collect()
        })
    }

    /// The number of classes.
    #[getter]
    fn class_count(&self, py: Python<'_>) -> usize {
        py.detach(|| self.lock().classes())
    }

    /// The pixels counted.
    #[getter]
    fn pixels(&self, py: Python<'_>) -> u64 {
        py.detach(|| self.lock().pixels())
    }

    /// The share of all pixels with the right prediction.
    #[getter]
    fn pixel_accuracy(&self, py: Python<'_>) -> Option<f64> {
        py.detach(|| self.lock().pixel_accuracy())
    }

    /// The mean accuracy of the classes that occur in the labels.
    #[getter]
    fn mean_accuracy(&self, py: Python<'_>) -> Option<f64> {
        py.detach(|| self.lock().mean_accuracy())
    }

    /// The mean IoU of the classes that occur.
    #[getter]
    fn mean_iou(&self, py: Python<'_>) -> Option<f64> {
        py.detach(|| self.lock().mean_iou())
    }

    /// The mean Dice coefficient of the classes that occur.
    #[getter]
    fn mean_dice(&self, py: Python<'_>) -> Option<f64> {
        py.detach(|| self.lock().mean_dice())
    }

    /// The mean IoU, each class weighted by its pixels.
    #[getter]
    fn frequency_weighted_iou(&self, py: Python<'_>) -> Option<f64> {
        py.detach(|| self.lock().frequency_weighted_iou())
    }

    /// The share of a class's pixels with the right prediction.
    fn accuracy(&self, py: Python<'_>, class: usize) -> Option<f64> {
        py.detach(|| self.lock().accuracy(class))
    }

    /// The intersection over the union of a class.
    fn iou(&self, py: Python<'_>, class: usize) -> Option<f64> {
        py.detach(|| self.lock().iou(class))
    }

    /// The Dice coefficient of a class.
    fn dice(&self, py: Python<'_>, class: usize) -> Option<f64> {
        py.detach(|| self.lock().dice(class))
    }
}

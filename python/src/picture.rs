//! Pictures.

use crate::errors::{detached, error};
use fullconv::{ErrorKind, PictureFormat, Samples, Size};
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};
use std::path::PathBuf;
use std::sync::Arc;

/// A decoded picture.
#[pyclass(frozen, module = "fullconv._fullconv")]
pub struct Picture(pub Arc<fullconv::Picture>);

impl Picture {
    fn new(picture: fullconv::Picture) -> Self {
        Self(Arc::new(picture))
    }
}

#[pymethods]
impl Picture {
    /// Reads a picture file.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let name = path.display().to_string();
        detached(py, Some(&name), || fullconv::Picture::open(&path)).map(Self::new)
    }

    /// Decodes a picture file in memory.
    #[staticmethod]
    fn decode(py: Python<'_>, data: PyBuffer<u8>) -> PyResult<Self> {
        let bytes = data.to_vec(py)?;
        detached(py, None, || fullconv::Picture::decode(&bytes)).map(Self::new)
    }

    /// The picture whose samples are `data`: uint8, uint16 or float32, all `bands` of a pixel, pixel by pixel.
    #[staticmethod]
    fn of_samples(
        py: Python<'_>,
        data: &Bound<'_, PyAny>,
        height: usize,
        width: usize,
        bands: usize,
    ) -> PyResult<Self> {
        let size = Size::new(height, width);
        if let Ok(bytes) = PyBuffer::<u8>::get(data) {
            let bytes = bytes.to_vec(py)?;
            return detached(py, None, || match bands {
                3 => fullconv::Picture::from_rgb(size, bytes),
                4 => fullconv::Picture::from_rgba(size, bytes),
                _ => fullconv::Picture::from_bands(size, bands, Samples::U8(bytes)),
            })
            .map(Self::new);
        }
        let samples = match PyBuffer::<u16>::get(data) {
            Ok(words) => Samples::U16(words.to_vec(py)?),
            Err(_) => Samples::F32(PyBuffer::<f32>::get(data)?.to_vec(py)?),
        };
        let made = || fullconv::Picture::from_bands(size, bands, samples);
        detached(py, None, made).map(Self::new)
    }

    /// Height in pixels.
    #[getter]
    fn height(&self) -> usize {
        self.0.height()
    }

    /// Width in pixels.
    #[getter]
    fn width(&self) -> usize {
        self.0.width()
    }

    /// Red, green and blue of each pixel.
    fn rgb<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        let bytes = detached(py, None, || Ok(self.0.rgb()))?;
        Ok(PyByteArray::new(py, bytes))
    }

    /// A PNG of it.
    fn png<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = detached(py, None, || self.0.to_png())?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Writes it as PNG or JPEG, whole or not at all.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let name = path.display().to_string();
        detached(py, Some(&name), || self.0.save(&path))
    }

    /// What is to be known of its file.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.0.notes().iter().map(ToString::to_string).collect()
    }
}

/// Whether a file that begins with `head` is a picture that is read; `None` if it is no picture that is known.
#[pyfunction]
pub fn picture_format(head: PyBuffer<u8>, py: Python<'_>) -> PyResult<Option<bool>> {
    let head = head.to_vec(py)?;
    Ok(PictureFormat::of(&head).map(PictureFormat::is_read))
}

/// The sizes `[n, c, h, w]` of a tensor.
pub type Sizes = (usize, usize, usize, usize);

/// The tensor of these sizes with the numbers of `data`.
pub fn tensor(py: Python<'_>, data: &PyBuffer<f32>, sizes: Sizes) -> PyResult<fullconv::Tensor> {
    let data = data.to_vec(py)?;
    let (n, c, h, w) = sizes;
    detached(py, None, || {
        if [n, c, h, w].contains(&0) {
            return Err(error(ErrorKind::Shape, "a tensor has at least one element"));
        }
        fullconv::Tensor::new(fullconv::Shape::new(n, c, h, w), data)
    })
}

/// The sizes and the bytes of a tensor.
pub fn of_tensor<'py>(
    py: Python<'py>,
    tensor: &fullconv::Tensor,
) -> (Sizes, Bound<'py, PyByteArray>) {
    let fullconv::Shape { n, c, h, w, .. } = tensor.shape();
    let bytes = bytemuck::cast_slice(tensor.data());
    ((n, c, h, w), PyByteArray::new(py, bytes))
}

//! Masks.

use crate::errors::detached;
use crate::picture::Picture;
use fullconv::{Mask, Palette, Size};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::ffi::{c_int, c_void};
use std::path::PathBuf;
use std::sync::Arc;

/// A class id for every pixel; the base of `fullconv.Mask`.
#[pyclass(frozen, subclass, module = "fullconv._fullconv")]
pub struct Labels {
    pub mask: Arc<Mask>,
    /// Rows and columns, and the bytes from one to the next, for views of the ids.
    shape: [ffi::Py_ssize_t; 2],
    strides: [ffi::Py_ssize_t; 2],
}

impl Labels {
    pub fn new(mask: Arc<Mask>) -> Self {
        let width = mask.width() as ffi::Py_ssize_t;
        Self {
            shape: [mask.height() as ffi::Py_ssize_t, width],
            strides: [width, 1],
            mask,
        }
    }
}

#[pymethods]
impl Labels {
    /// A copy of `labels`, a mask; or a mask of these ids, `height` rows of `width`.
    #[new]
    #[pyo3(signature = (labels, height=0, width=0, classes=vec![], palette=vec![]))]
    fn make(
        py: Python<'_>,
        labels: &Bound<'_, PyAny>,
        height: usize,
        width: usize,
        classes: Vec<String>,
        palette: Vec<[u8; 3]>,
    ) -> PyResult<Self> {
        if let Ok(labels) = labels.cast::<Self>() {
            return Ok(Self::new(labels.get().mask.clone()));
        }
        let ids = PyBuffer::<u8>::get(labels)?.to_vec(py)?;
        let size = Size::new(height, width);
        let made = || Mask::new(size, ids, classes.into(), Palette::new(palette));
        detached(py, None, made).map(|mask| Self::new(Arc::new(mask)))
    }

    /// The size in pixels.
    #[getter]
    fn height(&self) -> usize {
        self.mask.height()
    }

    /// The size in pixels.
    #[getter]
    fn width(&self) -> usize {
        self.mask.width()
    }

    /// The names of classes 0, 1, 2 …
    #[getter]
    fn classes(&self) -> Vec<String> {
        self.mask.classes().to_vec()
    }

    /// The colours of classes 0, 1, 2 …
    #[getter]
    fn palette(&self) -> Vec<(u8, u8, u8)> {
        let colours = self.mask.palette().colours().iter();
        colours.map(|&[r, g, b]| (r, g, b)).collect()
    }

    /// The colours of all 256 ids.
    fn colours(&self) -> Vec<u8> {
        let palette = self.mask.palette();
        (0..=u8::MAX).flat_map(|id| palette.colour(id)).collect()
    }

    /// The name of a class.
    fn class_name(&self, id: u8) -> String {
        self.mask.class_name(id).into_owned()
    }

    /// The ids found with their shares, the most frequent first.
    fn found(&self, py: Python<'_>) -> Vec<(u8, f64)> {
        py.detach(|| self.mask.shares())
    }

    /// COCO's run-length code of a class.
    fn coco(&self, py: Python<'_>, id: u8) -> String {
        py.detach(|| self.mask.rle(id).counts().to_owned())
    }

    /// The rings of a class.
    fn rings(&self, py: Python<'_>, id: u8) -> Vec<Vec<usize>> {
        py.detach(|| self.mask.polygons(id))
    }

    /// The indexed PNG.
    fn png<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = detached(py, None, || self.mask.to_png())?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Writes the indexed PNG, whole or not at all.
    fn write(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        let name = path.display().to_string();
        detached(py, Some(&name), || self.mask.save(&path))
    }

    /// The picture under the colours of the mask.
    fn over(
        &self,
        py: Python<'_>,
        picture: &Bound<'_, Picture>,
        opacity: f32,
    ) -> PyResult<Picture> {
        let picture = picture.get().0.clone();
        let overlay = detached(py, None, || self.mask.overlay(&picture, opacity))?;
        Ok(Picture(Arc::new(overlay)))
    }

    /// The same ids in other colours.
    fn in_colours(&self, py: Python<'_>, palette: Vec<[u8; 3]>) -> Self {
        let mask = py.detach(|| (*self.mask).clone());
        Self::new(Arc::new(mask.with_palette(Palette::new(palette))))
    }

    fn equals(&self, py: Python<'_>, other: &Bound<'_, Self>) -> bool {
        let other = other.get().mask.clone();
        py.detach(|| *self.mask == *other)
    }

    /// Fills a read-only view of the ids, rows by columns, without a copy.
    ///
    /// # Safety
    /// `view` is null or a buffer that Python has made to be filled.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("there is no view to fill"));
        }
        // SAFETY: `view` is not null, and Python's.
        let view = unsafe { &mut *view };
        // An error leaves the view without an owner.
        view.obj = std::ptr::null_mut();
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("a mask is read-only: copy it first"));
        }
        let this = slf.get();
        let ids = this.mask.labels();
        let wants = |flag| flags & flag == flag;
        view.buf = ids.as_ptr().cast_mut().cast::<c_void>();
        view.len = ids.len() as ffi::Py_ssize_t;
        view.readonly = 1;
        view.itemsize = 1;
        view.format = match wants(ffi::PyBUF_FORMAT) {
            true => c"B".as_ptr().cast_mut(),
            false => std::ptr::null_mut(),
        };
        // Without a shape the view is plain bytes.
        view.ndim = if wants(ffi::PyBUF_ND) { 2 } else { 1 };
        view.shape = match wants(ffi::PyBUF_ND) {
            true => this.shape.as_ptr().cast_mut(),
            false => std::ptr::null_mut(),
        };
        view.strides = match wants(ffi::PyBUF_STRIDES) {
            true => this.strides.as_ptr().cast_mut(),
            false => std::ptr::null_mut(),
        };
        view.suboffsets = std::ptr::null_mut();
        view.internal = std::ptr::null_mut();
        // The view keeps the mask, and so the ids.
        view.obj = slf.into_any().into_ptr();
        Ok(())
    }
}

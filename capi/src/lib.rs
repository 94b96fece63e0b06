//! fullconv for programs in C: models, devices and segmenters behind handles. cbindgen writes `include/fullconv.h`
//! from this file; `examples/c/segment.c` is an example.
//!
//! ```sh
//! cargo build --release --package fullconv-c      # target/release/libfullconv_c.so, .dylib or .dll
//! ```

// Code reachable from a caller may not panic.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo)]
#![allow(non_camel_case_types)] // The types have their C names.

mod border;
mod handles;

pub use border::fullconv_status;

use border::{Failure, border, c_string, invalid, last_error, not_null, text};
use fullconv::gpu::{Backend, kernels_left_out};
use fullconv::{Gpu, GpuOptions, Model, Picture, Segmenter, Size};
use handles::Handles;
use std::ffi::{CString, c_char};

/// A network with its weights.
pub struct fullconv_model {
    model: Model,
    /// The name of each class.
    classes: Vec<CString>,
}

/// A GPU, or the CPU reference.
pub struct fullconv_device {
    /// `None`: the CPU reference.
    gpu: Option<Gpu>,
    name: CString,
}

/// A model on a device.
pub struct fullconv_segmenter(Segmenter);

static MODELS: Handles<fullconv_model> = Handles::new("model", 1);
static DEVICES: Handles<fullconv_device> = Handles::new("device", 3);
static SEGMENTERS: Handles<fullconv_segmenter> = Handles::new("segmenter", 5);

/// The largest size of one allocation.
const MOST_BYTES: usize = isize::MAX as usize;

impl fullconv_model {
    fn new(model: Model) -> Self {
        let name = |(i, name): (usize, Option<&String>)| match name {
            Some(name) if !name.is_empty() => c_string(name),
            _ => c_string(&format!("class {i}")),
        };
        let names = model.classes().iter().map(Some);
        let names = names.chain(std::iter::repeat(None)).enumerate();
        let classes = names.take(model.class_count()).map(name).collect();
        Self { model, classes }
    }
}

/// Writes a handle of the value that `make` returns to `out`; null if `make` fails.
///
/// # Safety
/// `out` is null or may be written to.
unsafe fn give<T, C>(
    out: *mut *mut C,
    handles: &Handles<T>,
    make: impl FnOnce() -> Result<T, Failure>,
) -> fullconv_status {
    border(|| {
        not_null(out, "the place for the handle")?;
        // SAFETY: `out` is not null; the caller guarantees the rest.
        unsafe { out.write(std::ptr::null_mut()) };
        let handle = handles.add(make()?);
        // SAFETY: as above.
        unsafe { out.write(handle) };
        Ok(())
    })
}

/// The error message of this thread's latest call that can fail: one line of UTF-8, empty if the call succeeded. Valid
/// until the thread's next call that can fail.
#[unsafe(no_mangle)]
pub extern "C" fn fullconv_last_error() -> *const c_char {
    last_error()
}

/// The version of the library, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn fullconv_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Opens the model file (safetensors) at `path`, in UTF-8. The file may not change while the model or one of its
/// segmenters lives.
///
/// # Safety
/// `path` is null or a zero-terminated string; `model` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fullconv_model_read(
    path: *const c_char,
    model: *mut *mut fullconv_model,
) -> fullconv_status {
    let read = || {
        // SAFETY: the caller guarantees it.
        let path = unsafe { text(path, "path") }?;
        Ok(fullconv_model::new(Model::read(path)?))
    };
    // SAFETY: the caller guarantees it.
    unsafe { give(model, &MODELS, read) }
}

/// Opens a model file in memory. The bytes are copied.
///
/// # Safety
/// `bytes` is null or the first of `length` bytes; `model` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fullconv_model_from_bytes(
    bytes: *const u8,
    length: usize,
    model: *mut *mut fullconv_model,
) -> fullconv_status {
    let read = || {
        not_null(bytes, "bytes")?;
        if length > MOST_BYTES {
            return Err(invalid(format!("no memory has {length} bytes")));
        }
        // SAFETY: `bytes` is not null and `length` is in range; the caller guarantees the rest.
        let bytes = unsafe { std::slice::from_raw_parts(bytes, length) };
        Ok(fullconv_model::new(Model::from_bytes(bytes.to_vec())?))
    };
    // SAFETY: the caller guarantees it.
    unsafe { give(model, &MODELS, read) }
}

/// Opens the built-in demo model, a small network for street scenes. Its weights are for research and personal use.
///
/// # Safety
/// `model` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fullconv_model_demo(model: *mut *mut fullconv_model) -> fullconv_status {
    // SAFETY: the caller guarantees it.
    unsafe {
        give(model, &MODELS, || {
            Ok(fullconv_model::new(Model::from_bytes(
                fullconv_demo::MODEL,
            )?))
        })
    }
}

/// The number of classes of `model`, 2 for a binary one; 0 if `model` is not a valid handle. Every label is below this
/// number.
#[unsafe(no_mangle)]
pub extern "C" fn fullconv_model_class_count(model: *const fullconv_model) -> usize {
    let mut count = 0;
    border(|| {
        count = MODELS.get(model)?.classes.len();
        Ok(())
    });
    count
}

/// The name of class `id`, in UTF-8 ("class 7" if the model has no name for it), valid until the model is freed;
/// null if there is no such class or no such model.
#[unsafe(no_mangle)]
pub extern "C" fn fullconv_model_class_name(
    model: *const fullconv_model,
    id: usize,
) -> *const c_char {
    let mut name = std::ptr::null();
    border(|| {
        let model = MODELS.get(model)?;
        name = class_of(&model, id)?.as_ptr();
        Ok(())
    });
    name
}

/// Writes the colour of class `id` to `rgb`: red, green and blue, 3 bytes.
///
/// # Safety
/// `rgb` is null, or 3 bytes may be written to it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fullconv_model_class_colour(
    model: *const fullconv_model,
    id: usize,
    rgb: *mut u8,
) -> fullconv_status {
    border(|| {
        let model = MODELS.get(model)?;
        class_of(&model, id)?;
        not_null(rgb, "rgb")?;
        // Classes past 255 have no labels; they share colour 255.
        let colour = model.model.palette().colour(id.min(255) as u8);
        // SAFETY: `rgb` is not null; the caller guarantees the rest.
        unsafe { rgb.copy_from(colour.as_ptr(), colour.len()) };
        Ok(())
    })
}

fn class_of(model: &fullconv_model, id: usize) -> Result<&CString, Failure> {
    let count = model.classes.len();
    let missing = || invalid(format!("there is no class {id}: the model has {count}"));
    model.classes.get(id).ok_or_else(missing)
}

/// The probability from which a pixel is class 1, if `model` is binary: its network has one output channel. Else 0, as
/// for an invalid handle.
#[unsafe(no_mangle)]
pub extern "C" fn fullconv_model_threshold(model: *const fullconv_model) -> f32 {
    let mut threshold = 0.0;
    border(|| {
        let model = MODELS.get(model)?;
        threshold = model.model.head().threshold.unwrap_or(0.0);
        Ok(())
    });
    threshold
}

/// The binary model `model` with another threshold, between 0 and 1: a new handle, to be freed like any other.
///
/// # Safety
/// `changed` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fullconv_model_with_threshold(
    model: *const fullconv_model,
    threshold: f32,
    changed: *mut *mut fullconv_model,
) -> fullconv_status {
    let change = || {
        let model = MODELS.get(model)?.model.clone();
        Ok(fullconv_model::new(model.with_threshold(threshold)?))
    };
    // SAFETY: the caller guarantees it.
    unsafe { give(changed, &MODELS, change) }
}

/// Frees a model; null does nothing. Its segmenters stay valid.
#[unsafe(no_mangle)]
pub extern "C" fn fullconv_model_free(model: *mut fullconv_model) -> fullconv_status {
    border(|| MODELS.remove(model))
}

/// Opens a device. `backend` is "vulkan", "metal", "dx12" or "gl"; null, "" or "auto" takes the best device found;
/// "cpu" is the CPU reference, which is slow but runs on every machine. `adapter` is a part of an adapter's name, its
/// PCI address ("0000:01:00.0") or its number among the backend's adapters; null or "" takes the first usable adapter.
/// Plans leave out the kernels in the environment variable FULLCONV_WITHOUT, separated by commas.
///
/// # Safety
/// `backend` and `adapter` are null or zero-terminated strings; `device` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fullconv_device_open(
    backend: *const c_char,
    adapter: *const c_char,
    device: *mut *mut fullconv_device,
) -> fullconv_status {
    let optional = |pointer: *const c_char, name| match pointer.is_null() {
        true => Ok(""),
        // SAFETY: the caller guarantees it.
        false => unsafe { text(pointer, name) },
    };
    let open = || {
        let backend = optional(backend, "backend")?;
        let adapter = optional(adapter, "adapter")?;
        open(backend, adapter)
    };
    // SAFETY: the caller guarantees it.
    unsafe { give(device, &DEVICES, open) }
}

fn open(backend: &str, adapter: &str) -> Result<fullconv_device, Failure> {
    if backend == "cpu" {
        if !adapter.is_empty() {
            return Err(invalid("the CPU reference has no adapters to choose from"));
        }
        let name = c_string("CPU reference");
        return Ok(fullconv_device { gpu: None, name });
    }
    let backend = match backend {
        "" | "auto" => None,
        name => Some(name.parse::<Backend>()?),
    };
    let options = GpuOptions {
        backend,
        adapter: (!adapter.is_empty()).then(|| adapter.to_owned()),
        without_kernels: kernels_left_out(),
        ..GpuOptions::default()
    };
    let gpu = pollster::block_on(Gpu::with_options(&options))?;
    let name = c_string(&gpu.to_string());
    let gpu = Some(gpu);
    Ok(fullconv_device { gpu, name })
}

/// A description of the device for people: its name, backend and kind, in UTF-8, valid until the device is freed; null
/// if `device` is not a valid handle.
#[unsafe(no_mangle)]
pub extern "C" fn fullconv_device_name(device: *const fullconv_device) -> *const c_char {
    let mut name = std::ptr::null();
    border(|| {
        name = DEVICES.get(device)?.name.as_ptr();
        Ok(())
    });
    name
}

/// Frees a device; null does nothing. Its segmenters stay valid.
#[unsafe(no_mangle)]
pub extern "C" fn fullconv_device_free(device: *mut fullconv_device) -> fullconv_status {
    border(|| DEVICES.remove(device))
}

/// Puts a model on a device: compiles its kernels and uploads its weights. One segmenter serves any number of pictures
/// and threads.
///
/// # Safety
/// `segmenter` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fullconv_segmenter_new(
    device: *const fullconv_device,
    model: *const fullconv_model,
    segmenter: *mut *mut fullconv_segmenter,
) -> fullconv_status {
    let make = || {
        let (device, model) = (DEVICES.get(device)?, MODELS.get(model)?);
        Ok(fullconv_segmenter(match &device.gpu {
            Some(gpu) => pollster::block_on(Segmenter::new(gpu, &model.model))?,
            None => Segmenter::on_cpu(&model.model),
        }))
    };
    // SAFETY: the caller guarantees it.
    unsafe { give(segmenter, &SEGMENTERS, make) }
}

/// Labels every pixel of a picture of `width` × `height` pixels. A pixel is red, green, blue and alpha, at
/// which only networks with a channel for it look; rows come from the top, `row_bytes` apart (0: 4 · width). Writes the
/// class of each pixel, row by row, to the first width · height bytes of `labels`, which has `labels_length` bytes. A
/// network of bands that are no colours is refused.
///
/// # Safety
/// `rgba` is null or the first byte of a picture of that layout; `labels` is null, or `labels_length` bytes may be
/// written to it, without overlap with the picture.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fullconv_segment(
    segmenter: *const fullconv_segmenter,
    rgba: *const u8,
    width: usize,
    height: usize,
    row_bytes: usize,
    labels: *mut u8,
    labels_length: usize,
) -> fullconv_status {
    border(|| {
        let segmenter = SEGMENTERS.get(segmenter)?;
        not_null(rgba, "rgba")?;
        not_null(labels, "labels")?;
        let layout = Layout::new(Size::new(height, width), row_bytes)?;
        if labels_length < layout.pixels {
            return Err(invalid(format!(
                "labels takes {} bytes, one for each pixel, not {labels_length}",
                layout.pixels
            )));
        }
        // SAFETY: `rgba` is not null; the caller guarantees the rest.
        let picture = unsafe { layout.picture(rgba) }?;
        let mask = segmenter.0.segment_blocking(&picture)?;
        // SAFETY: `labels` has room for all pixels, and the count is clamped to the mask's.
        unsafe {
            labels.copy_from(
                mask.labels().as_ptr(),
                layout.pixels.min(mask.labels().len()),
            )
        };
        Ok(())
    })
}

/// Writes the probability of each class at each pixel of a picture, laid out as for fullconv_segment: for each class
/// one plane of height rows of width numbers from 0 to 1, class 0 first, to the first class_count · width · height
/// numbers of `probabilities`, which has `probabilities_length` numbers.
///
/// # Safety
/// `rgba` is null or the first byte of a picture of that layout; `probabilities` is null, or `probabilities_length`
/// numbers may be written to it, without overlap with the picture.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fullconv_probabilities(
    segmenter: *const fullconv_segmenter,
    rgba: *const u8,
    width: usize,
    height: usize,
    row_bytes: usize,
    probabilities: *mut f32,
    probabilities_length: usize,
) -> fullconv_status {
    border(|| {
        let segmenter = SEGMENTERS.get(segmenter)?;
        not_null(rgba, "rgba")?;
        not_null(probabilities, "probabilities")?;
        let layout = Layout::new(Size::new(height, width), row_bytes)?;
        let classes = segmenter.0.model().class_count();
        let needed = layout.pixels.checked_mul(classes);
        if needed.is_none_or(|needed| probabilities_length < needed) {
            return Err(invalid(format!(
                "probabilities takes {} numbers, {classes} for each pixel, not {probabilities_length}",
                layout.pixels.saturating_mul(classes)
            )));
        }
        // SAFETY: `rgba` is not null; the caller guarantees the rest.
        let picture = unsafe { layout.picture(rgba) }?;
        let found = pollster::block_on(segmenter.0.probabilities(&picture))?;
        let count = found.data().len().min(probabilities_length);
        // SAFETY: `probabilities` has room for `count` numbers.
        unsafe { probabilities.copy_from(found.data().as_ptr(), count) };
        Ok(())
    })
}

/// Frees a segmenter; null does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn fullconv_segmenter_free(segmenter: *mut fullconv_segmenter) -> fullconv_status {
    border(|| SEGMENTERS.remove(segmenter))
}

/// A picture's layout in memory.
struct Layout {
    size: Size,
    row_bytes: usize,
    pixels: usize,
    /// Bytes from the first to the last pixel, both included.
    bytes: usize,
}

impl Layout {
    fn new(size: Size, row_bytes: usize) -> Result<Self, Failure> {
        let Size { height, width } = size;
        if width == 0 || height == 0 {
            return Err(invalid("a picture has at least one pixel"));
        }
        let row = width.checked_mul(4);
        let row_bytes = match row_bytes {
            0 => row.unwrap_or(usize::MAX),
            given => given,
        };
        if row.is_none_or(|row| row_bytes < row) {
            return Err(invalid(format!(
                "row_bytes is {row_bytes}, but a row of {width} pixels takes 4 bytes for each"
            )));
        }
        let before = row_bytes.checked_mul(height - 1);
        let bytes = before.and_then(|before| before.checked_add(row?));
        match bytes.filter(|bytes| *bytes <= MOST_BYTES) {
            Some(bytes) => Ok(Self {
                size,
                row_bytes,
                pixels: height * width,
                bytes,
            }),
            None => Err(invalid(format!(
                "no memory has a picture of {size} pixels (height x width) with {row_bytes} bytes a row"
            ))),
        }
    }

    /// The picture in this layout at `rgba`.
    ///
    /// # Safety
    /// `rgba` is the first byte of a picture of this layout.
    unsafe fn picture(&self, rgba: *const u8) -> Result<Picture, Failure> {
        // SAFETY: the layout fits in memory; the caller guarantees the rest.
        let rgba = unsafe { std::slice::from_raw_parts(rgba, self.bytes) };
        Ok(Picture::from_rgba(self.size, self.packed(rgba)?)?)
    }

    /// The pixels of a picture in this layout, copied without gaps between rows.
    fn packed(&self, rgba: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut packed = Vec::new();
        if packed.try_reserve_exact(4 * self.pixels).is_err() {
            return Err(Failure {
                status: fullconv_status::Limit,
                message: format!("no memory for a picture of {} pixels", self.pixels),
            });
        }
        for row in rgba.chunks(self.row_bytes) {
            packed.extend_from_slice(&row[..4 * self.size.width]);
        }
        Ok(packed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr::null;

    #[test]
    fn a_lost_device_has_a_status_of_its_own() {
        let device = match open("", "") {
            Ok(device) => device,
            Err(failure) if failure.status == fullconv_status::NoAdapter => {
                let required = std::env::var("FULLCONV_REQUIRE_GPU").is_ok_and(|v| v == "1");
                assert!(!required, "a GPU is required");
                return eprintln!("SKIP: {}", failure.message);
            }
            Err(failure) => panic!("{}", failure.message),
        };
        let gpu = device.gpu.clone().unwrap();
        let device = DEVICES.add(device);
        let model = MODELS.add(fullconv_model::new(
            Model::from_bytes(fullconv_demo::MODEL).unwrap(),
        ));
        let mut segmenter = std::ptr::null_mut();
        let (rgba, mut labels) = ([100; 4 * 16 * 16], [0; 16 * 16]);
        // SAFETY: all that is pointed to is as large as is said, and lives until the end.
        let mut segment = |segmenter| unsafe {
            let (width, height, row_bytes, length) = (16, 16, 0, labels.len());
            let labels = labels.as_mut_ptr();
            fullconv_segment(
                segmenter,
                rgba.as_ptr(),
                width,
                height,
                row_bytes,
                labels,
                length,
            )
        };
        // SAFETY: the place for the handle is there.
        let made = unsafe { fullconv_segmenter_new(device, model, &mut segmenter) };
        assert_eq!(made, fullconv_status::Ok);
        assert_eq!(segment(segmenter), fullconv_status::Ok);
        gpu.device().destroy();
        assert_eq!(segment(segmenter), fullconv_status::DeviceLost);
        // SAFETY: the last error is a text of this thread.
        let said = unsafe { std::ffi::CStr::from_ptr(fullconv_last_error()) };
        assert!(said.to_str().unwrap().contains("is lost"), "{said:?}");
        let mut another = std::ptr::null_mut();
        // SAFETY: as above.
        let made = unsafe { fullconv_segmenter_new(device, model, &mut another) };
        assert_eq!(
            (made, another.cast_const()),
            (fullconv_status::DeviceLost, null())
        );
        assert_eq!(fullconv_segmenter_free(segmenter), fullconv_status::Ok);
        assert_eq!(fullconv_device_free(device), fullconv_status::Ok);
        assert_eq!(fullconv_model_free(model), fullconv_status::Ok);
    }
}

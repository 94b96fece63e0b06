//! What `web/` makes its package of: the library as JavaScript sees it, thin. `web/src/fullconv.ts` wraps it,
//! and is what pages use.

// For other systems there is nothing here, so that a build of the whole workspace passes over it.
#![cfg(target_arch = "wasm32")]

mod console;

use fullconv::{Error, ErrorKind, Gpu, GpuOptions, Model, Picture, Result, Segmenter};
use js_sys::{Float32Array, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};
use wasm_bindgen_futures::future_to_promise;

/// Sends panics and the library's warnings to the browser's console, from the start.
#[wasm_bindgen(start)]
pub fn start() {
    console::install();
}

/// An `Error` of JavaScript with the message, and the kind as its property `kind`.
fn thrown(error: Error) -> JsValue {
    let thrown = js_sys::Error::new(&error.to_string());
    let kind = JsValue::from_str(&format!("{:?}", error.kind()));
    // Setting a property of a new object does not fail.
    let _ = Reflect::set(&thrown, &JsValue::from_str("kind"), &kind);
    thrown.into()
}

/// A model file that is being fetched: its bytes, each copied once, from JavaScript to where they stay.
#[wasm_bindgen]
pub struct Download(Vec<u8>);

#[wasm_bindgen]
impl Download {
    /// Makes room for `bytes`, what is expected: more may come.
    ///
    /// # Errors
    /// `Limit` if there is no memory for them.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: usize) -> Result<Self, JsValue> {
        let mut download = Self(Vec::new());
        download.reserve(bytes)?;
        Ok(download)
    }

    /// Adds what has come.
    ///
    /// # Errors
    /// `Limit` if there is no memory for it.
    pub fn push(&mut self, chunk: &Uint8Array) -> Result<(), JsValue> {
        let (begin, length) = (self.0.len(), chunk.length() as usize);
        self.reserve(length)?;
        self.0.resize(begin + length, 0);
        chunk.copy_to(&mut self.0[begin..]);
        Ok(())
    }

    fn reserve(&mut self, bytes: usize) -> Result<(), JsValue> {
        let reserved = match self.0.is_empty() {
            true => self.0.try_reserve_exact(bytes),
            false => self.0.try_reserve(bytes),
        };
        reserved.map_err(|_| {
            let all = (self.0.len() + bytes) >> 20;
            let message = format!("the page has no memory for a model file of {all} MiB");
            thrown(Error::new(ErrorKind::Limit, message))
        })
    }

    /// How many bytes have come.
    pub fn length(&self) -> usize {
        self.0.len()
    }
}

/// A device.
#[wasm_bindgen]
pub struct WebGpu(Gpu);

#[wasm_bindgen]
impl WebGpu {
    /// Opens the browser's best device; with `default_limits` as one that can do no more than every device.
    ///
    /// # Errors
    /// `NoAdapter` without WebGPU, `Device` if it cannot be opened.
    pub async fn open(default_limits: bool) -> Result<Self, JsValue> {
        let options = GpuOptions {
            default_limits,
            ..GpuOptions::default()
        };
        Gpu::with_options(&options).await.map(Self).map_err(thrown)
    }

    /// Gives the device up, and with it all memory there, which would otherwise wait for JavaScript's garbage
    /// collector. It counts as lost.
    pub fn close(&self) {
        self.0.device().destroy();
    }

    /// Waits until the device is lost, and says why.
    pub fn lost(&self) -> Promise {
        let lost = self.0.until_lost();
        future_to_promise(async move { Ok(lost.await.into()) })
    }

    /// Makes the model in `file` ready on the device.
    ///
    /// # Errors
    /// `ModelFile` if the file is damaged, incomplete or of no known network; `Limit` or `Device` if the device
    /// cannot hold or run it.
    pub async fn segmenter(&self, file: Download) -> Result<WebSegmenter, JsValue> {
        let model = Model::from_bytes(file.0).map_err(thrown)?;
        let segmenter = Segmenter::new(&self.0, &model).await.map_err(thrown)?;
        Ok(WebSegmenter(segmenter))
    }
}

/// A [`Segmenter`].
#[wasm_bindgen]
pub struct WebSegmenter(Segmenter);

#[wasm_bindgen]
impl WebSegmenter {
    /// Such as `fcn8s`.
    pub fn architecture(&self) -> String {
        self.0.model().architecture().to_string()
    }

    /// How many classes it tells apart.
    pub fn class_count(&self) -> usize {
        self.0.model().class_count()
    }

    /// The names of its classes; none if the file does not say.
    pub fn classes(&self) -> Vec<String> {
        self.0.model().classes().to_vec()
    }

    /// Red, green and blue of all 256 classes that there could be.
    pub fn colours(&self) -> Vec<u8> {
        let colour = |class| self.0.model().palette().colour(class);
        (0..=u8::MAX).flat_map(colour).collect()
    }

    /// What the file says of itself.
    pub fn description(&self) -> String {
        self.0.model().description().into()
    }

    /// The terms of its weights.
    pub fn license(&self) -> String {
        self.0.model().license().into()
    }

    /// The class of each pixel of a picture, whose pixels are red, green, blue and one byte more, row by row.
    ///
    /// # Errors
    /// As [`Segmenter::segment`].
    pub async fn segment(
        &self,
        width: usize,
        height: usize,
        rgba: Vec<u8>,
    ) -> Result<Uint8Array, JsValue> {
        let picture = Picture::from_rgba(width, height, rgba).map_err(thrown)?;
        let mask = self.0.segment(&picture).await.map_err(thrown)?;
        Ok(Uint8Array::from(mask.labels()))
    }

    /// The scores of each class, at the size at which the network sees the picture.
    ///
    /// # Errors
    /// As [`Segmenter::scores`].
    pub async fn scores(
        &self,
        width: usize,
        height: usize,
        rgba: Vec<u8>,
    ) -> Result<Scores, JsValue> {
        let picture = Picture::from_rgba(width, height, rgba).map_err(thrown)?;
        let scores = self.0.scores(&picture).await.map_err(thrown)?;
        let shape = scores.shape();
        Ok(Scores {
            classes: shape.c,
            height: shape.h,
            width: shape.w,
            data: Float32Array::from(scores.data()),
        })
    }
}

/// Class scores before softmax, plane by plane.
#[wasm_bindgen(getter_with_clone)]
pub struct Scores {
    /// How many planes.
    pub classes: usize,
    /// Rows of each.
    pub height: usize,
    /// Columns of each.
    pub width: usize,
    /// All of them.
    pub data: Float32Array,
}

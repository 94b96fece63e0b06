//! A thin layer over the library for JavaScript. Pages use `web/src/fullconv.ts`, which wraps it.

// Empty on other targets: a build of the whole workspace passes over it.
#![cfg(target_arch = "wasm32")]

mod console;

use fullconv::{
    Error, ErrorKind, Gpu, GpuOptions, Model, Picture, Result, Segmenter, Size, Tensor,
};
use js_sys::{Float32Array, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};
use wasm_bindgen_futures::future_to_promise;

/// Sends panics and the library's warnings to the browser's console, from the start.
#[wasm_bindgen(start)]
pub fn start() {
    console::install();
}

/// A JavaScript `Error` with the error's message and a property `kind`.
fn thrown(error: Error) -> JsValue {
    let thrown = js_sys::Error::new(&error.to_string());
    let kind = JsValue::from_str(&format!("{:?}", error.kind()));
    // Setting a property of a new object does not fail.
    let _ = Reflect::set(&thrown, &JsValue::from_str("kind"), &kind);
    thrown.into()
}

/// A model file that is being fetched: its bytes, each copied from JavaScript once.
#[wasm_bindgen]
pub struct Download(Vec<u8>);

#[wasm_bindgen]
impl Download {
    /// Reserves the expected number of `bytes`; more may come.
    ///
    /// # Errors
    /// `Limit` if there is no memory for them.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: usize) -> Result<Self, JsValue> {
        let mut download = Self(Vec::new());
        download.reserve(bytes)?;
        Ok(download)
    }

    /// Appends a received part.
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

    /// Bytes received so far.
    pub fn length(&self) -> usize {
        self.0.len()
    }
}

/// A device.
#[wasm_bindgen]
pub struct WebGpu(Gpu);

#[wasm_bindgen]
impl WebGpu {
    /// Opens the browser's best device, with `default_limits` under WebGPU's default limits.
    ///
    /// # Errors
    /// `NoAdapter` without WebGPU, `Device` if the device cannot be opened.
    pub async fn open(default_limits: bool) -> Result<Self, JsValue> {
        let options = GpuOptions {
            default_limits,
            ..GpuOptions::default()
        };
        Gpu::with_options(&options).await.map(Self).map_err(thrown)
    }

    /// Destroys the device and frees its memory at once, without waiting for JavaScript's garbage collector. The
    /// device counts as lost.
    pub fn close(&self) {
        self.0.device().destroy();
    }

    /// Resolves with the reason when the device is lost.
    pub fn lost(&self) -> Promise {
        let lost = self.0.until_lost();
        future_to_promise(async move { Ok(lost.await.into()) })
    }

    /// Compiles the kernels of the model in `file` and uploads its weights. A `threshold` replaces that of a binary
    /// model.
    ///
    /// # Errors
    /// `Request` for a threshold that does not suit the model; `ModelFile` if the file is damaged, incomplete or of an
    /// unknown network; `Limit` or `Device` if the device cannot hold or run the network.
    pub async fn segmenter(
        &self,
        file: Download,
        threshold: Option<f32>,
    ) -> Result<WebSegmenter, JsValue> {
        let mut model = Model::from_bytes(file.0).map_err(thrown)?;
        if let Some(threshold) = threshold {
            model = model.with_threshold(threshold).map_err(thrown)?;
        }
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

    /// The number of classes.
    pub fn class_count(&self) -> usize {
        self.0.model().class_count()
    }

    /// `softmax` or `sigmoid`: what makes probabilities of the scores.
    pub fn activation(&self) -> String {
        self.0.model().head().activation.to_string()
    }

    /// The probability from which a pixel is class 1 of a binary model; undefined for others.
    pub fn threshold(&self) -> Option<f32> {
        self.0.model().head().threshold
    }

    /// The names of the classes; empty if the file has none.
    pub fn classes(&self) -> Vec<String> {
        self.0.model().classes().to_vec()
    }

    /// Red, green and blue of all 256 possible classes.
    pub fn colours(&self) -> Vec<u8> {
        let colour = |class| self.0.model().palette().colour(class);
        (0..=u8::MAX).flat_map(colour).collect()
    }

    /// The file's description.
    pub fn description(&self) -> String {
        self.0.model().description().into()
    }

    /// The terms of the weights.
    pub fn license(&self) -> String {
        self.0.model().license().into()
    }

    /// The class of each pixel of a picture. Its pixels are red, green, blue and alpha, row by row; only networks with a
    /// channel for alpha look at it.
    ///
    /// # Errors
    /// As [`Segmenter::segment`]; `Picture` for a network of bands that are no colours.
    pub async fn segment(
        &self,
        width: usize,
        height: usize,
        rgba: Vec<u8>,
    ) -> Result<Uint8Array, JsValue> {
        let picture = Picture::from_rgba(Size::new(height, width), rgba).map_err(thrown)?;
        let mask = self.0.segment(&picture).await.map_err(thrown)?;
        Ok(Uint8Array::from(mask.labels()))
    }

    /// The network's output, at its own size.
    ///
    /// # Errors
    /// As [`Segmenter::scores`].
    pub async fn scores(
        &self,
        width: usize,
        height: usize,
        rgba: Vec<u8>,
    ) -> Result<Scores, JsValue> {
        let picture = Picture::from_rgba(Size::new(height, width), rgba).map_err(thrown)?;
        Ok(self.0.scores(&picture).await.map_err(thrown)?.into())
    }

    /// The probability of each class at each pixel, at the picture's size.
    ///
    /// # Errors
    /// As [`Segmenter::probabilities`].
    pub async fn probabilities(
        &self,
        width: usize,
        height: usize,
        rgba: Vec<u8>,
    ) -> Result<Scores, JsValue> {
        let picture = Picture::from_rgba(Size::new(height, width), rgba).map_err(thrown)?;
        Ok(self.0.probabilities(&picture).await.map_err(thrown)?.into())
    }
}

impl From<Tensor> for Scores {
    fn from(scores: Tensor) -> Self {
        let shape = scores.shape();
        Self {
            classes: shape.c,
            height: shape.h,
            width: shape.w,
            data: Float32Array::from(scores.data()),
        }
    }
}

/// Class scores, or probabilities, plane by plane.
#[wasm_bindgen(getter_with_clone)]
pub struct Scores {
    /// The number of planes.
    pub classes: usize,
    /// Rows of a plane.
    pub height: usize,
    /// Columns of a plane.
    pub width: usize,
    /// The scores of all planes.
    pub data: Float32Array,
}

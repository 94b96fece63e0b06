//! **fullconv labels every pixel of an image on any GPU.** FCN-8s and its family (fully convolutional
//! networks for semantic segmentation) run as WGSL compute kernels, dispatched by a graph executor over
//! wgpu, with weights from safetensors.
//!
//! ```no_run
//! # async fn example() -> fullconv::Result<()> {
//! use fullconv::{Gpu, Model, Picture, Segmenter};
//!
//! let gpu = Gpu::new().await?;
//! let segmenter = Segmenter::new(&gpu, &Model::read("fcn8s.safetensors")?).await?;
//! let picture = Picture::open("street.jpg")?;
//! let mask = segmenter.segment(&picture).await?;
//! for (class, share) in mask.shares() {
//!     println!("{} {:.1} %", mask.class_name(class), 100.0 * share);
//! }
//! mask.overlay(&picture, 0.5)?.save("street.overlay.png")?;
//! # Ok(())
//! # }
//! ```
//!
//! The data flow:
//!
//! ```text
//! picture ─ preprocess ─▶ tensor ─ graph ─▶ plan ─ kernels ─▶ class ids ─▶ mask, overlay
//!            (GPU)                models    plan    shaders     (GPU)       PNG
//! ```
//!
//! - [`Model`]: a model file: graph, weights, preprocessing, class names.
//! - [`Segmenter`]: a model on a device; picture in, [`Mask`] out.
//! - [`gpu`]: the adapters and the device; wgpu is re-exported there.
//! - [`models`], [`convert`]: the networks with a file of their own here, and checkpoints as model files.
//! - [`compare`]: a device against the reference implementation, node by node.
//! - [`low_level`]: graphs, ops, plans and the executor, which may change in any release.

// No input may cause a panic.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo)]

pub mod compare;
#[cfg(not(target_arch = "wasm32"))]
pub mod convert;
mod deviation;
mod device_profile;
mod error;
mod files;
pub mod gpu;
mod graph;
mod heatmap;
mod labels;
pub mod low_level;
mod mask;
mod metrics;
mod model_file;
pub mod models;
mod npy;
mod ops;
mod parallel;
mod parameters;
mod picture;
mod plan;
mod preprocess;
mod reference;
mod segmenter;
mod size;
mod target;
mod tensor;

pub use error::{Error, ErrorKind, Result};
pub use gpu::{Gpu, GpuOptions};
pub use heatmap::{heatmap, png16};
pub use labels::{LabelImage, LabelValues, decode_labels, read_labels};
pub use mask::{CocoRle, Mask, Palette};
pub use metrics::{BoundaryIou, ConfusionMatrix};
pub use model_file::{Head, Model, Values};
pub use ops::Activation;
pub use parameters::{Parameter, Parameters, TensorFile};
pub use picture::{Picture, PictureFormat, PictureLimits, PictureNote, Samples};
pub use preprocess::{Channels, Preprocessing};
#[cfg(not(target_arch = "wasm32"))]
pub use segmenter::BlockingFrames;
pub use segmenter::{
    Colours, Frames, MaskTexture, PoolStats, Precision, Profile, Run, Segmenter, SegmenterBuilder,
    StageMask, TexturePass,
};
pub use size::Size;
pub use tensor::{Shape, Tensor};

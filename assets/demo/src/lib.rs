//! The demo model of fullconv: FCN-8s on EfficientNet-Lite0, for street scenes, in f16. It is a separate crate
//! because of its own licence: **CC BY-NC 4.0, research and personal use only**.
//!
//! `fullconv::Model::from_bytes(fullconv_demo::MODEL)` opens it, without a copy of the bytes. This crate does not
//! depend on fullconv.

/// The model file (safetensors), 8 MB.
pub static MODEL: &[u8] = include_bytes!("../demo.safetensors");

//! A server for fullconv: the Open Inference Protocol (version 2) over HTTP and gRPC, and pictures by plain HTTP.
//!
//! Requests wait in one queue; a thread for each device takes them, pictures of one size after another. The masks are
//! those of [`fullconv::Segmenter::segment`], bit for bit.
//!
//! ```no_run
//! use fullconv_serve::{Config, Device, ModelSource, Server};
//! use std::sync::Arc;
//!
//! let mut config = Config::default();
//! config.listen = vec!["127.0.0.1:8080".parse().unwrap()];
//! config.models = vec![ModelSource::file("fcn8s", "fcn8s.safetensors")];
//! config.devices = vec![Device::Gpu(Arc::new(|| pollster::block_on(fullconv::Gpu::new())))];
//! let server = Server::start(config)?;
//! server.run_until_stopped()?;
//! # Ok::<(), fullconv::Error>(())
//! ```

// The compiler follows wgpu's types to see that a service may be shared.
#![recursion_limit = "256"]
// No request may cause a panic.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo)
)]

mod body;
mod catalog;
mod config;
mod grpc;
mod job;
mod lifecycle;
mod listen;
mod metrics;
mod oip;
mod queue;
mod record;
mod rest;
mod routes;
mod segment;
mod service;
mod trouble;
mod workers;

pub use config::{Address, Config, Device, Limits, ModelSource, is_name};
pub use lifecycle::Server;

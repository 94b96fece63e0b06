//! Kernels on the device against the reference implementation, and the reference against PyTorch and ONNX.

#[path = "../common/mod.rs"]
mod common;

mod cases;
mod check;
mod conformance;
mod edges;
mod functions;
mod fuzz;
mod goldens;
mod grids;
mod half;
mod matrices;
mod quirks;
mod statistics;
mod trust;

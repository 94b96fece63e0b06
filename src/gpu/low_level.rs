//! The items of `fullconv::low_level::gpu`.

pub use super::check::matrices::{CheckedMatrices, checked_matrices};
pub use super::device::Fault;
pub use super::executor::{Executor, IN_FLIGHT, Network};
pub use super::readback::Pending;
pub use super::textures::{MaskTextures, Tint, texture_pipelines};
#[cfg(not(target_arch = "wasm32"))]
pub use super::tune::tune;

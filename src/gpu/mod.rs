//! The device: adapters, pipelines, weights in device memory, and the executor of plans. wgpu is used only here.

mod adapters;
mod buffers;
mod cache;
pub(crate) mod check;
mod device;
mod executor;
mod families;
mod kernel_names;
mod layout;
mod lost;
pub(crate) mod low_level;
mod pipelines;
mod profile;
pub mod quirks;
mod random;
mod readback;
mod saturation;
mod shared;
mod texels;
mod texture_runs;
mod textures;
#[cfg(not(target_arch = "wasm32"))]
mod tune;
mod waiter;
mod weights;

pub use adapters::{Adapter, Backend, adapters, find_adapter};
pub use cache::cache_folder;
pub use check::{CheckedLayer, DeviceCheck, Finding, Verdict};
pub use device::{Gpu, GpuOptions};
pub use kernel_names::{check_kernel_names, kernel_names, kernels_left_out};
pub use profile::{LayerTimes, Timer};
#[cfg(not(target_arch = "wasm32"))]
pub use tune::{Measured, Outcome, TunedLayer};
pub(crate) use waiter::now;
pub use wgpu;

//! The device: adapters, pipelines, weights in device memory, and the executor of plans. The home of
//! wgpu.

mod device;
mod executor;
mod layout;
mod pipelines;
mod profile;
mod readback;
mod saturation;
mod texels;
mod waiter;
mod weights;

pub use device::{Adapter, Backend, Gpu, GpuOptions, adapters};
pub use executor::{Executor, IN_FLIGHT, Network};
pub use profile::{LayerTimes, Timer};
pub use readback::Pending;
pub(crate) use waiter::now;
pub use wgpu;

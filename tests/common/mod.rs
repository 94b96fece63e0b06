//! Code that the tests share: devices, random tensors, graphs of one op, and error bounds.
#![allow(dead_code)] // Each test program uses a part of it.

mod bounds;
mod devices;
pub mod emulation;
pub mod faults;
mod files;
pub mod functions;
pub mod known;
mod one_op;
mod parts;
pub mod plans;
mod random;
mod runs;
pub mod samples;
pub mod sizes;
pub mod ways;
pub mod writes;

pub use bounds::*;
pub use devices::*;
pub use files::*;
pub use one_op::*;
pub use random::*;
pub use runs::*;

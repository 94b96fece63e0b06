//! Plans: cut to the limits of devices, fused, padded, tuned, and what becomes of them at the extremes.

#[path = "../common/mod.rs"]
mod common;

mod bands;
mod chains;
mod extremes;
mod fusion;
mod limits;
mod padding;
mod tune;
mod without;

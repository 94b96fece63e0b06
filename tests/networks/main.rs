//! Whole networks, and programs that run them.

#[path = "../common/mod.rs"]
mod common;

mod attention;
mod channels;
mod described;
mod doubt;
mod embed;
mod errors;
mod flow;
mod heads;
mod jumps;
mod models;
mod names;
mod pool;
mod unpool;
mod widths;

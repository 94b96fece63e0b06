//! Whole networks, and programs that run them.

#[path = "../common/mod.rs"]
mod common;

mod described;
mod embed;
mod flow;
mod models;
mod pool;
mod unpool;
mod widths;

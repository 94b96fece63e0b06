//! Runs the real program and checks its files, its output and its exit status.

mod bulk;
mod convert;
mod devices;
mod eval;
mod half;
mod heads;
mod insight;
mod outputs;
mod pictures;
mod profile;
mod program;
mod run;
mod segment;
#[cfg(all(unix, feature = "serve"))]
mod serve;
mod stream;
mod tune;
mod usage;
mod vectors;

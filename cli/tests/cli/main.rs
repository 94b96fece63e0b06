//! The command line as its users meet it: the real program, its files, its output, its exit status.

mod convert;
mod devices;
mod eval;
mod half;
mod insight;
mod profile;
mod program;
mod run;
mod segment;
mod tune;
mod usage;

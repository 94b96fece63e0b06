//! The command line of fullconv.

// Nothing that input can reach may panic.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo)]

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}

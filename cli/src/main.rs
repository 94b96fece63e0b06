//! The command line of fullconv, thin over the library: one file per subcommand.
//!
//! Exit status: 0 done; 1 failed, with a line on stderr that says what and where; 2 wrong usage; 130
//! stopped by Ctrl-C. With `--json`, stdout holds one JSON object and nothing else.

// Nothing that input can reach may panic.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo)]

mod compare;
mod convert;
mod devices;
mod eval;
mod inputs;
mod insight;
mod inspect;
mod interrupt;
mod jobs;
mod options;
mod pipeline;
mod profile;
mod run;
mod segment;
mod tensors;
mod terminal;

use clap::{CommandFactory, Parser, Subcommand};
use fullconv::Error;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Labels every pixel of an image on any GPU.
#[derive(Debug, Parser)]
#[command(name = "fullconv", version, arg_required_else_help = true)]
#[command(after_help = "Environment:\n  FULLCONV_LOG, RUST_LOG  \
                        what is logged to stderr, such as `info` or `wgpu_core=warn`\n  \
                        FULLCONV_CACHE          the folder for what is kept of a device between runs; \
                        empty: none")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Label pictures: NAME.mask.png (class ids) and NAME.overlay.png for each
    Segment(segment::Args),
    /// Run a network on a tensor, for comparison with other frameworks
    Run(run::Args),
    /// Hold every node on the device against the CPU reference
    Compare(compare::Args),
    /// Time a model layer by layer
    Profile(profile::Args),
    /// Show what a model file holds and what running it takes
    Inspect(inspect::Args),
    /// Measure a model on labelled pictures: pixel accuracy, mean IoU
    Eval(eval::Args),
    /// Make a model file of a checkpoint: names, f16, metadata; or the FCN that training begins with
    Convert(convert::Args),
    /// List the graphics adapters and what is wrong with them
    Devices(devices::Args),
}

/// How a command ends where it does not get through.
enum Failure {
    /// It failed: status 1.
    Failed(Error),
    /// It was called wrongly, in a way that the parser does not see: status 2.
    Usage(&'static str),
}

/// How a command ends.
type Outcome<T = ExitCode> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Parses the arguments, runs the command and reports.
fn main() -> ExitCode {
    let cli = Cli::parse();
    log();
    let (name, outcome) = match &cli.command {
        Command::Segment(args) => ("segment", segment::run(args)),
        Command::Run(args) => ("run", run::run(args)),
        Command::Compare(args) => ("compare", compare::run(args)),
        Command::Profile(args) => ("profile", profile::run(args)),
        Command::Inspect(args) => ("inspect", inspect::run(args)),
        Command::Eval(args) => ("eval", eval::run(args)),
        Command::Convert(args) => ("convert", convert::run(args)),
        Command::Devices(args) => ("devices", devices::run(args)),
    };
    match outcome {
        Ok(status) => status,
        Err(Failure::Failed(error)) => {
            terminal::report(&error);
            ExitCode::FAILURE
        }
        Err(Failure::Usage(message)) => wrong_usage(name, message),
    }
}

/// Ends the program as the parser does.
fn wrong_usage(command: &str, message: &str) -> ! {
    let mut cli = Cli::command();
    // Built, so that the usage line below the message is that of `fullconv COMMAND`.
    cli.build();
    let command = cli.find_subcommand_mut(command).map(std::mem::take);
    let kind = clap::error::ErrorKind::ArgumentConflict;
    command.unwrap_or(cli).error(kind, message).exit()
}

/// Logs to stderr what `FULLCONV_LOG` or else `RUST_LOG` asks for.
fn log() {
    // wgpu probes every backend there could be and warns of each that is not there.
    let quiet = "warn,wgpu=off,wgpu_core=off,wgpu_hal=off,naga=off";
    let asked = ["FULLCONV_LOG", "RUST_LOG"].map(|name| std::env::var(name).unwrap_or_default());
    let filter = asked.into_iter().find(|filter| !filter.is_empty());
    let filter = EnvFilter::try_new(filter.as_deref().unwrap_or(quiet)).unwrap_or_else(|e| {
        terminal::report(format!("FULLCONV_LOG or RUST_LOG is no log filter: {e}"));
        EnvFilter::new(quiet)
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

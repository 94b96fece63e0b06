//! The command line of fullconv, a thin layer over the library: one file per subcommand.
//!
//! Exit status: 0 done; 1 failed, with one line on stderr; 2 wrong usage; 3 `devices --check` found a device that computes
//! wrongly; 4 `devices` found a GPU that cannot be used, and only CPUs that can; 130 stopped by Ctrl-C. With `--json`,
//! stdout holds one JSON object and nothing else.

// Code reachable from input may not panic.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::todo)]

mod compare;
mod convert;
mod devices;
mod eval;
mod folders;
mod inputs;
mod insight;
mod inspect;
mod interrupt;
mod jobs;
mod manifest;
mod manual;
mod names;
mod options;
mod outputs;
mod pictures;
mod pipeline;
mod presets;
mod profile;
mod report;
mod run;
mod segment;
#[cfg(all(unix, feature = "serve"))]
mod serve;
mod shard;
mod stream;
mod tensors;
mod terminal;
mod text_files;
mod vectors;

use clap::{CommandFactory, Parser, Subcommand};
use fullconv::Error;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Labels every pixel of an image on any GPU.
#[derive(Debug, Parser)]
#[command(name = "fullconv", version, arg_required_else_help = true)]
#[command(after_help = "Environment:\n  FULLCONV_LOG, RUST_LOG  \
                        log filter for stderr, such as `info` or `wgpu_core=warn`\n  \
                        FULLCONV_CACHE          the folder for tuned kernels and compiled pipelines; \
                        empty: no cache\n  \
                        FULLCONV_WITHOUT        kernels to leave out, as by --without-kernel: NAME,NAME\n  \
                        FULLCONV_VECTORS        256: a CPU device (Mesa's llvmpipe) computes with vectors of \
                        256 bits, even if the CPU has AVX-512")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Label pictures: NAME.mask.png (class ids) and NAME.overlay.png for each
    Segment(segment::Args),
    /// Label the frames of a video: Y4M or bare pixels on standard input, overlays or masks on standard output
    Stream(stream::Args),
    /// Run a network on a tensor, for comparison with other frameworks
    Run(run::Args),
    /// Compare every node on the device with the CPU reference
    Compare(compare::Args),
    /// Time a model layer by layer
    Profile(profile::Args),
    /// Show a model file's contents, its plan and its memory
    Inspect(inspect::Args),
    /// Measure a model on labelled pictures: pixel accuracy, mean IoU, Dice, boundary IoU
    Eval(eval::Args),
    /// Turn a checkpoint into a model file (names, f16, metadata), or a classifier into an FCN to train
    Convert(convert::Args),
    /// List the graphics adapters, their limits and their faults
    Devices(devices::Args),
    /// Serve models over HTTP and gRPC: pictures in, masks out, and the Open Inference Protocol
    #[cfg(all(unix, feature = "serve"))]
    Serve(serve::Args),
    /// Print the completions of a shell
    Completions(manual::CompletionsArgs),
    /// Print a manual page
    Man(manual::ManArgs),
}

/// How a command fails.
enum Failure {
    /// An error: status 1.
    Failed(Error),
    /// Wrong usage that the parser does not detect: status 2.
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
    // SAFETY: the first statement: there is no other thread.
    unsafe { vectors::widen() };
    if let Some(status) = vectors::check() {
        return status;
    }
    let cli = Cli::parse();
    log(&cli.command);
    let (name, outcome) = match &cli.command {
        Command::Segment(args) => ("segment", segment::run(args)),
        Command::Stream(args) => ("stream", stream::run(args)),
        Command::Run(args) => ("run", run::run(args)),
        Command::Compare(args) => ("compare", compare::run(args)),
        Command::Profile(args) => ("profile", profile::run(args)),
        Command::Inspect(args) => ("inspect", inspect::run(args)),
        Command::Eval(args) => ("eval", eval::run(args)),
        Command::Convert(args) => ("convert", convert::run(args)),
        Command::Devices(args) => ("devices", devices::run(args)),
        #[cfg(all(unix, feature = "serve"))]
        Command::Serve(args) => ("serve", serve::run(args)),
        Command::Completions(args) => ("completions", manual::completions(args, Cli::command())),
        Command::Man(args) => ("man", manual::man(args, Cli::command())),
    };
    match outcome {
        Ok(status) => {
            vectors::check_later();
            status
        }
        Err(Failure::Failed(error)) => {
            terminal::report(&error);
            ExitCode::FAILURE
        }
        Err(Failure::Usage(message)) => wrong_usage(name, message),
    }
}

/// Ends the program as the parser ends it on wrong usage.
fn wrong_usage(command: &str, message: &str) -> ! {
    let mut cli = Cli::command();
    // Without `build`, the message's usage line would lack `fullconv COMMAND`.
    cli.build();
    let command = cli.find_subcommand_mut(command).map(std::mem::take);
    let kind = clap::error::ErrorKind::ArgumentConflict;
    command.unwrap_or(cli).error(kind, message).exit()
}

/// Starts the log on stderr, filtered by `FULLCONV_LOG`, else by `RUST_LOG`.
fn log(command: &Command) {
    // wgpu probes every backend and warns about each missing one.
    let quiet = "warn,wgpu=off,wgpu_core=off,wgpu_hal=off,naga=off";
    let quiet = match command {
        #[cfg(all(unix, feature = "serve"))]
        // The log of a server is what its operator has of it.
        Command::Serve(_) => format!("{quiet},fullconv_serve=info"),
        _ => quiet.to_owned(),
    };
    let asked = ["FULLCONV_LOG", "RUST_LOG"].map(|name| std::env::var(name).unwrap_or_default());
    let filter = asked.into_iter().find(|filter| !filter.is_empty());
    let filter = EnvFilter::try_new(filter.as_deref().unwrap_or(&quiet)).unwrap_or_else(|e| {
        terminal::report(format!("FULLCONV_LOG or RUST_LOG is not a log filter: {e}"));
        EnvFilter::new(&quiet)
    });
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    #[cfg(all(unix, feature = "serve"))]
    if let Command::Serve(args) = command
        && args.log == serve::LogForm::Json
    {
        return log
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .init();
    }
    log.with_ansi(std::io::stderr().is_terminal()).init();
}

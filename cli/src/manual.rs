//! `fullconv completions` and `fullconv man`: made of the same definitions as `--help`.

use crate::{Failure, Outcome, terminal};
use clap::Command;
use clap_complete::Shell;
use fullconv::{Error, ErrorKind};
use std::process::ExitCode;

/// The arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "bash: fullconv completions bash > ~/.local/share/bash-completion/completions/fullconv\n\
                  zsh: fullconv completions zsh > ~/.zfunc/_fullconv\n\
                  fish: fullconv completions fish > ~/.config/fish/completions/fullconv.fish\n\
                  PowerShell: fullconv completions powershell >> $PROFILE"
)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// The arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "fullconv man > ~/.local/share/man/man1/fullconv.1; fullconv man segment | man -l -"
)]
pub struct ManArgs {
    /// The command whose page is wanted [default: the page about all of them]
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

/// Runs `completions` for the program `cli`.
pub fn completions(args: &CompletionsArgs, mut cli: Command) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli, "fullconv", &mut script);
    terminal::bytes_out(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `man` for the program `cli`.
pub fn man(args: &ManArgs, mut cli: Command) -> Outcome {
    // Without `build`, a command's page would lack the program's name.
    cli.build();
    let page = match &args.command {
        None => cli,
        Some(name) => match cli.find_subcommand(name) {
            Some(command) => command.clone(),
            None => {
                let text =
                    format!("man: there is no command {name:?}; `fullconv --help` lists them");
                return Err(Failure::Failed(Error::new(ErrorKind::Request, text)));
            }
        },
    };
    let mut text = Vec::new();
    clap_mangen::Man::new(page).render(&mut text).map_err(|e| {
        Failure::Failed(Error::new(
            ErrorKind::Internal,
            format!("the page cannot be made: {e}"),
        ))
    })?;
    terminal::bytes_out(&text)?;
    Ok(ExitCode::SUCCESS)
}

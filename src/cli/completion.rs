//! `apogee completion …`: what a shell needs to complete a line.

use std::io::{self, Write as _};

use clap::{Command, ValueEnum};
use clap_complete::{Shell as Classic, generate};
use clap_complete_nushell::Nushell;

use super::error::CliError;

/// The shells that can.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
    Nushell,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell that will read the script
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &Args, mut line: Command) -> Result<(), CliError> {
    let (mut script, name) = (Vec::new(), "apogee");
    match args.shell {
        Shell::Bash => generate(Classic::Bash, &mut line, name, &mut script),
        Shell::Zsh => generate(Classic::Zsh, &mut line, name, &mut script),
        Shell::Fish => generate(Classic::Fish, &mut line, name, &mut script),
        Shell::Powershell => generate(Classic::PowerShell, &mut line, name, &mut script),
        Shell::Nushell => generate(Nushell, &mut line, name, &mut script),
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(&script)?;
    Ok(stdout.flush()?)
}

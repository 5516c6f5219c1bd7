//! Deleting asks first, and a change can be tried without making it.

use std::io::{self, IsTerminal as _, Write as _};

use super::error::CliError;

/// The flag that answers the question in advance.
#[derive(Debug, clap::Args)]
pub(crate) struct Confirm {
    /// Deletes without asking; needed where nobody can answer
    #[arg(long)]
    yes: bool,
}

/// The flag that only looks.
#[derive(Debug, clap::Args)]
pub(crate) struct Rehearsal {
    /// Changes nothing and says what would change; exit code 8 when something would
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl Confirm {
    /// Asks a person whether `what` may go; where there is none, only `--yes` will do.
    pub(crate) fn deletion_of(&self, what: &str) -> Result<(), CliError> {
        if self.yes || (io::stdin().is_terminal() && io::stderr().is_terminal() && asked(what)?) {
            return Ok(());
        }
        Err(CliError::NotConfirmed { what: what.to_owned() })
    }
}

impl Rehearsal {
    /// Ends a rehearsal with what would be done; goes on when it is none.
    ///
    /// # Errors
    /// [`CliError::WouldChange`] in a rehearsal.
    pub(crate) fn ends_before(&self, what: impl FnOnce() -> String) -> Result<(), CliError> {
        if self.dry_run { Err(CliError::WouldChange { what: what() }) } else { Ok(()) }
    }
}

fn asked(what: &str) -> io::Result<bool> {
    let mut stderr = io::stderr().lock();
    write!(stderr, "Delete {what} for good? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

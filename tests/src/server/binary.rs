//! The binary under test.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use tokio::process::Command;

/// Where the `apogee` binary is: `APOGEE_BIN`, or beside the folder of the running test.
///
/// # Errors
/// When there is none; `cargo build --release -p apogee` makes it.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("APOGEE_BIN") {
        return Ok(PathBuf::from(path));
    }
    let test = std::env::current_exe()?;
    let beside = test.ancestors().skip(1).take(3).map(|folder| folder.join("apogee"));
    beside
        .into_iter()
        .find(|path| path.is_file())
        .context("no binary beside the tests: run `cargo build --release -p apogee`, or set APOGEE_BIN")
}

/// A command of the binary that takes no configuration from the environment of the test.
pub fn apogee() -> anyhow::Result<Command> {
    let mut command = Command::new(binary()?);
    let ours = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("APOGEE_"));
    for name in ours {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").env("NO_COLOR", "1").stdin(Stdio::null());
    Ok(command)
}

//! The test programs of the official SDKs, in `tests/compat`; `make test` sets them up.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::process::Command;

/// A Java program with the official SDK. Its home is `home`, because the SDK writes its logs there.
pub fn java(class: &str, home: &Path) -> anyhow::Result<Command> {
    let built = compat_env()?.join("java");
    let mut command = Command::new("java");
    command
        .arg(format!("-Duser.home={}", home.display()))
        .arg("-cp")
        .arg(format!("{0}/classes:{0}/dependency/*", built.display()))
        .arg(class)
        .env("HOME", home);
    Ok(command)
}

/// A file of the `tests` folder of the checkout: the one the tests were started in, which need not be the one they were
/// compiled in, because clones share a target folder.
pub fn ours(path: &str) -> PathBuf {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&folder).join(path)
}

/// Where `make test` puts what the SDKs need.
pub fn compat_env() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("COMPAT_ENV") {
        return Ok(folder.into());
    }
    Ok(std::env::home_dir().context("there is no home directory")?.join(".cache/apogee-test-env"))
}

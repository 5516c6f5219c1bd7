//! `apogee version`.

use serde_json::json;

use super::error::CliError;
use super::output::Output;

pub(crate) fn run(output: &Output) -> Result<(), CliError> {
    let version = env!("CARGO_PKG_VERSION");
    Ok(output.tell(&json!({ "version": version }), &format!("apogee {version}"))?)
}

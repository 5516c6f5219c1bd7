//! `apogee version`.

use serde_json::json;

use super::error::CliError;
use super::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) output: Output,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let version = env!("CARGO_PKG_VERSION");
    Ok(args.output.tell(&json!({ "version": version }), &format!("apogee {version}"))?)
}

//! `apogee dev`: all roles in one process, on an embedded default. The same code as a cluster; lanes are calls.
//!
//! Reading order: this file (flags, life of the process), `config`, `server` (how the roles are put together), `ports`,
//! `adapters`.

mod adapters;
mod config;
mod ports;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use apogee_host::{Exit, Identity, Stop};
use rustix::system::uname;
use toml::Value;

use self::config::Config;
use crate::process::shell::{self, Common};

/// Flags of `apogee dev`. A flag that was not given leaves its key to the environment, the file or the default.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of all data, created when needed [default: apogee-data]
    #[arg(long, value_name = "DIR", conflicts_with = "ephemeral")]
    data: Option<PathBuf>,
    /// Keeps the data in a temporary folder that is removed at the end
    #[arg(long)]
    ephemeral: bool,
    /// Creates topics and groups when they are first used [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    auto_create: Option<bool>,
    #[command(flatten)]
    common: Common,
}

impl Args {
    /// What the flags say, by dotted key.
    fn flags(&self) -> toml::Table {
        self.common.flags([
            ("data", shell::path(self.data.as_deref())),
            ("ephemeral", self.ephemeral.then_some(Value::Boolean(true))),
            ("auto_create", self.auto_create.map(Value::Boolean)),
        ])
    }
}

/// Runs until somebody asks to stop.
pub(crate) fn run(args: Args) -> ExitCode {
    shell::run(|| live(&args))
}

fn live(args: &Args) -> Result<Exit, Stop> {
    let loaded = Config::load(args)?;
    loaded.config.check()?;
    args.common.print(&loaded)?;
    if args.common.check_config {
        loaded.config.tls.try_out()?;
    }
    if args.common.only_looks() {
        return Ok(Exit::Clean);
    }
    let (identity, config) = (identity(&loaded.config), loaded.config);
    let log = config.log.clone();
    shell::serve(&log, &identity, server::run(config, &identity))
}

fn identity(config: &Config) -> Identity {
    Identity {
        cluster: config.cluster.name.clone(),
        role: "dev",
        node_type: "broker",
        node: uname().nodename().to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::process::config::Format;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn loaded(line: &[&str]) -> Config {
        let args = Line::try_parse_from(["dev"].iter().chain(line)).expect("a valid line").args;
        apogee_host::config::load::<Config>(None, std::iter::empty(), args.flags(), &[]).expect("valid keys").config
    }

    #[test]
    fn flags_reach_their_keys() {
        let config = loaded(&[
            "--data=/d",
            "--listen=0.0.0.0",
            "--auto-create=false",
            "--log-format=json",
            "--set=grpc.port=0",
            "--set=cluster.name=c1",
            "--set=tls.cert=/c.pem",
        ]);
        assert_eq!((config.data, config.listen, config.auto_create), ("/d".into(), [0, 0, 0, 0].into(), false));
        assert_eq!((config.log.format, config.grpc.port, config.cluster.name), (Format::Json, 0, "c1".to_owned()));
        assert_eq!(config.tls.cert, Some("/c.pem".into()));
        assert!(loaded(&["--auto-create"]).auto_create && !loaded(&[]).ephemeral);
    }
}

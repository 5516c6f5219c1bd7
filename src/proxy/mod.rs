//! `apogee proxy`: what SDKs reach. Any number of them, none of which has anything that another one lacks.
//!
//! Reading order: this file (flags, life of the process), `config`, `routes`, `register`, `server`.

mod config;
mod register;
mod routes;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use apogee_host::{Exit, Identity, Stop};
use rustix::system::uname;
use toml::Value;

use self::config::Config;
use crate::process::config::pod_name;
use crate::process::shell::{self, Common};

/// Flags of `apogee proxy`. A flag that was not given leaves its key to the environment, the file or the default.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// All namesrv [default: 127.0.0.1:9876]
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    namesrv: Option<Vec<String>>,
    /// File with the cluster token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Port for SDKs [default: 8081]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Port of the admin API [default: 8088]
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
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
            ("namesrv.addresses", self.namesrv.clone().map(Value::from)),
            ("cluster.token_file", shell::path(self.token_file.as_deref())),
            ("grpc.port", shell::number(self.port)),
            ("admin.port", shell::number(self.admin_port)),
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
    args.common.print(&loaded)?;
    let token = loaded.config.check()?;
    if args.common.check_config {
        loaded.config.tls.try_out()?;
    }
    if args.common.only_looks() {
        return Ok(Exit::Clean);
    }
    let identity = Identity {
        cluster: loaded.config.cluster.name.clone(),
        role: "proxy",
        node_type: "proxy",
        node: pod_name().unwrap_or_else(|| uname().nodename().to_string_lossy().into_owned()),
        version: env!("CARGO_PKG_VERSION"),
    };
    shell::serve(&loaded.config.log, &identity, server::run(&loaded.config, token, &identity))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn flags_reach_their_keys() {
        let line = ["proxy", "--namesrv=a:1,b:2", "--port=0", "--admin-port=5", "--auto-create=false"];
        let args = Line::try_parse_from(line).expect("a valid line").args;
        let loaded = apogee_host::config::load::<Config>(None, std::iter::empty(), args.flags(), &[]);
        let config = loaded.expect("valid keys").config;
        assert_eq!((config.grpc.port, config.admin.port, config.auto_create), (0, 5, false));
        assert_eq!(config.namesrv.addresses, ["a:1", "b:2"]);
    }
}

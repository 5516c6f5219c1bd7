//! `apogee store-node`: replicas of replica groups, with lanes for proxies and a port for the other store-nodes.
//!
//! Reading order: this file (flags, life of the process), `config`, `lives`, `server` (how it is put together, and how it
//! comes down), `member` (what namesrv hears), `wiring` (what it says) and `follow` (how that changes), `replicas` and `replica`
//! (one of them), `preferred` (who leads them), `moves` (how far those have come that move).

mod config;
mod follow;
mod lives;
mod member;
mod moves;
mod preferred;
mod replica;
mod replicas;
mod server;
mod wiring;

use std::path::PathBuf;
use std::process::ExitCode;

use apogee_host::telemetry::init_logs;
use apogee_host::{Exit, Identity, Stop, shutdown};
use toml::Value;

use self::config::{AckMode, Config};
use crate::process::shell::{self, Common};

/// Flags of `apogee store-node`. A flag that was not given leaves its key to the environment, the file or the default.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of all data, created when needed [default: apogee-store]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Name of this store-node, the same after every restart [default: POD_NAME, or the name of the host]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where it stands: replicas of one group go to different zones
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// All namesrv [default: 127.0.0.1:9876]
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    namesrv: Option<Vec<String>>,
    /// File with the cluster token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Port for proxies [default: 10911]
    #[arg(long, value_name = "PORT")]
    lanes_port: Option<u16>,
    /// Port for the other store-nodes [default: 10912]
    #[arg(long, value_name = "PORT")]
    replication_port: Option<u16>,
    /// When the result of a send is told [default: quorum-fsync]
    #[arg(long, value_enum, value_name = "MODE")]
    ack_mode: Option<AckMode>,
    #[command(flatten)]
    common: Common,
}

impl Args {
    /// What the flags say, by dotted key.
    fn flags(&self) -> toml::Table {
        self.common.flags([
            ("data", shell::path(self.data.as_deref())),
            ("node.name", self.name.clone().map(Value::from)),
            ("node.zone", self.zone.clone().map(Value::from)),
            ("namesrv.addresses", self.namesrv.clone().map(Value::from)),
            ("cluster.token_file", shell::path(self.token_file.as_deref())),
            ("lanes.port", shell::number(self.lanes_port)),
            ("replication.port", shell::number(self.replication_port)),
            ("store.ack_mode", self.ack_mode.and_then(|mode| Value::try_from(mode).ok())),
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
    let checked = loaded.config.check()?;
    if args.common.only_looks() {
        return Ok(Exit::Clean);
    }
    let identity = Identity {
        cluster: loaded.config.cluster.name.clone(),
        role: "store-node",
        node_type: "broker",
        node: checked.name.as_str().to_owned(),
        version: env!("CARGO_PKG_VERSION"),
    };
    init_logs(&loaded.config.log.settings(), &identity)?;
    shutdown::install_panic_hook();
    lives::live(loaded.config, &checked, &identity)
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
        let line = [
            "store-node",
            "--data=/d",
            "--name=store-2",
            "--zone=b",
            "--namesrv=a:1,b:2",
            "--lanes-port=0",
            "--replication-port=2",
            "--ack-mode=leader-fsync",
            "--log-format=json",
            "--set=health.port=0",
        ];
        let args = Line::try_parse_from(line).expect("a valid line").args;
        let loaded = apogee_host::config::load::<Config>(None, std::iter::empty(), args.flags(), &[]);
        let config = loaded.expect("valid keys").config;
        assert_eq!((config.lanes.port, config.replication.port, config.health.port), (0, 2, 0));
        assert_eq!((&config.data, config.store.ack_mode), (&"/d".into(), AckMode::LeaderFsync));
        assert_eq!((config.node.zone.as_str(), config.namesrv.addresses.len()), ("b", 2));
        assert_eq!(config.check().expect("the values fit together").name.as_str(), "store-2");
    }
}

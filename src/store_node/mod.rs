//! `apogee store-node`: one replica of the replica group, with lanes for proxies and a port for the other replicas.
//!
//! Reading order: this file (flags, life of the process), `config`, `lives`, `server` (how it is put together, and how it
//! comes down).

mod config;
mod lives;
mod server;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use apogee_host::telemetry::init_logs;
use apogee_host::{Exit, Identity, Stop, shutdown};
use toml::Value;

use self::config::{AckMode, Config, Wiring};
use crate::process::shell::{self, Common};

/// Flags of `apogee store-node`. A flag that was not given leaves its key to the environment, the file or the default.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of all data, created when needed [default: apogee-store]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The cluster, 1 to 16 hexadecimal digits, the same for all its store-nodes
    #[arg(long, value_name = "HEX")]
    cluster_id: Option<String>,
    /// Number of this replica, from 1
    #[arg(long, value_name = "NUMBER")]
    replica: Option<u64>,
    /// All replicas, this one too, with the addresses of their replication ports
    #[arg(long, value_name = "ID=HOST:PORT,…", value_delimiter = ',')]
    peers: Option<Vec<String>>,
    /// Port for proxies [default: 10911]
    #[arg(long, value_name = "PORT")]
    lanes_port: Option<u16>,
    /// Port for the other replicas [default: 10912]
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
            ("data", self.data.as_ref().map(|data| data.to_string_lossy().into_owned().into())),
            ("cluster.id", self.cluster_id.clone().map(Value::from)),
            ("replica.id", self.replica.and_then(|id| Value::try_from(id).ok())),
            ("replica.peers", self.peers.clone().map(Value::from)),
            ("lanes.port", self.lanes_port.map(|port| i64::from(port).into())),
            ("replication.port", self.replication_port.map(|port| i64::from(port).into())),
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
    if args.common.print_config {
        std::io::stdout().write_all(loaded.print().as_bytes())?;
    }
    let wiring = loaded.config.check()?;
    if args.common.only_looks() {
        return Ok(Exit::Clean);
    }
    let identity = identity(&loaded.config, &wiring);
    init_logs(&loaded.config.log.settings(), &identity)?;
    shutdown::install_panic_hook();
    lives::live(loaded.config, &wiring, &identity)
}

fn identity(config: &Config, wiring: &Wiring) -> Identity {
    Identity {
        cluster: config.cluster.name.clone(),
        role: "store-node",
        node_type: "broker",
        node: format!("store-{}", wiring.members.me),
        version: env!("CARGO_PKG_VERSION"),
    }
}

#[cfg(test)]
mod tests {
    use apogee_model::ReplicaId;
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
            "--cluster-id=a1",
            "--replica=2",
            "--peers=1=127.0.0.1:1,2=127.0.0.1:2,3=store-3:3",
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
        let wiring = config.check().expect("the values fit together");
        assert_eq!((wiring.members.me, wiring.members.cluster_id), (ReplicaId(2), 0xa1));
        assert_eq!(wiring.addresses[&ReplicaId(3)], "store-3:3");
    }
}

//! `apogee namesrv`: the metadata of one cluster, alone or one of three.
//!
//! Reading order: this file (flags, life of the process), `config`, `server`.

mod config;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use apogee_host::{Exit, Identity, Stop};
use toml::Value;

use self::config::Config;
use crate::process::shell::{self, Common};

/// Flags of `apogee namesrv`. A flag that was not given leaves its key to the environment, the file or the default.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of all data, created when needed [default: apogee-namesrv]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Number of this one among the members [default: the number in POD_NAME and 1, or 1]
    #[arg(long, value_name = "NUMBER")]
    id: Option<u64>,
    /// All three, this one too, with their two ports [default: this one alone]
    #[arg(long, value_name = "ID=HOST:PORT/RAFT_PORT,…", value_delimiter = ',')]
    members: Option<Vec<String>>,
    /// Replicas of every replica group: 1, 3 or 5; fixed when the cluster is born [default: 3]
    #[arg(long, value_name = "NUMBER")]
    replication_factor: Option<u8>,
    /// File with the cluster token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Port for store-nodes, proxies and people [default: 9876]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Port for the other members [default: 9878]
    #[arg(long, value_name = "PORT")]
    raft_port: Option<u16>,
    #[command(flatten)]
    common: Common,
}

impl Args {
    /// What the flags say, by dotted key.
    fn flags(&self) -> toml::Table {
        self.common.flags([
            ("data", shell::path(self.data.as_deref())),
            ("member.id", self.id.and_then(|id| Value::try_from(id).ok())),
            ("member.all", self.members.clone().map(Value::from)),
            ("replication_factor", shell::number(self.replication_factor)),
            ("cluster.token_file", shell::path(self.token_file.as_deref())),
            ("namesrv.port", shell::number(self.port)),
            ("raft.port", shell::number(self.raft_port)),
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
        role: "namesrv",
        node_type: "nameserver",
        node: format!("namesrv-{}", checked.me),
        version: env!("CARGO_PKG_VERSION"),
    };
    shell::serve(&loaded.config.log, &identity, server::run(&loaded.config, checked, &identity))
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
            "namesrv",
            "--data=/d",
            "--id=2",
            "--members=1=a:1/2,2=b:1/2,3=c:1/2",
            "--replication-factor=1",
            "--port=0",
            "--raft-port=5",
            "--set=health.port=0",
        ];
        let args = Line::try_parse_from(line).expect("a valid line").args;
        let loaded = apogee_host::config::load::<Config>(None, std::iter::empty(), args.flags(), &[]);
        let config = loaded.expect("valid keys").config;
        assert_eq!((config.namesrv.port, config.raft.port, config.health.port), (0, 5, 0));
        assert_eq!((&config.data, config.replication_factor), (&"/d".into(), 1));
        let checked = config.check().expect("the values fit together");
        assert_eq!((checked.me, checked.members[2].consensus.as_str()), (2, "c:2"));
    }
}

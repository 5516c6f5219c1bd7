//! `apogee operator`: topics, consumer groups and the number of store-nodes as objects of Kubernetes.
//!
//! Reading order: this file (flags, life of the process), `config`, `server`.

mod config;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use apogee_host::{Exit, Identity, Stop};
use rustix::system::uname;
use toml::Value;

use self::config::Config;
use crate::process::config::pod_name;
use crate::process::shell::{self, Common};

/// Flags of `apogee operator`. A flag that was not given leaves its key to the environment, the file or the default.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The admin port of the cluster [default: 127.0.0.1:8088]
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// File with the cluster token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Namespaces whose topics and groups are kept, or * for all [default: the one of the operator]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    namespaces: Option<Vec<String>>,
    /// Time between two looks at an object that nobody changes [default: 15s]
    #[arg(long, value_name = "DURATION")]
    resync: Option<String>,
    /// Prints the definitions of the kinds for the API server, and ends
    #[arg(long)]
    print_crds: bool,
    #[command(flatten)]
    common: Common,
}

impl Args {
    /// What the flags say, by dotted key.
    fn flags(&self) -> toml::Table {
        self.common.flags([
            ("admin.address", self.admin.clone().map(Value::from)),
            ("cluster.token_file", shell::path(self.token_file.as_deref())),
            ("watch.namespaces", self.namespaces.clone().map(Value::from)),
            ("resync", self.resync.clone().map(Value::from)),
        ])
    }
}

/// Runs until somebody asks to stop.
pub(crate) fn run(args: Args) -> ExitCode {
    shell::run(|| live(&args))
}

fn live(args: &Args) -> Result<Exit, Stop> {
    if args.print_crds {
        return print_crds();
    }
    let loaded = Config::load(args)?;
    args.common.print(&loaded)?;
    let token = loaded.config.check()?;
    if args.common.only_looks() {
        return Ok(Exit::Clean);
    }
    let machine = uname().nodename().to_string_lossy().into_owned();
    let identity = Identity {
        cluster: loaded.config.cluster.name.clone(),
        role: "operator",
        node_type: "operator",
        // A machine may have several.
        node: pod_name().unwrap_or_else(|| format!("{machine}-{}", std::process::id())),
        version: env!("CARGO_PKG_VERSION"),
    };
    shell::serve(&loaded.config.log, &identity, server::run(&loaded.config, token, &identity))
}

fn print_crds() -> Result<Exit, Stop> {
    use std::io::Write as _;
    let mut out = std::io::stdout();
    for (_, definition) in apogee_operator::crds::definitions() {
        let text = serde_saphyr::to_string(&definition).map_err(|error| Stop::new(Exit::Bug, error))?;
        write!(out, "---\n{text}")?;
    }
    Ok(Exit::Clean)
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
        let line = ["operator", "--admin=a:1", "--namespaces=one,two", "--resync=30s", "--set=lease.name=mine"];
        let args = Line::try_parse_from(line).expect("a valid line").args;
        let loaded = apogee_host::config::load::<Config>(None, std::iter::empty(), args.flags(), &[]);
        let config = loaded.expect("valid keys").config;
        assert_eq!((config.admin.address.as_str(), config.lease.name.as_str()), ("a:1", "mine"));
        assert_eq!(
            (config.watch.namespaces, config.resync.0.as_secs()),
            (vec!["one".to_owned(), "two".to_owned()], 30)
        );
    }
}

//! What people may choose about an operator: flag over environment over file over default.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use apogee_host::config::{ConfigError, HumanDuration, Loaded, load};
use apogee_host::{Exit, ExitWith};
use apogee_operator::Namespaces;
use apogee_proto::token::ClusterToken;
use serde::{Deserialize, Serialize};

use super::Args;
use crate::process::cluster::{BadCluster, Cluster};
use crate::process::config::{IGNORED, Log, Port, SamePort, is_address};

/// Shorter ones would keep the API server and the cluster busy.
const RESYNC_MIN: Duration = Duration::from_secs(1);
/// Every namespace.
const ALL: &str = "*";

/// The whole configuration. Each key is also a variable: `admin.address` is `APOGEE_ADMIN__ADDRESS`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Address the ports of health and metrics are bound to. Default 127.0.0.1; others need a cluster token.
    pub(super) listen: IpAddr,
    /// Objects that name another cluster are left alone.
    pub(super) cluster: Cluster,
    pub(super) admin: Admin,
    pub(super) watch: Watch,
    pub(super) lease: Lease,
    /// Time between two looks at an object that nobody changes, which takes back what others changed in the cluster.
    /// Default 15s.
    pub(super) resync: HumanDuration,
    /// Default 5557.
    pub(super) metrics: Port,
    /// Default 8086.
    pub(super) health: Port,
    pub(super) log: Log,
}

/// Where the cluster is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    /// `host:port` of the admin port of a proxy, or of a Service in front of all of them. Default `127.0.0.1:8088`.
    pub(super) address: String,
}

/// Where objects are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Watch {
    /// Namespaces of topics and consumer groups by name, or `*` for all. Default: the one of the operator.
    pub(super) namespaces: Vec<String>,
    /// Whether store-nodes are scaled as objects in the namespace of the operator say. Default true.
    pub(super) store_nodes: bool,
}

/// Of several operators, the one that holds it is at work.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lease {
    /// Name of the Lease, in the namespace of the operator. Default `apogee-operator`.
    pub(super) name: String,
}

/// Values that cannot work together, or at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Contradiction {
    #[error(transparent)]
    Cluster(#[from] BadCluster),
    #[error(transparent)]
    SamePort(#[from] SamePort),
    #[error("admin.address is {address:?}, which is not host:port")]
    Admin { address: String },
    #[error("watch.namespaces names {name:?}; allowed are names of namespaces, or * alone for all of them")]
    Namespace { name: String },
    #[error("lease.name is {name:?}; allowed are lower case letters, digits, - and . in between")]
    Lease { name: String },
    #[error("resync is {given}, allowed are {RESYNC_MIN:?} and more")]
    Resync { given: HumanDuration },
}

impl ExitWith for Contradiction {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: Ipv4Addr::LOCALHOST.into(),
            cluster: Cluster::default(),
            admin: Admin { address: "127.0.0.1:8088".to_owned() },
            watch: Watch { namespaces: Vec::new(), store_nodes: true },
            lease: Lease { name: "apogee-operator".to_owned() },
            resync: HumanDuration(Duration::from_secs(15)),
            metrics: Port { port: 5557 },
            health: Port { port: 8086 },
            log: Log::default(),
        }
    }
}

impl Config {
    pub(super) fn load(args: &Args) -> Result<Loaded<Config>, ConfigError> {
        load(args.common.config.as_deref(), apogee_host::config::environment(), args.flags(), &IGNORED)
    }

    /// What types alone cannot say, and the token.
    pub(super) fn check(&self) -> Result<Option<ClusterToken>, Contradiction> {
        SamePort::refuse(&self.ports())?;
        if !is_address(&self.admin.address) {
            return Err(Contradiction::Admin { address: self.admin.address.clone() });
        }
        let all_are = self.watch.namespaces == [ALL];
        if let Some(bad) = self.watch.namespaces.iter().find(|name| !all_are && !is_name(name)) {
            return Err(Contradiction::Namespace { name: bad.clone() });
        }
        if !is_name(&self.lease.name) {
            return Err(Contradiction::Lease { name: self.lease.name.clone() });
        }
        if self.resync.0 < RESYNC_MIN {
            return Err(Contradiction::Resync { given: self.resync });
        }
        Ok(self.cluster.check(self.listen)?)
    }

    /// All ports by key.
    pub(super) fn ports(&self) -> [(&'static str, u16); 2] {
        [("metrics.port", self.metrics.port), ("health.port", self.health.port)]
    }

    /// As the operator knows them.
    pub(super) fn namespaces(&self) -> Namespaces {
        match &*self.watch.namespaces {
            [] => Namespaces::Own,
            [all] if all == ALL => Namespaces::All,
            these => Namespaces::These(these.to_vec()),
        }
    }
}

/// A name as objects of Kubernetes have it.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inside = |c: char| plain(c) || c == '-' || c == '.';
    name.len() <= 253 && name.starts_with(plain) && name.ends_with(plain) && name.chars().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.check().map_or_else(|error| error.to_string(), |_| "fine".to_owned())
    }

    #[test]
    fn values_must_fit_together() {
        assert_eq!(checked(|_| ()), "fine");
        assert!(checked(|config| config.admin.address = "cluster".to_owned()).contains("not host:port"));
        assert!(checked(|config| config.health.port = 5557).contains("metrics.port and health.port"));
        assert!(checked(|config| config.listen = Ipv4Addr::UNSPECIFIED.into()).contains("no cluster token"));
        assert!(checked(|config| config.lease.name = "Mine".to_owned()).contains("lease.name"));
        assert!(checked(|config| config.resync = HumanDuration(Duration::ZERO)).contains("allowed are 1s and more"));
    }

    #[test]
    fn a_star_alone_means_all_namespaces() {
        let watched = |names: &[&str]| {
            let mut config = Config::default();
            config.watch.namespaces = names.iter().map(|name| (*name).to_owned()).collect();
            config.check().map(|_| config.namespaces())
        };
        assert_eq!(watched(&[]), Ok(Namespaces::Own));
        assert_eq!(watched(&["*"]), Ok(Namespaces::All));
        assert_eq!(watched(&["a", "b"]), Ok(Namespaces::These(vec!["a".to_owned(), "b".to_owned()])));
        for bad in [&["a", "*"][..], &[""], &["A"], &["-a"]] {
            assert!(watched(bad).is_err(), "{bad:?}");
        }
    }
}

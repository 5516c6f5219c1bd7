//! What people may choose about a namesrv: flag over environment over file over default.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use apogee_host::config::{ConfigError, Loaded, load};
use apogee_host::{Exit, ExitWith};
use apogee_namesrv::Member;
use apogee_proto::token::ClusterToken;
use serde::{Deserialize, Serialize};

use super::Args;
use crate::process::cluster::{BadCluster, Cluster};
use crate::process::config::{IGNORED, Log, Port, SamePort, is_address, pod_number};

/// The whole configuration. Each key is also a variable: `member.id` is `APOGEE_MEMBER__ID`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Folder of all data, created when needed. Default `apogee-namesrv` in the working directory.
    pub(super) data: PathBuf,
    /// Address all ports are bound to. Default 127.0.0.1; others need a cluster token.
    pub(super) listen: IpAddr,
    pub(super) cluster: Cluster,
    pub(super) member: Members,
    /// Replicas of every replica group: 1, 3 or 5. Fixed when the cluster is born. Default 3.
    pub(super) replication_factor: u8,
    /// For store-nodes, proxies and people. Default 9876.
    pub(super) namesrv: Port,
    /// For the other members. Default 9878.
    pub(super) raft: Port,
    /// Default 5557.
    pub(super) metrics: Port,
    /// Default 8086.
    pub(super) health: Port,
    pub(super) log: Log,
}

/// Who this one is, and who the others are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Members {
    /// From 1. Default: one more than the number at the end of `POD_NAME`, else 1.
    pub(super) id: u64,
    /// `id=host:port/raft_port` of all three, this one too. Default none: this one is alone.
    pub(super) all: Vec<String>,
}

/// The values as they are known to fit together.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) me: u64,
    /// In the order in which they were named.
    pub(super) members: Vec<Member>,
    pub(super) token: Option<ClusterToken>,
}

/// Values that cannot work together, or at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Contradiction {
    #[error("data is an empty path")]
    NoData,
    #[error("replication_factor is {0}; it can be 1, 3 or 5")]
    ReplicationFactor(u8),
    #[error("member.all has {text:?}, which is not id=host:port/raft_port with an id from 1")]
    Member { text: String },
    #[error("member.all names {count} namesrv; there can be one or three: two survive no more than one")]
    Count { count: usize },
    #[error("member.all names {what} twice")]
    Twice { what: String },
    #[error("this is namesrv {me}, but member.all names only {}", .named.iter().map(u64::to_string).collect::<Vec<_>>().join(", "))]
    NotAmongThem { me: u64, named: Vec<u64> },
    #[error(transparent)]
    Cluster(#[from] BadCluster),
    #[error(transparent)]
    SamePort(#[from] SamePort),
}

impl ExitWith for Contradiction {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data: "apogee-namesrv".into(),
            listen: Ipv4Addr::LOCALHOST.into(),
            cluster: Cluster::default(),
            member: Members::default(),
            replication_factor: 3,
            namesrv: Port { port: 9876 },
            raft: Port { port: 9878 },
            metrics: Port { port: 5557 },
            health: Port { port: 8086 },
            log: Log::default(),
        }
    }
}

impl Config {
    pub(super) fn load(args: &Args) -> Result<Loaded<Config>, ConfigError> {
        let environment = apogee_host::config::environment();
        load(args.common.config.as_deref(), environment, args.flags(), &IGNORED)
    }

    /// What types alone cannot say.
    pub(super) fn check(&self) -> Result<Checked, Contradiction> {
        if self.data.as_os_str().is_empty() {
            return Err(Contradiction::NoData);
        }
        if ![1, 3, 5].contains(&self.replication_factor) {
            return Err(Contradiction::ReplicationFactor(self.replication_factor));
        }
        SamePort::refuse(&self.ports())?;
        let token = self.cluster.check(self.listen)?;
        let me = match self.member.id {
            0 => pod_number().map_or(1, |number| number + 1),
            id => id,
        };
        Ok(Checked { me, members: self.member.members(me, self.namesrv.port, self.raft.port)?, token })
    }

    /// All ports by key.
    pub(super) fn ports(&self) -> [(&'static str, u16); 4] {
        [
            ("namesrv.port", self.namesrv.port),
            ("raft.port", self.raft.port),
            ("metrics.port", self.metrics.port),
            ("health.port", self.health.port),
        ]
    }
}

impl Members {
    fn members(&self, me: u64, port: u16, raft_port: u16) -> Result<Vec<Member>, Contradiction> {
        if self.all.is_empty() {
            let address = |port| format!("{}:{port}", Ipv4Addr::LOCALHOST);
            return Ok(vec![Member { id: me, registry: address(port), consensus: address(raft_port) }]);
        }
        let members: Vec<Member> = self.all.iter().map(|text| member(text)).collect::<Result<_, _>>()?;
        if !matches!(members.len(), 1 | 3) {
            return Err(Contradiction::Count { count: members.len() });
        }
        for (at, member) in members.iter().enumerate() {
            let earlier = &members[..at];
            if earlier.iter().any(|other| other.id == member.id) {
                return Err(Contradiction::Twice { what: format!("namesrv {}", member.id) });
            }
            let same = |other: &&Member| other.registry == member.registry || other.consensus == member.consensus;
            if let Some(other) = earlier.iter().find(same) {
                return Err(Contradiction::Twice { what: format!("the address of namesrv {}", other.id) });
            }
        }
        if members.iter().all(|member| member.id != me) {
            return Err(Contradiction::NotAmongThem { me, named: members.iter().map(|member| member.id).collect() });
        }
        Ok(members)
    }
}

/// Reads `id=host:port/raft_port`.
fn member(text: &str) -> Result<Member, Contradiction> {
    let parse = || {
        let (id, addresses) = text.split_once('=')?;
        let (registry, raft_port) = addresses.rsplit_once('/')?;
        let (host, _) = registry.rsplit_once(':')?;
        let consensus = format!("{host}:{raft_port}");
        let id = id.parse().ok().filter(|id| *id > 0)?;
        (is_address(registry) && is_address(&consensus)).then(|| Member {
            id,
            registry: registry.to_owned(),
            consensus,
        })
    };
    parse().ok_or_else(|| Contradiction::Member { text: text.to_owned() })
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
        let three = ["1=a:1/2", "2=b:1/2", "3=[::1]:1/2"];
        let members = |id: u64, all: &[&str]| {
            let all = all.iter().map(|it| (*it).to_owned()).collect();
            checked(|config| config.member = Members { id, all })
        };
        assert_eq!(members(3, &three), "fine");
        assert_eq!(members(4, &three), "this is namesrv 4, but member.all names only 1, 2, 3");
        assert!(members(1, &three[..2]).contains("names 2 namesrv"));
        assert!(members(1, &["1=a:1/2", "1=b:1/2", "3=c:1/2"]).contains("names namesrv 1 twice"));
        assert!(members(1, &["1=a:1/2", "2=a:1/3", "3=c:1/2"]).contains("the address of namesrv 1 twice"));
        for bad in ["", "1", "1=a", "1=a:1", "0=a:1/2", "1=a:1/b", "x=a:1/2"] {
            assert!(members(1, &[bad]).contains(&format!("{bad:?}")), "{bad:?}");
        }
        assert!(checked(|config| config.replication_factor = 2).contains("1, 3 or 5"));
        assert!(checked(|config| config.raft.port = 9876).contains("namesrv.port and raft.port"));
        assert!(checked(|config| config.listen = Ipv4Addr::UNSPECIFIED.into()).contains("no cluster token"));
    }
}

//! What people may choose about a store-node: flag over environment over file over default.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use apogee_engine::{Members, Retention, SEGMENT_MIN, Settings};
use apogee_host::config::{ByteSize, ConfigError, HumanDuration, Loaded, environment, load};
use apogee_host::{Exit, ExitWith};
use apogee_model::ReplicaId;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::Args;
use super::server::THE_GROUP;
use crate::process::config::{ClusterName, IGNORED, Log, Port, SamePort, is_address};
use crate::process::retention::{BadRetention, default_time, retention};

/// Most replicas of a replica group.
const REPLICAS_MAX: usize = 5;

/// The whole configuration. Each key is also a variable: `replica.id` is `APOGEE_REPLICA__ID`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Folder of all data, created when needed. Default `apogee-store` in the working directory.
    pub(super) data: PathBuf,
    /// Address all ports are bound to. Default 127.0.0.1; others let every machine of the network in.
    pub(super) listen: IpAddr,
    pub(super) cluster: Cluster,
    pub(super) replica: Replica,
    pub(super) store: Store,
    /// For proxies. Default 10911.
    pub(super) lanes: Port,
    /// For the other replicas. Default 10912.
    pub(super) replication: Port,
    /// Default 5557.
    pub(super) metrics: Port,
    /// Default 8086.
    pub(super) health: Port,
    pub(super) log: Log,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    /// Shown in logs and metrics. Default `DefaultCluster`.
    pub(super) name: String,
    /// 1 to 16 hexadecimal digits, the same for all store-nodes of a cluster. A data folder belongs to the cluster it
    /// was first used in. No default.
    pub(super) id: String,
}

/// Who this replica is, and with whom it forms the replica group.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replica {
    /// From 1; a replica that lost its disk comes back under the same. No default.
    pub(super) id: u64,
    /// `id=host:port` of the replication port of every replica, this one too. No default.
    pub(super) peers: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    /// Default `quorum-fsync`.
    pub(super) ack_mode: AckMode,
    /// Size of one file of the CommitLog, fixed when the data folder is first used. Default 256 MiB, at least 16 MiB.
    pub(super) segment: ByteSize,
    /// Messages go when they are older, unless a consumer holds them or has not settled one before them. Default 72h,
    /// at least 1m.
    pub(super) retention: HumanDuration,
    /// A CommitLog that has more bytes loses its oldest segments, whoever holds their messages. Default none: only time
    /// counts; at least two segments.
    pub(super) retention_bytes: Option<ByteSize>,
}

/// When the result of a send is told.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum AckMode {
    /// When a majority has it on disk
    QuorumFsync,
    /// When the leader has it on disk; the loss of the leader may lose it
    LeaderFsync,
    /// When the leader wrote it; the loss of its power may lose it
    Memory,
}

/// The replica and those it forms a replica group with, as they are known to fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wiring {
    pub(super) members: Members,
    /// Replication addresses.
    pub(super) addresses: BTreeMap<ReplicaId, String>,
    /// How long messages are kept.
    pub(super) retention: Retention,
}

/// Values that cannot work together, or at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Contradiction {
    #[error("cluster.id is not set; choose 1 to 16 hexadecimal digits, the same for all store-nodes of the cluster")]
    NoClusterId,
    #[error("cluster.id is {text:?}; allowed are 1 to 16 hexadecimal digits")]
    ClusterId { text: String },
    #[error("replica.id is not set; number the replicas from 1, each its own")]
    NoReplicaId,
    #[error("replica.peers is not set; it names all replicas as id=host:port, this one too")]
    NoPeers,
    #[error("replica.peers has {text:?}, which is not id=host:port with an id from 1")]
    Peer { text: String },
    #[error("replica.peers names replica {replica} twice")]
    SameReplica { replica: ReplicaId },
    #[error("replica.peers gives replicas {first} and {second} the same address {address}")]
    SameAddress { first: ReplicaId, second: ReplicaId, address: String },
    #[error("replica.id is {me}, but replica.peers names only {}", listed(named))]
    NotAmongPeers { me: ReplicaId, named: Vec<ReplicaId> },
    #[error(
        "replica.peers names {count} replicas; a replica group has 1, 3 or 5, an even one survives no more than \
             the next smaller"
    )]
    Count { count: usize },
    #[error("store.segment is {} bytes, at least {SEGMENT_MIN} are needed", .given.0)]
    Segment { given: ByteSize },
    #[error("data is an empty path")]
    NoData,
    #[error(transparent)]
    Retention(#[from] BadRetention),
    #[error(transparent)]
    ClusterName(#[from] ClusterName),
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
            data: "apogee-store".into(),
            listen: Ipv4Addr::LOCALHOST.into(),
            cluster: Cluster { name: "DefaultCluster".to_owned(), id: String::new() },
            replica: Replica::default(),
            store: Store {
                ack_mode: AckMode::QuorumFsync,
                segment: ByteSize(256 << 20),
                retention: default_time(),
                retention_bytes: None,
            },
            lanes: Port { port: 10911 },
            replication: Port { port: 10912 },
            metrics: Port { port: 5557 },
            health: Port { port: 8086 },
            log: Log::default(),
        }
    }
}

impl Config {
    pub(super) fn load(args: &Args) -> Result<Loaded<Config>, ConfigError> {
        load(args.common.config.as_deref(), environment(), args.flags(), &IGNORED)
    }

    /// What types alone cannot say.
    pub(super) fn check(&self) -> Result<Wiring, Contradiction> {
        if self.data.as_os_str().is_empty() {
            return Err(Contradiction::NoData);
        }
        if self.store.segment.0 < SEGMENT_MIN {
            return Err(Contradiction::Segment { given: self.store.segment });
        }
        let retention = self.store.retention()?;
        ClusterName::refuse(&self.cluster.name)?;
        SamePort::refuse(&self.ports())?;
        let cluster_id = self.cluster.number()?;
        let me = ReplicaId(self.replica.id);
        if me == ReplicaId(0) {
            return Err(Contradiction::NoReplicaId);
        }
        let addresses = self.replica.addresses()?;
        let voters = addresses.keys().copied().collect();
        if !addresses.contains_key(&me) {
            return Err(Contradiction::NotAmongPeers { me, named: addresses.into_keys().collect() });
        }
        Ok(Wiring { members: Members { me, group: THE_GROUP, voters, cluster_id }, addresses, retention })
    }

    /// All ports by key.
    pub(super) fn ports(&self) -> [(&'static str, u16); 4] {
        [
            ("lanes.port", self.lanes.port),
            ("replication.port", self.replication.port),
            ("metrics.port", self.metrics.port),
            ("health.port", self.health.port),
        ]
    }

    /// As the engine knows it.
    pub(super) fn engine(&self, retention: Retention) -> Settings {
        let ack_mode = match self.store.ack_mode {
            AckMode::QuorumFsync => apogee_engine::AckMode::QuorumFsync,
            AckMode::LeaderFsync => apogee_engine::AckMode::LeaderFsync,
            AckMode::Memory => apogee_engine::AckMode::Memory,
        };
        Settings { segment_bytes: self.store.segment.0, ack_mode, retention, ..Settings::default() }
    }
}

impl Store {
    fn retention(&self) -> Result<Retention, BadRetention> {
        retention(self.retention, self.retention_bytes, self.segment.0)
    }
}

impl Cluster {
    fn number(&self) -> Result<u64, Contradiction> {
        if self.id.is_empty() {
            return Err(Contradiction::NoClusterId);
        }
        let digits = self.id.len() <= 16 && self.id.chars().all(|c| c.is_ascii_hexdigit());
        let number = u64::from_str_radix(&self.id, 16).ok().filter(|_| digits);
        number.ok_or_else(|| Contradiction::ClusterId { text: self.id.clone() })
    }
}

impl Replica {
    fn addresses(&self) -> Result<BTreeMap<ReplicaId, String>, Contradiction> {
        let mut addresses = BTreeMap::new();
        for text in &self.peers {
            let (replica, address) = peer(text).ok_or_else(|| Contradiction::Peer { text: text.clone() })?;
            let same = addresses.iter().find(|(_, other)| **other == address);
            if let Some((first, _)) = same
                && *first != replica
            {
                return Err(Contradiction::SameAddress { first: *first, second: replica, address });
            }
            if addresses.insert(replica, address).is_some() {
                return Err(Contradiction::SameReplica { replica });
            }
        }
        match addresses.len() {
            0 => Err(Contradiction::NoPeers),
            count if count % 2 == 0 || count > REPLICAS_MAX => Err(Contradiction::Count { count }),
            _ => Ok(addresses),
        }
    }
}

/// `id=host:port`.
fn peer(text: &str) -> Option<(ReplicaId, String)> {
    let (id, address) = text.split_once('=')?;
    let id = id.trim().parse().ok().filter(|id| *id > 0)?;
    let address = address.trim();
    is_address(address).then(|| (ReplicaId(id), address.to_owned()))
}

fn listed(replicas: &[ReplicaId]) -> String {
    replicas.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const THREE: [&str; 3] = ["1=127.0.0.1:1", "2=127.0.0.1:2", "3=127.0.0.1:3"];

    fn config(id: u64, peers: &[&str]) -> Config {
        let replica = Replica { id, peers: peers.iter().map(|peer| (*peer).to_owned()).collect() };
        let cluster = Cluster { id: "A1".to_owned(), ..Config::default().cluster };
        Config { replica, cluster, ..Config::default() }
    }

    fn told(config: &Config) -> String {
        config.check().map_or_else(|error| error.to_string(), |_| "fine".to_owned())
    }

    #[test]
    fn three_replicas_and_one_are_fine() {
        assert_eq!(told(&config(2, &THREE)), "fine");
        assert_eq!(told(&config(1, &THREE[..1])), "fine");
        assert_eq!(config(1, &THREE).check().unwrap().members.cluster_id, 0xa1);
    }

    #[test]
    fn a_wrong_replica_group_is_told_in_one_sentence() {
        assert!(told(&Config::default()).starts_with("cluster.id is not set"));
        assert!(told(&config(0, &THREE)).starts_with("replica.id is not set"));
        assert!(told(&config(1, &[])).starts_with("replica.peers is not set"));
        assert_eq!(told(&config(4, &THREE)), "replica.id is 4, but replica.peers names only 1, 2, 3");
        assert!(told(&config(1, &THREE[..2])).starts_with("replica.peers names 2 replicas; a replica group has 1, 3"));
        let twice = [THREE[0], THREE[1], "1=127.0.0.1:4"];
        assert_eq!(told(&config(1, &twice)), "replica.peers names replica 1 twice");
        let same = [THREE[0], THREE[1], "3=127.0.0.1:1"];
        assert!(told(&config(1, &same)).contains("replicas 1 and 3 the same address 127.0.0.1:1"));
        for bad in ["127.0.0.1:1", "0=127.0.0.1:1", "x=127.0.0.1:1", "1=127.0.0.1", "1="] {
            assert!(told(&config(1, &[bad])).contains("is not id=host:port"), "{bad:?}");
        }
    }

    #[test]
    fn other_values_are_checked_too() {
        let changed = |change: fn(&mut Config)| {
            let mut config = config(1, &THREE);
            change(&mut config);
            told(&config)
        };
        assert!(changed(|it| it.cluster.id = "0x1".to_owned()).contains("\"0x1\"; allowed are 1 to 16 hexadecimal"));
        assert!(changed(|it| it.cluster.id = "+1".to_owned()).contains("\"+1\""));
        assert!(changed(|it| it.health.port = 10911).contains("lanes.port and health.port have the same port"));
        assert!(changed(|it| it.store.segment = ByteSize(1)).contains("store.segment is 1 bytes"));
        let told = changed(|it| it.store.retention = HumanDuration(Duration::from_secs(5)));
        assert!(told.starts_with("store.retention is 5s, at least 1m is needed"), "{told}");
        let bytes = changed(|it| it.store.retention_bytes = Some(ByteSize(300 << 20)));
        assert_eq!(bytes, "store.retention_bytes is 300MiB, at least 512MiB is needed: 2 segments of the CommitLog");
        assert!(changed(|it| it.data = PathBuf::new()).contains("empty path"));
        assert!(changed(|it| it.cluster.name = "a b".to_owned()).contains("\"a b\""));
    }

    #[test]
    fn every_key_has_its_variable() {
        let env = [
            ("APOGEE_CLUSTER__ID", "10"),
            ("APOGEE_REPLICA__ID", "3"),
            ("APOGEE_REPLICA__PEERS", "['1=a:1', '2=b:1', '3=c:1']"),
            ("APOGEE_STORE__ACK_MODE", "memory"),
            ("APOGEE_STORE__SEGMENT", "32MiB"),
            ("APOGEE_STORE__RETENTION", "2h"),
            ("APOGEE_STORE__RETENTION_BYTES", "10GiB"),
        ];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = load::<Config>(None, env, toml::Table::new(), &IGNORED).unwrap().config;
        let Wiring { members, retention, .. } = config.check().unwrap();
        assert_eq!((members.me, members.cluster_id, members.voters.len()), (ReplicaId(3), 0x10, 3));
        let engine = config.engine(retention);
        assert_eq!((retention.time.as_secs(), retention.bytes), (7200, Some(10 << 30)));
        assert_eq!((engine.ack_mode, engine.segment_bytes), (apogee_engine::AckMode::Memory, 32 << 20));
    }
}

//! What people may choose about a store-node: flag over environment over file over default.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use apogee_engine::{Retention, SEGMENT_MIN, Settings};
use apogee_host::config::{ByteSize, ConfigError, HumanDuration, Loaded, load};
use apogee_host::{Exit, ExitWith};
use apogee_model::{BadNodeName, NodeName};
use apogee_proto::token::ClusterToken;
use clap::ValueEnum;
use rustix::system::uname;
use serde::{Deserialize, Serialize};

use super::Args;
use crate::process::cluster::{BadCluster, Cluster, Namesrv};
use crate::process::config::{IGNORED, Log, Port, SamePort, environment_and_namesrv, is_address, pod_name};
use crate::process::retention::{BadRetention, default_time, retention};

/// The whole configuration. Each key is also a variable: `node.zone` is `APOGEE_NODE__ZONE`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Folder of all data, created when needed. Default `apogee-store` in the working directory.
    pub(super) data: PathBuf,
    /// Address all ports are bound to. Default 127.0.0.1; others need a cluster token.
    pub(super) listen: IpAddr,
    pub(super) node: Node,
    pub(super) cluster: Cluster,
    pub(super) namesrv: Namesrv,
    pub(super) store: Store,
    /// For proxies. Default 10911.
    pub(super) lanes: Port,
    /// For the other store-nodes. Default 10912.
    pub(super) replication: Port,
    /// Default 5557.
    pub(super) metrics: Port,
    /// Default 8086.
    pub(super) health: Port,
    pub(super) log: Log,
}

/// What this store-node is to the others.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    /// Its name, the same after every restart. Default: `POD_NAME`, else the name of the host.
    pub(super) name: String,
    /// Where it stands: replicas of one group go to different zones while there are enough. Default none.
    pub(super) zone: String,
    /// Host or address under which the others find it. Default: `listen`, or the name of the host if that is every
    /// address.
    pub(super) advertise: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    /// Default `quorum-fsync`.
    pub(super) ack_mode: AckMode,
    /// Size of one file of a CommitLog, fixed when a replica is first opened. Default 256 MiB, at least 16 MiB.
    pub(super) segment: ByteSize,
    /// Messages go when they are older, unless a consumer holds them or has not settled one before them. Default 72h,
    /// at least 1m.
    pub(super) retention: HumanDuration,
    /// A CommitLog that has more bytes loses its oldest segments, whoever holds their messages. Default none: only time
    /// counts; at least two segments.
    pub(super) retention_bytes: Option<ByteSize>,
    /// Lite topics of a replica group; more are refused. Default 500000. Each takes some hundred bytes of memory.
    pub(super) lite_topics: NonZeroU32,
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

/// The values as they are known to fit together.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) name: NodeName,
    /// Host or address.
    pub(super) advertise: String,
    pub(super) token: Option<ClusterToken>,
    /// As the engine knows them.
    pub(super) settings: Settings,
}

/// Values that cannot work together, or at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Contradiction {
    #[error("node.name: {0}")]
    Name(#[from] BadNodeName),
    #[error("node.advertise is {text:?}, which is no host and no address")]
    Advertise { text: String },
    #[error("store.segment is {} bytes, at least {SEGMENT_MIN} are needed", .given.0)]
    Segment { given: ByteSize },
    #[error("data is an empty path")]
    NoData,
    #[error(transparent)]
    Retention(#[from] BadRetention),
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
            data: "apogee-store".into(),
            listen: Ipv4Addr::LOCALHOST.into(),
            node: Node::default(),
            cluster: Cluster::default(),
            namesrv: Namesrv::default(),
            store: Store {
                ack_mode: AckMode::QuorumFsync,
                segment: ByteSize(256 << 20),
                retention: default_time(),
                retention_bytes: None,
                lite_topics: NonZeroU32::new(500_000).expect("some"),
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
        load(args.common.config.as_deref(), environment_and_namesrv(), args.flags(), &IGNORED)
    }

    /// What types alone cannot say.
    pub(super) fn check(&self) -> Result<Checked, Contradiction> {
        if self.data.as_os_str().is_empty() {
            return Err(Contradiction::NoData);
        }
        if self.store.segment.0 < SEGMENT_MIN {
            return Err(Contradiction::Segment { given: self.store.segment });
        }
        let settings = self.store.settings()?;
        SamePort::refuse(&self.ports())?;
        self.namesrv.check()?;
        let token = self.cluster.check(self.listen)?;
        Ok(Checked { name: self.node.name()?, advertise: self.node.advertise(self.listen)?, token, settings })
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
}

impl Node {
    fn name(&self) -> Result<NodeName, BadNodeName> {
        let set = Some(self.name.clone()).filter(|name| !name.is_empty());
        NodeName::parse(&set.or_else(pod_name).unwrap_or_else(host).to_lowercase())
    }

    fn advertise(&self, listen: IpAddr) -> Result<String, Contradiction> {
        let host = match (self.advertise.is_empty(), listen.is_unspecified()) {
            (false, _) => self.advertise.clone(),
            (true, true) => host(),
            (true, false) => listen.to_string(),
        };
        let host = if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host };
        if is_address(&format!("{host}:1")) { Ok(host) } else { Err(Contradiction::Advertise { text: host }) }
    }
}

/// The name of this machine.
fn host() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

impl Store {
    fn retention(&self) -> Result<Retention, BadRetention> {
        retention(self.retention, self.retention_bytes, self.segment.0)
    }

    fn settings(&self) -> Result<Settings, BadRetention> {
        let ack_mode = match self.ack_mode {
            AckMode::QuorumFsync => apogee_engine::AckMode::QuorumFsync,
            AckMode::LeaderFsync => apogee_engine::AckMode::LeaderFsync,
            AckMode::Memory => apogee_engine::AckMode::Memory,
        };
        let retention = self.retention()?;
        let lite_topics_max = usize::try_from(self.lite_topics.get()).unwrap_or(usize::MAX);
        Ok(Settings { segment_bytes: self.segment.0, ack_mode, retention, lite_topics_max, ..Settings::default() })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn told(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.check().map_or_else(|error| error.to_string(), |_| "fine".to_owned())
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(told(|it| it.node.name = "Store-0".to_owned()), "fine");
        assert!(told(|it| it.node.name = "store_0".to_owned()).starts_with("node.name: \"store_0\" is no name"));
        assert!(told(|it| it.node.advertise = "a:1".to_owned()).contains("no host and no address"));
        assert!(told(|it| it.health.port = 10911).contains("lanes.port and health.port have the same port"));
        assert!(told(|it| it.store.segment = ByteSize(1)).contains("store.segment is 1 bytes"));
        let retention = told(|it| it.store.retention = HumanDuration(Duration::from_secs(5)));
        assert!(retention.starts_with("store.retention is 5s, at least 1m is needed"), "{retention}");
        let bytes = told(|it| it.store.retention_bytes = Some(ByteSize(300 << 20)));
        assert_eq!(bytes, "store.retention_bytes is 300MiB, at least 512MiB is needed: 2 segments of the CommitLog");
        assert!(told(|it| it.data = PathBuf::new()).contains("empty path"));
        assert!(told(|it| it.cluster.name = "a b".to_owned()).contains("\"a b\""));
        assert!(told(|it| it.namesrv.addresses = vec!["x".to_owned()]).contains("\"x\""));
        assert!(told(|it| it.listen = Ipv4Addr::UNSPECIFIED.into()).contains("no cluster token"));
    }

    #[test]
    fn others_find_it_where_it_listens() {
        let advertised = |listen: &str, advertise: &str| {
            let node = Node { advertise: advertise.to_owned(), ..Node::default() };
            node.advertise(listen.parse().expect("an address")).expect("a host")
        };
        assert_eq!(advertised("127.0.0.1", ""), "127.0.0.1");
        assert_eq!(advertised("::1", ""), "[::1]");
        assert_eq!(advertised("0.0.0.0", "store-0.store"), "store-0.store");
        assert_eq!(advertised("0.0.0.0", ""), host());
    }

    #[test]
    fn every_key_has_its_variable() {
        let env = [
            ("APOGEE_NODE__NAME", "store-7"),
            ("APOGEE_NODE__ZONE", "a"),
            ("APOGEE_NAMESRV__ADDRESSES", "['a:1', 'b:1']"),
            ("APOGEE_STORE__ACK_MODE", "memory"),
            ("APOGEE_STORE__SEGMENT", "32MiB"),
            ("APOGEE_STORE__RETENTION", "2h"),
            ("APOGEE_STORE__RETENTION_BYTES", "10GiB"),
            ("APOGEE_STORE__LITE_TOPICS", "7"),
        ];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = load::<Config>(None, env, toml::Table::new(), &IGNORED).unwrap().config;
        let Checked { name, settings, .. } = config.check().unwrap();
        assert_eq!((name.as_str(), config.node.zone.as_str()), ("store-7", "a"));
        assert_eq!((settings.retention.time.as_secs(), settings.retention.bytes), (7200, Some(10 << 30)));
        assert_eq!(settings.lite_topics_max, 7);
        assert_eq!((settings.ack_mode, settings.segment_bytes), (apogee_engine::AckMode::Memory, 32 << 20));
    }
}

//! What people may choose about `apogee dev`: flag over environment over file over default.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use apogee_engine::Retention;
use apogee_host::config::{ByteSize, ConfigError, HumanDuration, Loaded, environment, load};
use apogee_host::{Exit, ExitWith};
use serde::{Deserialize, Serialize};

use super::Args;
use crate::process::config::{ClusterName, IGNORED, Log, Port, SamePort};
use crate::process::front::{HalfTls, TlsFiles};
use crate::process::retention::{BadRetention, default_time, retention};

/// Small segments: a laptop has no use for large ones.
pub(super) const SEGMENT_BYTES: u64 = 32 << 20;

/// The whole configuration. Each key is also a variable: `grpc.port` is `APOGEE_GRPC__PORT`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Folder of all data, created when needed. Default `apogee-data` in the working directory.
    pub(super) data: PathBuf,
    /// Keeps the data in a temporary folder that is removed at the end. Default off.
    pub(super) ephemeral: bool,
    /// Address all ports are bound to. Default 127.0.0.1; others let every machine of the network in.
    pub(super) listen: IpAddr,
    /// Creates topics and groups when they are first used. Default on; turn it off to find misspelled names.
    pub(super) auto_create: bool,
    pub(super) cluster: Cluster,
    pub(super) store: Store,
    /// Default 8081.
    pub(super) grpc: Port,
    /// Default 8088.
    pub(super) admin: Port,
    /// Default 5557.
    pub(super) metrics: Port,
    /// Default 8086.
    pub(super) health: Port,
    pub(super) tls: TlsFiles,
    pub(super) log: Log,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    /// Shown to clients as the name of the one broker, and in logs and metrics. Default `DefaultCluster`.
    pub(super) name: String,
}

/// How this process keeps messages.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    /// Messages go when they are older, unless a consumer holds them or has not settled one before them. Default 72h,
    /// at least 1m.
    pub(super) retention: HumanDuration,
    /// A CommitLog that has more bytes loses its oldest segments, whoever holds their messages. Default none: only time
    /// counts; at least 64MiB.
    pub(super) retention_bytes: Option<ByteSize>,
}

/// Values that cannot work together, or at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum Contradiction {
    #[error(transparent)]
    HalfTls(#[from] HalfTls),
    #[error(transparent)]
    ClusterName(#[from] ClusterName),
    #[error(transparent)]
    SamePort(#[from] SamePort),
    #[error("data is an empty path")]
    NoData,
    #[error(transparent)]
    Retention(#[from] BadRetention),
}

impl ExitWith for Contradiction {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data: "apogee-data".into(),
            ephemeral: false,
            listen: Ipv4Addr::LOCALHOST.into(),
            auto_create: true,
            cluster: Cluster { name: "DefaultCluster".to_owned() },
            store: Store { retention: default_time(), retention_bytes: None },
            grpc: Port { port: 8081 },
            admin: Port { port: 8088 },
            metrics: Port { port: 5557 },
            health: Port { port: 8086 },
            tls: TlsFiles::default(),
            log: Log::default(),
        }
    }
}

impl Config {
    pub(super) fn load(args: &Args) -> Result<Loaded<Config>, ConfigError> {
        load(args.common.config.as_deref(), environment(), args.flags(), &IGNORED)
    }

    /// What types alone cannot say.
    pub(super) fn check(&self) -> Result<(), Contradiction> {
        self.tls.check()?;
        if self.data.as_os_str().is_empty() {
            return Err(Contradiction::NoData);
        }
        ClusterName::refuse(&self.cluster.name)?;
        self.retention()?;
        Ok(SamePort::refuse(&self.ports())?)
    }

    /// As the engine knows it.
    pub(super) fn retention(&self) -> Result<Retention, BadRetention> {
        retention(self.store.retention, self.store.retention_bytes, SEGMENT_BYTES)
    }

    /// All ports by key, in the order of the table of contents.
    pub(super) fn ports(&self) -> [(&'static str, u16); 4] {
        [
            ("grpc.port", self.grpc.port),
            ("admin.port", self.admin.port),
            ("metrics.port", self.metrics.port),
            ("health.port", self.health.port),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::config::Format;

    fn checked(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.check().map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn values_must_fit_together() {
        assert_eq!(checked(|_| ()), "fine");
        assert_eq!(checked(|config| (config.grpc.port, config.admin.port) = (0, 0)), "fine");
        let told = checked(|config| config.health.port = 8081);
        assert_eq!(told, "grpc.port and health.port have the same port 8081");
        assert!(checked(|config| config.tls.key = Some("key.pem".into())).contains("only one is set"));
        assert!(checked(|config| config.cluster.name = "a b".to_owned()).contains("\"a b\""));
        assert!(checked(|config| config.data = PathBuf::new()).contains("empty path"));
        let told = checked(|config| config.store.retention = HumanDuration(Duration::from_secs(5)));
        assert!(told.starts_with("store.retention is 5s, at least 1m is needed"), "{told}");
        let told = checked(|config| config.store.retention_bytes = Some(ByteSize(1)));
        assert!(told.starts_with("store.retention_bytes is 1B, at least 64MiB is needed"), "{told}");
    }

    #[test]
    fn every_port_has_its_variable() {
        let env = [("APOGEE_GRPC__PORT", "0"), ("APOGEE_LOG__FORMAT", "json"), ("APOGEE_LISTEN", "::1")];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = load::<Config>(None, env, toml::Table::new(), &IGNORED).unwrap().config;
        assert_eq!((config.grpc.port, config.log.format, config.listen.is_ipv6()), (0, Format::Json, true));
    }
}

//! What people may choose about a proxy: flag over environment over file over default.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use apogee_host::config::{ConfigError, HumanDuration, Loaded, load};
use apogee_host::{Exit, ExitWith};
use apogee_proto::token::ClusterToken;
use apogee_proxy::listen::{AgeSettings, DrainSettings, ListenSettings};
use serde::{Deserialize, Serialize};

use super::Args;
use crate::process::cluster::{BadCluster, Cluster, Namesrv};
use crate::process::config::{IGNORED, Log, Port, SamePort, environment_and_namesrv, pod_ip};
use crate::process::front::{HalfTls, TlsFiles};

/// The whole configuration. Each key is also a variable: `grpc.port` is `APOGEE_GRPC__PORT`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// Address all ports are bound to. Default 127.0.0.1; others need a cluster token.
    pub(super) listen: IpAddr,
    pub(super) cluster: Cluster,
    pub(super) namesrv: Namesrv,
    /// Creates topics and groups when they are first used. Default on; turn it off to find misspelled names.
    pub(super) auto_create: bool,
    pub(super) grpc: Grpc,
    /// Default 8088.
    pub(super) admin: Port,
    /// Default 5557.
    pub(super) metrics: Port,
    /// Default 8086.
    pub(super) health: Port,
    pub(super) tls: TlsFiles,
    pub(super) drain: Drain,
    pub(super) log: Log,
}

/// The port of the clients, and how old their connections become.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grpc {
    /// Default 8081; 0 lets the operating system choose.
    pub(super) port: u16,
    /// After this time, a quarter more or less, a client is told to connect anew, which brings it to new proxies behind a
    /// balancer. Default 240s; 0s lets connections stay.
    pub(super) max_connection_age: HumanDuration,
    /// Calls may run for this long after that. Default 45s.
    pub(super) max_connection_age_grace: HumanDuration,
}

/// How the proxy leaves when it is asked to stop.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Drain {
    /// Connections are still accepted for this long, while the news that it is not ready travels. Default 5s.
    pub(super) lame_duck: HumanDuration,
    /// Connections are told to go over this time, so that clients do not all come back at once. Default 10s.
    pub(super) spread: HumanDuration,
    /// Calls may run for this long after that. Default 25s.
    pub(super) grace: HumanDuration,
}

/// Values that cannot work together, or at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Contradiction {
    #[error(transparent)]
    Cluster(#[from] BadCluster),
    #[error(transparent)]
    HalfTls(#[from] HalfTls),
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
            listen: Ipv4Addr::LOCALHOST.into(),
            cluster: Cluster::default(),
            namesrv: Namesrv::default(),
            auto_create: true,
            grpc: Grpc::default(),
            admin: Port { port: 8088 },
            metrics: Port { port: 5557 },
            health: Port { port: 8086 },
            tls: TlsFiles::default(),
            drain: Drain::default(),
            log: Log::default(),
        }
    }
}

impl Default for Grpc {
    fn default() -> Grpc {
        let AgeSettings { max, grace } = AgeSettings::default();
        Grpc { port: 8081, max_connection_age: HumanDuration(max), max_connection_age_grace: HumanDuration(grace) }
    }
}

impl Default for Drain {
    fn default() -> Drain {
        let DrainSettings { lame_duck, spread, grace } = DrainSettings::default();
        Drain { lame_duck: HumanDuration(lame_duck), spread: HumanDuration(spread), grace: HumanDuration(grace) }
    }
}

impl Config {
    pub(super) fn load(args: &Args) -> Result<Loaded<Config>, ConfigError> {
        load(args.common.config.as_deref(), environment_and_namesrv(), args.flags(), &IGNORED)
    }

    /// What types alone cannot say, and the token.
    pub(super) fn check(&self) -> Result<Option<ClusterToken>, Contradiction> {
        self.namesrv.check()?;
        self.tls.check()?;
        SamePort::refuse(&self.ports())?;
        Ok(self.cluster.check(self.listen)?)
    }

    /// All ports by key.
    pub(super) fn ports(&self) -> [(&'static str, u16); 4] {
        [
            ("grpc.port", self.grpc.port),
            ("admin.port", self.admin.port),
            ("metrics.port", self.metrics.port),
            ("health.port", self.health.port),
        ]
    }

    /// Where other processes find a port that is bound here.
    pub(super) fn reached_at(&self, port: SocketAddr) -> String {
        let pod = pod_ip().filter(|_| self.listen.is_unspecified());
        pod.map_or(port, |ip| SocketAddr::new(ip, port.port())).to_string()
    }

    /// As the listener knows it.
    pub(super) fn listen_settings(&self) -> ListenSettings {
        let Drain { lame_duck, spread, grace } = self.drain.clone();
        let drain = DrainSettings { lame_duck: lame_duck.0, spread: spread.0, grace: grace.0 };
        let age = AgeSettings { max: self.grpc.max_connection_age.0, grace: self.grpc.max_connection_age_grace.0 };
        ListenSettings { drain, age, ..ListenSettings::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn checked(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.check().map_or_else(|error| error.to_string(), |_| "fine".to_owned())
    }

    #[test]
    fn the_listener_gets_what_was_chosen() {
        let mut config = Config::default();
        assert_eq!(config.listen_settings().age, AgeSettings::default());
        config.grpc.max_connection_age = HumanDuration(Duration::ZERO);
        config.drain.grace = HumanDuration(Duration::from_secs(3));
        let settings = config.listen_settings();
        assert_eq!((settings.age.max, settings.drain.grace), (Duration::ZERO, Duration::from_secs(3)));
    }

    #[test]
    fn values_must_fit_together() {
        assert_eq!(checked(|_| ()), "fine");
        assert!(checked(|config| config.tls.key = Some("key.pem".into())).contains("only one is set"));
        assert!(checked(|config| config.health.port = 8081).contains("grpc.port and health.port"));
        assert!(checked(|config| config.namesrv.addresses.clear()).contains("at least one namesrv"));
        assert!(checked(|config| config.listen = Ipv4Addr::UNSPECIFIED.into()).contains("no cluster token"));
    }
}

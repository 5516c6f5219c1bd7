//! The parts of a configuration that every role has.

use std::net::IpAddr;

use apogee_host::telemetry::{LogFormat, LogSettings, LogSink};
use apogee_host::{Exit, ExitWith};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use toml::Value;

/// Variables of the CLI, of builds and of tests that begin like ours.
pub(crate) const IGNORED: [&str; 7] = [
    "APOGEE_ENDPOINT",
    "APOGEE_ADMIN_ENDPOINT",
    "APOGEE_TOKEN_FILE",
    "APOGEE_PROFILE",
    "APOGEE_COMMIT",
    "APOGEE_BIN",
    "APOGEE_TARGET_DIR",
];

const NAMESRV_ADDRESSES: &str = "APOGEE_NAMESRV__ADDRESSES";

/// One port.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Port {
    /// 0 lets the operating system choose.
    pub(crate) port: u16,
}

/// What is logged, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    /// A level, or directives such as `info,apogee_proxy=debug`. Default `info`, without the chatter of libraries;
    /// `RUST_LOG` replaces it.
    pub(crate) level: String,
    pub(crate) format: Format,
}

/// How log lines look.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Text on a terminal, JSON elsewhere
    Auto,
    Text,
    Json,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            // openraft calls it an error that a heartbeat is answered while its member stops.
            level: "info,opentelemetry_sdk=warn,openraft=error,openraft::core::heartbeat=off,kube_client=off,kube_runtime=off"
                .to_owned(),
            format: Format::Auto,
        }
    }
}

impl Log {
    pub(crate) fn settings(&self) -> LogSettings {
        let format = match self.format {
            Format::Auto => LogFormat::Auto,
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        };
        LogSettings { format, sink: LogSink::Stdout, level: self.level.clone() }
    }
}

/// The environment, with `NAMESRV_ADDR` as the key it stands for: users of RocketMQ have it set. The key's own variable
/// goes before it.
pub(crate) fn environment_and_namesrv() -> impl Iterator<Item = (String, String)> {
    let all: Vec<_> = apogee_host::config::environment().collect();
    let known = all.iter().find(|(name, _)| name == "NAMESRV_ADDR");
    let known = known.map(|(_, addresses)| (NAMESRV_ADDRESSES.to_owned(), list(addresses)));
    known.into_iter().chain(all)
}

/// `a;b` as a list of TOML.
fn list(addresses: &str) -> String {
    let addresses = addresses.split(';').map(str::trim).filter(|address| !address.is_empty());
    Value::Array(addresses.map(Value::from).collect()).to_string()
}

/// The name of the pod this process runs in, if Kubernetes was told to say it.
pub(crate) fn pod_name() -> Option<String> {
    let mut all = apogee_host::config::environment();
    all.find(|(name, value)| name == "POD_NAME" && !value.is_empty()).map(|(_, value)| value)
}

/// The address of the pod, if Kubernetes was told to say it.
pub(crate) fn pod_ip() -> Option<IpAddr> {
    let mut all = apogee_host::config::environment();
    all.find(|(name, _)| name == "POD_IP").and_then(|(_, value)| value.parse().ok())
}

/// The number of the pod in its StatefulSet: 2 for `namesrv-2`.
pub(crate) fn pod_number() -> Option<u64> {
    pod_name()?.rsplit_once('-')?.1.parse().ok()
}

/// Two keys that name the same port.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{first} and {second} have the same port {port}")]
pub(crate) struct SamePort {
    first: &'static str,
    second: &'static str,
    port: u16,
}

impl SamePort {
    /// Refuses the first port that occurs twice.
    pub(crate) fn refuse(ports: &[(&'static str, u16)]) -> Result<(), SamePort> {
        for (at, (second, port)) in ports.iter().enumerate() {
            let earlier = ports[..at].iter().find(|(_, other)| other == port && *port != 0);
            if let Some((first, port)) = earlier {
                return Err(SamePort { first, second, port: *port });
            }
        }
        Ok(())
    }
}

/// A name of a cluster that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster.name is {name:?}; allowed are 1 to 127 letters, digits and % | - _")]
pub(crate) struct ClusterName {
    name: String,
}

impl ClusterName {
    pub(crate) fn refuse(name: &str) -> Result<(), ClusterName> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '%' | '|' | '-' | '_');
        if name.is_empty() || name.len() > 127 || !name.chars().all(plain) {
            return Err(ClusterName { name: name.to_owned() });
        }
        Ok(())
    }
}

impl ExitWith for SamePort {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl ExitWith for ClusterName {
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// Whether `text` is `host:port`; `[::1]:1` for an address of IPv6.
pub(crate) fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let host_is_good = match bracketed {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(plain),
        };
        host_is_good && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// A flag `key=value`; the value is TOML, or text if it is none.
pub(crate) fn setting(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} has no `=` between key and value"))?;
    let table = toml::from_str::<toml::Table>(&format!("value = {value}"));
    let parsed = table.ok().filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    Ok((key.to_owned(), parsed.unwrap_or_else(|| value.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_namesrv_is_that_of_rocketmq() {
        assert_eq!(list("a:1; b:2;"), r#"["a:1", "b:2"]"#);
        assert_eq!(list(""), "[]");
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:10911", "store-0.store:1", "[::1]:10912"] {
            assert!(is_address(good), "{good:?}");
        }
        for bad in ["", "host", ":1", "host:0", "host:70000", "::1:1", "a b:1", "a/b:1", "[x]:1"] {
            assert!(!is_address(bad), "{bad:?}");
        }
    }
}

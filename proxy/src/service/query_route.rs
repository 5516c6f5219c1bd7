//! QueryRoute: the queues of a topic, all at the one logical broker.

use std::net::IpAddr;
use std::sync::Arc;

use apogee_model::{Topic, TopicConfig};

use super::{Call, ServiceError};
use crate::route::Directory;

/// How the client reaches us. It gets its own words back, because only it knows the way through load balancers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessPoint {
    pub scheme: Scheme,
    /// Host and port; at least one.
    pub addresses: Vec<(String, u16)>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Ipv4,
    Ipv6,
    DomainName,
}

impl AccessPoint {
    /// # Errors
    /// [`ServiceError::AccessPoint`] when there is no address, one is not an address of this scheme, or there is more
    /// than one host name.
    pub(crate) fn parse(scheme: Scheme, addresses: Vec<(String, i32)>) -> Result<Self, ServiceError> {
        if addresses.is_empty() {
            return Err(ServiceError::AccessPoint { problem: "name no address".to_owned() });
        }
        if scheme == Scheme::DomainName && addresses.len() > 1 {
            let problem = format!("name {} addresses, at most 1 is allowed with scheme DOMAIN_NAME", addresses.len());
            return Err(ServiceError::AccessPoint { problem });
        }
        let parsed = addresses.into_iter().map(|(host, port)| {
            if !scheme.fits(&host) {
                return Err(ServiceError::AccessPoint {
                    problem: format!("name {host:?}, which is no {}", scheme.name()),
                });
            }
            let port = u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(|| ServiceError::AccessPoint {
                problem: format!("name port {port} of {host}, allowed are 1 to {}", u16::MAX),
            })?;
            Ok((host, port))
        });
        Ok(Self { scheme, addresses: parsed.collect::<Result<_, _>>()? })
    }
}

impl Scheme {
    fn fits(self, host: &str) -> bool {
        match self {
            Self::Ipv4 => matches!(host.parse(), Ok(IpAddr::V4(_))),
            Self::Ipv6 => {
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                let (bare, _zone) = bare.split_once('%').unwrap_or((bare, ""));
                matches!(bare.parse(), Ok(IpAddr::V6(_)))
            }
            Self::DomainName => !host.trim().is_empty() && !host.contains(char::is_whitespace),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4 address",
            Self::Ipv6 => "IPv6 address",
            Self::DomainName => "host name",
        }
    }
}

/// A topic under the words the client used for it, which it expects back.
#[derive(Clone, Debug)]
pub(crate) struct NamedTopic {
    pub topic: Topic,
    pub namespace: String,
    pub name: String,
}

/// Asks for the route of a topic.
#[derive(Clone, Debug)]
pub(crate) struct RouteQuery {
    pub topic: NamedTopic,
    pub access_point: AccessPoint,
}

/// The queues 0 to `topic.queues − 1` at one broker.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub query: RouteQuery,
    pub config: Arc<TopicConfig>,
    pub broker: Arc<str>,
}

pub(crate) struct Service {
    directory: Directory,
    broker: Arc<str>,
}

impl Service {
    pub(crate) fn new(directory: Directory, broker: Arc<str>) -> Self {
        Self { directory, broker }
    }

    /// The first query of a topic creates it, where that is allowed.
    pub(crate) async fn run(&self, _call: Call, query: RouteQuery) -> Result<Route, ServiceError> {
        let config = self.directory.topic_on_first_use(&query.topic.topic).await?;
        Ok(Route { query, config, broker: Arc::clone(&self.broker) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(scheme: Scheme, host: &str, port: i32) -> Result<AccessPoint, String> {
        AccessPoint::parse(scheme, vec![(host.to_owned(), port)]).map_err(|error| error.to_string())
    }

    #[test]
    fn access_points() {
        assert!(check(Scheme::Ipv4, "127.0.0.1", 8081).is_ok());
        assert!(check(Scheme::Ipv6, "::1", 65535).is_ok());
        assert!(check(Scheme::Ipv6, "[fe80::1%eth0]", 1).is_ok());
        assert!(check(Scheme::DomainName, "mq.example", 80).is_ok());
        assert_eq!(check(Scheme::Ipv4, "mq", 1).unwrap_err(), "endpoints name \"mq\", which is no IPv4 address");
        assert_eq!(check(Scheme::DomainName, " ", 1).unwrap_err(), "endpoints name \" \", which is no host name");
        assert_eq!(check(Scheme::Ipv4, "::1", 1).unwrap_err(), "endpoints name \"::1\", which is no IPv4 address");
        for port in [0, -1, 65536] {
            let expected = format!("endpoints name port {port} of mq, allowed are 1 to 65535");
            assert_eq!(check(Scheme::DomainName, "mq", port).unwrap_err(), expected);
        }
        assert!(AccessPoint::parse(Scheme::Ipv4, Vec::new()).is_err());
        let two = |host: &str| vec![(host.to_owned(), 1); 2];
        assert!(AccessPoint::parse(Scheme::Ipv4, two("127.0.0.1")).is_ok());
        assert!(AccessPoint::parse(Scheme::DomainName, two("mq")).unwrap_err().to_string().contains("2 addresses"));
    }
}

//! What people may tune about the port. Defaults are those of the operations contract, sections 4, 5 and 12.

use std::time::Duration;

/// Limits, age, and the shape of the drain.
#[derive(Clone, Debug, Default)]
pub struct ListenSettings {
    pub limits: ConnectionLimits,
    pub age: AgeSettings,
    pub drain: DrainSettings,
}

/// How many connections there may be, and how long one may do nothing.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Connections at a time; further ones are closed at accept. Default 20,000.
    pub connections: usize,
    /// Connections at a time from one IP address. Default 1,000; raise it behind a proxy that hides addresses.
    pub connections_per_ip: usize,
    /// From the first byte to the end of the TLS handshake. Default 5 s.
    pub tls_handshake: Duration,
    /// From accept to the first byte, and again from there to the first request. Default 10 s.
    pub first_request: Duration,
    /// Without an open stream. Default 120 s, as upstream.
    pub idle: Duration,
    /// Open streams of one connection, announced as HTTP/2 setting. Default 2,048.
    pub streams: u32,
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            connections: 20_000,
            connections_per_ip: 1_000,
            tls_handshake: Duration::from_secs(5),
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            streams: 2_048,
        }
    }
}

/// How old a connection may become. Behind a balancer of connections this is what brings clients to new proxies: an SDK
/// keeps the one connection it has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct AgeSettings {
    /// From the beginning of HTTP/2 to the GOAWAY, a quarter more or less, so that connections that came together do not
    /// leave together. Default 240 s; zero lets them stay as long as their client does.
    pub max: Duration,
    /// How long calls may still run after the GOAWAY; then the connection is cut. Default 45 s, more than twice the longest
    /// long poll.
    pub grace: Duration,
}

impl Default for AgeSettings {
    fn default() -> AgeSettings {
        AgeSettings { max: Duration::from_secs(240), grace: Duration::from_secs(45) }
    }
}

/// How the port closes after it was asked to stop: `lame_duck`, then at most `spread + grace`.
#[derive(Clone, Debug)]
pub struct DrainSettings {
    /// Connections are still accepted while the news that we leave travels. Default 5 s.
    pub lame_duck: Duration,
    /// The GOAWAYs are spread over this time, so that clients do not all reconnect at once. Default 10 s.
    pub spread: Duration,
    /// How long calls may still run after the last GOAWAY; then their connections are cut. Default 25 s.
    pub grace: Duration,
}

impl Default for DrainSettings {
    fn default() -> DrainSettings {
        DrainSettings {
            lame_duck: Duration::from_secs(5),
            spread: Duration::from_secs(10),
            grace: Duration::from_secs(25),
        }
    }
}

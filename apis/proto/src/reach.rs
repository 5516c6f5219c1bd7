//! The way from one process of ours to another.

use std::time::Duration;

use tonic::transport::Endpoint;

/// How long somebody may be silent before he is gone.
#[derive(Copy, Clone, Debug)]
pub struct Patience {
    /// Until a connection is there.
    pub connect: Duration,
    /// Between two pings, also when nobody has anything to say.
    pub ping_every: Duration,
    /// Until the answer to a ping.
    pub ping: Duration,
}

/// The way to `host:port`, in plaintext; `None` when the text is something else.
pub fn endpoint(address: &str, patience: Patience) -> Option<Endpoint> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    endpoint.uri().port()?;
    let Patience { connect, ping_every, ping } = patience;
    let endpoint = endpoint.connect_timeout(connect).tcp_nodelay(true);
    Some(endpoint.http2_keep_alive_interval(ping_every).keep_alive_timeout(ping).keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port() {
        let patience = Patience { connect: Duration::ZERO, ping_every: Duration::ZERO, ping: Duration::ZERO };
        for bad in ["", "host", "host:port", "a b:1", "host:99999"] {
            assert!(endpoint(bad, patience).is_none(), "{bad:?}");
        }
        for good in ["host:1", "127.0.0.1:10911", "[::1]:10911"] {
            assert!(endpoint(good, patience).is_some(), "{good:?}");
        }
    }
}

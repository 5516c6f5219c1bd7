//! Connections to store-nodes: one for each kind of lane, shared by the replica groups that a store-node has a part of.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use apogee_proto::store::v1::LaneKind;
use tonic::transport::{Channel, Endpoint};

use super::BadStoreAddress;

const CONNECT_MAX: Duration = Duration::from_secs(1);
/// A store-node that does not answer a ping for this long after one is gone.
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_MAX: Duration = Duration::from_secs(3);
/// Bytes on their way before this side read them.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// By address. A connection is made when it is first used, and again when it broke.
#[derive(Debug, Default)]
pub struct Connections {
    by_address: Mutex<BTreeMap<String, Channels>>,
}

/// To one store-node.
#[derive(Clone, Debug)]
pub(super) struct Channels {
    append: Channel,
    pop: Channel,
    control: Channel,
}

impl Connections {
    /// # Errors
    /// [`BadStoreAddress`] when it is not `host:port`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn to(&self, address: &str) -> Result<Channels, BadStoreAddress> {
        let mut known = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channels) = known.get(address) {
            return Ok(channels.clone());
        }
        let endpoint = endpoint(address).ok_or_else(|| BadStoreAddress { address: address.to_owned() })?;
        let channel = || endpoint.connect_lazy();
        let channels = Channels { append: channel(), pop: channel(), control: channel() };
        known.insert(address.to_owned(), channels.clone());
        Ok(channels)
    }
}

impl Channels {
    pub(super) fn of(&self, kind: LaneKind) -> Channel {
        match kind {
            LaneKind::Append => &self.append,
            LaneKind::Pop => &self.pop,
            LaneKind::Control | LaneKind::Unspecified => &self.control,
        }
        .clone()
    }
}

/// `None` when it is not `host:port`.
fn endpoint(address: &str) -> Option<Endpoint> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    endpoint.uri().port()?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_MAX)
        .keep_alive_while_idle(true);
    Some(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port() {
        for bad in ["", "host", "host:port", "a b:1", "host:99999"] {
            assert!(endpoint(bad).is_none(), "{bad:?}");
        }
        for good in ["host:1", "127.0.0.1:10911", "[::1]:10911"] {
            assert!(endpoint(good).is_some(), "{good:?}");
        }
    }
}

//! Connections to store-nodes: one for each kind of lane, shared by the replica groups that a store-node has a part of.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use apogee_proto::reach::{Patience, endpoint};
use apogee_proto::store::v1::LaneKind;
use apogee_proto::token::{ClusterToken, TokenShown};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use super::BadStoreAddress;

const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(1), ping_every: Duration::from_secs(1), ping: Duration::from_secs(3) };
/// Bytes on their way before this side read them.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// By address. A connection is made when it is first used, and again when it broke.
#[derive(Debug)]
pub struct Connections {
    token: TokenShown,
    by_address: Mutex<BTreeMap<String, Channels>>,
}

/// A connection that shows the cluster token, if there is one.
pub(super) type Shown = InterceptedService<Channel, TokenShown>;

/// To one store-node.
#[derive(Clone, Debug)]
pub(super) struct Channels {
    token: TokenShown,
    append: Channel,
    pop: Channel,
    control: Channel,
}

impl Default for Connections {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Connections {
    /// `token` is shown to every store-node.
    pub fn new(token: Option<&ClusterToken>) -> Self {
        Self { token: TokenShown::new(token), by_address: Mutex::default() }
    }

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
        let endpoint = endpoint(address, PATIENCE).ok_or_else(|| BadStoreAddress { address: address.to_owned() })?;
        let endpoint =
            endpoint.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let channel = || endpoint.connect_lazy();
        let token = self.token.clone();
        let channels = Channels { token, append: channel(), pop: channel(), control: channel() };
        known.insert(address.to_owned(), channels.clone());
        Ok(channels)
    }
}

impl Channels {
    pub(super) fn of(&self, kind: LaneKind) -> Shown {
        let channel = match kind {
            LaneKind::Append => &self.append,
            LaneKind::Pop => &self.pop,
            LaneKind::Control | LaneKind::Unspecified => &self.control,
        };
        InterceptedService::new(channel.clone(), self.token.clone())
    }
}

//! The other replicas, for the engine.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use apogee_engine::{Answers, Peers, Unreachable};
use apogee_model::ReplicaId;
use apogee_proto::reach::endpoint;
use apogee_proto::token::{ClusterToken, TokenShown};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};

use super::Identity;
use super::link::{Link, PATIENCE};

/// An address nobody can connect to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address:?} of replica {replica} is not host:port")]
pub struct BadAddress {
    pub replica: ReplicaId,
    pub address: String,
}

/// [`Peers`] over gRPC. Connects when there is something to say. After a failure the next try waits for 20 ms to half a
/// second, however soon it is asked for. A call is given up after 5 s; a replica that answers no ping for 3 s is out of
/// reach.
pub struct TonicPeers {
    me: Identity,
    token: TokenShown,
    links: RwLock<BTreeMap<ReplicaId, Known>>,
}

/// Where a replica is, and the way there.
struct Known {
    address: String,
    link: Arc<Link>,
}

impl TonicPeers {
    /// Knows no replica yet, see [`TonicPeers::at`]. `token` is shown to all of them.
    pub fn new(me: Identity, token: Option<&ClusterToken>) -> Self {
        Self { me, token: TokenShown::new(token), links: RwLock::default() }
    }

    /// The replicas are at these addresses (`host:port`) from now on. One that moved is reached there with the next call.
    ///
    /// # Errors
    /// [`BadAddress`] names the first one that cannot be; nothing has changed then.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn at(&self, addresses: &BTreeMap<ReplicaId, String>) -> Result<(), BadAddress> {
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        let others = addresses.iter().filter(|(replica, _)| **replica != self.me.replica);
        let moved =
            others.filter(|(replica, address)| links.get(replica).is_none_or(|known| known.address != **address));
        let link = |(to, address): (&ReplicaId, &String)| {
            let bad = || BadAddress { replica: *to, address: address.clone() };
            let endpoint = endpoint(address, PATIENCE).ok_or_else(bad)?;
            let link = Arc::new(Link::new(*to, self.me.wiring_to(*to), endpoint, &self.token));
            Ok((*to, Known { address: address.clone(), link }))
        };
        let moved = moved.map(link).collect::<Result<Vec<_>, _>>()?;
        links.extend(moved);
        Ok(())
    }

    fn link(&self, to: ReplicaId) -> Result<Arc<Link>, Unreachable> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let unknown = || Unreachable { to, why: "its address is not known here".to_owned() };
        links.get(&to).map(|known| Arc::clone(&known.link)).ok_or_else(unknown)
    }
}

impl Peers for TonicPeers {
    fn call(&self, to: ReplicaId, frame: Bytes) -> BoxFuture<'static, Result<Bytes, Unreachable>> {
        let link = self.link(to);
        Box::pin(async move { link?.call(frame).await })
    }

    fn pipeline(&self, to: ReplicaId, frames: BoxStream<'static, Bytes>) -> Answers {
        let opened = match self.link(to) {
            Ok(link) => link.pipeline(frames),
            Err(unknown) => Box::pin(std::future::ready(Err(unknown))),
        };
        futures::stream::once(opened).try_flatten().boxed()
    }
}

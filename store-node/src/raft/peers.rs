//! The other replicas, for the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use apogee_engine::{Answers, Peers, Unreachable};
use apogee_model::ReplicaId;
use apogee_proto::reach::endpoint;
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
    links: BTreeMap<ReplicaId, Arc<Link>>,
}

impl TonicPeers {
    /// The replicas at these addresses (`host:port`), as seen by `me`.
    ///
    /// # Errors
    /// [`BadAddress`] names the first one that cannot be.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(me: Identity, addresses: &BTreeMap<ReplicaId, String>) -> Result<Self, BadAddress> {
        let others = addresses.iter().filter(|(replica, _)| **replica != me.replica);
        let link = |(to, address): (&ReplicaId, &String)| {
            let bad = || BadAddress { replica: *to, address: address.clone() };
            let endpoint = endpoint(address, PATIENCE).ok_or_else(bad)?;
            Ok((*to, Arc::new(Link::new(*to, me.wiring_to(*to), endpoint))))
        };
        Ok(Self { links: others.map(link).collect::<Result<_, _>>()? })
    }

    fn link(&self, to: ReplicaId) -> Result<Arc<Link>, Unreachable> {
        let unknown = || Unreachable { to, why: "its address is not known here".to_owned() };
        self.links.get(&to).cloned().ok_or_else(unknown)
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

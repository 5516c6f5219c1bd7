//! Who has a lane: one of each kind for each proxy and replica group. A new one waits until the earlier one has ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apogee_model::ReplicaGroupId;
use apogee_proto::store::v1::LaneKind;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Lanes of one store-node.
const LANES_MAX: usize = 16_384;

/// Incarnation of the proxy, group, kind.
pub(super) type Key = (u64, ReplicaGroupId, LaneKind);

/// The lanes there are. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Register {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    lanes: Mutex<BTreeMap<Key, CancellationToken>>,
    /// Somebody left.
    left: Notify,
}

/// The place of a lane, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    register: Register,
    key: Key,
    stop: CancellationToken,
}

impl Register {
    /// Takes the place of a lane, after whoever had it was told to end and did.
    pub(super) async fn take(&self, key: Key) -> Result<Seat, Status> {
        loop {
            let left = self.shared.left.notified();
            {
                let mut lanes = self.lanes();
                match lanes.get(&key) {
                    Some(earlier) => earlier.cancel(),
                    None if lanes.len() >= LANES_MAX => {
                        return Err(Status::resource_exhausted("this store-node has too many lanes"));
                    }
                    None => {
                        let stop = CancellationToken::new();
                        lanes.insert(key, stop.clone());
                        return Ok(Seat { register: self.clone(), key, stop });
                    }
                }
            }
            left.await;
        }
    }

    /// Tells all lanes to a replica group to end, and waits until they did.
    pub(super) async fn end(&self, group: ReplicaGroupId) {
        loop {
            let left = self.shared.left.notified();
            {
                let lanes = self.lanes();
                let stops: Vec<_> = lanes.iter().filter(|((_, of, _), _)| *of == group).map(|(_, stop)| stop).collect();
                if stops.is_empty() {
                    return;
                }
                stops.into_iter().for_each(CancellationToken::cancel);
            }
            left.await;
        }
    }

    /// Waits until nobody has a lane.
    pub(super) async fn empty(&self) {
        loop {
            let left = self.shared.left.notified();
            if self.lanes().is_empty() {
                return;
            }
            left.await;
        }
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<Key, CancellationToken>> {
        self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Cancelled when another lane wants this place.
    pub(super) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.register.lanes().remove(&self.key);
        self.register.shared.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_new_lane_waits_for_the_end_of_the_earlier_one() {
        let register = Register::default();
        let group = ReplicaGroupId(0);
        let first = register.take((1, group, LaneKind::Pop)).await.unwrap();
        let _another_kind = register.take((1, group, LaneKind::Append)).await.unwrap();
        let _another_proxy = register.take((2, group, LaneKind::Pop)).await.unwrap();
        let _another_group = register.take((1, ReplicaGroupId(1), LaneKind::Pop)).await.unwrap();
        let mut second = Box::pin(register.take((1, group, LaneKind::Pop)));
        assert!((&mut second).now_or_never().is_none());
        assert!(first.stop().is_cancelled());
        drop(first);
        let second = second.now_or_never().unwrap().unwrap();
        assert!(!second.stop().is_cancelled());
    }

    #[tokio::test]
    async fn the_lanes_to_one_group_end() {
        let register = Register::default();
        let here = register.take((1, ReplicaGroupId(0), LaneKind::Pop)).await.unwrap();
        let there = register.take((1, ReplicaGroupId(1), LaneKind::Pop)).await.unwrap();
        let mut ended = Box::pin(register.end(ReplicaGroupId(0)));
        assert!((&mut ended).now_or_never().is_none());
        assert!(here.stop().is_cancelled() && !there.stop().is_cancelled());
        drop(here);
        assert!(ended.now_or_never().is_some());
    }
}

//! Who leads, as the store-nodes themselves say.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use apogee_model::ReplicaId;
use tokio::sync::{Notify, watch};

use super::lane::Lanes;

/// A replica that says it leads, and the lanes to it.
pub(super) struct Leader {
    /// Number of the [`Node`](super::node::Node).
    pub(super) node: usize,
    /// The number of the replica, as its store-node says.
    pub(super) replica: ReplicaId,
    pub(super) epoch: u64,
    pub(super) lanes: Arc<Lanes>,
}

/// The claims of all replicas. Of two that say they lead, the one in the later epoch does: the other one has not
/// heard of it yet.
pub(super) struct Leaders {
    claims: Mutex<BTreeMap<usize, Arc<Leader>>>,
    current: watch::Sender<Option<Arc<Leader>>>,
    /// A follower names a leader: worth trying at once who could not be reached.
    hinted: Notify,
    /// How often somebody began to lead.
    changes: Arc<AtomicU64>,
}

impl Leaders {
    /// Counts in `changes` how often somebody begins to lead.
    pub(super) fn new(changes: Arc<AtomicU64>) -> Self {
        Self { claims: Mutex::default(), current: watch::Sender::new(None), hinted: Notify::new(), changes }
    }

    /// Whether somebody leads.
    pub(super) fn is_known(&self) -> bool {
        self.current.borrow().is_some()
    }

    /// The replica that leads.
    pub(super) fn replica(&self) -> Option<ReplicaId> {
        self.current.borrow().as_ref().map(|leader| leader.replica)
    }

    /// What a replica says of itself from now on.
    pub(super) fn claim(&self, node: usize, claim: Option<Leader>) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        match claim {
            Some(leader) => drop(claims.insert(node, Arc::new(leader))),
            None => drop(claims.remove(&node)),
        }
        let leader = claims.values().max_by_key(|leader| leader.epoch).cloned();
        self.current.send_if_modified(|current| {
            let changed = !same(current.as_ref(), leader.as_ref());
            *current = leader;
            if changed && current.is_some() {
                self.changes.fetch_add(1, Ordering::Relaxed);
            }
            changed
        });
    }

    /// A follower knows a leader.
    pub(super) fn hint(&self) {
        self.hinted.notify_waiters();
    }

    /// Waits for the next hint. Cancel safe, but for hints that come while nobody waits.
    pub(super) async fn hinted(&self) {
        self.hinted.notified().await;
    }

    /// The leader, as soon as there is one. Cancel safe.
    pub(super) async fn known(&self) -> Arc<Leader> {
        self.when(|current| current.is_some()).await.expect("waited for one")
    }

    /// Waits until somebody else leads, nobody does, or the same one anew. Cancel safe.
    pub(super) async fn changed_from(&self, earlier: &Arc<Leader>) {
        self.when(|current| !same(current, Some(earlier))).await;
    }

    /// Waits until another store-node leads in a later epoch than this. Cancel safe.
    pub(super) async fn superseded(&self, node: usize, epoch: u64) {
        self.when(|current| current.is_some_and(|leader| leader.node != node && leader.epoch > epoch)).await;
    }

    /// Waits until this store-node leads. Cancel safe.
    pub(super) async fn led_by(&self, node: usize) -> Arc<Leader> {
        self.when(|current| current.is_some_and(|leader| leader.node == node)).await.expect("waited for one")
    }

    async fn when(&self, wanted: impl Fn(Option<&Arc<Leader>>) -> bool) -> Option<Arc<Leader>> {
        let mut current = self.current.subscribe();
        let found = current.wait_for(|current| wanted(current.as_ref())).await;
        found.expect("the sender is in self").clone()
    }
}

fn same(one: Option<&Arc<Leader>>, other: Option<&Arc<Leader>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn leader(node: usize, epoch: u64) -> Option<Leader> {
        let replica = ReplicaId(1 + u64::try_from(node).unwrap());
        Some(Leader { node, replica, epoch, lanes: Arc::new(Lanes::closed()) })
    }

    #[test]
    fn the_latest_epoch_leads() {
        let changes = Arc::<AtomicU64>::default();
        let leaders = Leaders::new(Arc::clone(&changes));
        let known = || leaders.known().now_or_never().map(|leader| (leader.node, leader.epoch));
        assert_eq!(known(), None);
        leaders.claim(0, leader(0, 3));
        assert_eq!(known(), Some((0, 3)));
        let first = leaders.known().now_or_never().unwrap();
        leaders.claim(2, leader(2, 4));
        assert_eq!(known(), Some((2, 4)));
        assert!(leaders.changed_from(&first).now_or_never().is_some());
        assert!(leaders.superseded(0, 3).now_or_never().is_some());
        assert!(leaders.superseded(2, 4).now_or_never().is_none());
        assert_eq!(leaders.replica(), Some(ReplicaId(3)));
        leaders.claim(2, None);
        assert_eq!(known(), Some((0, 3)));
        assert_eq!(changes.load(Ordering::Relaxed), 3);
    }
}

//! Readiness: who wants to know that messages are ready, told by edges, not by polling.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use apogee_model::{GroupId, TagFilter, TopicId};
use tokio::sync::Notify;

/// Interest of one group in the messages of a topic that pass a filter; ends when dropped.
#[derive(Debug)]
pub struct Watch {
    edge: Arc<Edge>,
}

/// Shared by the watch and the leader: a count that grows until it is taken.
#[derive(Debug, Default)]
pub(crate) struct Edge {
    ready: AtomicU64,
    ended: AtomicBool,
    notify: Notify,
}

impl Watch {
    pub(crate) fn new() -> (Self, Arc<Edge>) {
        let edge = Arc::<Edge>::default();
        (Self { edge: Arc::clone(&edge) }, edge)
    }

    /// Waits until messages became ready and says how many at least, since the last call. Some may be taken already.
    ///
    /// Cancel safe: an edge that was not returned is kept.
    pub async fn ready(&mut self) -> u64 {
        loop {
            let ready = self.edge.ready.swap(0, Ordering::AcqRel);
            if ready > 0 {
                return ready;
            }
            self.edge.notify.notified().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.edge.ended.store(true, Ordering::Release);
    }
}

impl Edge {
    fn add(&self, count: u64) {
        self.ready.fetch_add(count, Ordering::AcqRel);
        self.notify.notify_one();
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// The leader's list of watches.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    by_topic: BTreeMap<TopicId, Vec<Row>>,
}

#[derive(Debug)]
struct Row {
    group: GroupId,
    filter: TagFilter,
    edge: Arc<Edge>,
    pending: u64,
}

impl Watches {
    pub(crate) fn add(&mut self, group: GroupId, topic: TopicId, filter: TagFilter, edge: Arc<Edge>) {
        let rows = self.by_topic.entry(topic).or_default();
        rows.retain(|row| !row.edge.ended());
        rows.push(Row { group, filter, edge, pending: 0 });
    }

    /// A message with this tag hash arrived for every group.
    pub(crate) fn arrived(&mut self, topic: TopicId, tag_hash: u32) {
        for row in self.by_topic.get_mut(&topic).into_iter().flatten() {
            row.pending += u64::from(row.filter.may_want(tag_hash));
        }
    }

    /// A message became ready for one group.
    pub(crate) fn ready(&mut self, group: GroupId, topic: TopicId, tag_hash: u32) {
        for row in self.by_topic.get_mut(&topic).into_iter().flatten().filter(|row| row.group == group) {
            row.pending += u64::from(row.filter.may_want(tag_hash));
        }
    }

    /// Something may be ready for one group, whatever its filter.
    pub(crate) fn nudge(&mut self, group: GroupId, topic: TopicId) {
        for row in self.by_topic.get_mut(&topic).into_iter().flatten().filter(|row| row.group == group) {
            row.pending += 1;
        }
    }

    /// Whether anybody watches this topic.
    pub(crate) fn any(&self, topic: TopicId) -> bool {
        self.by_topic.contains_key(&topic)
    }

    /// Tells everybody what was counted for the given topics.
    pub(crate) fn tell(&mut self) {
        self.by_topic.retain(|_, rows| {
            rows.retain_mut(|row| {
                let pending = std::mem::take(&mut row.pending);
                if pending > 0 {
                    row.edge.add(pending);
                }
                !row.edge.ended()
            });
            !rows.is_empty()
        });
    }
}

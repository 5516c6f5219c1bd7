//! Readiness: who wants to know that messages are ready, told by edges, not by polling.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use apogee_model::{Filter, GroupId, TopicId};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use crate::leader::Ask;
use crate::state::Subscriber;

/// Interest of one group in the messages of a topic that pass a filter; ends when dropped.
#[derive(Debug)]
pub struct Watch {
    edge: Arc<Edge>,
    leader: mpsc::Sender<Ask>,
    /// Not registered yet, because the leader's inbox was full.
    late: Option<Ask>,
}

/// Shared by the watch and the leader: a count that grows until it is taken.
#[derive(Debug, Default)]
pub(crate) struct Edge {
    ready: AtomicU64,
    ended: AtomicBool,
    notify: Notify,
}

impl Watch {
    /// Registers with the leader before anything that the caller asks of it later.
    pub(crate) fn new(leader: mpsc::Sender<Ask>, ask: impl FnOnce(Arc<Edge>) -> Ask) -> Self {
        let edge = Arc::<Edge>::default();
        let late = match leader.try_send(ask(Arc::clone(&edge))) {
            Err(TrySendError::Full(ask)) => Some(ask),
            Ok(()) | Err(TrySendError::Closed(_)) => None,
        };
        Self { edge, leader, late }
    }

    /// Waits until messages became ready and says how many at least, since the last call. Some may be taken already.
    ///
    /// Cancel safe: an edge that was not returned is kept.
    pub async fn ready(&mut self) -> u64 {
        if self.late.is_some()
            && let Ok(room) = self.leader.reserve().await
            && let Some(ask) = self.late.take()
        {
            room.send(ask);
            // What came meanwhile was not counted.
            return 1;
        }
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
    /// Topics with something to tell.
    stirred: BTreeSet<TopicId>,
    /// Of clients that are subscribed to lite topics.
    by_client: BTreeMap<Subscriber, Vec<Arc<Edge>>>,
    /// Lite topics that began to have something for them.
    stirred_clients: BTreeMap<Subscriber, u64>,
}

#[derive(Debug)]
struct Row {
    group: GroupId,
    filter: Filter,
    edge: Arc<Edge>,
    pending: u64,
}

impl Watches {
    pub(crate) fn add(&mut self, group: GroupId, topic: TopicId, filter: Filter, edge: Arc<Edge>) {
        let rows = self.by_topic.entry(topic).or_default();
        rows.retain(|row| !row.edge.ended());
        rows.push(Row { group, filter, edge, pending: 0 });
    }

    /// A client of a group wants to know of lite topics that have something for it.
    pub(crate) fn add_for(&mut self, of: Subscriber, edge: Arc<Edge>) {
        let edges = self.by_client.entry(of).or_default();
        edges.retain(|edge| !edge.ended());
        edges.push(edge);
    }

    /// Another lite topic has something for a client.
    pub(crate) fn ready_for(&mut self, of: Subscriber) {
        if self.by_client.contains_key(&of) {
            *self.stirred_clients.entry(of).or_default() += 1;
        }
    }

    /// A message with this tag hash arrived for every group.
    pub(crate) fn arrived(&mut self, topic: TopicId, tag_hash: u32) {
        self.count(topic, |row| row.filter.may_want(tag_hash));
    }

    /// A message became ready for one group.
    pub(crate) fn ready(&mut self, group: GroupId, topic: TopicId, tag_hash: u32) {
        self.count(topic, |row| row.group == group && row.filter.may_want(tag_hash));
    }

    /// Something may be ready for one group, whatever its filter.
    pub(crate) fn nudge(&mut self, group: GroupId, topic: TopicId) {
        self.count(topic, |row| row.group == group);
    }

    fn count(&mut self, topic: TopicId, concerned: impl Fn(&Row) -> bool) {
        let Some(rows) = self.by_topic.get_mut(&topic) else { return };
        self.stirred.insert(topic);
        for row in rows {
            row.pending += u64::from(concerned(row));
        }
    }

    /// Tells everybody what was counted since the last time.
    pub(crate) fn tell(&mut self) {
        for (of, count) in std::mem::take(&mut self.stirred_clients) {
            let Some(edges) = self.by_client.get_mut(&of) else { continue };
            edges.retain(|edge| {
                edge.add(count);
                !edge.ended()
            });
            if edges.is_empty() {
                self.by_client.remove(&of);
            }
        }
        for topic in std::mem::take(&mut self.stirred) {
            let Some(rows) = self.by_topic.get_mut(&topic) else { continue };
            rows.retain_mut(|row| {
                let pending = std::mem::take(&mut row.pending);
                if pending > 0 {
                    row.edge.add(pending);
                }
                !row.edge.ended()
            });
            if rows.is_empty() {
                self.by_topic.remove(&topic);
            }
        }
    }
}

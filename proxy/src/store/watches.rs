//! What this proxy wants to know from the leader, whoever that is: each leader is told everything once, and changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apogee_model::store::{GroupRef, TopicRef};
use apogee_model::{ClientId, Filter};
use apogee_proto::store::v1;
use apogee_proto::store::v1::lane_request::Ask;
use futures::future::BoxFuture;
use tokio::sync::Notify;

use super::Watch;
use super::reign::{Over, next_word};

/// All watches.
#[derive(Debug, Default)]
pub(super) struct Watches {
    inner: Mutex<Inner>,
    /// There is something to tell the leader.
    stirred: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    last_id: u64,
    rows: BTreeMap<u64, Row>,
    /// What the leader was not told yet.
    untold: BTreeSet<u64>,
    ended: Vec<u64>,
    /// Counts leaders.
    reign: u64,
}

#[derive(Debug)]
struct Row {
    group: GroupRef,
    topic: TopicRef,
    filter: Filter,
    /// Of a client that is subscribed to lite topics.
    client: Option<ClientId>,
    edge: Arc<Edge>,
}

/// Counts what became ready until somebody takes it.
#[derive(Debug, Default)]
struct Edge {
    ready: AtomicU64,
    stirred: Notify,
}

impl Watches {
    pub(super) fn add(
        self: &Arc<Self>,
        group: GroupRef,
        topic: TopicRef,
        filter: Filter,
        client: Option<ClientId>,
    ) -> RemoteWatch {
        let edge = Arc::<Edge>::default();
        let id = {
            let mut inner = self.inner();
            inner.last_id += 1;
            let id = inner.last_id;
            inner.rows.insert(id, Row { group, topic, filter, client, edge: Arc::clone(&edge) });
            inner.untold.insert(id);
            id
        };
        self.stirred.notify_one();
        RemoteWatch { id, edge, watches: Arc::clone(self) }
    }

    /// A new leader, who knows nothing. Returns the number of its reign.
    pub(super) fn retell(&self) -> u64 {
        let mut inner = self.inner();
        inner.untold = inner.rows.keys().copied().collect();
        inner.ended.clear();
        inner.reign += 1;
        inner.reign
    }

    /// The next thing to tell the leader, as soon as there is one; `None` once another reigns. What is returned is
    /// not told again. Cancel safe.
    pub(super) async fn next(&self, reign: u64) -> Option<Ask> {
        let look = || {
            let mut inner = self.inner();
            if inner.reign == reign { Ok(inner.next()) } else { Err(Over) }
        };
        next_word(&self.stirred, look).await
    }

    /// A leader says what became ready.
    pub(super) fn edge(&self, id: u64, ready: u64) {
        if let Some(row) = self.inner().rows.get(&id) {
            row.edge.ready.fetch_add(ready.min(u64::from(u32::MAX)), Ordering::AcqRel);
            row.edge.stirred.notify_one();
        }
    }

    fn end(&self, id: u64) {
        let mut inner = self.inner();
        inner.rows.remove(&id);
        if !inner.untold.remove(&id) {
            inner.ended.push(id);
        }
        drop(inner);
        self.stirred.notify_one();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn next(&mut self) -> Option<Ask> {
        if let Some(id) = self.ended.pop() {
            return Some(Ask::Unwatch(id));
        }
        let id = self.untold.pop_first()?;
        let Row { group, topic, filter, client, .. } = self.rows.get(&id)?;
        let client = client.as_ref().map(|client| client.as_str().to_owned());
        let (group, topic, filter) = (Some(group.into()), Some(topic.into()), v1::Filter::of(filter));
        Some(Ask::Watch(v1::WatchAsk { id, group, topic, filter, client }))
    }
}

/// One watch, at whoever leads.
pub(super) struct RemoteWatch {
    id: u64,
    edge: Arc<Edge>,
    watches: Arc<Watches>,
}

impl Watch for RemoteWatch {
    fn ready(&mut self) -> BoxFuture<'_, u64> {
        Box::pin(async {
            loop {
                let ready = self.edge.ready.swap(0, Ordering::AcqRel);
                if ready > 0 {
                    return ready;
                }
                self.edge.stirred.notified().await;
            }
        })
    }
}

impl Drop for RemoteWatch {
    fn drop(&mut self) {
        self.watches.end(self.id);
    }
}

#[cfg(test)]
mod tests {
    use apogee_model::{ConsumerGroup, GroupId, Topic, TopicId};
    use futures::FutureExt as _;

    use super::*;

    fn watch(watches: &Arc<Watches>, topic: u32) -> RemoteWatch {
        let group = GroupRef { id: GroupId(1), name: ConsumerGroup::parse("", "g").unwrap() };
        let topic = TopicRef { id: TopicId(topic), name: Topic::parse("", "t").unwrap(), queues: 1 };
        watches.add(group, topic, Filter::default(), None)
    }

    fn told(watches: &Watches, reign: u64) -> Vec<String> {
        let next = || watches.next(reign).now_or_never().flatten();
        let asks = std::iter::from_fn(next).map(|ask| match ask {
            Ask::Watch(ask) => format!("watch {}", ask.id),
            Ask::Unwatch(id) => format!("unwatch {id}"),
            other => panic!("{other:?} is about no watch"),
        });
        asks.collect()
    }

    #[test]
    fn every_leader_is_told_everything_once() {
        let watches = Arc::new(Watches::default());
        let (first, _second) = (watch(&watches, 1), watch(&watches, 2));
        let reign = watches.retell();
        assert_eq!(told(&watches, reign), ["watch 1", "watch 2"]);
        drop(first);
        drop(watch(&watches, 3)); // nobody heard of it
        let _fourth = watch(&watches, 4);
        assert_eq!(told(&watches, reign), ["unwatch 1", "watch 4"]);
        let next = watches.retell();
        assert_eq!(told(&watches, reign), [""; 0]);
        assert_eq!(told(&watches, next), ["watch 2", "watch 4"]);
    }

    #[test]
    fn edges_add_up() {
        let watches = Arc::new(Watches::default());
        let mut one = watch(&watches, 1);
        watches.edge(1, 2);
        watches.edge(1, 3);
        watches.edge(99, 1);
        assert_eq!(one.ready().now_or_never(), Some(5));
        assert_eq!(one.ready().now_or_never(), None);
    }
}

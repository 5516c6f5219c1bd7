//! Which topics have producers here, told to whoever leads, and what the leader wants to know from them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use apogee_model::TopicId;
use apogee_model::store::CheckBack;
use apogee_proto::store::v1;
use apogee_proto::store::v1::lane_request::Ask;
use futures::future::BoxFuture;
use tokio::sync::Notify;

use super::Checks;
use super::reign::{Over, next_word};

/// Check-backs that wait for somebody here. The store gives what does not fit again, later.
const WAITING_MAX: usize = 512;
const WAITING_BYTES_MAX: usize = 16 << 20;

/// Everybody here who knows producers.
#[derive(Debug, Default)]
pub(super) struct Producers {
    inner: Mutex<Inner>,
    /// There is something to tell the leader.
    stirred: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    last_id: u64,
    rows: BTreeMap<u64, Row>,
    /// The leader does not know the topics yet.
    untold: bool,
    /// Counts leaders.
    reign: u64,
}

#[derive(Debug, Default)]
struct Row {
    topics: BTreeSet<TopicId>,
    waiting: VecDeque<CheckBack>,
    bytes: usize,
    came: Arc<Notify>,
}

impl Producers {
    pub(super) fn add(self: &Arc<Self>, topics: BTreeSet<TopicId>) -> RemoteChecks {
        let (came, id) = {
            let mut inner = self.inner();
            inner.last_id += 1;
            let (id, row) = (inner.last_id, Row { topics, ..Row::default() });
            let came = Arc::clone(&row.came);
            inner.rows.insert(id, row);
            inner.untold = true;
            (came, id)
        };
        self.stirred.notify_one();
        RemoteChecks { id, came, producers: Arc::clone(self) }
    }

    /// A new leader, who knows nothing. Returns the number of its reign.
    pub(super) fn retell(&self) -> u64 {
        let mut inner = self.inner();
        inner.untold = !inner.rows.is_empty();
        inner.reign += 1;
        inner.reign
    }

    /// The topics, as soon as the leader does not know them; `None` once another reigns. Cancel safe.
    pub(super) async fn next(&self, reign: u64) -> Option<Ask> {
        let look = || {
            let mut inner = self.inner();
            if inner.reign != reign {
                return Err(Over);
            }
            let untold = std::mem::take(&mut inner.untold);
            let topics = || inner.rows.values().flat_map(|row| &row.topics).copied().collect();
            Ok(untold.then(|| Ask::Producers(v1::ProducersAsk::of(&topics()))))
        };
        next_word(&self.stirred, look).await
    }

    /// A leader wants to know. Nothing happens when nobody here knows such a producer, or too much waits.
    pub(super) fn check(&self, check: CheckBack) {
        let mut inner = self.inner();
        let known = inner.rows.values_mut().find(|row| row.topics.contains(&check.topic));
        let Some(row) = known else { return };
        let bytes = check.message.len();
        if row.waiting.len() < WAITING_MAX && row.bytes + bytes <= WAITING_BYTES_MAX {
            row.bytes += bytes;
            row.waiting.push_back(check);
            row.came.notify_one();
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who knows producers.
pub(super) struct RemoteChecks {
    id: u64,
    came: Arc<Notify>,
    producers: Arc<Producers>,
}

impl RemoteChecks {
    fn change<T>(&self, change: impl FnOnce(&mut Row) -> T) -> Option<T> {
        self.producers.inner().rows.get_mut(&self.id).map(change)
    }

    fn take(&self) -> Option<CheckBack> {
        self.change(|row| {
            let check = row.waiting.pop_front()?;
            row.bytes -= check.message.len();
            Some(check)
        })?
    }
}

impl Checks for RemoteChecks {
    fn set_topics(&self, topics: BTreeSet<TopicId>) {
        self.change(|row| row.topics = topics);
        self.producers.inner().untold = true;
        self.producers.stirred.notify_one();
    }

    fn next(&mut self) -> BoxFuture<'_, CheckBack> {
        Box::pin(async {
            loop {
                let came = self.came.notified();
                if let Some(check) = self.take() {
                    return check;
                }
                came.await;
            }
        })
    }
}

impl Drop for RemoteChecks {
    fn drop(&mut self) {
        let mut inner = self.producers.inner();
        inner.rows.remove(&self.id);
        inner.untold = true;
        drop(inner);
        self.producers.stirred.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use apogee_model::store::HalfId;
    use apogee_model::{QueueId, StoredMessage, Timestamp};
    use futures::FutureExt as _;

    use super::*;

    fn topics(ids: &[u32]) -> BTreeSet<TopicId> {
        ids.iter().copied().map(TopicId).collect()
    }

    fn told(producers: &Producers, reign: u64) -> Option<Vec<u32>> {
        match producers.next(reign).now_or_never().flatten()? {
            Ask::Producers(ask) => Some(ask.topics),
            other => panic!("{other:?} is about no producer"),
        }
    }

    fn check(topic: u32, bytes: usize) -> CheckBack {
        CheckBack {
            topic: TopicId(topic),
            queue: QueueId(0),
            id: HalfId(1),
            check: 1,
            stored_at: Timestamp(0),
            message: StoredMessage { body_part: vec![0; bytes].into(), properties_part: bytes::Bytes::new() },
        }
    }

    #[test]
    fn every_leader_is_told_all_topics() {
        let producers = Arc::<Producers>::default();
        let reign = producers.retell();
        assert_eq!(told(&producers, reign), None);
        let one = producers.add(topics(&[1, 2]));
        let other = producers.add(topics(&[3]));
        assert_eq!(told(&producers, reign), Some(vec![1, 2, 3]));
        assert_eq!(told(&producers, reign), None);
        one.set_topics(topics(&[2]));
        assert_eq!(told(&producers, reign), Some(vec![2, 3]));
        let next = producers.retell();
        assert_eq!(told(&producers, reign), None);
        assert_eq!(told(&producers, next), Some(vec![2, 3]));
        drop((one, other));
        assert_eq!(told(&producers, next), Some(vec![]));
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_store() {
        let producers = Arc::<Producers>::default();
        let mut here = producers.add(topics(&[1]));
        producers.check(check(2, 1));
        assert_eq!(here.next().now_or_never(), None);
        (0..3).for_each(|_| producers.check(check(1, WAITING_BYTES_MAX / 2)));
        let taken = std::iter::from_fn(|| here.next().now_or_never()).count();
        assert_eq!(taken, 2);
        (0..=WAITING_MAX).for_each(|_| producers.check(check(1, 1)));
        assert_eq!(std::iter::from_fn(|| here.next().now_or_never()).count(), WAITING_MAX);
    }
}

//! Pulls that sleep until their queue has grown: no polling loops, and nobody wakes for another queue.
//!
//! The pulls of one topic in one replica group share a line. It watches the topic there, as receives do; an edge says that
//! something came, one question says which queues have grown, and those who wait for them wake. The ends of queues are kept
//! as they were told last, so a pull that comes between two edges loses none. Nobody asks while nobody waits.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_host::{OnError, Tasks};
use apogee_model::store::GroupRef;
use apogee_model::{Filter, QueueId, QueueOffset, ReplicaGroupId, TopicConfig, TopicId};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::route::topic_ref;
use crate::service::ServiceError;
use crate::store::{StoreNode, Stores, Watch};

/// How long a line outlives its last pull: readers come back.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Between two questions for the ends of queues, while messages pour in.
const PACE: Duration = Duration::from_millis(5);
/// Before the question is asked again that had no answer.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Lines, waited in or idle.
const LINES_MAX: usize = 20_000;

type Key = (TopicId, ReplicaGroupId);
type Ends = BTreeMap<QueueId, QueueOffset>;
type Lines = BTreeMap<Key, Arc<Line>>;

/// All lines of a proxy.
#[derive(Clone)]
pub(crate) struct Arrivals {
    lines: Arc<Mutex<Lines>>,
    stores: Stores,
    tasks: Tasks,
}

struct Line {
    ends: watch::Sender<Ends>,
    /// Somebody came.
    joined: Notify,
}

/// The place of one pull; it leaves when dropped.
pub(crate) struct Waiting(watch::Receiver<Ends>);

impl Arrivals {
    pub(crate) fn new(stores: Stores, tasks: Tasks) -> Self {
        Self { lines: Arc::default(), stores, tasks }
    }

    /// Joins the line; its watch is set in the name of the group that comes first.
    ///
    /// # Errors
    /// [`ServiceError::TooMany`]; when this proxy has not heard of the replica group.
    pub(crate) fn join(
        &self,
        group: &GroupRef,
        topic: &TopicConfig,
        replica_group: ReplicaGroupId,
    ) -> Result<Waiting, ServiceError> {
        let key = (topic.id, replica_group);
        let mut lines = locked(&self.lines);
        if let Some(line) = lines.get(&key) {
            let place = Waiting(line.ends.subscribe());
            line.joined.notify_one();
            return Ok(place);
        }
        if lines.len() >= LINES_MAX {
            return Err(ServiceError::TooMany { what: "topics that pulls wait for", limit: LINES_MAX });
        }
        let store = self.stores.of(replica_group)?;
        let watch = store.watch(group.clone(), topic_ref(topic), Filter::default());
        let line = Arc::new(Line { ends: watch::Sender::new(Ends::new()), joined: Notify::new() });
        let place = Waiting(line.ends.subscribe());
        lines.insert(key, Arc::clone(&line));
        drop(lines);
        let (lines, stop) = (Arc::clone(&self.lines), self.tasks.token());
        self.tasks.spawn("arrivals", OnError::StopProcess, async move {
            stop.run_until_cancelled(keep(&lines, key, &line, &*store, watch)).await;
            Ok::<_, Infallible>(())
        });
        Ok(place)
    }
}

impl Waiting {
    /// Waits until the queue holds a message at this offset or behind it, or did. Cancel safe.
    pub(crate) async fn beyond(&mut self, queue: QueueId, offset: QueueOffset) {
        let grown = |ends: &Ends| ends.get(&queue).is_some_and(|end| *end > offset);
        if self.0.wait_for(grown).await.is_err() {
            pending::<()>().await; // the process ends
        }
    }
}

/// Tells the ends of queues whenever something came, until nobody waited for a while.
async fn keep(lines: &Mutex<Lines>, key: Key, line: &Line, store: &dyn StoreNode, mut watch: Box<dyn Watch>) {
    let (mut told, mut check) = (false, Instant::now() + IDLE_MAX);
    loop {
        if !told && line.ends.receiver_count() > 0 {
            match store.topic_status(key.0).await {
                Ok(queues) => {
                    told = true;
                    line.ends.send_replace(queues.iter().map(|queue| (queue.queue, queue.max)).collect());
                    sleep(PACE).await;
                }
                Err(_) => sleep(ASK_AGAIN).await,
            }
            continue;
        }
        tokio::select! {
            _ = watch.ready() => told = false,
            () = line.joined.notified() => check = Instant::now() + IDLE_MAX,
            () = sleep_until(check) => {
                check = Instant::now() + IDLE_MAX;
                let mut lines = locked(lines);
                if line.ends.receiver_count() == 0 {
                    lines.remove(&key);
                    return;
                }
            }
        }
    }
}

fn locked(lines: &Mutex<Lines>) -> MutexGuard<'_, Lines> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

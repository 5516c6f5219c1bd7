//! A store, what it is asked, and what its dump says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{
    Dump, Ear, Engine, EngineParts, Members, Nobody, OpenError, ReplicaParts, Retention, Settings, ViewStore,
};
use apogee_host::{Clock, Disk, SeededEntropy, Tasks};
use apogee_model::store::{
    Append, Appended, DeliveryKey, GroupRef, LeaseTerms, Pop, Popped, RequestId, Settlement, StoreError, TopicRef,
};
use apogee_model::{
    ClientId, ConsumerGroup, DeliveryOrder, Filter, GroupId, InvisibleDuration, QueueId, StoredMessage, Topic, TopicId,
};
use bytes::Bytes;

pub(crate) const QUEUES: u16 = 3;
/// Bytes of a segment: few, so that many come and go.
pub(crate) const SEGMENT: u64 = 256 << 10;
/// How long a popped message is held.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
const CLOSE_MAX: Duration = Duration::from_secs(20);

/// An open engine.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) tasks: Tasks,
    pub(crate) views: Arc<dyn ViewStore>,
}

/// Small segments, views that are written often, and this retention.
pub(crate) fn settings(retention: Retention) -> Settings {
    Settings {
        segment_bytes: SEGMENT,
        tail_bytes: 16 << 10,
        views_batch_every: Duration::from_millis(20),
        views_flush_every: Duration::from_millis(200),
        retention,
        ..Settings::default()
    }
}

/// Nothing goes.
pub(crate) fn everything() -> Retention {
    Retention { time: Duration::from_secs(1 << 32), bytes: None, every: Duration::from_secs(3600) }
}

impl Site {
    pub(crate) async fn open(
        disk: Arc<dyn Disk>,
        views: Arc<dyn ViewStore>,
        clock: Arc<dyn Clock>,
        retention: Retention,
    ) -> Result<Site, OpenError> {
        let tasks = Tasks::new();
        let meter = opentelemetry::global::meter("test");
        let engine = EngineParts { disk, clock, tasks: tasks.clone(), meter };
        let (views_too, entropy) = (Arc::clone(&views), Arc::new(SeededEntropy::new(0)));
        let parts = ReplicaParts { engine, views: views_too, peers: Arc::new(Nobody), entropy, ear: Ear::default() };
        let opened = Engine::open_replica(parts, Members::alone(), settings(retention)).await;
        match opened {
            Ok(engine) => Ok(Site { engine, tasks, views }),
            Err(why) => {
                let _late = tasks.close(CLOSE_MAX).await;
                Err(why)
            }
        }
    }

    /// A clean stop, unless the disk is gone.
    pub(crate) async fn close(self) {
        let late = self.tasks.close(CLOSE_MAX).await;
        assert!(late.is_empty(), "{late:?} did not stop");
        self.views.close().await.expect("the views close");
    }

    pub(crate) async fn send(&self, queue: u16, body: Bytes) -> Result<Appended, StoreError> {
        let request = RequestId { proxy_incarnation: 0, sequence: 1 };
        let message = StoredMessage { body_part: body, properties_part: Bytes::new() };
        let append = Append {
            topic: topic(),
            queue: QueueId(queue),
            message,
            request,
            due: None,
            half: None,
            lite: None,
            indexed: true,
            epoch: 0,
        };
        Ok(self.engine.append(vec![append]).await?.remove(0))
    }

    pub(crate) async fn pop(&self, group: u32, batch: usize) -> Result<Popped, StoreError> {
        let name = ConsumerGroup::parse("", &format!("group-{group}")).expect("a good name");
        let lease = LeaseTerms::Fixed(InvisibleDuration::for_receive(LEASE).expect("in range"));
        let pop = Pop {
            group: GroupRef { id: GroupId(group), name },
            topic: topic(),
            filter: Filter::default(),
            batch,
            lease,
            attempt_id: None,
            client: ClientId::parse("host@1@1").expect("not blank"),
            dead_letters: None,
            order: DeliveryOrder::Concurrent,
            priority: None,
            lite: false,
        };
        self.engine.pop(pop).await
    }

    pub(crate) async fn ack(&self, key: DeliveryKey) -> Result<(), StoreError> {
        self.engine.settle(key, Settlement::Ack).await.map(drop)
    }

    pub(crate) async fn dump(&self) -> Dump {
        self.engine.dump().await.expect("the store answers")
    }

    /// The first block that is still in the log.
    pub(crate) async fn first_block(&self) -> u64 {
        self.dump().await.log.first().expect("a log has blocks").0
    }
}

pub(crate) fn topic() -> TopicRef {
    TopicRef { id: TopicId(1), name: Topic::parse("", "orders").expect("a good name"), queues: QUEUES }
}

/// A body that says which one it is.
pub(crate) fn body(number: u64, bytes: usize) -> Bytes {
    let mut body = vec![u8::try_from(number % 251).expect("a byte"); bytes.max(8)];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body.into()
}

/// The queues in a dump: first offset, end, and the position of the first message if there is one.
pub(crate) fn queues(dump: &Dump) -> BTreeMap<u16, (u64, u64, Option<u64>)> {
    let lines = dump.views.lines().filter_map(|line| line.strip_prefix("queue 1/"));
    let parsed = lines.filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |text: &str| text.parse::<u64>().ok();
        match words.as_slice() {
            [queue, "empty", "at", next] => Some((queue.parse().ok()?, (number(next)?, number(next)?, None))),
            [queue, range, "from", lsn] => {
                let (min, next) = range.split_once("..")?;
                Some((queue.parse().ok()?, (number(min)?, number(next)?, Some(number(lsn)?))))
            }
            _ => None,
        }
    });
    parsed.collect()
}

/// The first line in which two dumps differ, if one does.
pub(crate) fn difference(one: &[&str], other: &[&str]) -> Option<String> {
    let longest = one.len().max(other.len());
    let at = (0..longest).find(|at| one.get(*at) != other.get(*at))?;
    Some(format!("line {at}: {:?} and {:?}", one.get(at), other.get(at)))
}

/// A dump without what a start by itself changes: where the log ends, and the block of the new epoch.
pub(crate) fn rows(dump: &Dump) -> Vec<&str> {
    dump.views.lines().filter(|line| !line.starts_with("at ")).collect()
}

//! A store on a simulated disk, and the words of the tests.

use std::sync::Arc;
use std::time::Duration;

use apogee_engine::{Engine, EngineParts, OpenError, SEGMENT_MIN, SEGMENT_TINY, Settings};
use apogee_host::{Clock, Disk, ManualClock, RealClock, SimDisk, Tasks, TokioClock};
use apogee_model::store::{
    Append, DeliveryKey, GroupRef, LeaseTerms, Pop, Popped, QueueReset, RequestId, Reset, ResetTo, Settled, Settlement,
    TopicRef,
};
use apogee_model::{
    ClientId, ConsumerGroup, DeliveryOrder, Filter, GroupId, InvisibleDuration, QueueId, QueueOffset, StoredMessage,
    Topic, TopicId,
};
use bytes::Bytes;
use opentelemetry::metrics::Meter;
use tokio::time::Instant;

/// Longest time until a block that nobody answers for is committed.
pub(crate) const COMMIT: Duration = Duration::from_millis(10);
pub(crate) const TEN_SECONDS: Duration = Duration::from_secs(10);

pub(crate) struct Store {
    pub(crate) engine: Engine,
    pub(crate) tasks: Tasks,
    pub(crate) disk: SimDisk,
    segment_bytes: u64,
}

impl Store {
    pub(crate) async fn new() -> Self {
        Self::open(SimDisk::new(1)).await.expect("an empty disk opens")
    }

    /// Opens fast, and its log goes from segment to segment.
    pub(crate) async fn tiny() -> Self {
        let meter = opentelemetry::global::meter("test");
        let opened = Self::open_parts(SimDisk::new(1), Arc::new(RealClock), meter, SEGMENT_TINY).await;
        opened.expect("an empty disk opens")
    }

    pub(crate) async fn open(disk: SimDisk) -> Result<Self, OpenError> {
        Self::open_with(disk, Arc::new(RealClock)).await
    }

    /// Messages are stored at the times of this clock. Leases end when somebody moves it.
    pub(crate) async fn timed(clock: &ManualClock) -> Self {
        Self::open_with(SimDisk::new(1), Arc::new(clock.clone())).await.expect("an empty disk opens")
    }

    /// On a wall clock and a stopwatch that follow tokio's time since then, through restarts.
    pub(crate) async fn since(began: Instant, disk: SimDisk) -> Self {
        Self::open_with(disk, Arc::new(TokioClock::since(began))).await.expect("it opens")
    }

    /// As [`Store::since`], and tells about itself.
    pub(crate) async fn metered(began: Instant, disk: SimDisk, meter: Meter) -> Self {
        Self::open_parts(disk, Arc::new(TokioClock::since(began)), meter, SEGMENT_MIN).await.expect("it opens")
    }

    async fn open_with(disk: SimDisk, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Self::open_parts(disk, clock, opentelemetry::global::meter("test"), SEGMENT_MIN).await
    }

    async fn open_parts(
        disk: SimDisk,
        clock: Arc<dyn Clock>,
        meter: Meter,
        segment_bytes: u64,
    ) -> Result<Self, OpenError> {
        let tasks = Tasks::new();
        let on: Arc<dyn Disk> = Arc::new(disk.clone());
        let settings = Settings { segment_bytes, ..Settings::default() };
        let engine = Engine::open(EngineParts { disk: on, clock, tasks: tasks.clone(), meter }, settings).await?;
        Ok(Self { engine, tasks, disk, segment_bytes })
    }

    pub(crate) async fn restart(self) -> Self {
        assert_eq!(self.tasks.close(TEN_SECONDS).await, Vec::<&str>::new());
        let meter = opentelemetry::global::meter("test");
        let again = Self::open_parts(self.disk, Arc::new(RealClock), meter, self.segment_bytes).await;
        again.expect("a clean stop opens again")
    }

    pub(crate) async fn send(&self, queue: u16, tag: &str, body: &str) -> QueueOffset {
        self.append(queue, message(tag, body)).await
    }

    /// A message of a message group, whose name is short.
    pub(crate) async fn send_in(&self, queue: u16, group: &str, body: &str) -> QueueOffset {
        let mut stored = message("", body);
        if !group.is_empty() {
            let len = u8::try_from(group.len()).expect("a short name");
            stored.properties_part = [&[0x8a, 0x01, len], group.as_bytes()].concat().into();
        }
        self.append(queue, stored).await
    }

    async fn append(&self, queue: u16, message: StoredMessage) -> QueueOffset {
        let request = RequestId { proxy_incarnation: 0, sequence: 1 };
        let append =
            Append { topic: topic(), queue: QueueId(queue), message, request, due: None, half: None, lite: None };
        self.engine.append(vec![append]).await.expect("the store takes it")[0].offset
    }

    pub(crate) async fn pop(&self, pop: Pop) -> Vec<(String, u32, DeliveryKey)> {
        seen(&self.engine.pop(pop).await.expect("the store answers"))
    }

    pub(crate) async fn bodies(&self, pop: Pop) -> Vec<String> {
        self.pop(pop).await.into_iter().map(|(body, _, _)| body).collect()
    }

    pub(crate) async fn reset(&self, to: ResetTo) -> Vec<QueueReset> {
        self.try_reset(to, false).await
    }

    pub(crate) async fn try_reset(&self, to: ResetTo, dry_run: bool) -> Vec<QueueReset> {
        let reset = Reset { group: group(), topic: topic(), to, dry_run };
        self.engine.reset_offset(reset).await.expect("the store answers")
    }

    pub(crate) async fn ack(&self, key: DeliveryKey) -> Settled {
        self.engine.settle(key, Settlement::Ack).await.expect("the store answers")
    }
}

pub(crate) fn seen(popped: &Popped) -> Vec<(String, u32, DeliveryKey)> {
    let body = |message: &StoredMessage| String::from_utf8_lossy(&message.body_part).into_owned();
    popped.messages.iter().map(|delivery| (body(&delivery.message), delivery.attempt.0, delivery.key)).collect()
}

pub(crate) fn message(tag: &str, body: &str) -> StoredMessage {
    let mut properties = Vec::new();
    if !tag.is_empty() {
        properties.extend_from_slice(&[0x0a, u8::try_from(tag.len()).expect("short tags")]);
        properties.extend_from_slice(tag.as_bytes());
    }
    StoredMessage { body_part: Bytes::copy_from_slice(body.as_bytes()), properties_part: properties.into() }
}

pub(crate) fn topic() -> TopicRef {
    TopicRef { id: TopicId(1), name: Topic::parse("", "orders").expect("a good name"), queues: 4 }
}

pub(crate) fn group() -> GroupRef {
    GroupRef { id: GroupId(1), name: ConsumerGroup::parse("", "billing").expect("a good name") }
}

pub(crate) fn client() -> ClientId {
    ClientId::parse("host@1@1").expect("not blank")
}

pub(crate) fn receive(batch: usize) -> Pop {
    let lease = LeaseTerms::Fixed(InvisibleDuration::for_receive(TEN_SECONDS).expect("in range"));
    Pop {
        group: group(),
        topic: topic(),
        filter: Filter::default(),
        batch,
        lease,
        attempt_id: None,
        client: client(),
        dead_letters: None,
        order: DeliveryOrder::Concurrent,
        lite: false,
    }
}

/// For an ordered group.
pub(crate) fn in_order(batch: usize) -> Pop {
    Pop { order: DeliveryOrder::Fifo, ..receive(batch) }
}

pub(crate) fn push(batch: usize) -> Pop {
    Pop { lease: LeaseTerms::AutoRenew, ..receive(batch) }
}

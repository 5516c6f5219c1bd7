//! Receiving and acknowledging.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context;
use apogee_proto::v2;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::E2e;
use crate::client::{LONG_POLL, Session};
use crate::outgoing::{Outgoing, resource};
use crate::seen::{Seen, SentAt};
use crate::tally::{Failures, Tally, Window};

/// Long enough that nothing comes twice.
const INVISIBLE_SECONDS: i64 = 60;
/// After a refusal.
const PAUSE: Duration = Duration::from_millis(10);

/// What all receive loops and acks share.
pub(crate) struct Consumption {
    group: v2::Resource,
    topic: v2::Resource,
    batch: i32,
    check: bool,
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) sent_at: Arc<SentAt>,
    seen: Seen,
    /// A message from before the measurement was acked.
    primed: AtomicBool,
    /// Messages acked since the measurement began, in the window or not.
    acked: AtomicU64,
    ack_permits: Arc<Semaphore>,
    measured: OnceLock<Measured>,
    consumed: Mutex<Consumed>,
}

/// What is measured: messages from `first` on, in `window`.
struct Measured {
    first: u32,
    window: Window,
}

/// What was consumed inside the window.
pub(crate) struct Consumed {
    /// From the start of the send to the arrival in a batch.
    pub(crate) deliveries: Tally,
    /// Duration of the ack.
    pub(crate) acks: Tally,
    pub(crate) failures: Failures,
}

impl Consumed {
    fn new() -> Consumed {
        Consumed { deliveries: Tally::new(), acks: Tally::new(), failures: Failures::default() }
    }
}

impl Consumption {
    pub(crate) fn new(e2e: &E2e) -> Consumption {
        Consumption {
            group: resource(&e2e.group),
            topic: resource(&e2e.load.topic),
            batch: e2e.batch,
            check: e2e.load.check,
            outgoing: Arc::new(Outgoing::new(&e2e.load.topic, e2e.load.size)),
            sent_at: Arc::new(SentAt::new()),
            seen: Seen::default(),
            primed: AtomicBool::new(false),
            acked: AtomicU64::new(0),
            ack_permits: Arc::new(Semaphore::new(e2e.acks_in_flight)),
            measured: OnceLock::new(),
            consumed: Mutex::new(Consumed::new()),
        }
    }

    /// Begins the measurement: what is sent from now on counts.
    pub(crate) fn measure(&self, window: Window) {
        self.measured.get_or_init(|| Measured { first: self.outgoing.upcoming(), window });
    }

    pub(crate) fn is_primed(&self) -> bool {
        self.primed.load(Ordering::Acquire)
    }

    pub(crate) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Acquire)
    }

    /// Takes the counts out.
    pub(crate) fn take(&self) -> Consumed {
        let mut consumed = self.consumed.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut consumed, Consumed::new())
    }

    /// One long poll, as a simple consumer asks.
    fn ask(&self) -> v2::ReceiveMessageRequest {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let queue = v2::MessageQueue { topic: Some(self.topic.clone()), id: -1, ..v2::MessageQueue::default() };
        let filter = v2::FilterExpression { r#type: v2::FilterType::Tag.into(), expression: "*".to_owned() };
        v2::ReceiveMessageRequest {
            group: Some(self.group.clone()),
            message_queue: Some(queue),
            filter_expression: Some(filter),
            batch_size: self.batch,
            invisible_duration: seconds(INVISIBLE_SECONDS),
            auto_renew: false,
            long_polling_timeout: seconds(i64::try_from(LONG_POLL.as_secs()).expect("a few seconds")),
            attempt_id: None,
        }
    }

    /// The number of a message that this run sent.
    fn number(&self, message: &v2::Message) -> Option<u32> {
        self.outgoing.number(&message.system_properties.as_ref()?.message_id)
    }

    fn in_window(&self, moment: Instant) -> bool {
        self.measured.get().is_some_and(|measured| measured.window.holds(moment))
    }

    fn is_measured(&self, number: u32) -> bool {
        self.measured.get().is_some_and(|measured| number >= measured.first)
    }

    fn count(&self, count: impl FnOnce(&mut Consumed)) {
        count(&mut self.consumed.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts an arrival, and looks into it if asked to.
    fn arrived(&self, message: &v2::Message, at: Instant) {
        let Some(number) = self.number(message) else {
            return; // left over from another run
        };
        let looked = if !self.check {
            Ok(())
        } else if self.seen.insert(number) {
            self.outgoing.check(message)
        } else {
            Err(format!("{} came twice", self.outgoing.id(number)))
        };
        self.count(|consumed| {
            if self.in_window(at) {
                consumed.deliveries.count(self.sent_at.get(number), at);
            }
            if let Err(wrong) = looked {
                consumed.failures.add("delivery", wrong);
            }
        });
    }
}

/// One receive loop. Each message is acked by a call of its own while the next batch is on its way. Runs until it is
/// dropped or the connection breaks.
pub(crate) async fn consume(mut session: Session, consumption: Arc<Consumption>) -> anyhow::Result<()> {
    let mut acks = JoinSet::new();
    loop {
        let batch = match session.receive(consumption.ask()).await.context("ReceiveMessage")? {
            Ok(batch) => batch,
            Err(refused) => {
                consumption.count(|consumed| consumed.failures.add("ReceiveMessage", refused));
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let at = Instant::now();
        for message in batch {
            consumption.arrived(&message, at);
            let permit = Arc::clone(&consumption.ack_permits).acquire_owned().await?;
            let (mut session, consumption) = (session.clone(), Arc::clone(&consumption));
            acks.spawn(async move {
                acknowledge(&mut session, &consumption, message).await;
                drop(permit);
            });
        }
        while let Some(ended) = acks.try_join_next() {
            ended?;
        }
    }
}

/// Acks one message and counts it.
async fn acknowledge(session: &mut Session, consumption: &Consumption, message: v2::Message) {
    let number = consumption.number(&message);
    let system = message.system_properties.unwrap_or_default();
    let entry = v2::AckMessageEntry {
        message_id: system.message_id,
        receipt_handle: system.receipt_handle.unwrap_or_default(),
        lite_topic: None,
    };
    let ack = v2::AckMessageRequest {
        group: Some(consumption.group.clone()),
        topic: Some(consumption.topic.clone()),
        entries: vec![entry],
    };
    let begun = Instant::now();
    let answer = session.ack(ack).await.unwrap_or_else(|broken| Err(format!("{broken:#}")));
    let ended = Instant::now();
    match (answer, number) {
        (Err(refused), _) => consumption.count(|consumed| consumed.failures.add("AckMessage", refused)),
        (Ok(()), Some(number)) if consumption.is_measured(number) => {
            consumption.acked.fetch_add(1, Ordering::Release);
            if consumption.in_window(ended) {
                consumption.count(|consumed| consumed.acks.count(begun, ended));
            }
        }
        (Ok(()), Some(_)) => consumption.primed.store(true, Ordering::Release),
        (Ok(()), None) => {} // left over from another run
    }
}

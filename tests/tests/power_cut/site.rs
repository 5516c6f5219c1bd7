//! One life of the engine as its clients see it: the door, and a note in the history of everything that goes through.

use std::time::Duration;

use apogee_engine::Engine;
use apogee_model::store::{Append, Delivery, LeaseTerms, Pop, Popped, RequestId, Settled, Settlement, StoreError};
use apogee_model::{ClientId, InvisibleDuration, QueueId, TagFilter};
use apogee_tests::history::{History, MessageId, Moment, Outcome, What};
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::payload;

/// The engine does not answer any more: this life is over.
pub(crate) struct Over;

/// Whether the client waits for its answer.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Patience {
    Waits,
    /// Asks and goes away.
    Leaves,
}

/// What a receive asks for.
#[derive(Copy, Clone)]
pub(crate) struct Receive {
    pub(crate) group: u32,
    pub(crate) batch: usize,
    pub(crate) attempt_id: Option<u64>,
    pub(crate) invisible: Duration,
}

/// See the module.
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) history: History,
    /// Cancelled at the end of this life.
    pub(crate) over: CancellationToken,
    /// Longest pause between two calls of a client, in milliseconds.
    pub(crate) pace: u64,
}

impl Site {
    /// Sends messages of these ids and sizes as one batch.
    pub(crate) async fn send(
        &self,
        queue: u16,
        messages: &[(MessageId, usize)],
        patience: Patience,
    ) -> Result<(), Over> {
        let stored: Vec<_> = messages.iter().map(|(id, size)| payload::message(*id, *size)).collect();
        let digests: Vec<_> = stored.iter().map(payload::digest_of).collect();
        let request = RequestId { proxy_incarnation: 1, sequence: messages[0].0.0 };
        let append = |message| Append { topic: payload::topic(), queue: QueueId(queue), message, request };
        let appends = stored.into_iter().map(append).collect();
        let start = self.history.start();
        let answer = patiently(self.engine.append(appends), patience).await;
        let outcome = outcome(&answer);
        let sends = messages.iter().zip(digests).enumerate().map(|(nth, ((message, _), digest))| {
            let appended = answer.as_ref().and_then(|answer| answer.as_ref().ok()).map(|all| all[nth]);
            let place = appended.map(|appended| payload::place(appended.queue.0, appended.offset.0));
            What::Send { message: *message, topic: payload::topic_name(), digest, place, outcome }
        });
        self.history.end_all(start, sends);
        over(&answer)
    }

    pub(crate) async fn receive(&self, what: Receive, patience: Patience) -> Result<Vec<Delivery>, Over> {
        let lease =
            LeaseTerms::Fixed(InvisibleDuration::for_receive(what.invisible).expect("tests ask for 10 s and more"));
        let pop = Pop {
            group: payload::group(what.group),
            topic: payload::topic(),
            filter: TagFilter::All,
            batch: what.batch,
            lease,
            attempt_id: what.attempt_id.map(payload::attempt_id),
            client: ClientId::parse("client").expect("not blank"),
        };
        let start = self.history.start();
        let answer = patiently(self.engine.pop(pop), patience).await;
        let Receive { group, attempt_id, invisible, .. } = what;
        let outcome = outcome(&answer);
        over(&answer).inspect_err(|_| self.received(start, group, attempt_id, invisible, &[], outcome))?;
        let messages = answer.and_then(Result::ok).map_or_else(Vec::new, |Popped { messages, .. }| messages);
        self.received(start, group, attempt_id, invisible, &messages, outcome);
        Ok(messages)
    }

    fn received(
        &self,
        start: Moment,
        group: u32,
        attempt_id: Option<u64>,
        invisible: Duration,
        messages: &[Delivery],
        outcome: Outcome,
    ) {
        let deliveries = messages.iter().map(payload::delivered).collect();
        let (group, topic) = (name(group), payload::topic_name());
        self.history.end(start, What::Receive { group, topic, attempt_id, invisible, deliveries, outcome });
    }

    pub(crate) async fn ack(&self, delivery: &Delivery) -> Result<(), Over> {
        let start = self.history.start();
        let answer = Some(self.engine.settle(delivery.key, Settlement::Ack).await);
        let seen = payload::delivered(delivery);
        let (group, outcome) = (name(delivery.key.group.0), settled(&answer));
        self.history.end(start, What::Ack { group, message: seen.message, handle: seen.handle, outcome });
        over(&answer)
    }

    pub(crate) async fn change(&self, delivery: &Delivery, after: Duration) -> Result<(), Over> {
        let to = InvisibleDuration::for_change(after).expect("tests stay below 12 h");
        let start = self.history.start();
        let answer = Some(self.engine.settle(delivery.key, Settlement::Change(to)).await);
        let seen = payload::delivered(delivery);
        let (group, outcome) = (name(delivery.key.group.0), settled(&answer));
        self.history.end(start, What::Change { group, message: seen.message, handle: seen.handle, after, outcome });
        over(&answer)
    }

    pub(crate) fn release(&self, delivery: &Delivery) {
        let start = self.history.start();
        self.engine.release(vec![delivery.key]);
        let seen = payload::delivered(delivery);
        let group = name(delivery.key.group.0);
        self.history.end(start, What::Release { group, message: seen.message, handle: seen.handle });
    }

    /// Notes what the engine says about the progress of a group; returns how many messages it has not settled.
    pub(crate) async fn progress(&self, group: u32) -> Result<u64, Over> {
        let start = self.history.start();
        let status = self.engine.group_status(payload::group(group).id).await.map_err(|_| Over)?;
        let unsettled = status.iter().map(|queue| queue.max.0 - queue.floor.0).sum();
        let notes = status.into_iter().map(|queue| What::Progress {
            group: name(group),
            topic: payload::topic_name(),
            queue: queue.queue.0.into(),
            floor: queue.floor.0,
            cursor: queue.cursor.0,
        });
        self.history.end_all(start, notes);
        Ok(unsettled)
    }

    /// Waits; less when this life ends meanwhile.
    pub(crate) async fn pause(&self, time: Duration) {
        let _over = tokio::time::timeout(time, self.over.cancelled()).await;
    }
}

/// `None`: the client left before the answer came.
async fn patiently<T>(call: impl Future<Output = T>, patience: Patience) -> Option<T> {
    match patience {
        Patience::Waits => Some(call.await),
        Patience::Leaves => call.now_or_never(),
    }
}

fn outcome<T>(answer: &Option<Result<T, StoreError>>) -> Outcome {
    match answer {
        Some(Ok(_)) => Outcome::Ok,
        Some(Err(StoreError::Busy { .. } | StoreError::TooLarge { .. } | StoreError::NoSuchQueue { .. })) => {
            Outcome::Failed
        }
        Some(Err(StoreError::Timeout { .. } | StoreError::Unreadable { .. } | StoreError::Stopped)) | None => {
            Outcome::Indeterminate
        }
    }
}

fn settled(answer: &Option<Result<Settled, StoreError>>) -> Outcome {
    match answer {
        Some(Ok(Settled::Stale)) => Outcome::Failed,
        answer => outcome(answer),
    }
}

fn over<T>(answer: &Option<Result<T, StoreError>>) -> Result<(), Over> {
    match answer {
        Some(Err(StoreError::Stopped)) => Err(Over),
        _ => Ok(()),
    }
}

fn name(group: u32) -> apogee_tests::history::Name {
    format!("group-{group}").into()
}

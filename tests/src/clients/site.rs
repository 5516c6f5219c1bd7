//! The door as clients use it: every call that goes through leaves a note in the history.

use std::time::Duration;

use apogee_model::store::{
    self, Append, DeadLetters, Delivery, Fetch, FetchFrom, KeptId, LeaseTerms, Pop, Popped, Recall, Recalled,
    RequestId, Settled, Settlement,
};
use apogee_model::{
    ClientId, DeliveryOrder, Filter, InvisibleDuration, PriorityFactor, QueueId, QueueOffset, StoredMessage, Timestamp,
};
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::{Door, NoAnswer, payload};
use crate::history::{History, MessageId, Moment, Outcome, ResetTo, What};

/// There are no more answers: this life of the system is over.
pub struct Over;

/// Whether the client waits for its answer.
#[derive(Copy, Clone, PartialEq, Eq)]
pub enum Patience {
    Waits,
    /// Asks and goes away.
    Leaves,
}

/// What a receive asks for.
#[derive(Copy, Clone)]
pub struct Receive {
    pub group: u32,
    pub batch: usize,
    pub attempt_id: Option<u64>,
    pub invisible: Duration,
}

/// How fast life is.
#[derive(Copy, Clone)]
pub struct Tempo {
    /// Longest pause between two calls of a client, in milliseconds.
    pub pace: u64,
    /// The shortest window that a receive asks for. Everything else that takes long is measured by it.
    pub window: Duration,
    /// How long a client stays that does not wait for its answer.
    pub glance: Duration,
}

/// See the module.
pub struct Site<D> {
    pub door: D,
    pub history: History,
    /// Cancelled when the clients shall end.
    pub over: CancellationToken,
    pub tempo: Tempo,
    /// What a wall clock that is right showed when the history began; nobody sends delayed messages without.
    pub began: Option<Timestamp>,
    /// Deliveries of a message to the group that has dead letters; `None`: no group has any.
    pub dead_after: Option<u32>,
    /// [`payload::ORDERED_GROUP`] wants message groups in order.
    pub in_order: bool,
    /// To concurrent groups queues are levels of urgency, and so many of their receives begin at the highest.
    pub priority: Option<PriorityFactor>,
}

impl<D: Door> Site<D> {
    /// Sends messages of these ids and sizes as one batch.
    pub async fn send(&self, queue: u16, messages: &[(MessageId, usize)], patience: Patience) -> Result<(), Over> {
        let stored: Vec<_> = messages.iter().map(|(id, size)| payload::message(*id, *size)).collect();
        let refused: Vec<_> =
            messages.iter().zip(&stored).filter(|(_, stored)| refuses(stored)).map(|((id, _), _)| *id).collect();
        let digests: Vec<_> = stored.iter().map(payload::digest_of).collect();
        let request = RequestId { proxy_incarnation: 1, sequence: messages[0].0.0 };
        let append = |message| Append {
            topic: payload::topic(),
            queue: QueueId(queue),
            message,
            request,
            due: None,
            half: None,
            lite: None,
            indexed: true,
            epoch: 0,
        };
        let appends = stored.into_iter().map(append).collect();
        let start = self.history.start();
        let answer = self.patiently(self.door.append(appends), patience).await;
        let outcome = outcome(&answer);
        let sends = messages.iter().zip(digests).enumerate().map(|(nth, ((message, _), digest))| {
            let appended = answer.as_ref().and_then(|answer| answer.as_ref().ok()).map(|all| all[nth]);
            let place = appended.map(|appended| payload::place(appended.queue.0, appended.offset.0));
            What::Send { message: *message, topic: payload::topic_name(), digest, place, outcome }
        });
        let refused = refused.into_iter().map(|message| What::Refused { group: name(payload::FILTERED), message });
        self.history.end_all(start, sends.chain(refused));
        over(&answer)
    }

    /// Sends a message that nobody shall see for a while; returns its name as long as it waits, if there is an answer.
    pub async fn send_delayed(
        &self,
        queue: u16,
        (message, size): (MessageId, usize),
        after: Duration,
        began: Timestamp,
    ) -> Result<Option<KeptId>, Over> {
        let stored = payload::message(message, size);
        let digest = payload::digest_of(&stored);
        let refused = refuses(&stored).then(|| What::Refused { group: name(payload::FILTERED), message });
        let start = self.history.start();
        let due = Duration::from_millis(millis(start.at + after));
        let append = Append {
            topic: payload::topic(),
            queue: QueueId(queue),
            message: stored,
            request: RequestId { proxy_incarnation: 1, sequence: message.0 },
            due: Some(began.plus(due)),
            half: None,
            lite: None,
            indexed: true,
            epoch: 0,
        };
        let answer = Some(self.door.append(vec![append]).await);
        let (topic, outcome) = (payload::topic_name(), outcome(&answer));
        let appended = answer.as_ref().and_then(|answer| answer.as_ref().ok()).map(|all| all[0]);
        let seen = appended.filter(|appended| appended.kept.is_none());
        let place = seen.map(|appended| payload::place(appended.queue.0, appended.offset.0));
        let sent = What::Send { message, topic, digest, place, outcome };
        self.history.end_all(start, [sent, What::Delayed { message, due }].into_iter().chain(refused));
        over(&answer)?;
        Ok(appended.and_then(|appended| appended.kept))
    }

    /// Takes a delayed message back; says whether there was an answer.
    pub async fn recall(&self, message: MessageId, id: KeptId) -> Result<bool, Over> {
        let start = self.history.start();
        let answer = Some(self.door.recall(Recall { topic: payload::topic().id, id }).await);
        let outcome = match &answer {
            Some(Ok(Recalled::TooLate)) => Outcome::Failed,
            Some(Err(NoAnswer::Refused)) => Outcome::Indeterminate,
            answer => outcome(answer),
        };
        self.history.end(start, What::Recall { message, outcome });
        over(&answer)?;
        Ok(outcome != Outcome::Indeterminate)
    }

    /// Receives, and returns what came.
    pub async fn receive(&self, what: Receive, patience: Patience) -> Result<Vec<Delivery>, Over> {
        let lease = LeaseTerms::Fixed(InvisibleDuration::from_millis(millis(what.invisible)));
        let pop = Pop {
            group: payload::group(what.group),
            topic: payload::topic(),
            filter: payload::filter(what.group),
            batch: what.batch,
            lease,
            attempt_id: what.attempt_id.map(payload::attempt_id),
            client: ClientId::parse("client").expect("not blank"),
            dead_letters: self.dead_letters(what.group),
            order: if self.is_ordered(what.group) { DeliveryOrder::Fifo } else { DeliveryOrder::Concurrent },
            priority: self.priority.filter(|_| !self.is_ordered(what.group)),
            lite: false,
        };
        let start = self.history.start();
        let answer = self.patiently(self.door.pop(pop), patience).await;
        let Receive { group, attempt_id, invisible, .. } = what;
        let outcome = outcome(&answer);
        over(&answer).inspect_err(|_| self.received(start, group, attempt_id, invisible, &[], outcome))?;
        let messages = answer.and_then(Result::ok).map_or_else(Vec::new, |Popped { messages, .. }| messages);
        self.received(start, group, attempt_id, invisible, &messages, outcome);
        Ok(messages)
    }

    /// Notes which group is ordered; to be called before it receives.
    pub fn tell_order(&self) {
        for group in (1..=payload::GROUPS).filter(|group| self.is_ordered(*group)) {
            self.history.end(self.history.start(), What::InOrder { group: name(group) });
        }
    }

    fn is_ordered(&self, group: u32) -> bool {
        self.in_order && group == payload::ORDERED_GROUP
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

    /// Acks a delivery.
    pub async fn ack(&self, delivery: &Delivery) -> Result<(), Over> {
        let start = self.history.start();
        let answer = Some(self.door.settle(delivery.key, Settlement::Ack).await);
        let seen = payload::delivered(delivery);
        let (group, outcome) = (name(delivery.key.group.0), settled(&answer));
        self.history.end(start, What::Ack { group, message: seen.message, handle: seen.handle, outcome });
        over(&answer)
    }

    /// Gives a delivery up; only in a group that has dead letters.
    pub async fn give_up(&self, delivery: &Delivery) -> Result<(), Over> {
        let number = delivery.key.group.0;
        let Some(dead) = self.dead_letters(number) else { return Ok(()) };
        let start = self.history.start();
        let answer = Some(self.door.settle(delivery.key, Settlement::DeadLetter(dead)).await);
        let seen = payload::delivered(delivery);
        let (group, outcome) = (name(number), settled(&answer));
        self.history.end(start, What::GiveUp { group, message: seen.message, handle: seen.handle, outcome });
        over(&answer)
    }

    /// Where the dead letters of a group go, if it has any.
    pub fn dead_letters(&self, group: u32) -> Option<DeadLetters> {
        self.dead_after.filter(|_| group == payload::DYING).map(|attempts| payload::dead_letters(group, attempts))
    }

    /// Notes all dead letters. Asks until there is an answer, so this is for the end.
    pub async fn note_dead_letters(&self) -> Result<(), Over> {
        let Some(DeadLetters { max_attempts, topic, queue }) = self.dead_letters(payload::DYING) else { return Ok(()) };
        let (mut letters, mut from, mut complete) = (Vec::new(), QueueOffset(0), true);
        loop {
            let (messages, bytes) = (Fetch::MESSAGES_MAX, Fetch::BYTES_MAX);
            let at = FetchFrom::Offset(from);
            let fetch = Fetch {
                topic: topic.id,
                queue,
                from: at,
                messages,
                bytes,
                message_id: None,
                filter: Filter::default(),
            };
            let found = match self.door.fetch(fetch).await {
                Ok(found) => found,
                Err(NoAnswer::Over) => return Err(Over),
                Err(NoAnswer::Refused | NoAnswer::Unknown) => {
                    tokio::time::sleep(Duration::from_millis(40)).await;
                    continue;
                }
            };
            complete &= found.min == QueueOffset(0);
            letters
                .extend(found.messages.iter().map(|it| (payload::id_of(&it.message), payload::digest_of(&it.message))));
            from = found.next;
            if from >= found.max {
                break;
            }
        }
        let (group, topic) = (name(payload::DYING), payload::topic_name());
        self.history.end(self.history.start(), What::DeadLetters { group, topic, max_attempts, letters, complete });
        Ok(())
    }

    /// Moves the end of a delivery's lease.
    pub async fn change(&self, delivery: &Delivery, after: Duration) -> Result<(), Over> {
        let to = InvisibleDuration::for_change(after).expect("tests stay below 12 h");
        let start = self.history.start();
        let answer = Some(self.door.settle(delivery.key, Settlement::Change(to)).await);
        let seen = payload::delivered(delivery);
        let (group, outcome) = (name(delivery.key.group.0), settled(&answer));
        self.history.end(start, What::Change { group, message: seen.message, handle: seen.handle, after, outcome });
        over(&answer)
    }

    /// Gives a delivery back.
    pub fn release(&self, delivery: &Delivery) {
        let start = self.history.start();
        self.door.release(vec![delivery.key]);
        let seen = payload::delivered(delivery);
        let group = name(delivery.key.group.0);
        self.history.end(start, What::Release { group, message: seen.message, handle: seen.handle });
    }

    /// Lets a group go on elsewhere.
    pub async fn reset(&self, group: u32, to: ResetTo) -> Result<(), Over> {
        let asked = match to {
            ResetTo::Earliest => store::ResetTo::Earliest,
            ResetTo::Latest => store::ResetTo::Latest,
        };
        let reset = store::Reset { group: payload::group(group), topic: payload::topic(), to: asked, dry_run: false };
        let start = self.history.start();
        let answer = Some(self.door.reset(reset).await);
        let outcome = outcome(&answer);
        self.history.end(start, What::Reset { group: name(group), topic: payload::topic_name(), to, outcome });
        over(&answer)
    }

    /// Notes what the system says about the progress of a group; returns how many messages it has not settled, if it
    /// does say.
    pub async fn progress(&self, group: u32) -> Result<Option<u64>, Over> {
        let start = self.history.start();
        let status = match self.door.group_status(payload::group(group).id).await {
            Ok(status) => status,
            Err(NoAnswer::Over) => return Err(Over),
            Err(NoAnswer::Refused | NoAnswer::Unknown) => return Ok(None),
        };
        let unsettled = status.iter().map(|queue| queue.max.0 - queue.floor.0).sum();
        let notes = status.into_iter().map(|queue| What::Progress {
            group: name(group),
            topic: payload::topic_name(),
            queue: queue.queue.0.into(),
            floor: queue.floor.0,
            cursor: queue.cursor.0,
        });
        self.history.end_all(start, notes);
        Ok(Some(unsettled))
    }

    /// Waits; less when this life ends meanwhile.
    pub async fn pause(&self, time: Duration) {
        let _over = tokio::time::timeout(time, self.over.cancelled()).await;
    }

    /// `None`: the client left before the answer came.
    pub(super) async fn patiently<T>(&self, call: impl Future<Output = T>, patience: Patience) -> Option<T> {
        match patience {
            Patience::Waits => Some(call.await),
            Patience::Leaves if self.tempo.glance.is_zero() => call.now_or_never(),
            Patience::Leaves => tokio::time::timeout(self.tempo.glance, call).await.ok(),
        }
    }
}

/// Whether the one group with a filter refuses this message.
pub(super) fn refuses(message: &StoredMessage) -> bool {
    !payload::filter(payload::FILTERED).wants(message)
}

pub(super) fn outcome<T>(answer: &Option<Result<T, NoAnswer>>) -> Outcome {
    match answer {
        Some(Ok(_)) => Outcome::Ok,
        Some(Err(NoAnswer::Refused)) => Outcome::Failed,
        Some(Err(NoAnswer::Unknown | NoAnswer::Over)) | None => Outcome::Indeterminate,
    }
}

fn settled(answer: &Option<Result<Settled, NoAnswer>>) -> Outcome {
    match answer {
        Some(Ok(Settled::Stale)) => Outcome::Failed,
        answer => outcome(answer),
    }
}

pub(super) fn over<T>(answer: &Option<Result<T, NoAnswer>>) -> Result<(), Over> {
    match answer {
        Some(Err(NoAnswer::Over)) => Err(Over),
        _ => Ok(()),
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("windows are short")
}

pub(super) fn name(group: u32) -> crate::history::Name {
    format!("group-{group}").into()
}

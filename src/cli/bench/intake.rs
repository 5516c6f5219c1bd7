//! Receiving and acknowledging, as fast as messages come.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_host::{Clock as _, RealClock};
use apogee_proto::v2;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Receiving;
use super::client::{Client, INVISIBLE, Receiver};
use super::load::{Names, Plan};
use super::tally::{Failures, Latencies};

/// Acknowledgements without an answer, of one receiver.
const ACKS: usize = 64;
/// A wall clock in milliseconds may be so far behind the one that counts here.
const CLOCK_STEP: Duration = Duration::from_millis(1);
/// The way of a message from where its delivery begins to here takes no longer, or the run is about something else.
const WAY_MAX: Duration = Duration::from_secs(1);
/// After a refusal.
const PAUSE: Duration = Duration::from_millis(100);

/// What came, so far.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Until a message arrived.
    pub(super) latencies: Latencies,
    /// Until the OK of an acknowledgement, from its call.
    pub(super) acks: Latencies,
    pub(super) failures: Failures,
    /// Messages that came once more.
    pub(super) again: u64,
    /// Delayed or expired messages that came before their time.
    pub(super) early: u64,
    /// When the last one came that was new.
    pub(super) last: Option<Instant>,
    pub(super) took: Duration,
    /// Numbers that came, of a load that is known.
    seen: Vec<u64>,
    /// Numbers whose first delivery is left alone, and when that ends.
    left: HashMap<u32, Instant>,
}

/// What becomes of a message that arrived.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Arrival {
    Counts,
    /// It belongs to another run.
    Foreign,
    /// It is to come again, and then counts.
    Left,
}

/// A load whose messages are expected.
#[derive(Copy, Clone, Debug)]
pub(super) struct Expected {
    pub(super) names: Names,
    pub(super) plan: Plan,
    pub(super) start: Instant,
    /// The first delivery of each message is left to expire after so long.
    pub(super) expire: Option<Duration>,
}

impl Expected {
    /// How much earlier than computed a message may come.
    fn earlier(&self) -> Duration {
        self.expire.map_or(CLOCK_STEP, |_| WAY_MAX)
    }
}

/// Loops that receive; dropped, they are gone, and what they have not acknowledged comes again.
pub(super) struct Receivers {
    loops: JoinSet<()>,
    over: CancellationToken,
}

impl Receivers {
    /// Receives nothing more, and waits until what came is acknowledged.
    pub(super) async fn end(mut self) {
        self.over.cancel();
        while self.loops.join_next().await.is_some() {}
    }
}

/// Where everything that comes is counted.
pub(super) struct Intake {
    expected: Option<Expected>,
    taken: Mutex<Taken>,
    /// Different messages that arrived.
    arrived: watch::Sender<u64>,
}

impl Intake {
    /// With a load that is expected, other messages are acknowledged and not counted, and latency is from when a message
    /// was due, or from the end of its first delivery, which began when it arrived or a little earlier. Without one it is
    /// from the birth of a message, by the clock of whoever made it.
    pub(super) fn new(expected: Option<Expected>) -> Arc<Intake> {
        let messages = expected.map_or(0, |expected| usize::try_from(expected.plan.messages).expect("32 bits fit"));
        let taken = Taken { seen: vec![0; messages.div_ceil(64)], ..Taken::default() };
        Arc::new(Intake { expected, taken: Mutex::new(taken), arrived: watch::Sender::new(0) })
    }

    /// Receives for so long, or until `stop`.
    pub(super) async fn take_for(
        self: &Arc<Self>,
        client: &Client,
        receiving: &Receiving,
        length: Duration,
        stop: &CancellationToken,
    ) -> Taken {
        let began = Instant::now();
        let receivers = self.start(client, receiving);
        tokio::select! {
            () = sleep(length) => {}
            () = stop.cancelled() => {}
        }
        receivers.end().await;
        self.end(began)
    }

    /// Begins to receive.
    pub(super) fn start(self: &Arc<Self>, client: &Client, receiving: &Receiving) -> Receivers {
        let (mut loops, over) = (JoinSet::new(), CancellationToken::new());
        let invisible = self.expected.and_then(|expected| expected.expire).unwrap_or(INVISIBLE);
        for number in 0..u32::from(receiving.receivers) {
            loops.spawn(Arc::clone(self).receive(client.receiver(number, invisible), over.clone()));
        }
        Receivers { loops, over }
    }

    /// Waits until so many different messages came, for as long as any come within `patience`.
    pub(super) async fn until(&self, messages: u64, patience: Duration) {
        let mut arrived = self.arrived.subscribe();
        while *arrived.borrow_and_update() < messages {
            if !timeout(patience, arrived.changed()).await.is_ok_and(|changed| changed.is_ok()) {
                return;
            }
        }
    }

    /// What was counted.
    pub(super) fn end(&self, began: Instant) -> Taken {
        let mut taken = std::mem::take(&mut *self.taken());
        taken.took = began.elapsed();
        taken
    }

    /// Until it is over. Each message is acknowledged by a call of its own, as SDKs do, while the next ones are on their
    /// way; what has come when it is over is acknowledged, too.
    async fn receive(self: Arc<Self>, mut receiver: Receiver, over: CancellationToken) {
        let (room, mut acks) = (Arc::new(Semaphore::new(ACKS)), JoinSet::new());
        while !over.is_cancelled() {
            let mut came = Vec::new();
            let poll = receiver.poll(|message| came.push((message, Instant::now())));
            if let Some(Err(reason)) = over.run_until_cancelled(poll).await {
                self.taken().failures.add(reason);
                over.run_until_cancelled(sleep(PAUSE)).await;
            }
            for (message, at) in came {
                let counts = match self.arrived(&message, at) {
                    Arrival::Left => continue,
                    arrival => arrival == Arrival::Counts,
                };
                let permit = Arc::clone(&room).acquire_owned().await.expect("nobody closes it");
                let (mut receiver, intake) = (receiver.clone(), Arc::clone(&self));
                acks.spawn(async move {
                    let begun = Instant::now();
                    let answer = receiver.ack(message).await;
                    drop(permit);
                    intake.acked(answer, begun.elapsed(), counts);
                });
            }
            while acks.try_join_next().is_some() {}
        }
        while acks.join_next().await.is_some() {}
    }

    /// Counts a message, if it is one that counts.
    fn arrived(&self, message: &v2::Message, at: Instant) -> Arrival {
        let system = message.system_properties.as_ref();
        let Some(expected) = self.expected else {
            let born = system.and_then(|system| system.born_timestamp);
            self.taken().latencies.record(born.map_or(Duration::ZERO, age));
            self.arrived.send_modify(|arrived| *arrived += 1);
            return Arrival::Counts;
        };
        let number = system.and_then(|system| expected.names.number(&system.message_id));
        let Some(number) = number.filter(|number| *number < expected.plan.messages) else { return Arrival::Foreign };
        let mut taken = self.taken();
        let visible = match (expected.expire, taken.left.get(&number)) {
            (None, _) => expected.start + expected.plan.visible(number),
            (Some(_), Some(end)) => *end,
            (Some(invisible), None) => {
                taken.left.insert(number, at + invisible);
                return Arrival::Left;
            }
        };
        let (word, bit) = (usize::try_from(number / 64).expect("32 bits fit"), 1 << (number % 64));
        if taken.seen[word] & bit != 0 {
            taken.again += 1;
            return Arrival::Counts;
        }
        taken.seen[word] |= bit;
        taken.latencies.record(at.saturating_duration_since(visible));
        taken.early += u64::from(at + expected.earlier() < visible);
        taken.last = taken.last.max(Some(at));
        drop(taken);
        self.arrived.send_modify(|arrived| *arrived += 1);
        Arrival::Counts
    }

    fn acked(&self, answer: Result<(), String>, took: Duration, counts: bool) {
        let mut taken = self.taken();
        match answer {
            Err(reason) => taken.failures.add(reason),
            Ok(()) if counts => taken.acks.record(took),
            Ok(()) => {}
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long ago this was, by the clock of this machine.
fn age(born: prost_types::Timestamp) -> Duration {
    let seconds = Duration::from_secs(u64::try_from(born.seconds).unwrap_or(0));
    let born = seconds + Duration::from_nanos(u64::try_from(born.nanos).unwrap_or(0));
    Duration::from_millis(RealClock.wall().0).saturating_sub(born)
}

#[cfg(test)]
mod tests {
    use super::super::load::Later;
    use super::*;

    fn message(id: &str) -> v2::Message {
        let system = v2::SystemProperties { message_id: id.to_owned(), ..v2::SystemProperties::default() };
        v2::Message { system_properties: Some(system), ..v2::Message::default() }
    }

    #[test]
    fn what_was_sent_counts_once_and_nothing_else_does() {
        let (names, other, start) = (Names::draw(), Names::draw(), Instant::now());
        let plan = Plan { rate: 1000, messages: 100, size: 1, in_flight: 1, later: None, ends: None };
        let expected = Expected { names, plan, start, expire: None };
        let intake = Intake::new(Some(expected));
        let at = start + Duration::from_millis(90);
        assert_eq!(intake.arrived(&message(&names.id(70)), at), Arrival::Counts);
        assert_eq!(intake.arrived(&message(&names.id(70)), at), Arrival::Counts);
        assert_eq!(intake.arrived(&message(&other.id(70)), at), Arrival::Foreign);
        assert_eq!(intake.arrived(&message(&names.id(4000)), at), Arrival::Foreign);
        let taken = intake.end(start);
        assert_eq!((taken.again, taken.latencies.0.len()), (1, 1));
        assert!((taken.latencies.max() - 20.0).abs() < 0.1, "{}", taken.latencies.max()); // due at 70 ms
        assert_eq!((taken.early, taken.last), (0, Some(at)));

        let later = Some(Later::Each(Duration::from_millis(30)));
        let intake = Intake::new(Some(Expected { plan: Plan { later, ..plan }, ..expected }));
        assert_eq!(intake.arrived(&message(&names.id(70)), at), Arrival::Counts);
        assert_eq!(intake.end(start).early, 1);
    }

    #[test]
    fn a_first_delivery_is_left_and_the_second_one_counts_from_its_end() {
        let (names, start) = (Names::draw(), Instant::now());
        let plan = Plan { rate: 1000, messages: 100, size: 1, in_flight: 1, later: None, ends: None };
        let intake = Intake::new(Some(Expected { names, plan, start, expire: Some(Duration::from_secs(5)) }));
        assert_eq!(intake.arrived(&message(&names.id(70)), start), Arrival::Left);
        assert_eq!(intake.arrived(&message(&names.id(71)), start), Arrival::Left);
        let again = start + Duration::from_millis(5_030);
        assert_eq!(intake.arrived(&message(&names.id(70)), again), Arrival::Counts);
        assert_eq!(intake.arrived(&message(&names.id(71)), start + Duration::from_secs(3)), Arrival::Counts);
        let taken = intake.end(start);
        assert_eq!((taken.again, taken.early, taken.latencies.0.len()), (0, 1, 2));
        assert!((taken.latencies.max() - 30.0).abs() < 0.1, "{}", taken.latencies.max());
    }
}

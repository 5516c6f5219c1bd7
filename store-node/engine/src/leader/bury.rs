//! Deciding that a message is dead to a group: it was delivered as often as the group allows, or a consumer gives it up.
//!
//! The record of a dead letter holds a copy of the message, and the leader does no IO. So it names the place, and whoever
//! called it reads the message there and asks again with its bytes. Until then nobody gets the message: its lease runs on
//! in the leader's memory, and when that ends because the bytes never came, the next pop names the place again.
//!
//! Source: apache/rocketmq `proxy/.../PopMessageResultFilterImpl.java` (attempts used up at delivery),
//! `ForwardMessageToDLQActivity.java`.

use std::time::Duration;

use apogee_model::StoredMessage;
use apogee_model::store::{DeadLetters, DeliveryKey, Pop, Settled};

use super::{Leader, Now};
use crate::lease_clock::Key;
use crate::pop::Entry;
use crate::record::{DeadLetter, Deliveries, HEADER, QueueOf, Record};
use crate::views::Place;

/// How long the leader waits for the bytes of a message that nobody holds.
const ERRAND: Duration = Duration::from_secs(5);
/// Messages that one pop lets bury.
const AT_ONCE: usize = 32;

/// A message to bury, and where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Burial {
    /// Its last delivery.
    pub(crate) key: DeliveryKey,
    pub(crate) place: Place,
    pub(crate) dead: DeadLetters,
}

/// Who says that a message is dead.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Its attempts are used up, and nobody holds it.
    Attempts,
    /// The consumer that holds it.
    Consumer,
}

/// What is known of a delivery whose consumer gives up.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Condemned {
    /// There is nothing to bury.
    Over(Settled),
    At(Place),
}

/// What came of a burial.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Buried {
    Now,
    /// There was nothing to bury.
    Not(Settled),
}

/// Messages that are to be buried with the answer of a pop.
#[derive(Debug, Default)]
pub(super) struct Burials(Vec<Burial>);

impl Burials {
    /// No more in this pop.
    pub(super) fn full(&self) -> bool {
        self.0.len() >= AT_ONCE
    }

    pub(super) fn into_vec(self) -> Vec<Burial> {
        self.0
    }
}

impl Leader {
    /// Takes a message whose lease ended away from a pop when its attempts are used up. Says whether it did.
    pub(super) fn condemn(
        &mut self,
        pop: &Pop,
        (of, offset): Key,
        (entry, place): (Entry, Place),
        burials: &mut Burials,
        now: Now,
    ) -> bool {
        let Some(dead) = pop.dead_letters.as_ref().filter(|dead| entry.attempt >= dead.max_attempts) else {
            return false;
        };
        self.dying.insert((of, offset), entry.delivery);
        let held = Entry { auto_renew: false, ..entry };
        self.clock.start((of, offset), &held, now.monotonic, ERRAND, Duration::ZERO);
        let QueueOf { group, topic, queue } = of;
        let key = DeliveryKey { epoch: entry.epoch, group, topic, queue, offset, delivery: entry.delivery };
        burials.0.push(Burial { key, place, dead: dead.clone() });
        true
    }

    /// Where the message of a delivery is that its consumer gives up.
    pub(super) fn give_up(&self, key: &DeliveryKey) -> Condemned {
        let of = QueueOf { group: key.group, topic: key.topic, queue: key.queue };
        match self.held(of, key) {
            Err(over) => Condemned::Over(over),
            // Without a place it was trimmed.
            Ok(()) => {
                self.state.place(key.topic, key.queue, key.offset).map_or(Condemned::Over(Settled::Done), Condemned::At)
            }
        }
    }

    /// Settles the delivery and stores the copy, if that delivery is still the last one.
    pub(super) fn bury(
        &mut self,
        key: &DeliveryKey,
        dead: DeadLetters,
        message: StoredMessage,
        verdict: Verdict,
        now: Now,
    ) -> Buried {
        let origin = QueueOf { group: key.group, topic: key.topic, queue: key.queue };
        if let Err(over) = self.held(origin, key) {
            return Buried::Not(over);
        }
        let was_dying = self.dying.get(&(origin, key.offset)) == Some(&key.delivery);
        if verdict == Verdict::Attempts && !was_dying {
            return Buried::Not(Settled::Stale); // a consumer told something about it meanwhile
        }
        self.forget_ready((origin, key.offset));
        self.name_topic(&dead.topic, now);
        self.blocks.reserve(HEADER + DeadLetter::ORIGIN + message.len() + 8, 1, now.wall);
        let (topic, queue) = (dead.topic.id, dead.queue);
        let offset = self.next_offset(topic, queue);
        let deliveries = Deliveries { delivery: key.delivery, offsets: [key.offset].into() };
        self.propose(Record::DeadLetter(DeadLetter { origin, deliveries, topic, queue, offset, message }), now);
        Buried::Now
    }

    /// Whether this delivery is the last one of its message, and the message is not settled.
    fn held(&self, of: QueueOf, key: &DeliveryKey) -> Result<(), Settled> {
        let gone = self.dropped.contains(&key.group) || key.offset < self.min(key.topic, key.queue);
        match self.entry(of, key.offset) {
            Some(entry) if entry.delivery == key.delivery && !gone => Ok(()),
            Some(entry) if entry.delivery == key.delivery => Err(Settled::Done),
            None if key.offset < self.cursor(of) => Err(Settled::Done),
            Some(_) | None => Err(Settled::Stale),
        }
    }
}

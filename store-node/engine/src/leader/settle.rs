//! Deciding the end of deliveries: ack, change, release.

use std::collections::BTreeMap;

use apogee_model::store::{DeliveryKey, Settled};
use apogee_model::{DeliverySeq, InvisibleDuration, QueueOffset, Rests};

use super::{Leader, Now};
use crate::pop::Entry;
use crate::record::{ChangedBy, Deliveries, QueueOf, Record};

/// What becomes of a delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Moved {
    Acked,
    /// Its lease ends so long from now on; a push consumer may have to take the rest of its group.
    Until(InvisibleDuration, Option<Rests>),
    /// The same, and the attempt does not count.
    PutOff(InvisibleDuration),
}

impl Leader {
    /// A delivery can be settled until a later one replaces it; to settle a message that is settled already is fine.
    pub(super) fn settle(&mut self, key: DeliveryKey, what: &Moved, now: Now) -> Settled {
        let queue = QueueOf { group: key.group, topic: key.topic, queue: key.queue };
        let entry = match self.entry(queue, key.offset) {
            Some(entry) if entry.delivery == key.delivery => entry,
            None if key.offset < self.cursor(queue) => return Settled::Done,
            // Of a lite topic that is gone.
            None if key.topic.is_lite() && self.state.lite_name(key.topic).is_none() => return Settled::Done,
            Some(_) | None => return Settled::Stale,
        };
        let deliveries = Deliveries { delivery: key.delivery, offsets: [key.offset].into() };
        let record = match what {
            Moved::Acked => Record::Settle { queue, deliveries },
            Moved::Until(asked, rests) => {
                let duration_ms = rest(&entry, *asked, rests.as_ref()).as_millis();
                Record::Change { queue, deliveries, duration_ms, by: ChangedBy::Client }
            }
            Moved::PutOff(asked) => {
                let duration_ms = asked.as_millis();
                Record::Change { queue, deliveries, duration_ms, by: ChangedBy::Suspend }
            }
        };
        // A late change starts the lease anew: nobody else gets the message while that is on its way to the log.
        self.forget_ready((queue, key.offset));
        self.propose(record, now);
        Settled::Done
    }

    /// Gives back what never reached its consumer. Deliveries that are settled or replaced are left alone, and so are
    /// replayed ones, because the consumer may work on them since the first answer: their leases run out.
    pub(super) fn release(&mut self, keys: &[DeliveryKey], now: Now) {
        let mut batches: BTreeMap<(QueueOf, DeliverySeq), Vec<QueueOffset>> = BTreeMap::new();
        for key in keys {
            let queue = QueueOf { group: key.group, topic: key.topic, queue: key.queue };
            let entry = self.entry(queue, key.offset).filter(|entry| entry.delivery == key.delivery);
            if entry.is_some_and(|entry| !entry.replayed) {
                batches.entry((queue, key.delivery)).or_default().push(key.offset);
            }
        }
        for ((queue, delivery), offsets) in batches {
            let deliveries = Deliveries { delivery, offsets: offsets.into() };
            self.propose(Record::Release { queue, deliveries }, now);
        }
    }
}

/// What a client gets that asks for a rest. A push consumer means that its listener failed, and one that asks for less
/// than the shortest rest of its group did not understand the policy (Node.js): it gets the rest of this attempt.
fn rest(entry: &Entry, asked: InvisibleDuration, rests: Option<&Rests>) -> InvisibleDuration {
    match rests.filter(|rests| entry.auto_renew && asked.get() < rests.shortest()) {
        Some(rests) => rests.after(entry.attempt),
        None => asked,
    }
}

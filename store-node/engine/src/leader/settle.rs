//! Deciding the end of deliveries: ack, change, release.

use std::collections::BTreeMap;

use apogee_model::store::{DeliveryKey, Settled, Settlement};
use apogee_model::{DeliverySeq, QueueOffset};

use super::{Leader, Now};
use crate::record::{ChangedBy, Deliveries, QueueOf, Record};

impl Leader {
    /// A delivery can be settled until a later one replaces it; to settle a message that is settled already is fine.
    pub(super) fn settle(&mut self, key: DeliveryKey, what: Settlement, now: Now) -> Settled {
        let queue = QueueOf { group: key.group, topic: key.topic, queue: key.queue };
        match self.entry(queue, key.offset) {
            Some(entry) if entry.delivery == key.delivery => {}
            None if key.offset < self.cursor(queue) => return Settled::Done,
            Some(_) | None => return Settled::Stale,
        }
        let deliveries = Deliveries { delivery: key.delivery, offsets: [key.offset].into() };
        let record = match what {
            Settlement::Ack => Record::Settle { queue, deliveries },
            Settlement::Change(duration) => {
                Record::Change { queue, deliveries, duration_ms: duration.as_millis(), by: ChangedBy::Client }
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

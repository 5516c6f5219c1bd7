//! One unsettled message of one group, and how records change it.

use apogee_model::{DeliverySeq, Epoch, QueueId, QueueOffset, Timestamp};

use crate::record::{ChangedBy, Deliveries, Lease, Record};

/// An unsettled message: a delivery, or one that waits for its message group. Times are log times.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) delivery: DeliverySeq,
    /// Deliveries so far, this one included.
    pub(crate) attempt: u32,
    /// When this delivery was granted, and in which epoch.
    pub(crate) granted_at: Timestamp,
    pub(crate) epoch: Epoch,
    /// When the lease began that runs now; renewals and changes move it.
    pub(crate) lease_from: Timestamp,
    pub(crate) duration_ms: u64,
    /// Hash of the attempt id, 0 for none.
    pub(crate) attempt_id: u64,
    /// Hash of the client id.
    pub(crate) client: u64,
    pub(crate) auto_renew: bool,
    /// The consumer is known to have the message.
    pub(crate) confirmed: bool,
    /// Was given again to the same receive: an earlier answer may have reached the consumer.
    pub(crate) replayed: bool,
    /// The consumer put it off: this delivery is not counted as an attempt any more.
    pub(crate) suspended: bool,
}

impl Entry {
    /// Was never delivered: the cursor went past while an earlier message of its message group was out.
    fn waiting(at: When) -> Self {
        Self {
            delivery: DeliverySeq(0),
            attempt: 0,
            granted_at: at.log_time,
            epoch: at.epoch,
            lease_from: at.log_time,
            duration_ms: 0,
            attempt_id: 0,
            client: 0,
            auto_renew: false,
            confirmed: false,
            replayed: false,
            suspended: false,
        }
    }

    /// Nobody was ever given the message.
    pub(crate) fn is_waiting(&self) -> bool {
        self.delivery == DeliverySeq(0)
    }
}

/// Of which block a record is: its log time, and the epoch it was decided in.
#[derive(Copy, Clone, Debug)]
pub(crate) struct When {
    pub(crate) log_time: Timestamp,
    pub(crate) epoch: Epoch,
}

/// The entries and cursors of one group on one topic.
pub(crate) trait PopStore {
    fn entry(&self, queue: QueueId, offset: QueueOffset) -> Option<Entry>;
    /// The messages of a queue that have an entry, in order.
    fn offsets(&self, queue: QueueId) -> Vec<QueueOffset>;
    fn cursor(&self, queue: QueueId) -> QueueOffset;
    fn put(&mut self, queue: QueueId, offset: QueueOffset, entry: Entry);
    fn remove(&mut self, queue: QueueId, offset: QueueOffset);
    fn set_cursor(&mut self, queue: QueueId, cursor: QueueOffset);
    fn set_open(&mut self);
}

/// Applies a record that concerns one group on one topic; other records change nothing here. A record about a delivery that was replaced in the meantime changes nothing.
pub(crate) fn apply(record: &Record, at: When, store: &mut impl PopStore) {
    match record {
        Record::Open { starts, .. } => {
            store.set_open();
            for (queue, start) in starts {
                store.set_cursor(*queue, *start);
            }
        }
        Record::Reset { starts, .. } => {
            for (queue, start) in starts {
                for offset in store.offsets(*queue) {
                    store.remove(*queue, offset);
                }
                store.set_cursor(*queue, *start);
            }
        }
        Record::Lease(lease) => grant(lease, at, store),
        Record::Settle { queue, deliveries } => {
            for (offset, _) in held(queue.queue, deliveries, store) {
                store.remove(queue.queue, offset);
            }
        }
        Record::DeadLetter(dead) => {
            for (offset, _) in held(dead.origin.queue, &dead.deliveries, store) {
                store.remove(dead.origin.queue, offset);
            }
        }
        Record::Change { queue, deliveries, duration_ms, by } => {
            for (offset, entry) in held(queue.queue, deliveries, store) {
                let suspended = *by == ChangedBy::Suspend;
                let entry = Entry {
                    attempt: entry.attempt - u32::from(suspended && !entry.suspended && entry.attempt > 0),
                    lease_from: at.log_time,
                    duration_ms: *duration_ms,
                    auto_renew: entry.auto_renew && !suspended && *by != ChangedBy::Client,
                    suspended: entry.suspended || suspended,
                    confirmed: entry.confirmed || *by == ChangedBy::Renewal,
                    replayed: entry.replayed || *by == ChangedBy::Replay,
                    ..entry
                };
                store.put(queue.queue, offset, entry);
            }
        }
        Record::Release { queue, deliveries } => {
            for (offset, entry) in held(queue.queue, deliveries, store) {
                let attempt = entry.attempt.saturating_sub(1);
                let entry = Entry {
                    attempt,
                    lease_from: at.log_time,
                    duration_ms: 0,
                    attempt_id: 0,
                    auto_renew: false,
                    ..entry
                };
                store.put(queue.queue, offset, entry);
            }
        }
        Record::Message { .. }
        | Record::Close { .. }
        | Record::Trim { .. }
        | Record::TopicName { .. }
        | Record::GroupName { .. }
        | Record::Kept(_)
        | Record::Carried(_)
        | Record::Fire(_)
        | Record::Recall(_)
        | Record::Half(_)
        | Record::HalfCarried(_)
        | Record::HalfChecked(_)
        | Record::HalfEnd(_)
        | Record::CommitOffset(_)
        | Record::ForgetOffsets(_)
        | Record::LiteTopic(_)
        | Record::LiteExpiry(_)
        | Record::LiteGone(_)
        | Record::LiteSubscribe(_)
        | Record::KeyIndex { .. }
        | Record::Seal { .. } => {}
    }
}

fn grant(lease: &Lease, at: When, store: &mut impl PopStore) {
    let queue = lease.queue.queue;
    for offset in lease.deliveries.offsets.iter() {
        let attempt = store.entry(queue, *offset).map_or(1, |earlier| earlier.attempt + 1);
        let entry = Entry {
            delivery: lease.deliveries.delivery,
            attempt,
            granted_at: at.log_time,
            epoch: at.epoch,
            lease_from: at.log_time,
            duration_ms: lease.duration_ms,
            attempt_id: lease.attempt_id,
            client: lease.client,
            auto_renew: lease.auto_renew,
            confirmed: false,
            replayed: false,
            suspended: false,
        };
        store.put(queue, *offset, entry);
    }
    for offset in lease.waiting.iter() {
        if store.entry(queue, *offset).is_none() {
            store.put(queue, *offset, Entry::waiting(at));
        }
    }
    if store.cursor(queue) < lease.cursor {
        store.set_cursor(queue, lease.cursor);
    }
}

/// The entries of `deliveries` that no later delivery replaced.
fn held(queue: QueueId, deliveries: &Deliveries, store: &impl PopStore) -> Vec<(QueueOffset, Entry)> {
    let current = |offset: &QueueOffset| {
        store.entry(queue, *offset).filter(|entry| entry.delivery == deliveries.delivery).map(|entry| (*offset, entry))
    };
    deliveries.offsets.iter().filter_map(current).collect()
}

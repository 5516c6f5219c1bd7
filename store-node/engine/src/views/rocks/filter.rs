//! Drops rows of the ConsumeQueue, and of the index by key, that nobody reads any more, when RocksDB rewrites its files
//! anyway.
//!
//! A trim of a queue that lives on costs no deletion: it moves the queue's first offset, and compaction leaves out what
//! is below. Compaction may only know trims that are flushed: if a crash takes the views back to before a trim, the
//! rows it trimmed must still be there, because applying the log again reads them.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, PoisonError};

use apogee_model::{QueueId, QueueOffset, TopicId};
use rocksdb::CompactionDecision;
use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};

use crate::block::Lsn;
use crate::views::key::KeyOf;
use crate::views::{offset_of_key, rows};

type Map = BTreeMap<(TopicId, QueueId), QueueOffset>;

/// The first offsets of the queues that were ever trimmed, and where the oldest message is that may be found by its key.
#[derive(Default)]
pub(super) struct Mins(Mutex<State>);

#[derive(Default)]
struct State {
    /// Written, not flushed.
    written: Map,
    flushed: Arc<Map>,
    written_floor: Lsn,
    flushed_floor: Lsn,
}

impl Mins {
    pub(super) fn written(&self, trims: &[((TopicId, QueueId), QueueOffset)]) {
        if !trims.is_empty() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).written.extend(trims.iter().copied());
        }
    }

    /// Rows of the index about what is before this place mean nothing.
    pub(super) fn written_floor(&self, floor: Lsn) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.written_floor = state.written_floor.max(floor);
    }

    /// Everything written so far is flushed.
    pub(super) fn flushed(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.flushed_floor = state.written_floor;
        let mut written = std::mem::take(&mut state.written);
        if !written.is_empty() {
            Arc::make_mut(&mut state.flushed).append(&mut written);
        }
    }

    fn floor(&self) -> Lsn {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flushed_floor
    }

    fn now(&self) -> Arc<Map> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner).flushed)
    }
}

/// Makes the filter of each compaction.
pub(super) struct DropTrimmed(pub(super) Arc<Mins>);

impl CompactionFilterFactory for DropTrimmed {
    type Filter = BelowMin;

    fn create(&mut self, _context: CompactionFilterContext) -> BelowMin {
        BelowMin { mins: self.0.now(), queue: None }
    }

    fn name(&self) -> &CStr {
        c"apogee.drop-trimmed"
    }
}

/// The same for the index by key.
pub(super) struct DropOldKeys(pub(super) Arc<Mins>);

impl CompactionFilterFactory for DropOldKeys {
    type Filter = BeforeFloor;

    fn create(&mut self, _context: CompactionFilterContext) -> BeforeFloor {
        BeforeFloor(self.0.floor())
    }

    fn name(&self) -> &CStr {
        c"apogee.drop-old-keys"
    }
}

/// The filter of one compaction of the index by key.
pub(super) struct BeforeFloor(Lsn);

impl CompactionFilter for BeforeFloor {
    fn filter(&mut self, _level: u32, key: &[u8], _value: &[u8]) -> CompactionDecision {
        match KeyOf::decode(key) {
            Some(of) if of.lsn() < self.0 => CompactionDecision::Remove,
            _ => CompactionDecision::Keep,
        }
    }

    fn name(&self) -> &CStr {
        c"apogee.before-floor"
    }
}

/// The filter of one compaction, with the trims known when it began.
pub(super) struct BelowMin {
    mins: Arc<Map>,
    /// The queue of the row before and its first offset: rows come in order.
    queue: Option<([u8; 6], QueueOffset)>,
}

impl BelowMin {
    fn min(&mut self, prefix: [u8; 6]) -> QueueOffset {
        match self.queue {
            Some((queue, min)) if queue == prefix => min,
            _ => {
                let queue = rows::split_queue_key(&prefix).expect("six bytes name a queue");
                let min = self.mins.get(&queue).copied().unwrap_or_default();
                self.queue = Some((prefix, min));
                min
            }
        }
    }
}

impl CompactionFilter for BelowMin {
    fn filter(&mut self, _level: u32, key: &[u8], _value: &[u8]) -> CompactionDecision {
        match (key.first_chunk(), offset_of_key(key)) {
            (Some(prefix), Some(offset)) if offset < self.min(*prefix) => CompactionDecision::Remove,
            _ => CompactionDecision::Keep,
        }
    }

    fn name(&self) -> &CStr {
        c"apogee.below-min"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::consume_queue_key;

    #[test]
    fn only_flushed_trims_drop_rows() {
        let mins = Arc::new(Mins::default());
        let dropped = |offset| {
            let mut filter = BelowMin { mins: mins.now(), queue: None };
            let key = consume_queue_key(TopicId(1), QueueId(2), QueueOffset(offset));
            matches!(filter.filter(0, &key, b""), CompactionDecision::Remove)
        };
        mins.written(&[((TopicId(1), QueueId(2)), QueueOffset(10))]);
        assert!(!dropped(9));
        mins.flushed();
        assert!(dropped(9) && !dropped(10));
    }

    #[test]
    fn only_a_flushed_floor_drops_keys() {
        let mins = Mins::default();
        let dropped = |lsn| {
            let key = KeyOf::new(TopicId(1), 7, Lsn(lsn)).encode();
            matches!(BeforeFloor(mins.floor()).filter(0, &key, b""), CompactionDecision::Remove)
        };
        mins.written_floor(Lsn(100));
        assert!(!dropped(99));
        mins.flushed();
        assert!(dropped(99) && !dropped(100));
        assert!(matches!(BeforeFloor(Lsn(100)).filter(0, b"short", b""), CompactionDecision::Keep));
    }

    #[test]
    fn strange_keys_stay() {
        let mut filter = BelowMin { mins: Arc::default(), queue: None };
        assert!(matches!(filter.filter(0, b"short", b""), CompactionDecision::Keep));
    }
}

//! The applied view of one group on one topic.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use apogee_model::{QueueId, QueueOffset};

use super::{Entry, PopStore};

/// Cursors and entries of all queues; opened by a record before anything else happens to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupTopic {
    pub(crate) open: bool,
    pub(crate) queues: BTreeMap<QueueId, PopQueue>,
    /// Messages delivered under an attempt id and not settled.
    attempts: HashMap<u64, BTreeSet<(QueueId, QueueOffset)>>,
}

/// One queue of a group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PopQueue {
    pub(crate) cursor: QueueOffset,
    pub(crate) entries: BTreeMap<QueueOffset, Entry>,
}

impl PopQueue {
    /// Everything below is settled.
    pub(crate) fn floor(&self) -> QueueOffset {
        self.entries.keys().next().copied().unwrap_or(self.cursor)
    }
}

impl GroupTopic {
    /// Messages delivered under this attempt id; the caller checks that they still are.
    pub(crate) fn attempt(&self, attempt_id: u64) -> impl Iterator<Item = (QueueId, QueueOffset)> + '_ {
        self.attempts.get(&attempt_id).into_iter().flatten().copied()
    }

    /// Messages below `min` are gone: nobody can deliver or settle them. Returns the offsets that had an entry.
    pub(crate) fn trim(&mut self, queue: QueueId, min: QueueOffset) -> Vec<QueueOffset> {
        let Some(state) = self.queues.get_mut(&queue) else { return Vec::new() };
        state.cursor = state.cursor.max(min);
        let gone: Vec<_> = state.entries.range(..min).map(|(offset, _)| *offset).collect();
        for offset in &gone {
            self.remove(queue, *offset);
        }
        gone
    }

    fn forget_attempt(&mut self, queue: QueueId, offset: QueueOffset, entry: &Entry) {
        if entry.attempt_id == 0 {
            return;
        }
        if let Some(messages) = self.attempts.get_mut(&entry.attempt_id) {
            messages.remove(&(queue, offset));
            if messages.is_empty() {
                self.attempts.remove(&entry.attempt_id);
            }
        }
    }
}

impl PopStore for GroupTopic {
    fn entry(&self, queue: QueueId, offset: QueueOffset) -> Option<Entry> {
        self.queues.get(&queue)?.entries.get(&offset).copied()
    }

    fn offsets(&self, queue: QueueId) -> Vec<QueueOffset> {
        self.queues.get(&queue).into_iter().flat_map(|state| state.entries.keys().copied()).collect()
    }

    fn cursor(&self, queue: QueueId) -> QueueOffset {
        self.queues.get(&queue).map_or(QueueOffset(0), |state| state.cursor)
    }

    fn put(&mut self, queue: QueueId, offset: QueueOffset, entry: Entry) {
        if let Some(earlier) = self.queues.entry(queue).or_default().entries.insert(offset, entry) {
            self.forget_attempt(queue, offset, &earlier);
        }
        if entry.attempt_id != 0 {
            self.attempts.entry(entry.attempt_id).or_default().insert((queue, offset));
        }
    }

    fn remove(&mut self, queue: QueueId, offset: QueueOffset) {
        let Some(state) = self.queues.get_mut(&queue) else { return };
        if let Some(entry) = state.entries.remove(&offset) {
            self.forget_attempt(queue, offset, &entry);
        }
    }

    fn set_cursor(&mut self, queue: QueueId, cursor: QueueOffset) {
        self.queues.entry(queue).or_default().cursor = cursor;
    }

    fn set_open(&mut self) {
        self.open = true;
    }
}

//! Messages that are kept back until their time, or until they are recalled.
//!
//! Each is a row of the views; memory has only rows that no written batch has yet. What is counted here is small: how
//! much of each stretch of the log such messages hold, and which messages of a queue point backwards in the log because
//! they came late. Both keep segments from going.

mod late;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use apogee_model::store::KeptId;
use apogee_model::{BlockIndex, QueueId, QueueOffset, Timestamp, TopicId};

use super::State;
use super::places::ViewReader;
use super::unwritten::{Change, Unwritten};
use crate::block::Lsn;
use crate::views::kept::{self, Held, KeptKey, KeptRow, KeptValue};
use crate::views::{Batch, END, Table};
use late::LateMessages;

/// Bytes of the log that are counted together. A segment is held a little too long when it is not a multiple.
const STRETCH: u64 = 256 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct KeptBack {
    rows: Unwritten<KeptId, KeptRow>,
    /// Messages that were ever kept back.
    count: u64,
    held: BTreeMap<u64, Held>,
    queues: BTreeMap<(TopicId, QueueId), u64>,
    late: LateMessages,
    dirty: BTreeSet<KeptKey>,
}

impl KeptBack {
    /// A message is kept back from now on.
    pub(super) fn keep(&mut self, id: KeptId, row: KeptRow) {
        self.rows.insert(id, row);
        self.count = self.count.max(id.number + 1);
        self.dirty.insert(KeptKey::Count);
        *self.queues.entry((row.topic, row.queue)).or_default() += 1;
        self.dirty.insert(KeptKey::Queue(row.topic, row.queue));
        self.hold(row.lsn, row.len);
    }

    /// It is kept back no more.
    pub(super) fn leave(&mut self, id: KeptId, row: KeptRow) {
        self.rows.remove(id);
        let queue = (row.topic, row.queue);
        self.dirty.insert(KeptKey::Queue(queue.0, queue.1));
        if let Some(count) = self.queues.get_mut(&queue) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.queues.remove(&queue);
            }
        }
        self.let_go(row.lsn, row.len);
    }

    /// It is elsewhere in the log from now on.
    pub(super) fn moved(&mut self, id: KeptId, from: (Lsn, u32), row: KeptRow) {
        self.rows.change(id, row);
        self.let_go(from.0, from.1);
        self.hold(row.lsn, row.len);
    }

    /// A message came late to its queue.
    pub(super) fn came(&mut self, queue: (TopicId, QueueId), offset: QueueOffset, lsn: Lsn, at: Timestamp) {
        let first = self.late.push(queue, offset, lsn, at);
        self.dirty.insert(KeptKey::Late(queue.0, queue.1, first));
    }

    /// Messages of a queue below `min` are gone.
    pub(super) fn trim(&mut self, queue: (TopicId, QueueId), min: QueueOffset) {
        for first in self.late.trim(queue, min) {
            self.dirty.insert(KeptKey::Late(queue.0, queue.1, first));
        }
    }

    /// No message that waits, be it for its time or for the end of its transaction, and none that came late, is before this
    /// place.
    pub(super) fn oldest(&self) -> Option<Lsn> {
        self.oldest_waiting().into_iter().chain(self.late.oldest()).min()
    }

    /// No message that waits is before this place.
    pub(super) fn oldest_waiting(&self) -> Option<Lsn> {
        self.held.first_key_value().map(|(stretch, _)| Lsn(stretch * STRETCH))
    }

    /// A message that is in no queue is there.
    pub(super) fn hold(&mut self, lsn: Lsn, len: u32) {
        let stretch = lsn.0 / STRETCH;
        let held = self.held.entry(stretch).or_default();
        (held.messages, held.bytes) = (held.messages + 1, held.bytes + u64::from(len));
        self.dirty.insert(KeptKey::Stretch(stretch));
    }

    /// It is there no more, or in its queue.
    pub(super) fn let_go(&mut self, lsn: Lsn, len: u32) {
        let stretch = lsn.0 / STRETCH;
        self.dirty.insert(KeptKey::Stretch(stretch));
        let Some(held) = self.held.get_mut(&stretch) else { return };
        held.messages = held.messages.saturating_sub(1);
        held.bytes = held.bytes.saturating_sub(u64::from(len));
        if held.messages == 0 {
            self.held.remove(&stretch);
        }
    }

    /// Rows that a batch would hold.
    pub(super) fn untaken(&self) -> usize {
        self.rows.untaken() + self.dirty.len()
    }

    /// Bytes of rows that the views do not have yet.
    pub(super) fn unwritten_bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// Puts what changed into the batch of `index`.
    pub(super) fn take(&mut self, index: BlockIndex, batch: &mut Batch) {
        self.rows.take(index, |id, change| match change {
            Change::Put(row) => batch.put(Table::Time, &kept::time_key(id), |out| kept::put_kept(out, row)),
            Change::Delete => batch.delete(Table::Time, &kept::time_key(id)),
        });
        for key in std::mem::take(&mut self.dirty) {
            let mut bytes = Vec::new();
            kept::put_key(&mut bytes, key);
            match self.value(key) {
                Some(value) => batch.put(Table::Kept, &bytes, |out| kept::put_value(out, value)),
                None => batch.delete(Table::Kept, &bytes),
            }
        }
    }

    fn value(&self, key: KeptKey) -> Option<KeptValue> {
        match key {
            KeptKey::Count => Some(KeptValue::Count(self.count)),
            KeptKey::Stretch(stretch) => self.held.get(&stretch).copied().map(KeptValue::Stretch),
            KeptKey::Queue(topic, queue) => self.queues.get(&(topic, queue)).copied().map(KeptValue::Queue),
            KeptKey::Late(topic, queue, first) => self.late.get((topic, queue), first).map(KeptValue::Late),
        }
    }

    /// The views have the batch of `index` and those before it.
    pub(super) fn written(&mut self, index: BlockIndex) {
        self.rows.written(index);
    }

    /// Takes back a row of the small table.
    pub(super) fn load(&mut self, key: &[u8], row: &[u8]) -> Option<()> {
        match kept::row(key, row)? {
            (KeptKey::Count, KeptValue::Count(count)) => self.count = count,
            (KeptKey::Stretch(stretch), KeptValue::Stretch(held)) => drop(self.held.insert(stretch, held)),
            (KeptKey::Queue(topic, queue), KeptValue::Queue(count)) => {
                self.queues.insert((topic, queue), count);
            }
            (KeptKey::Late(topic, queue, first), KeptValue::Late(late)) => {
                self.late.load((topic, queue), first, late)?;
            }
            _ => return None,
        }
        Some(())
    }

    /// Takes from the views what they say, and from memory what is newer.
    fn scan(&self, views: &ViewReader, from: KeptId, max: usize) -> (Vec<(KeptId, KeptRow)>, KeptId) {
        let (mut rows, mut upto) = (BTreeMap::new(), KeptId::MAX);
        let start = kept::time_key(from);
        views.scan_or_note(Table::Time, &start, END, &mut |key, row| {
            let (id, row) = (kept::split_time_key(key)?, kept::kept(row)?);
            if rows.len() >= max {
                upto = id;
                return Some(ControlFlow::Break(()));
            }
            rows.insert(id, row);
            Some(ControlFlow::Continue(()))
        });
        self.rows.lay_over(&mut rows, from..upto);
        (rows.into_iter().collect(), upto)
    }

    fn get(&self, views: &ViewReader, id: KeptId) -> Option<KeptRow> {
        if let Some(known) = self.rows.get(id) {
            return known;
        }
        let mut found = None;
        views.scan_or_note(Table::Time, &kept::time_key(id), END, &mut |key, row| {
            if kept::split_time_key(key)? == id {
                found = Some(kept::kept(row)?);
            }
            Some(ControlFlow::Break(()))
        });
        found
    }

    pub(super) fn dump(&self, views: &ViewReader, lines: &mut Vec<String>) {
        lines.push(format!("kept back {}", self.count));
        lines.extend(self.held.iter().map(|(stretch, held)| format!("kept stretch {stretch} {held:?}")));
        lines.extend(self.queues.iter().map(|((topic, queue), count)| format!("kept queue {topic}/{queue} {count}")));
        self.late.dump(lines);
        let mut from = KeptId::MIN;
        while from < KeptId::MAX {
            let (rows, next) = self.scan(views, from, 512);
            lines.extend(rows.iter().map(|(id, row)| format!("kept {id:?} {row:?}")));
            from = next;
        }
    }

    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.rows.rows() + self.held.len()
    }
}

impl State {
    /// Messages that wait for their time, `from` the first on, some `max` of them; and where to go on.
    pub(crate) fn waiting(&self, from: KeptId, max: usize) -> (Vec<(KeptId, KeptRow)>, KeptId) {
        self.kept.scan(&self.reader, from, max)
    }

    /// One message that waits for its time.
    pub(crate) fn waits(&self, id: KeptId) -> Option<KeptRow> {
        self.kept.get(&self.reader, id)
    }

    /// Messages of a queue that wait for their time.
    pub(crate) fn waiting_in(&self, topic: TopicId, queue: QueueId) -> u64 {
        self.kept.queues.get(&(topic, queue)).copied().unwrap_or_default()
    }

    /// Messages of a topic that wait for their time.
    pub(crate) fn waiting_of(&self, topic: TopicId) -> u64 {
        self.waiting_queues(topic).map(|queue| self.waiting_in(topic, queue)).sum()
    }

    /// The topics in which messages wait for their time.
    pub(crate) fn waiting_topics(&self) -> BTreeSet<TopicId> {
        self.kept.queues.keys().map(|(topic, _)| *topic).collect()
    }

    /// The queues of a topic in which messages wait for their time.
    pub(crate) fn waiting_queues(&self, topic: TopicId) -> impl Iterator<Item = QueueId> + '_ {
        let queues = self.kept.queues.range((topic, QueueId(0))..=(topic, QueueId(u16::MAX)));
        queues.map(|((_, queue), _)| *queue)
    }

    /// The number of the next message that is kept back.
    pub(crate) fn next_kept(&self) -> u64 {
        self.kept.count
    }

    /// No message that waits for its time, or for the end of its transaction, is before this place.
    pub(crate) fn oldest_waiting(&self) -> Option<Lsn> {
        self.kept.oldest_waiting()
    }

    /// Bytes of the messages that wait for their time, or for the end of their transaction.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.kept.held.values().map(|held| held.bytes).sum()
    }

    /// No message that anybody may want is before this place; `None` while there is none.
    pub(crate) fn needed(&self) -> Option<Lsn> {
        self.oldest.first().into_iter().chain(self.kept.oldest()).min()
    }
}

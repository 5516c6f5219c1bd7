//! From the working set to a batch of rows.

use apogee_model::{BlockIndex, QueueOffset};

use super::State;
use crate::views::{Batch, Place, Table, consume_queue_key, rows};

/// Bytes a row of the ConsumeQueue takes in a batch.
const PLACE_BYTES: usize = 14 + Place::LEN;
/// Bytes other rows take in a batch, about.
const ROW_BYTES: usize = 64;
/// Bytes a remembered append takes in a batch, about.
const RESEND_BYTES: usize = 58;

impl State {
    /// Bytes the next batch would have, about.
    pub(crate) fn batch_bytes(&self) -> usize {
        let rows = self.dirty.len()
            + self.kept.untaken()
            + self.halves.untaken()
            + self.offsets.untaken()
            + self.lites.untaken()
            + self.keys.untaken()
            + self.seals.untaken();
        self.tail.untaken() * PLACE_BYTES + rows * ROW_BYTES + self.resend.untaken() * RESEND_BYTES
    }

    /// Whether blocks were applied since the newest batch.
    pub(crate) fn has_batch(&self) -> bool {
        self.applied > self.taken
    }

    /// Bytes of messages' places, of messages kept back, and of keys, that only memory has. They grow while the views do not keep up.
    pub(crate) fn unwritten_bytes(&self) -> usize {
        self.tail.unwritten_bytes()
            + self.kept.unwritten_bytes()
            + self.halves.unwritten_bytes()
            + self.keys.unwritten_bytes()
    }

    /// Everything that changed since the newest batch, as it is now, at [`State::position`]. Until
    /// [`State::written`] says that the views have it, it is read from memory.
    ///
    /// The batch may be written when the log on this disk is durable up to its position, and not before: else a power
    /// cut could leave views that are ahead of the log.
    pub(crate) fn take_batch(&mut self) -> Batch {
        let mut batch = Batch::new(self.position());
        self.take_ranges(&mut batch);
        self.take_queues(&mut batch);
        self.take_pops(&mut batch);
        self.offsets.take(&mut batch);
        self.lites.take(&mut batch);
        self.take_names(&mut batch);
        self.seals.take(&mut batch);
        self.resend.take(&mut batch);
        self.kept.take(self.applied, &mut batch);
        self.halves.take(self.applied, &mut batch);
        self.keys.take(self.applied, &mut batch);
        batch.forget_keys(self.keys_floor());
        self.taken = self.applied;
        batch
    }

    /// The views have the batch of this position, and those before it.
    pub(crate) fn written(&mut self, index: BlockIndex) {
        self.tail.written(index);
        self.kept.written(index);
        self.halves.written(index);
        self.keys.written(index);
    }

    /// What goes as a whole goes first: rows put later in the same batch stay.
    fn take_ranges(&mut self, batch: &mut Batch) {
        for group in std::mem::take(&mut self.dirty.closed) {
            let (from, to) = (rows::group_start(u64::from(group.0)), rows::group_start(u64::from(group.0) + 1));
            batch.delete_range(Table::GroupQueue, &from, &to);
            batch.delete_range(Table::Lease, &from, &to);
        }
        for ((topic, queue), as_a_whole) in std::mem::take(&mut self.dirty.trimmed) {
            let min = self.queue(topic, queue).min;
            batch.trim((topic, queue), min);
            if as_a_whole {
                let from = consume_queue_key(topic, queue, QueueOffset(0));
                batch.delete_range(Table::ConsumeQueue, &from, &consume_queue_key(topic, queue, min));
            }
        }
    }

    fn take_queues(&mut self, batch: &mut Batch) {
        let queues = std::mem::take(&mut self.dirty.queues);
        for key in &queues {
            let row = rows::queue_key(*key);
            match self.queues.get(key) {
                Some(state) => batch.put(Table::QueueMeta, &row, |row| {
                    rows::put_queue(row, state.min, state.next, state.min_lsn);
                }),
                None => batch.delete(Table::QueueMeta, &row),
            }
        }
        self.tail.take(self.applied, queues.iter().copied(), |(topic, queue), offset, place| {
            batch.put(Table::ConsumeQueue, &consume_queue_key(topic, queue, offset), |row| place.encode(row));
        });
    }

    fn take_pops(&mut self, batch: &mut Batch) {
        for (group, topic) in std::mem::take(&mut self.dirty.opens) {
            let key = rows::group_topic_key(group, topic);
            match self.pops.get(&(group, topic)) {
                Some(pop) => batch.put(Table::GroupQueue, &key, |row| rows::put_open(row, pop.open)),
                None => batch.delete(Table::GroupQueue, &key),
            }
        }
        for of in std::mem::take(&mut self.dirty.cursors) {
            let key = rows::group_queue_key(of);
            match self.pops.get(&(of.group, of.topic)).map(|pop| pop.queues.get(&of.queue)) {
                Some(queue) => {
                    let cursor = queue.map(|queue| queue.cursor).unwrap_or_default();
                    batch.put(Table::GroupQueue, &key, |row| rows::put_cursor(row, cursor));
                }
                None => batch.delete(Table::GroupQueue, &key),
            }
        }
        for ((of, offset), existed) in std::mem::take(&mut self.dirty.entries) {
            let key = rows::lease_key(of, offset);
            match self.entry(of, offset) {
                Some(entry) => batch.put(Table::Lease, &key, |row| rows::put_entry(row, &entry)),
                None if existed => batch.delete(Table::Lease, &key),
                None => {}
            }
        }
    }

    fn take_names(&mut self, batch: &mut Batch) {
        for id in std::mem::take(&mut self.dirty.topics) {
            if let Some(name) = self.topics.get(&id) {
                let key = rows::topic_name_key(id);
                batch.put(Table::Name, &key, |row| rows::put_name(row, name.namespace(), name.name()));
            }
        }
        for id in std::mem::take(&mut self.dirty.groups) {
            let key = rows::group_name_key(id);
            match self.groups.get(&id) {
                Some(name) => batch.put(Table::Name, &key, |row| rows::put_name(row, name.namespace(), name.name())),
                None => batch.delete(Table::Name, &key),
            }
        }
    }
}

//! Offsets that groups commit themselves. They are apart from Pop: committing settles nothing, and popping moves none.

use std::collections::{BTreeMap, BTreeSet};

use apogee_model::{GroupId, QueueId, QueueOffset, TopicId};

use super::State;
use crate::record::QueueOf;
use crate::views::{Batch, Table, rows};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PullOffsets {
    rows: BTreeMap<QueueOf, QueueOffset>,
    /// Those that no batch has as they are.
    dirty: BTreeSet<QueueOf>,
}

impl PullOffsets {
    /// As the group says, forwards or back.
    pub(super) fn commit(&mut self, of: QueueOf, offset: QueueOffset) {
        self.rows.insert(of, offset);
        self.dirty.insert(of);
    }

    /// The group goes on elsewhere in these queues. Where it never committed anything, it is still to say where it begins.
    pub(super) fn reset(&mut self, group: GroupId, topic: TopicId, starts: &[(QueueId, QueueOffset)]) {
        for (queue, start) in starts {
            let of = QueueOf { group, topic, queue: *queue };
            if self.rows.contains_key(&of) {
                self.commit(of, *start);
            }
        }
    }

    /// Everything of the group is gone, and its rows with it.
    pub(super) fn close(&mut self, group: GroupId) {
        self.rows.retain(|of, _| of.group != group);
        self.dirty.retain(|of| of.group != group);
    }

    /// The topic is gone.
    pub(super) fn forget(&mut self, topic: TopicId) {
        let dirty = &mut self.dirty;
        self.rows.retain(|of, _| {
            let stays = of.topic != topic;
            if !stays {
                dirty.insert(*of);
            }
            stays
        });
    }

    /// Rows that a batch would hold.
    pub(super) fn untaken(&self) -> usize {
        self.dirty.len()
    }

    /// Puts what changed into a batch.
    pub(super) fn take(&mut self, batch: &mut Batch) {
        for of in std::mem::take(&mut self.dirty) {
            let key = rows::pull_offset_key(of);
            match self.rows.get(&of) {
                Some(offset) => batch.put(Table::GroupQueue, &key, |row| rows::put_cursor(row, *offset)),
                None => batch.delete(Table::GroupQueue, &key),
            }
        }
    }

    /// Takes back a row.
    pub(super) fn load(&mut self, of: QueueOf, offset: QueueOffset) {
        self.rows.insert(of, offset);
    }

    pub(super) fn dump(&self, lines: &mut Vec<String>) {
        let line = |(of, offset): (&QueueOf, &QueueOffset)| {
            format!("pull offset {}/{}/{} {offset}", of.group, of.topic, of.queue)
        };
        lines.extend(self.rows.iter().map(line));
    }
}

impl State {
    /// What a group committed in a queue.
    pub(crate) fn pull_offset(&self, of: QueueOf) -> Option<QueueOffset> {
        self.offsets.rows.get(&of).copied()
    }

    /// What a group committed anywhere, by topic and queue.
    pub(crate) fn pull_offsets(&self, group: GroupId) -> impl Iterator<Item = (TopicId, QueueId, QueueOffset)> + '_ {
        let first = QueueOf { group, topic: TopicId(0), queue: QueueId(0) };
        let last = QueueOf { group, topic: TopicId(u32::MAX), queue: QueueId(u16::MAX) };
        self.offsets.rows.range(first..=last).map(|(of, offset)| (of.topic, of.queue, *offset))
    }

    /// Whether any group committed an offset in a topic.
    pub(crate) fn has_pull_offsets(&self, topic: TopicId) -> bool {
        self.offsets.rows.keys().any(|of| of.topic == topic)
    }
}

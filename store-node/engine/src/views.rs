//! Where the views of the log live: ordered rows in a few tables, written one block at a time.
//!
//! [`MemoryViews`] is all there is now; views are lost with the process and rebuilt from the log. A batch carries
//! the index of its block, so that a store that survives can say how far it got.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use apogee_model::{BlockIndex, QueueId, QueueOffset, Timestamp, TopicId};

use crate::block::Lsn;
use crate::codec::{u16_at, u32_at, u64_at};

/// The tables. Keys are big endian, so that their order is the order of the numbers.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Table {
    /// (topic, queue, offset) to [`Place`].
    ConsumeQueue,
}

/// Changes that become visible together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) puts: Vec<(Table, Vec<u8>, Vec<u8>)>,
    /// Half-open ranges of keys to delete.
    pub(crate) deletes: Vec<(Table, Vec<u8>, Vec<u8>)>,
}

/// Looks at one row, key and value, and says whether to go on.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Ordered rows with atomic batches.
pub(crate) trait Views: Send + 'static {
    /// Makes the batch of block `applied` visible, all of it or nothing.
    fn write(&mut self, batch: Batch, applied: BlockIndex);
    /// Visits the rows with `from <= key < to` in order until told to stop.
    fn scan(&self, table: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>);
}

/// Ordered maps in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryViews {
    rows: BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>,
    /// Survives nothing yet, like the rows; a store that persists writes it with them.
    applied: BlockIndex,
}

impl Views for MemoryViews {
    fn write(&mut self, batch: Batch, applied: BlockIndex) {
        for (table, from, to) in batch.deletes {
            let rows = self.rows.entry(table).or_default();
            let gone: Vec<_> = rows.range(from..to).map(|(key, _)| key.clone()).collect();
            for key in gone {
                rows.remove(&key);
            }
        }
        for (table, key, value) in batch.puts {
            self.rows.entry(table).or_default().insert(key, value);
        }
        self.applied = applied;
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], visit: &mut Visit<'_>) {
        use std::ops::Bound::{Excluded, Included};
        let Some(rows) = self.rows.get(&table).filter(|_| from < to) else { return };
        for (key, value) in rows.range::<[u8], _>((Included(from), Excluded(to))) {
            if visit(key, value).is_break() {
                return;
            }
        }
    }
}

/// Where the message of a queue offset is, and what a consumer's filter asks first.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) lsn: Lsn,
    /// Bytes of the record.
    pub(crate) len: u32,
    pub(crate) tag_hash: u32,
    /// Hash of the message group, 0 for none.
    pub(crate) group_hash: u32,
    pub(crate) stored_at: Timestamp,
    pub(crate) flags: u16,
}

impl Place {
    const LEN: usize = 28;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(Self::LEN);
        row.extend_from_slice(&self.lsn.0.to_le_bytes());
        row.extend_from_slice(&self.len.to_le_bytes());
        row.extend_from_slice(&self.tag_hash.to_le_bytes());
        row.extend_from_slice(&self.group_hash.to_le_bytes());
        row.extend_from_slice(&self.stored_at.0.to_le_bytes()[..6]);
        row.extend_from_slice(&self.flags.to_le_bytes());
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Self> {
        let row: &[u8; Self::LEN] = row.try_into().ok()?;
        let mut stored_at = [0; 8];
        stored_at[..6].copy_from_slice(&row[20..26]);
        Some(Self {
            lsn: Lsn(u64_at(row, 0)),
            len: u32_at(row, 8),
            tag_hash: u32_at(row, 12),
            group_hash: u32_at(row, 16),
            stored_at: Timestamp(u64::from_le_bytes(stored_at)),
            flags: u16_at(row, 26),
        })
    }
}

/// Key of a row of [`Table::ConsumeQueue`].
pub(crate) fn consume_queue_key(topic: TopicId, queue: QueueId, offset: QueueOffset) -> Vec<u8> {
    let mut key = Vec::with_capacity(14);
    key.extend_from_slice(&topic.0.to_be_bytes());
    key.extend_from_slice(&queue.0.to_be_bytes());
    key.extend_from_slice(&offset.0.to_be_bytes());
    key
}

/// The queue offset in a key of [`Table::ConsumeQueue`].
pub(crate) fn offset_of_key(key: &[u8]) -> QueueOffset {
    QueueOffset(u64::from_be_bytes(key[6..14].try_into().expect("keys are 14 bytes, as consume_queue_key makes them")))
}

//! Changes of rows that become visible together.

use apogee_model::{QueueId, QueueOffset, TopicId};

use super::{APPLIED, Position, Table};
use crate::block::Lsn;

/// Changes that bring the rows to one position. Kept in one piece of memory, because there are many and they are small.
#[derive(Debug)]
pub(crate) struct Batch {
    position: Position,
    steps: Vec<Step>,
    bytes: Vec<u8>,
    mins: Vec<((TopicId, QueueId), QueueOffset)>,
    keys_floor: Lsn,
}

/// One change; they take effect in order.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change<'a> {
    Put(Table, &'a [u8], &'a [u8]),
    Delete(Table, &'a [u8]),
    /// The rows with `from <= key < to`.
    DeleteRange(Table, &'a [u8], &'a [u8]),
}

#[derive(Debug)]
struct Step {
    kind: Kind,
    table: Table,
    /// Where its two parts end in `bytes`.
    key_end: usize,
    value_end: usize,
}

#[derive(Copy, Clone, Debug)]
enum Kind {
    Put,
    Delete,
    DeleteRange,
}

impl Batch {
    /// Writes the position first: nothing else is in its table.
    pub(crate) fn new(position: Position) -> Self {
        let mut batch = Self { position, steps: Vec::new(), bytes: Vec::new(), mins: Vec::new(), keys_floor: Lsn(0) };
        let position = batch.position.clone();
        batch.put(Table::System, APPLIED, |row| position.encode(row));
        batch
    }

    /// The position the rows are at afterwards.
    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    /// Bytes of all keys and values.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn put(&mut self, table: Table, key: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        self.step(Kind::Put, table, key, value);
    }

    pub(crate) fn delete(&mut self, table: Table, key: &[u8]) {
        self.step(Kind::Delete, table, key, |_| {});
    }

    pub(crate) fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]) {
        self.step(Kind::DeleteRange, table, from, |bytes| bytes.extend_from_slice(to));
    }

    /// Nobody reads the ConsumeQueue of this queue below `min` any more; its rows may go, now or later.
    pub(crate) fn trim(&mut self, queue: (TopicId, QueueId), min: QueueOffset) {
        self.mins.push((queue, min));
    }

    /// The queues that were trimmed, and their first offset.
    pub(crate) fn trims(&self) -> &[((TopicId, QueueId), QueueOffset)] {
        &self.mins
    }

    /// Nobody reads rows of [`Table::Key`] about what is before this place any more.
    pub(crate) fn forget_keys(&mut self, before: Lsn) {
        self.keys_floor = before;
    }

    pub(crate) fn keys_floor(&self) -> Lsn {
        self.keys_floor
    }

    pub(crate) fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        let mut at = 0;
        self.steps.iter().map(move |step| {
            let (key, second) = (&self.bytes[at..step.key_end], &self.bytes[step.key_end..step.value_end]);
            at = step.value_end;
            match step.kind {
                Kind::Put => Change::Put(step.table, key, second),
                Kind::Delete => Change::Delete(step.table, key),
                Kind::DeleteRange => Change::DeleteRange(step.table, key, second),
            }
        })
    }

    fn step(&mut self, kind: Kind, table: Table, key: &[u8], second: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        second(&mut self.bytes);
        self.steps.push(Step { kind, table, key_end, value_end: self.bytes.len() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_back_in_order() {
        let mut batch = Batch::new(Position::default());
        batch.put(Table::Name, b"a", |row| row.extend_from_slice(b"one"));
        batch.delete(Table::Lease, b"b");
        batch.delete_range(Table::Lease, b"c", b"d");
        let changes: Vec<_> = batch.changes().skip(1).collect();
        let expected = [
            Change::Put(Table::Name, b"a", b"one"),
            Change::Delete(Table::Lease, b"b"),
            Change::DeleteRange(Table::Lease, b"c", b"d"),
        ];
        assert_eq!(changes, expected);
    }
}

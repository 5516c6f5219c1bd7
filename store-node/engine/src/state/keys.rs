//! Finding messages by what their senders called them.
//!
//! Every key of a message is a row, and so is the id of one that is, or may be for long, in no queue that can be looked
//! through by time: half messages, those that wait for their time, and dead letters. Rows are never taken back one by one:
//! one that is older than everything the log is needed for means nothing, and goes when the views rewrite their files.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use apogee_model::{BlockIndex, StoredMessage, Timestamp, TopicId};

use super::State;
use super::places::ViewReader;
use super::unwritten::{Change, Unwritten};
use crate::block::Lsn;
use crate::views::key::{KeyOf, KeyRow};
use crate::views::{Batch, END, Table, rows};

/// What a message can be found under.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Term<'a> {
    Key(&'a str),
    MessageId(&'a str),
}

impl Term<'_> {
    fn hash(self) -> u64 {
        match self {
            Self::Key(key) => apogee_model::hash(key.as_bytes()),
            // No key begins with a space.
            Self::MessageId(id) => apogee_model::hash(format!(" {id}").as_bytes()),
        }
    }
}

/// Whether a message is to be found by its id, too.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum ById {
    Yes,
    No,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Keys {
    rows: Unwritten<KeyOf, KeyRow>,
    /// Topics whose messages are found by no key.
    off: BTreeSet<TopicId>,
    dirty: BTreeSet<TopicId>,
}

impl Keys {
    /// A message that is found from now on.
    pub(super) fn add(&mut self, topic: TopicId, by_id: ById, message: &StoredMessage, (lsn, row): (Lsn, KeyRow)) {
        let id = message.message_id().filter(|_| by_id == ById::Yes).map(Term::MessageId);
        let keys = message.keys().filter(|_| !self.off.contains(&topic)).map(Term::Key);
        for term in id.into_iter().chain(keys) {
            self.rows.insert(KeyOf::new(topic, term.hash(), lsn), row);
        }
    }

    /// Messages of a topic are found by key from now on, or are not.
    pub(super) fn set(&mut self, topic: TopicId, on: bool) {
        if if on { self.off.remove(&topic) } else { self.off.insert(topic) } {
            self.dirty.insert(topic);
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
        self.rows.take(index, |of, change| match change {
            Change::Put(row) => batch.put(Table::Key, &of.encode(), |out| row.encode(out)),
            Change::Delete => batch.delete(Table::Key, &of.encode()),
        });
        for topic in std::mem::take(&mut self.dirty) {
            let key = rows::not_indexed_key(topic);
            if self.off.contains(&topic) {
                batch.put(Table::Name, &key, rows::put_not_indexed);
            } else {
                batch.delete(Table::Name, &key);
            }
        }
    }

    /// The views have the batch of `index` and those before it.
    pub(super) fn written(&mut self, index: BlockIndex) {
        self.rows.written(index);
    }

    /// Takes back that the messages of a topic are found by no key.
    pub(super) fn load(&mut self, topic: TopicId) {
        self.off.insert(topic);
    }

    /// The newest rows behind `after` of those with `from <= id < to`, some `max` of them.
    fn scan(&self, views: &ViewReader, from: KeyOf, to: KeyOf, max: usize) -> Vec<(KeyOf, KeyRow)> {
        let (mut found, mut upto) = (BTreeMap::new(), to);
        views.scan_or_note(Table::Key, &from.encode(), &to.encode(), &mut |key, row| {
            let (of, row) = (KeyOf::decode(key)?, KeyRow::decode(row)?);
            if found.len() >= max {
                upto = of;
                return Some(ControlFlow::Break(()));
            }
            found.insert(of, row);
            Some(ControlFlow::Continue(()))
        });
        self.rows.lay_over(&mut found, from..upto);
        found.into_iter().take(max).collect()
    }

    pub(super) fn dump(&self, views: &ViewReader, floor: Lsn, lines: &mut Vec<String>) {
        lines.extend(self.off.iter().map(|topic| format!("topic {topic} is not indexed")));
        let mut all = BTreeMap::new();
        views.scan_or_note(Table::Key, &[], END, &mut |key, row| {
            all.insert(KeyOf::decode(key)?, KeyRow::decode(row)?);
            Some(ControlFlow::Continue(()))
        });
        let last = KeyOf::new(TopicId(u32::MAX), u64::MAX, Lsn(0));
        self.rows.lay_over(&mut all, KeyOf::new(TopicId(0), 0, Lsn(u64::MAX))..last);
        all.retain(|of, _| of.lsn() >= floor);
        lines.extend(all.iter().map(|(of, row)| format!("key {of:?} {row:?}")));
    }
}

impl State {
    /// Where messages may be that are found under a term, and when they were stored: the newest before `before`, at most
    /// `max`. Those that have only its hash are among them, and those that are in their queue no more.
    pub(crate) fn under(&self, topic: TopicId, term: Term<'_>, before: Lsn, max: usize) -> Vec<(Lsn, KeyRow)> {
        let (hash, floor) = (term.hash(), self.keys_floor());
        let Some(newest) = before.0.checked_sub(1).map(Lsn).filter(|newest| *newest >= floor) else {
            return Vec::new();
        };
        let (from, to) = (KeyOf::new(topic, hash, newest), KeyOf::new(topic, hash, Lsn(floor.0.saturating_sub(1))));
        self.keys.scan(&self.reader, from, to, max).into_iter().map(|(of, row)| (of.lsn(), row)).collect()
    }

    /// Rows about what is before this place mean nothing.
    pub(super) fn keys_floor(&self) -> Lsn {
        self.needed().unwrap_or(self.end).min(self.end)
    }

    /// Whether messages of a topic are found by their keys.
    pub(crate) fn is_indexed(&self, topic: TopicId) -> bool {
        !self.keys.off.contains(&topic)
    }

    pub(super) fn index(
        &mut self,
        topic: TopicId,
        by_id: ById,
        message: &StoredMessage,
        (lsn, len, stored_at): (Lsn, u32, Timestamp),
    ) {
        let topic = self.lite_parent(topic).unwrap_or(topic);
        self.keys.add(topic, by_id, message, (lsn, KeyRow { len, stored_at }));
    }
}

//! Half messages that are not decided, and how the others ended.
//!
//! Each half message is a row of the views; memory has only rows that no written batch has yet. How transactions ended is
//! two bits for each: those are all in memory, and go when the last of some thousand that share a row ended a day ago, or
//! when there are too many.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use apogee_model::store::{HalfId, Resolution};
use apogee_model::{BlockIndex, Timestamp, TopicId};

use super::State;
use super::places::ViewReader;
use super::unwritten::{Change, Unwritten};
use crate::views::half::{self, ENDS_PER_ROW, Ends, HalfKey, HalfRow, HalfValue};
use crate::views::{Batch, END, Table};

/// How long the end of a transaction is remembered at least, in log time,
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// unless there are more rows of ends than this: 64 Mi transactions, in 16 MiB of memory.
const ENDS_MAX: usize = 16_384;

/// See the module.
#[derive(Debug)]
pub(super) struct Halves {
    rows: Unwritten<HalfId, HalfRow>,
    /// Half messages there ever were.
    count: u64,
    open: BTreeMap<TopicId, u64>,
    ends: BTreeMap<u64, Ends>,
    ends_max: usize,
    dirty: BTreeSet<HalfKey>,
}

impl Default for Halves {
    fn default() -> Self {
        Self {
            rows: Unwritten::default(),
            count: 0,
            open: BTreeMap::new(),
            ends: BTreeMap::new(),
            ends_max: ENDS_MAX,
            dirty: BTreeSet::new(),
        }
    }
}

impl Halves {
    /// One more.
    pub(super) fn begin(&mut self, id: HalfId, row: HalfRow) {
        self.rows.insert(id, row);
        self.count = self.count.max(id.0 + 1);
        *self.open.entry(row.kept.topic).or_default() += 1;
        self.dirty.extend([HalfKey::Count, HalfKey::Topic(row.kept.topic)]);
    }

    /// Something else is known of it.
    pub(super) fn change(&mut self, id: HalfId, row: HalfRow) {
        self.rows.change(id, row);
    }

    /// It is decided; one that was dropped is not remembered.
    pub(super) fn end(&mut self, id: HalfId, topic: TopicId, how: Option<Resolution>, at: Timestamp) {
        self.rows.remove(id);
        if let Some(count) = self.open.get_mut(&topic) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.open.remove(&topic);
            }
        }
        self.dirty.insert(HalfKey::Topic(topic));
        if let Some(how) = how {
            self.remember(id, how, at);
        }
    }

    fn remember(&mut self, id: HalfId, how: Resolution, at: Timestamp) {
        let row = id.0 / ENDS_PER_ROW;
        if !self.ends.contains_key(&row) {
            self.forget(at);
        }
        let ends = self.ends.entry(row).or_default();
        ends.set(id, how);
        ends.last = ends.last.max(at);
        self.dirty.insert(HalfKey::Ends(row));
    }

    /// Makes room for one more row.
    fn forget(&mut self, log_time: Timestamp) {
        let old = self.ends.iter().filter(|(_, ends)| log_time.since(ends.last) >= REMEMBERED).map(|(row, _)| *row);
        let mut gone: Vec<_> = old.collect();
        if self.ends.len() - gone.len() >= self.ends_max {
            let oldest = self.ends.iter().min_by_key(|(row, ends)| (ends.last, **row));
            gone.extend(oldest.map(|(row, _)| *row).filter(|row| !gone.contains(row)));
        }
        for row in gone {
            self.ends.remove(&row);
            self.dirty.insert(HalfKey::Ends(row));
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
            Change::Put(row) => batch.put(Table::Half, &half::half_key(id), |out| half::put_half(out, row)),
            Change::Delete => batch.delete(Table::Half, &half::half_key(id)),
        });
        for key in std::mem::take(&mut self.dirty) {
            let mut bytes = Vec::new();
            half::put_key(&mut bytes, key);
            let known = match key {
                HalfKey::Count => Some(self.count),
                HalfKey::Topic(topic) => self.open.get(&topic).copied(),
                HalfKey::Ends(row) => match self.ends.get(&row) {
                    Some(ends) => {
                        batch.put(Table::Half, &bytes, |out| half::put_ends(out, ends));
                        continue;
                    }
                    None => None,
                },
                HalfKey::Half(_) => unreachable!("half messages have rows of their own"),
            };
            match known {
                Some(count) => batch.put(Table::Half, &bytes, |out| half::put_count(out, count)),
                None => batch.delete(Table::Half, &bytes),
            }
        }
    }

    /// The views have the batch of `index` and those before it.
    pub(super) fn written(&mut self, index: BlockIndex) {
        self.rows.written(index);
    }

    /// Takes back a row that is not about one half message.
    pub(super) fn load(&mut self, key: &[u8], row: &[u8]) -> Option<()> {
        match half::row(key, row)? {
            (HalfKey::Count, HalfValue::Count(count)) => self.count = count,
            (HalfKey::Topic(topic), HalfValue::Topic(count)) => drop(self.open.insert(topic, count)),
            (HalfKey::Ends(row), HalfValue::Ends(ends)) => drop(self.ends.insert(row, ends)),
            _ => return None,
        }
        Some(())
    }

    /// Takes from the views what they say, and from memory what is newer.
    fn scan(&self, views: &ViewReader, from: HalfId, max: usize) -> (Vec<(HalfId, HalfRow)>, HalfId) {
        let (mut rows, mut upto) = (BTreeMap::new(), HalfId(u64::MAX));
        views.scan_or_note(Table::Half, &half::half_key(from), END, &mut |key, row| {
            let (HalfKey::Half(id), HalfValue::Half(row)) = half::row(key, row)? else { return None };
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

    fn get(&self, views: &ViewReader, id: HalfId) -> Option<HalfRow> {
        if let Some(known) = self.rows.get(id) {
            return known;
        }
        let mut found = None;
        views.scan_or_note(Table::Half, &half::half_key(id), END, &mut |key, row| {
            match half::row(key, row)? {
                (HalfKey::Half(other), HalfValue::Half(row)) if other == id => found = Some(row),
                (HalfKey::Half(_), HalfValue::Half(_)) => {}
                _ => return None,
            }
            Some(ControlFlow::Break(()))
        });
        found
    }

    pub(super) fn dump(&self, views: &ViewReader, lines: &mut Vec<String>) {
        lines.push(format!("half messages {}", self.count));
        lines.extend(self.open.iter().map(|(topic, count)| format!("half messages of {topic} {count}")));
        for (row, ends) in &self.ends {
            let first = row * ENDS_PER_ROW;
            let end = |id| ends.get(HalfId(id)).map(|how| format!("half {id} {how:?}"));
            lines.push(format!("half ends {row} {:?} {:?}", ends.last, ends.counts()));
            lines.extend((first..first.saturating_add(ENDS_PER_ROW)).filter_map(end));
        }
        let mut from = HalfId(0);
        while from < HalfId(u64::MAX) {
            let (rows, next) = self.scan(views, from, 512);
            lines.extend(rows.iter().map(|(id, row)| format!("half {id:?} {row:?}")));
            from = next;
        }
    }

    #[cfg(test)]
    pub(super) fn set_ends_max(&mut self, max: usize) {
        self.ends_max = max;
    }
}

impl State {
    /// Half messages that are not decided, `from` the first on, some `max` of them; and where to go on.
    pub(crate) fn halves(&self, from: HalfId, max: usize) -> (Vec<(HalfId, HalfRow)>, HalfId) {
        self.halves.scan(&self.reader, from, max)
    }

    /// One half message that is not decided.
    pub(crate) fn half(&self, id: HalfId) -> Option<HalfRow> {
        self.halves.get(&self.reader, id)
    }

    /// How a transaction ended, if that is remembered.
    pub(crate) fn half_end(&self, id: HalfId) -> Option<Resolution> {
        self.halves.ends.get(&(id.0 / ENDS_PER_ROW))?.get(id)
    }

    /// The number of the next half message.
    pub(crate) fn next_half(&self) -> u64 {
        self.halves.count
    }

    /// Half messages of each topic that has some.
    pub(crate) fn open_halves(&self) -> &BTreeMap<TopicId, u64> {
        &self.halves.open
    }

    /// What the log knows a topic as.
    pub(crate) fn topic_name(&self, id: TopicId) -> Option<&apogee_model::Topic> {
        self.topics.get(&id)
    }
}

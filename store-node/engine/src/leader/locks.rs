//! Which message groups of an ordered consumer group are free to be delivered.
//!
//! A message group is locked while a message of it is out: leased, or on its way to be settled, given back or leased anew.
//! When none is, its unsettled messages may go out together, the earliest first. So nothing overtakes: a message that
//! failed holds back those behind it until it was delivered again, and other message groups of the queue go on.
//!
//! Messages without a message group share one in every queue. All of this is the leader's memory of what it decided,
//! uncommitted proposals included; the log knows nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use apogee_model::{QueueId, QueueOffset};

/// A message group of one queue, by its hash.
pub(super) type Line = (QueueId, u32);

/// Every unsettled message of one consumer group on one topic below its cursors.
#[derive(Debug, Default)]
pub(super) struct Locks {
    messages: BTreeMap<(QueueId, QueueOffset), Message>,
    lines: BTreeMap<Line, Waiting>,
    /// Messages of each queue.
    counts: BTreeMap<QueueId, usize>,
    /// Lines that may be delivered; who is free for longest comes first.
    free: BTreeMap<u64, Line>,
    turn: u64,
    freed: usize,
}

#[derive(Copy, Clone, Debug)]
struct Message {
    group_hash: u32,
    out: bool,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: BTreeSet<QueueOffset>,
    /// How many of them are out.
    out: usize,
    /// Its place among the free ones.
    free: Option<u64>,
}

impl Locks {
    /// An unsettled message: out, or waiting for its turn.
    pub(super) fn put(&mut self, queue: QueueId, offset: QueueOffset, group_hash: u32, out: bool) {
        self.take(queue, offset);
        self.messages.insert((queue, offset), Message { group_hash, out });
        *self.counts.entry(queue).or_default() += 1;
        let line = self.lines.entry((queue, group_hash)).or_default();
        line.messages.insert(offset);
        line.out += usize::from(out);
        self.turn_lock((queue, group_hash));
    }

    /// A message that is known here goes out, or comes back.
    pub(super) fn mark(&mut self, queue: QueueId, offset: QueueOffset, out: bool) {
        let Some(message) = self.messages.get_mut(&(queue, offset)).filter(|message| message.out != out) else {
            return;
        };
        message.out = out;
        let key = (queue, message.group_hash);
        let line = self.lines.get_mut(&key).expect("a message has a line");
        line.out = if out { line.out + 1 } else { line.out - 1 };
        self.turn_lock(key);
    }

    /// The message is settled or gone.
    pub(super) fn remove(&mut self, queue: QueueId, offset: QueueOffset) {
        if let Some(key) = self.take(queue, offset) {
            self.turn_lock(key);
        }
    }

    fn take(&mut self, queue: QueueId, offset: QueueOffset) -> Option<Line> {
        let message = self.messages.remove(&(queue, offset))?;
        *self.counts.get_mut(&queue).expect("it was counted") -= 1;
        let key = (queue, message.group_hash);
        let line = self.lines.get_mut(&key).expect("a message has a line");
        line.messages.remove(&offset);
        line.out -= usize::from(message.out);
        Some(key)
    }

    /// The group goes on elsewhere in this queue.
    pub(super) fn clear(&mut self, queue: QueueId) {
        let all = self.messages.range((queue, QueueOffset(0))..=(queue, QueueOffset(u64::MAX)));
        let all: Vec<_> = all.map(|((_, offset), _)| *offset).collect();
        all.into_iter().for_each(|offset| self.remove(queue, offset));
    }

    fn turn_lock(&mut self, key: Line) {
        let line = self.lines.get_mut(&key).expect("asked of lines that exist");
        let is_free = line.out == 0 && !line.messages.is_empty();
        match line.free {
            None if is_free => {
                self.turn += 1;
                self.freed += 1;
                line.free = Some(self.turn);
                self.free.insert(self.turn, key);
            }
            Some(turn) if !is_free => {
                line.free = None;
                self.free.remove(&turn);
            }
            None | Some(_) => {}
        }
        if line.messages.is_empty() {
            self.lines.remove(&key);
        }
    }

    /// Lines that may be delivered; who is free for longest comes first.
    pub(super) fn free(&self) -> impl Iterator<Item = Line> + '_ {
        self.free.values().copied()
    }

    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// How many lines became free since this was asked last, and still are.
    pub(super) fn take_freed(&mut self) -> usize {
        std::mem::take(&mut self.freed).min(self.free.len())
    }

    /// The unsettled messages of a line, the earliest first, and whether they are out.
    pub(super) fn of_line(&self, (queue, group_hash): Line) -> impl Iterator<Item = (QueueOffset, bool)> + '_ {
        let line = self.lines.get(&(queue, group_hash));
        let out = move |offset: &QueueOffset| self.messages.get(&(queue, *offset)).is_some_and(|message| message.out);
        line.into_iter().flat_map(|line| &line.messages).map(move |offset| (*offset, out(offset)))
    }

    /// Whether the line has unsettled messages.
    pub(super) fn holds(&self, line: Line) -> bool {
        self.lines.contains_key(&line)
    }

    pub(super) fn line_of(&self, queue: QueueId, offset: QueueOffset) -> Option<Line> {
        self.messages.get(&(queue, offset)).map(|message| (queue, message.group_hash))
    }

    /// Unsettled messages of a queue.
    pub(super) fn count(&self, queue: QueueId) -> usize {
        self.counts.get(&queue).copied().unwrap_or_default()
    }

    /// Messages that are out.
    pub(super) fn out(&self) -> usize {
        self.lines.values().map(|line| line.out).sum()
    }

    /// Messages that wait for their turn.
    pub(super) fn into_waiting(self) -> impl Iterator<Item = (QueueId, QueueOffset)> {
        self.messages.into_iter().filter(|(_, message)| !message.out).map(|(place, _)| place)
    }
}

//! Letting messages into their queues when their time has come, and taking them back before.
//!
//! Messages that wait are rows of the views. In memory are those that are due soonest, a bounded number; more are read
//! when these have gone. What was decided about a message and is not committed yet is remembered here, so nothing is
//! decided about it twice; who loses the lead forgets it, and the next leader begins with what is committed.
//!
//! A message is never early: the leader waits until its wall clock says so, and the block that lets the message in
//! carries a log time that is not before it either. So whoever finds no message, and sees a due time that lies ahead of
//! log time, knows that it was recalled.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use apogee_host::Monotonic;
use apogee_model::store::{KeptId, Recall, Recalled};
use apogee_model::{QueueId, Timestamp, TopicId};
use tokio::sync::oneshot::Sender;

use super::{Answer, Leader, Now, Ticket};
use crate::record::{self, Fire, Fired, Record};
use crate::state::State;
use crate::views::kept::KeptRow;

/// Messages of one record.
const RECORD_MAX: usize = 256;
/// Messages that enter their queues in one turn; sends come in between.
const TURN_MAX: usize = 1024;
/// Messages on their way into their queues.
const LEAVING_MAX: usize = 4096;
/// Messages in memory: more are read when there are fewer than this,
const SOON_MIN: usize = 2048;
/// so many at once,
const READ: usize = 512;
/// and those that are due last are forgotten when there are more than this.
const SOON_MAX: usize = 8192;
/// A wall clock that jumps ahead is noticed within this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the leader knows of messages that wait for their time.
#[derive(Debug)]
pub(super) struct Timer {
    soon: BTreeMap<KeptId, KeptRow>,
    /// All messages before this one are in `soon` or `leaving`.
    known: KeptId,
    /// Decided, and not committed.
    leaving: BTreeMap<KeptId, (Ticket, Leaving)>,
    proposed: VecDeque<(Ticket, KeptId)>,
    /// Recalls that can be decided when the blocks on their way are committed.
    recalls: Vec<(Recall, Sender<Recalled>)>,
    /// When there is something to do.
    at: Option<Monotonic>,
    /// The number of the next message that is kept back.
    next: u64,
}

/// What was decided about a message.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Leaving {
    Fired,
    Recalled,
    /// It is written again, and waits on.
    Carried,
}

impl Timer {
    pub(super) fn new(now: Now) -> Self {
        Self {
            soon: BTreeMap::new(),
            known: KeptId::MIN,
            leaving: BTreeMap::new(),
            proposed: VecDeque::new(),
            recalls: Vec::new(),
            at: Some(now.monotonic),
            next: 0,
        }
    }

    /// The name of one more message that is kept back.
    pub(super) fn name(&mut self, due: Timestamp, state: &State) -> KeptId {
        let number = self.next.max(state.next_kept());
        self.next = number + 1;
        KeptId { due, number }
    }

    /// When [`Leader::fire`] has something to do.
    pub(super) fn due(&self) -> Option<Monotonic> {
        self.at
    }

    /// A block with these messages is committed, ours if it has a ticket.
    pub(super) fn committed(&mut self, kept: Vec<(KeptId, KeptRow)>, ticket: Option<Ticket>, now: Now) {
        if let Some(ticket) = ticket {
            while let Some((_, id)) = self.proposed.pop_front_if(|(block, _)| *block <= ticket) {
                if self.leaving.get(&id).is_some_and(|(block, _)| *block <= ticket) {
                    self.leaving.remove(&id);
                }
            }
        }
        for (id, row) in kept {
            if id < self.known && !self.leaving.contains_key(&id) {
                self.soon.insert(id, row);
            }
        }
        self.forget();
        self.arm(now);
    }

    /// Those that are due last need no memory when there are too many.
    fn forget(&mut self) {
        if self.soon.len() > SOON_MAX
            && let Some((known, _)) = self.soon.iter().nth(SOON_MIN)
        {
            self.known = *known;
            drop(self.soon.split_off(&self.known));
        }
    }

    /// Messages that were decided about and are not committed.
    pub(super) fn leaving(&self) -> usize {
        self.leaving.len()
    }

    /// How long the time of the first message is over that is not in its queue.
    fn late(&self, now: Now) -> Duration {
        let first = self.soon.keys().next().into_iter().chain(self.leaving.keys().next()).min();
        first.map_or(Duration::ZERO, |id| now.wall.since(id.due))
    }

    pub(super) fn is_leaving(&self, id: KeptId) -> bool {
        self.leaving.contains_key(&id)
    }

    pub(super) fn leaves(&mut self, id: KeptId, block: Ticket, how: Leaving) {
        self.soon.remove(&id);
        self.leaving.insert(id, (block, how));
        self.proposed.push_back((block, id));
    }

    /// Reads some more of what is due next.
    fn read(&mut self, state: &State) {
        if self.wants_more() {
            let (rows, next) = state.waiting(self.known, READ);
            self.soon.extend(rows.into_iter().filter(|(id, _)| !self.leaving.contains_key(id)));
            self.known = next;
            self.forget();
        }
    }

    fn wants_more(&self) -> bool {
        self.soon.len() < SOON_MIN && self.known < KeptId::MAX
    }

    /// What may enter its queue now, soonest first.
    fn ready(&self, wall: Timestamp) -> Vec<(KeptId, KeptRow)> {
        let room = LEAVING_MAX.saturating_sub(self.leaving.len()).min(TURN_MAX);
        let due = self.soon.iter().take_while(|(id, _)| id.due <= wall);
        due.take(room).map(|(id, row)| (*id, *row)).collect()
    }

    pub(super) fn arm(&mut self, now: Now) {
        let next = self.soon.first_key_value().map(|(id, _)| id.due.since(now.wall).min(LOOK_EVERY));
        let next = if self.wants_more() { Some(Duration::ZERO) } else { next };
        // With no room, what is committed next makes some.
        let next = next.filter(|wait| !wait.is_zero() || self.leaving.len() < LEAVING_MAX);
        self.at = next.map(|wait| now.monotonic + wait);
    }
}

impl Leader {
    /// Lets messages into their queues whose time has come.
    pub(super) fn fire(&mut self, now: Now) {
        if self.timer.due().is_none_or(|at| at > now.monotonic) {
            return;
        }
        self.timer.read(&self.state);
        let ready = self.timer.ready(now.wall);
        if let Some((last, _)) = ready.last() {
            self.blocks.not_before(last.due);
            let mut queues: BTreeMap<(TopicId, QueueId), Vec<Fired>> = BTreeMap::new();
            for (id, row) in &ready {
                let KeptRow { topic, queue, lsn, len, tag_hash, group_hash } = *row;
                let fired = Fired { id: *id, lsn, len, tag_hash, group_hash };
                queues.entry((topic, queue)).or_default().push(fired);
            }
            for ((topic, queue), messages) in queues {
                messages.chunks(RECORD_MAX).for_each(|part| self.fire_into(topic, queue, part, now));
            }
        }
        self.timer.arm(now);
    }

    fn fire_into(&mut self, topic: TopicId, queue: QueueId, messages: &[Fired], now: Now) {
        let first = self.next_offset(topic, queue);
        self.propose(Record::Fire(Fire { topic, queue, first, messages: messages.to_vec() }), now);
        let block = self.blocks.ticket();
        messages.iter().for_each(|fired| self.timer.leaves(fired.id, block, Leaving::Fired));
    }

    /// How late is the message that should have been in its queue first.
    pub(crate) fn late(&self, now: Now) -> Duration {
        self.timer.late(now)
    }

    /// Takes a message back. Decided against what was decided before, committed or not.
    pub(super) fn recall(&mut self, recall: Recall, reply: Sender<Recalled>, now: Now) -> Option<Answer> {
        let Recall { topic, id } = recall;
        let recalled = match self.timer.leaving.get(&id).map(|(_, how)| *how) {
            Some(Leaving::Recalled) => Recalled::Done,
            Some(Leaving::Fired) => Recalled::TooLate,
            // Soon it is known where it is.
            Some(Leaving::Carried) => return self.later(recall, reply),
            None if (self.state.next_kept()..self.timer.next).contains(&id.number) => return self.later(recall, reply),
            None => match self.timer.soon.get(&id).copied().or_else(|| self.state.waits(id)) {
                Some(row) if row.topic == topic => {
                    let KeptRow { queue, lsn, len, .. } = row;
                    self.propose(Record::Recall(record::Recall { topic, queue, id, lsn, len }), now);
                    self.timer.leaves(id, self.blocks.ticket(), Leaving::Recalled);
                    Recalled::Done
                }
                None if id.due > now.wall.max(self.blocks.log_time()) => Recalled::Done,
                Some(_) | None => Recalled::TooLate,
            },
        };
        self.timer.arm(now);
        self.blocks.answer(Answer::Recalled(reply, recalled))
    }

    /// Decides when the blocks on their way are committed.
    fn later(&mut self, recall: Recall, reply: Sender<Recalled>) -> Option<Answer> {
        // Who is not heard asks again.
        if !reply.is_closed() && self.timer.recalls.len() < LEAVING_MAX {
            self.timer.recalls.push((recall, reply));
        }
        None
    }

    /// Decides recalls that had to wait for a block.
    pub(super) fn recall_waiting(&mut self, now: Now) {
        for (recall, reply) in std::mem::take(&mut self.timer.recalls) {
            if let Some(answer) = self.recall(recall, reply, now) {
                answer.give();
            }
        }
    }
}

#[cfg(test)]
mod tests;

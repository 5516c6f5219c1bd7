//! What waits for a topic that is no more: messages that wait for their time, and half messages. They are looked for some
//! rows at a time, because there may be many; whoever asked hears when all of them are gone.

use apogee_model::TopicId;
use apogee_model::store::{HalfId, KeptId};
use tokio::sync::oneshot::Sender;

use super::timer::Leaving;
use super::{Answer, Leader, Now};
use crate::record::{Ended, HalfEnd, Recall, Record};
use crate::views::kept::KeptRow;

/// Rows that one turn reads.
const READ: usize = 512;
/// Messages that are on their way out; more wait for these.
const LEAVING_MAX: usize = 4096;
/// Topics that are dropped side by side; more wait for nothing, and what is left of them never shows.
const DROPPING_MAX: usize = 1024;

/// A topic that is being dropped.
#[derive(Debug)]
pub(super) struct Dropping {
    topic: TopicId,
    kept: KeptId,
    half: HalfId,
    reply: Sender<()>,
}

impl Leader {
    /// Drops what waits for a topic, a little at a time, and answers then.
    pub(super) fn drop_waiting(&mut self, topic: TopicId, reply: Sender<()>, now: Now) -> Option<Answer> {
        let waits = self.state.waiting_queues(topic).next().is_some() || self.state.open_halves().contains_key(&topic);
        if !waits || self.dropping.len() >= DROPPING_MAX {
            return self.blocks.answer(Answer::Done(reply));
        }
        self.dropping.push_back(Dropping { topic, kept: KeptId::MIN, half: HalfId(0), reply });
        self.transactions.look(now);
        None
    }

    pub(super) fn may_drop(&self) -> bool {
        !self.dropping.is_empty() && self.timer.leaving() + self.transactions.deciding() < LEAVING_MAX
    }

    /// One turn of the first of them.
    pub(super) fn drop_some(&mut self, now: Now) {
        let Some(mut first) = self.dropping.pop_front() else { return };
        if first.kept < KeptId::MAX {
            first.kept = self.drop_kept(first.topic, first.kept, now);
        } else if first.half < HalfId(u64::MAX) {
            first.half = self.drop_halves(first.topic, first.half, now);
        } else {
            if let Some(answer) = self.blocks.answer(Answer::Done(first.reply)) {
                answer.give();
            }
            return;
        }
        self.dropping.push_back(first);
    }

    fn drop_kept(&mut self, topic: TopicId, from: KeptId, now: Now) -> KeptId {
        let (rows, next) = self.state.waiting(from, READ);
        for (id, row) in rows.into_iter().filter(|(_, row)| row.topic == topic) {
            if !self.timer.is_leaving(id) {
                let KeptRow { queue, lsn, len, .. } = row;
                self.propose(Record::Recall(Recall { topic, queue, id, lsn, len }), now);
                self.timer.leaves(id, self.blocks.ticket(), Leaving::Recalled);
            }
        }
        next
    }

    fn drop_halves(&mut self, topic: TopicId, from: HalfId, now: Now) -> HalfId {
        let (rows, next) = self.state.halves(from, READ);
        for (id, row) in rows.into_iter().filter(|(_, row)| row.kept.topic == topic) {
            if !self.transactions.is_deciding(id) {
                self.propose(Record::HalfEnd(HalfEnd { id, kept: row.kept, how: Ended::Dropped }), now);
                self.transactions.drops(id, self.blocks.ticket());
            }
        }
        next
    }
}

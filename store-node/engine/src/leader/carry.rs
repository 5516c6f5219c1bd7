//! Deciding which messages that wait for their time are written again at the end of the log.
//!
//! One such message would keep the whole log behind it, for weeks. So those that are further back than the segment with
//! the oldest message of any queue, or than retention by size wants, are carried forward, as long as that is worth it:
//! at least half of what is behind the oldest of them is something else. Else they just stay, and the log with them.

use apogee_model::StoredMessage;
use apogee_model::store::{HalfId, KeptId};
use tokio::sync::oneshot::Sender;

use super::timer::Leaving;
use super::{Answer, Leader, Now};
use crate::block::Lsn;
use crate::record::{Carried, Record};
use crate::views::half::HalfRow;
use crate::views::kept::KeptRow;

/// Rows one look reads, and messages and bytes it gives.
const READ: usize = 512;
const MESSAGES_MAX: usize = 64;
const BYTES_MAX: u64 = 1 << 20;

/// Messages that are to be carried forward.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Aged {
    pub(crate) messages: Vec<(KeptId, KeptRow)>,
    pub(crate) halves: Vec<(HalfId, HalfRow)>,
    /// There may be more.
    pub(crate) more: bool,
}

impl Leader {
    /// Some messages that hold segments which nothing else needs.
    pub(super) fn aged(&mut self, now: Now) -> Aged {
        let Some(floor) = self.worth_carrying(now) else {
            (self.carry_from, self.carry_halves_from) = (KeptId::MIN, HalfId(0));
            return Aged::default();
        };
        let (rows, next) = self.state.waiting(self.carry_from, READ);
        let mut aged = Aged { more: next < KeptId::MAX, ..Aged::default() };
        self.carry_from = if aged.more { next } else { KeptId::MIN };
        let mut bytes = 0;
        for (id, row) in rows.into_iter().filter(|(_, row)| row.lsn < floor) {
            if aged.messages.len() >= MESSAGES_MAX || bytes >= BYTES_MAX {
                (self.carry_from, aged.more) = (id, true);
                break;
            }
            bytes += u64::from(row.len);
            aged.messages.push((id, row));
        }
        if !aged.more {
            self.aged_halves(floor, bytes, &mut aged);
        }
        aged
    }

    /// The same of half messages.
    fn aged_halves(&mut self, floor: Lsn, mut bytes: u64, aged: &mut Aged) {
        let (rows, next) = self.state.halves(self.carry_halves_from, READ);
        aged.more = next < HalfId(u64::MAX);
        self.carry_halves_from = if aged.more { next } else { HalfId(0) };
        for (id, row) in rows.into_iter().filter(|(_, row)| row.kept.lsn < floor) {
            if aged.messages.len() + aged.halves.len() >= MESSAGES_MAX || bytes >= BYTES_MAX {
                (self.carry_halves_from, aged.more) = (id, true);
                break;
            }
            bytes += u64::from(row.kept.len);
            aged.halves.push((id, row));
        }
    }

    /// Where the log could begin but for messages that wait.
    fn worth_carrying(&self, now: Now) -> Option<Lsn> {
        let (end, oldest) = (self.state.end, self.state.oldest_waiting()?);
        let needed = self.state.by_age(None).next().map_or(end, |(lsn, _)| lsn);
        let floor = self.retention.floor(needed, end, now);
        let worth_it = self.state.waiting_bytes() <= (end.0 - oldest.0) / 2;
        (oldest < floor && worth_it).then_some(floor)
    }

    /// Writes a message again, unless something else was decided about it meanwhile.
    pub(super) fn carry(
        &mut self,
        id: KeptId,
        row: KeptRow,
        message: StoredMessage,
        reply: Sender<()>,
        now: Now,
    ) -> Option<Answer> {
        if !self.timer.is_leaving(id) && self.state.waits(id) == Some(row) {
            let KeptRow { topic, queue, lsn: from, len: from_len, .. } = row;
            let bytes = usize::try_from(from_len).expect("records are smaller than a block") + 32;
            self.blocks.reserve(bytes, 1, now.wall);
            self.propose(Record::Carried(Carried { topic, queue, id, from, from_len, message }), now);
            self.timer.leaves(id, self.blocks.ticket(), Leaving::Carried);
            self.timer.arm(now);
        }
        self.blocks.answer(Answer::Done(reply))
    }
}

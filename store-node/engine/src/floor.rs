//! How much of the log may go: what no message is in any more, and what no kept base needs to go on from.
//!
//! Every replica decides for itself. It keeps the log from the older of its two bases on, so that the views can be made
//! anew even when the newer one turns out to be damaged. Messages that consumers hold are messages of their queues, so
//! nothing more has to be asked for their sake. Messages that wait for their time, and those that came late to their
//! queue, are further back than any queue says; the state knows how far.

use std::time::Duration;

use apogee_host::Monotonic;
use apogee_model::BlockIndex;

use crate::block::Lsn;
use crate::commitlog::Log;
use crate::state::State;
use crate::views::Base;

/// The bases of a replica, as far as the log depends on them.
#[derive(Debug)]
pub(crate) struct Floor {
    /// The kept bases, oldest first.
    bases: Vec<BlockIndex>,
    /// What was asked last, and when, to answer the same question at no cost.
    asked: Option<((Option<Lsn>, BlockIndex), Monotonic)>,
}

/// Bases that must be there before any of the log may go.
const BASES: usize = 2;
/// Consensus may keep blocks that it is about to send; it is asked again after this time.
const AGAIN: Duration = Duration::from_secs(10);

impl Floor {
    pub(crate) fn new(bases: &[Base]) -> Self {
        let mut floor = Self { bases: Vec::new(), asked: None };
        bases.iter().for_each(|base| floor.based(base));
        floor
    }

    /// There is a new base, and only the one before it is still there.
    pub(crate) fn based(&mut self, base: &Base) {
        self.bases.retain(|earlier| *earlier < base.index());
        self.bases.push(base.index());
        let old = self.bases.len().saturating_sub(BASES);
        self.bases.drain(..old);
    }

    /// Tells the log what is not needed here. Returns the newest such block when consensus has to be asked whether others
    /// need it.
    pub(crate) fn let_go(&mut self, log: &Log, state: &State, now: Monotonic) -> Option<BlockIndex> {
        let question = (state.needed(), self.base()?);
        if self.asked.is_some_and(|(asked, at)| asked == question && now.saturating_sub(at) < AGAIN) {
            return None;
        }
        self.asked = Some((question, now));
        let (_, first) = log.start_for(needed(state), question.1)?;
        let gone = BlockIndex(first.0.saturating_sub(1));
        log.may_go(gone);
        (gone >= log.floor()).then_some(gone)
    }

    /// Whether there are segments that only the bases still need.
    pub(crate) fn waits_for_a_base(&self, log: &Log, state: &State) -> bool {
        let Some((start, _)) = log.start_for(needed(state), state.applied) else { return false };
        match self.base() {
            Some(base) => log.start_for(start, base).is_some_and(|(held, _)| held < start),
            None => log.begin() < start,
        }
    }

    /// The one the log must reach back to.
    fn base(&self) -> Option<BlockIndex> {
        self.bases.first().copied().filter(|_| self.bases.len() == BASES)
    }
}

/// Where the oldest message is that somebody may want to read.
fn needed(state: &State) -> Lsn {
    state.needed().unwrap_or(state.end)
}

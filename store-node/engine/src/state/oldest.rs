//! Where the oldest message of every queue is, in the order of the log: what retention looks at first, and what says
//! how much of the log no message needs any more.

use std::collections::BTreeSet;

use apogee_model::{QueueId, TopicId};

use super::QueueState;
use crate::block::Lsn;

type Key = (TopicId, QueueId);

/// One entry for each queue that holds a message.
#[derive(Debug, Default)]
pub(super) struct Oldest(BTreeSet<(Lsn, Key)>);

impl Oldest {
    /// The queue is in another state than `before`.
    pub(super) fn moved(&mut self, queue: Key, before: QueueState, now: QueueState) {
        let place = |state: QueueState| (state.min < state.next).then_some((state.min_lsn, queue));
        if place(before) != place(now) {
            if let Some(gone) = place(before) {
                self.0.remove(&gone);
            }
            self.0.extend(place(now));
        }
    }

    pub(super) fn first(&self) -> Option<Lsn> {
        self.0.first().map(|(lsn, _)| *lsn)
    }

    /// The queues behind `after`, or all of them.
    pub(super) fn behind(&self, after: Option<(Lsn, Key)>) -> impl Iterator<Item = (Lsn, Key)> + '_ {
        use std::ops::Bound::{Excluded, Unbounded};
        self.0.range((after.map_or(Unbounded, Excluded), Unbounded)).copied()
    }
}

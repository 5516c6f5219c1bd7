//! Messages of a queue whose records are further back in the log than their place in the queue says.
//!
//! They are known by runs, not one by one: a run is as old as its oldest message until its last message is gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use apogee_model::{QueueId, QueueOffset, Timestamp, TopicId};

use crate::block::Lsn;
use crate::views::kept::Late;

/// Offsets of one run, and how long it grows, in log time.
const RUN_MAX: u64 = 1024;
const RUN_FOR: Duration = Duration::from_secs(3600);

type Key = (TopicId, QueueId);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LateMessages {
    queues: BTreeMap<Key, VecDeque<(QueueOffset, Late)>>,
    by_age: BTreeSet<(Lsn, Key, QueueOffset)>,
}

impl LateMessages {
    /// A message at the end of its queue; says where its run begins.
    pub(super) fn push(&mut self, queue: Key, offset: QueueOffset, lsn: Lsn, at: Timestamp) -> QueueOffset {
        let runs = self.queues.entry(queue).or_default();
        if let Some((first, run)) = runs.back_mut() {
            let room = offset.0 - first.0 < RUN_MAX && at.since(run.since) < RUN_FOR;
            // One that is older than the whole run, and goes later, costs nothing.
            if room || lsn <= run.oldest {
                run.end = offset.next();
                if lsn < run.oldest {
                    self.by_age.remove(&(run.oldest, queue, *first));
                    self.by_age.insert((lsn, queue, *first));
                    run.oldest = lsn;
                }
                return *first;
            }
        }
        runs.push_back((offset, Late { end: offset.next(), oldest: lsn, since: at }));
        self.by_age.insert((lsn, queue, offset));
        offset
    }

    /// Messages below `min` are gone; says which runs are.
    pub(super) fn trim(&mut self, queue: Key, min: QueueOffset) -> Vec<QueueOffset> {
        let Some(runs) = self.queues.get_mut(&queue) else { return Vec::new() };
        let mut gone = Vec::new();
        while let Some((first, run)) = runs.pop_front_if(|(_, run)| run.end <= min) {
            self.by_age.remove(&(run.oldest, queue, first));
            gone.push(first);
        }
        if runs.is_empty() {
            self.queues.remove(&queue);
        }
        gone
    }

    pub(super) fn oldest(&self) -> Option<Lsn> {
        self.by_age.first().map(|(lsn, _, _)| *lsn)
    }

    pub(super) fn get(&self, queue: Key, first: QueueOffset) -> Option<Late> {
        let runs = self.queues.get(&queue)?;
        let at = runs.binary_search_by_key(&first, |(first, _)| *first).ok()?;
        Some(runs[at].1)
    }

    /// Takes back a run. Those of a queue come in order.
    pub(super) fn load(&mut self, queue: Key, first: QueueOffset, late: Late) -> Option<()> {
        let runs = self.queues.entry(queue).or_default();
        if late.end <= first || runs.back().is_some_and(|(_, before)| before.end > first) {
            return None;
        }
        runs.push_back((first, late));
        self.by_age.insert((late.oldest, queue, first));
        Some(())
    }

    pub(super) fn dump(&self, lines: &mut Vec<String>) {
        for ((topic, queue), runs) in &self.queues {
            lines.extend(runs.iter().map(|(first, run)| format!("late {topic}/{queue} from {first} {run:?}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: Key = (TopicId(1), QueueId(0));

    #[test]
    fn the_oldest_message_of_any_run_is_known() {
        let mut late = LateMessages::default();
        assert_eq!(late.push(QUEUE, QueueOffset(5), Lsn(100), Timestamp(0)), QueueOffset(5));
        assert_eq!(late.push(QUEUE, QueueOffset(7), Lsn(50), Timestamp(1)), QueueOffset(5));
        assert_eq!(late.oldest(), Some(Lsn(50)));
        let hour = Timestamp(3_600_000);
        assert_eq!(late.push(QUEUE, QueueOffset(9), Lsn(80), hour), QueueOffset(9), "a run ends after an hour");
        assert_eq!(late.push(QUEUE, QueueOffset(9 + RUN_MAX), Lsn(90), hour), QueueOffset(9 + RUN_MAX));
        assert_eq!(late.trim(QUEUE, QueueOffset(7)), [], "one of the first run is still there");
        assert_eq!(late.trim(QUEUE, QueueOffset(8)), [QueueOffset(5)]);
        assert_eq!(late.oldest(), Some(Lsn(80)));
        assert_eq!(late.trim(QUEUE, QueueOffset(9999)).len(), 2);
        assert_eq!((late.oldest(), late.queues.len()), (None, 0));
    }
}

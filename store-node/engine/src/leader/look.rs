//! Filters by expression: which messages the leader has to be told of, and what it was told.
//!
//! Whether an expression is true of a message is written in the message, and the leader does no IO. So a pop that meets
//! messages nobody looked at gets their places instead of leases; its caller reads them, tells the verdicts, and asks
//! again. Verdicts never change, because messages do not. They are kept until the group is past them, so that a group's
//! consumers do not all look at the same messages.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use apogee_model::store::Pop;
use apogee_model::{Filter, GroupId, QueueId, QueueOffset, Sql, TopicId};

use super::Leader;
use super::pop::Picking;
use super::ready::Queues;
use crate::record::QueueOf;
use crate::views::Place;

/// Messages that are looked at before a pop is asked again, and bytes of them; one message may have more.
const MESSAGES_MAX: usize = 256;
const BYTES_MAX: usize = 1 << 20;
/// Expressions of one group on one topic whose verdicts are kept.
const EXPRESSIONS_MAX: usize = 4;
/// Verdicts of one expression in one queue that are kept.
const VERDICTS_MAX: usize = 4 * MESSAGES_MAX;

/// A message to look at.
pub(crate) type Look = (QueueId, QueueOffset, Place);

/// What came of looking: whether an expression wants messages, in the order of their places.
#[derive(Clone, Debug)]
pub(crate) struct Verdicts {
    pub(crate) group: GroupId,
    pub(crate) topic: TopicId,
    pub(crate) sql: Arc<Sql>,
    pub(crate) wanted: Vec<(QueueId, QueueOffset, bool)>,
}

/// Messages of one pop that somebody has to look at.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    looks: Vec<Look>,
    bytes: usize,
}

impl Unseen {
    /// Takes one more, unless there are enough for one look.
    pub(super) fn push(&mut self, look: Look) -> ControlFlow<()> {
        let len = usize::try_from(look.2.len).unwrap_or(usize::MAX);
        let bytes = self.bytes.saturating_add(len);
        if self.looks.len() >= MESSAGES_MAX || (bytes > BYTES_MAX && !self.looks.is_empty()) {
            return ControlFlow::Break(());
        }
        self.bytes = bytes;
        self.looks.push(look);
        ControlFlow::Continue(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.looks.is_empty()
    }

    pub(super) fn into_looks(self) -> Vec<Look> {
        self.looks
    }
}

/// Verdicts on messages that were never delivered.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Oldest expression first.
    groups: BTreeMap<(GroupId, TopicId), Vec<Expression>>,
}

/// One expression, and the verdicts by it.
type Expression = (Arc<Sql>, BTreeMap<QueueId, Run>);

/// Verdicts without a gap.
#[derive(Debug, Default)]
struct Run {
    first: u64,
    wanted: VecDeque<bool>,
}

impl Run {
    fn verdict(&self, offset: QueueOffset) -> Option<bool> {
        let nth = usize::try_from(offset.0.checked_sub(self.first)?).ok()?;
        self.wanted.get(nth).copied()
    }

    fn end(&self) -> u64 {
        self.first + u64::try_from(self.wanted.len()).expect("some hundred")
    }

    /// One that is not next begins anew: somebody else has told what is in the run already.
    fn learn(&mut self, offset: QueueOffset, wanted: bool) {
        if (self.first..self.end()).contains(&offset.0) {
            return;
        }
        if offset.0 != self.end() || self.wanted.len() >= VERDICTS_MAX {
            (self.first, self.wanted) = (offset.0, VecDeque::new());
        }
        self.wanted.push_back(wanted);
    }

    fn forget_before(&mut self, offset: QueueOffset) {
        while self.first < offset.0 && self.wanted.pop_front().is_some() {
            self.first += 1;
        }
    }
}

impl Looked {
    fn verdict(&self, of: QueueOf, sql: &Sql, offset: QueueOffset) -> Option<bool> {
        let expressions = self.groups.get(&(of.group, of.topic))?;
        let (_, queues) = expressions.iter().find(|(known, _)| **known == *sql)?;
        queues.get(&of.queue)?.verdict(offset)
    }

    fn run(&mut self, of: QueueOf, sql: &Arc<Sql>) -> &mut Run {
        let expressions = self.groups.entry((of.group, of.topic)).or_default();
        let at = expressions.iter().position(|(known, _)| known == sql).unwrap_or_else(|| {
            if expressions.len() >= EXPRESSIONS_MAX {
                expressions.remove(0);
            }
            expressions.push((Arc::clone(sql), BTreeMap::new()));
            expressions.len() - 1
        });
        expressions[at].1.entry(of.queue).or_default()
    }

    /// Of groups and topics that are gone.
    pub(super) fn forget(&mut self, gone: impl Fn((GroupId, TopicId)) -> bool) {
        self.groups.retain(|key, _| !gone(*key));
    }
}

impl Leader {
    /// Whether a message that was never delivered may be wanted; `None` when somebody has to look at it.
    pub(super) fn verdict(&self, pop: &Pop, queue: QueueId, offset: QueueOffset, place: &Place) -> Option<bool> {
        match &pop.filter {
            Filter::Tags(tags) => Some(tags.may_want(place.tag_hash)),
            Filter::Sql(sql) => {
                let of = QueueOf { group: pop.group.id, topic: pop.topic.id, queue };
                self.looked.verdict(of, sql, offset)
            }
        }
    }

    /// Remembers what somebody saw.
    pub(super) fn learn(&mut self, verdicts: &Verdicts) {
        let Verdicts { group, topic, sql, wanted } = verdicts;
        if self.dropped.contains(group) {
            return;
        }
        for (queue, offset, wanted) in wanted {
            let (of, place) = (QueueOf { group: *group, topic: *topic, queue: *queue }, (*queue, *offset));
            let ready = self.ready.get_mut(&(*group, *topic)).filter(|ready| ready.contains(place));
            if let Some(ready) = ready {
                ready.learn(sql, place, *wanted);
                continue;
            }
            let cursor = self.cursor(of);
            if *offset >= cursor {
                let run = self.looked.run(of, sql);
                run.forget_before(cursor);
                run.learn(*offset, *wanted);
            }
        }
    }

    /// Messages whose lease ended, as [`Leader::pick_ready`] does it for tags. What an expression refuses stays for
    /// consumers with another filter.
    pub(super) fn pick_ready_by(&mut self, sql: &Arc<Sql>, picking: &mut Picking<'_>, queues: Queues) {
        let (group, topic) = (picking.pop.group.id, picking.pop.topic.id);
        let count = picking.pop.batch.saturating_add(MESSAGES_MAX);
        let open = self.ready.get_mut(&(group, topic)).map(|ready| ready.open(sql, queues, count)).unwrap_or_default();
        for ((queue, offset), wanted) in open {
            if picking.full() || picking.burials.full() {
                return;
            }
            let of = picking.of(queue);
            let place = self.state.place(topic, queue, offset).filter(|_| offset >= self.min(topic, queue));
            match self.entry(of, offset).zip(place) {
                None => self.forget_ready((of, offset)),
                Some((entry, place)) if wanted => {
                    self.forget_ready((of, offset));
                    let now = picking.now;
                    if !self.condemn(picking.pop, (of, offset), (entry, place), &mut picking.burials, now) {
                        picking.picked.push((queue, offset, place));
                    }
                }
                // One that has no room waits for the next look.
                Some((_, place)) => {
                    let _enough = picking.unseen.push((queue, offset, place));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use apogee_model::Timestamp;

    use super::*;
    use crate::block::Lsn;

    #[test]
    fn a_run_has_no_gap() {
        let mut run = Run::default();
        for (offset, wanted) in [(5, true), (6, false), (5, false), (7, true)] {
            run.learn(QueueOffset(offset), wanted);
        }
        let verdicts = |run: &Run| (4..9).map(|offset| run.verdict(QueueOffset(offset))).collect::<Vec<_>>();
        assert_eq!(verdicts(&run), [None, Some(true), Some(false), Some(true), None]);
        run.forget_before(QueueOffset(6));
        assert_eq!(verdicts(&run), [None, None, Some(false), Some(true), None]);
        run.learn(QueueOffset(4), true);
        assert_eq!(verdicts(&run), [Some(true), None, None, None, None], "the group began again before it");
        run.forget_before(QueueOffset(9));
        run.learn(QueueOffset(8), false);
        assert_eq!(verdicts(&run), [None, None, None, None, Some(false)]);
    }

    #[test]
    fn one_look_is_bounded() {
        let (lsn, stored_at) = (Lsn(0), Timestamp(0));
        let place = |len| Place { lsn, len, tag_hash: 0, group_hash: 0, stored_at, flags: 0, visible: lsn };
        let count = |len| {
            let mut unseen = Unseen::default();
            while unseen.push((QueueId(0), QueueOffset(0), place(len))).is_continue() {}
            unseen.into_looks().len()
        };
        assert_eq!(count(100), MESSAGES_MAX);
        assert_eq!(count(300 << 10), 3);
        assert_eq!(count(4 << 20), 1);
    }
}

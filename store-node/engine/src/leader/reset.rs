//! Deciding where a group goes on.
//!
//! Source: apache/rocketmq `broker/.../processor/AdminBrokerProcessor.java` (resetOffset with server-side reset: it works
//! while the group is away, moves in both directions, and ends what consumers hold).

use apogee_model::store::{QueueReset, Reset, ResetTo};
use apogee_model::{QueueId, QueueOffset, Timestamp, TopicId};
use tokio::sync::oneshot::Sender;

use super::{Answer, Leader, Now};
use crate::record::{QueueOf, Record};
use crate::state::QueueState;

impl Leader {
    /// Answers with one row for each queue that holds or held messages here and that the reset is about.
    pub(super) fn reset(&mut self, ask: &Reset, reply: Sender<Vec<QueueReset>>, now: Now) -> Option<Answer> {
        if reply.is_closed() {
            return None;
        }
        let (group, topic) = (ask.group.id, ask.topic.id);
        if self.dropped.contains(&group) {
            return Some(Answer::Reset(reply, Vec::new()));
        }
        let plan = self.plan(ask);
        if ask.dry_run {
            return Some(Answer::Reset(reply, plan));
        }
        // Queues that are not named begin where the first receive would let them, of a group that may receive.
        if !self.only_pulls(group, topic) {
            self.open(&ask.group, &ask.topic, now);
        }
        let starts: Vec<_> = plan.iter().map(|row| (row.queue, row.after)).collect();
        if !starts.is_empty() {
            tracing::info!(event = "offsets_reset", %group, %topic, queues = starts.len(), "a group goes on elsewhere");
            self.propose(Record::Reset { group, topic, starts }, now);
        }
        self.blocks.answer(Answer::Reset(reply, plan))
    }

    fn plan(&self, ask: &Reset) -> Vec<QueueReset> {
        let (group, topic) = (ask.group.id, ask.topic.id);
        let pop = self.state.pops.get(&(group, topic));
        let (is_open, only_pulls) = (self.is_open(group, topic), self.only_pulls(group, topic));
        let row = |(queue, state): (QueueId, QueueState)| {
            let (min, of) = (self.min(topic, queue), QueueOf { group, topic, queue });
            let before = match pop.and_then(|pop| pop.queues.get(&queue)) {
                Some(pop) => pop.floor(),
                None if is_open => self.cursor(of),
                None if only_pulls => self.state.pull_offset(of)?,
                None => self.start(topic, queue),
            };
            let after = self.target(&ask.to, topic, queue, state)?;
            let in_flight = u64::try_from(self.state.unsettled(of)).unwrap_or(u64::MAX);
            Some(QueueReset { queue, before: before.max(min), after, in_flight })
        };
        self.state.queues_of(topic).filter_map(row).collect()
    }

    /// Where the group goes on in one queue; `None` for a queue that stays as it is.
    fn target(&self, to: &ResetTo, topic: TopicId, queue: QueueId, state: QueueState) -> Option<QueueOffset> {
        let (min, end) = (self.min(topic, queue), self.next_offset(topic, queue));
        let target = match to {
            ResetTo::Earliest => min,
            ResetTo::Latest => end,
            ResetTo::Time(at) => self.first_stored(topic, queue, min..state.next, *at),
            ResetTo::Offsets(offsets) => *offsets.get(&queue)?,
        };
        Some(target.clamp(min, end.max(min)))
    }

    /// The first message among those in `held` that was stored at this time or later, or their end. Looks at some 20 rows
    /// of a queue with a million messages.
    pub(super) fn first_stored(
        &self,
        topic: TopicId,
        queue: QueueId,
        held: std::ops::Range<QueueOffset>,
        at: Timestamp,
    ) -> QueueOffset {
        let (mut from, mut to) = (held.start.0, held.end.0);
        while from < to {
            let middle = from + (to - from) / 2;
            match self.state.glance(topic, queue, QueueOffset(middle)) {
                Some(place) if place.stored_at < at => from = middle + 1,
                // Views that cannot be read end this replica before anybody is answered.
                Some(_) | None => to = middle,
            }
        }
        QueueOffset(to.max(held.start.0))
    }
}

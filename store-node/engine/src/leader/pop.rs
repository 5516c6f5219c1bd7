//! Deciding a pop: the same batch again for a known attempt, else messages that nobody in the group holds.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use apogee_model::store::{DeliveryKey, GroupRef, LeaseTerms, Pop, TopicRef};
use apogee_model::{
    DeliveryAttempt, DeliverySeq, Epoch, Filter, GroupId, InvisibleDuration, PriorityTurn, QueueId, QueueOffset,
    TopicId,
};
use tokio::sync::oneshot::Sender;

use super::bury::Burials;
use super::look::Unseen;
use super::ready::{ALL_QUEUES, Queues};
use super::{Answer, Ask, Grant, Granted, Leader, Now, levels};
use crate::pop::Entry;
use crate::record::{ChangedBy, Deliveries, Lease, QueueOf, Record};
use crate::views::Place;

/// Index rows one pop looks at before others get their turn.
pub(super) const SCAN_BUDGET: usize = 8192;
/// Every so many pops of a group on a topic, messages to redeliver come before new ones; otherwise after them.
pub(super) const RETRY_FIRST_EVERY: u64 = 5;

/// One pop under way.
pub(super) struct Picking<'a> {
    pub(super) pop: &'a Pop,
    pub(super) picked: Vec<(QueueId, QueueOffset, Place)>,
    /// New cursor positions.
    cursors: BTreeMap<QueueId, QueueOffset>,
    pub(super) budget: usize,
    pub(super) burials: Burials,
    pub(super) now: Now,
    /// Messages of which nobody has told whether the filter wants them.
    pub(super) unseen: Unseen,
}

impl Picking<'_> {
    pub(super) fn full(&self) -> bool {
        self.picked.len() >= self.pop.batch
    }

    pub(super) fn of(&self, queue: QueueId) -> QueueOf {
        QueueOf { group: self.pop.group.id, topic: self.pop.topic.id, queue }
    }
}

impl Leader {
    pub(super) fn pop(&mut self, pop: Pop, reply: Sender<Granted>, now: Now) -> Option<Answer> {
        if reply.is_closed() {
            return None;
        }
        if self.dropped.contains(&pop.group.id) {
            return Some(Answer::Popped(reply, Granted::default()));
        }
        self.clock.heard(crate::client_hash(&pop.client), now.monotonic);
        if pop.lite {
            return self.pop_lite(&pop, reply, now);
        }
        self.keep_order(&pop);
        if let Some(granted) = self.replay(&pop, now) {
            return self.blocks.answer(Answer::Popped(reply, granted));
        }
        self.open(&pop.group, &pop.topic, now);
        let (granted, exhausted) = self.grant(&pop, now);
        if !granted.grants.is_empty() {
            return self.blocks.answer(Answer::Popped(reply, granted));
        }
        if !granted.look.is_empty() && granted.burials.is_empty() {
            return Some(Answer::Popped(reply, granted)); // whoever asked looks, and asks again
        }
        if exhausted && granted.burials.is_empty() {
            // Go on from here when others had their turn; an empty answer would make the caller start over.
            self.deferred.push_back(Ask::Pop { pop, reply });
            return None;
        }
        let answer = Answer::Popped(reply, granted);
        // That the group starts here is a promise, also when nothing was found.
        if self.overlay.is_open(pop.group.id, pop.topic.id) { self.blocks.answer(answer) } else { Some(answer) }
    }

    /// The unsettled rest of the batch that an earlier try of the same receive was granted, leased anew.
    pub(super) fn replay(&mut self, pop: &Pop, now: Now) -> Option<Granted> {
        let (group, topic) = (pop.group.id, pop.topic.id);
        let attempt_id = attempt_hash(pop)?;
        let mut candidates = self.overlay.attempt(group, topic, attempt_id);
        if let Some(applied) = self.state.pops.get(&(group, topic)) {
            candidates.extend(applied.attempt(attempt_id));
        }
        candidates.sort_unstable();
        candidates.dedup();
        let duration = duration(pop.lease);
        let mut grants = Vec::new();
        let mut batches: BTreeMap<(QueueOf, DeliverySeq), Vec<QueueOffset>> = BTreeMap::new();
        candidates.retain(|(queue, offset)| *offset >= self.min(topic, *queue));
        self.drop_overtaking((group, topic), &mut candidates, attempt_id);
        for (queue, offset) in candidates {
            let of = QueueOf { group, topic, queue };
            let entry = self.entry(of, offset).filter(|entry| entry.attempt_id == attempt_id);
            let (Some(entry), Some(place)) = (entry, self.state.place(topic, queue, offset)) else { continue };
            self.forget_ready((of, offset));
            batches.entry((of, entry.delivery)).or_default().push(offset);
            grants.push(self.grant_of(of, offset, (entry.epoch, entry.delivery), entry.attempt, duration, place));
        }
        if grants.is_empty() {
            return None;
        }
        levels::sort(pop, &mut grants);
        for ((queue, delivery), offsets) in batches {
            let deliveries = Deliveries { delivery, offsets: offsets.into() };
            let duration_ms = duration.as_millis();
            self.propose(Record::Change { queue, deliveries, duration_ms, by: ChangedBy::Replay }, now);
        }
        Some(Granted { grants, ..Granted::default() })
    }

    /// The first receive of a group on a topic fixes where the group starts: at the earliest message of a queue that
    /// still holds its first one, else at the latest.
    pub(super) fn open(&mut self, group: &GroupRef, topic: &TopicRef, now: Now) {
        let (group_id, topic_id) = (group.id, topic.id);
        if self.is_open(group_id, topic_id) {
            return;
        }
        self.name_topic(topic, now);
        self.name_group(group, now);
        let queues = self.state.queues_of(topic_id).map(|(queue, _)| (queue, self.start(topic_id, queue)));
        let starts: Vec<_> = queues.filter(|(_, start)| *start > QueueOffset(0)).collect();
        self.propose(Record::Open { group: group_id, topic: topic_id, starts }, now);
    }

    pub(super) fn is_open(&self, group: GroupId, topic: TopicId) -> bool {
        let applied = self.state.pops.get(&(group, topic)).is_some_and(|pop| pop.open);
        applied || self.overlay.is_open(group, topic)
    }

    /// Where a group starts in a queue that it opens now.
    pub(super) fn start(&self, topic: TopicId, queue: QueueId) -> QueueOffset {
        match self.min(topic, queue) {
            QueueOffset(0) => QueueOffset(0),
            _ => self.next_offset(topic, queue),
        }
    }

    /// Picks messages and leases them. Says whether the scan budget ran out before the batch was found.
    fn grant(&mut self, pop: &Pop, now: Now) -> (Granted, bool) {
        let turn = self.turns.entry((pop.group.id, pop.topic.id)).or_default();
        *turn += 1;
        let turn = *turn;
        if let Some((granted, exhausted)) = self.grant_in_order(pop, turn, now) {
            return (granted, exhausted);
        }
        let mut picking = Picking {
            pop,
            picked: Vec::new(),
            cursors: BTreeMap::new(),
            budget: SCAN_BUDGET,
            burials: Burials::default(),
            now,
            unseen: Unseen::default(),
        };
        match pop.priority.map_or(PriorityTurn::Rotating(turn), |factor| factor.turn(turn)) {
            PriorityTurn::Highest(turn) => self.pick_by_level(&mut picking, turn),
            PriorityTurn::Rotating(turn) if turn.is_multiple_of(RETRY_FIRST_EVERY) => {
                self.pick_ready(&mut picking, ALL_QUEUES);
                self.pick_new(&mut picking, turn);
            }
            PriorityTurn::Rotating(turn) => {
                self.pick_new(&mut picking, turn);
                self.pick_ready(&mut picking, ALL_QUEUES);
            }
        }
        let exhausted = picking.budget == 0;
        let (full, Picking { picked, cursors, burials, unseen, .. }) = (picking.full(), picking);
        let (burials, look) = (burials.into_vec(), unseen.into_looks());
        let mut grants = self.lease(pop, picked, &cursors, BTreeMap::new(), now);
        levels::sort(pop, &mut grants);
        let more = !burials.is_empty() || (full || exhausted || !look.is_empty()) && self.has_more(pop);
        (Granted { grants, more, burials, look, ..Granted::default() }, exhausted)
    }

    /// Messages of some queues whose lease ended.
    pub(super) fn pick_ready(&mut self, picking: &mut Picking<'_>, queues: Queues) {
        let (group, topic) = (picking.pop.group.id, picking.pop.topic.id);
        let tags = match &picking.pop.filter {
            Filter::Tags(tags) => tags,
            Filter::Sql(sql) => return self.pick_ready_by(sql, picking, queues),
        };
        while !picking.full() && !picking.burials.full() {
            let ready = self.ready.get(&(group, topic));
            let Some((queue, offset)) = ready.and_then(|ready| ready.first(tags, queues)) else { return };
            self.forget_ready((picking.of(queue), offset));
            if offset >= self.min(topic, queue)
                && let (Some(entry), Some(place)) =
                    (self.entry(picking.of(queue), offset), self.state.place(topic, queue, offset))
            {
                let (key, now) = ((picking.of(queue), offset), picking.now);
                if !self.condemn(picking.pop, key, (entry, place), &mut picking.burials, now) {
                    picking.picked.push((queue, offset, place));
                }
            }
        }
    }

    /// Messages that were never delivered, from all queues in turn.
    fn pick_new(&self, picking: &mut Picking<'_>, turn: u64) {
        let queues = u64::from(picking.pop.topic.queues.max(1));
        for step in 0..queues {
            if picking.full() || picking.budget == 0 {
                return;
            }
            let queue = QueueId(u16::try_from((turn + step) % queues).expect("smaller than a count of 16 bits"));
            self.pick_new_in(picking, queue);
        }
    }

    pub(super) fn pick_new_in(&self, picking: &mut Picking<'_>, queue: QueueId) {
        let (of, topic) = (picking.of(queue), picking.pop.topic.id);
        let state = self.state.queue(topic, queue);
        let from = self.cursor(of).max(self.min(topic, queue));
        let room = self.in_flight_room(of);
        if from >= state.next || room == 0 {
            return;
        }
        let until = picking.picked.len().saturating_add(room).min(picking.pop.batch);
        let (mut cursor, mut unseen) = (from, false);
        self.state.places(topic, queue, from, state.next, |offset, place| {
            if picking.picked.len() >= until || picking.budget == 0 {
                return ControlFlow::Break(());
            }
            picking.budget -= 1;
            let known = if unseen { None } else { self.verdict(picking.pop, queue, offset, &place) };
            let Some(wanted) = known else {
                unseen = true; // and so is what comes behind it
                return picking.unseen.push((queue, offset, place));
            };
            cursor = offset.next();
            if wanted {
                picking.picked.push((queue, offset, place));
            }
            ControlFlow::Continue(())
        });
        if cursor > from {
            picking.cursors.insert(queue, cursor);
        }
    }

    fn in_flight_room(&self, of: QueueOf) -> usize {
        self.in_flight_max.saturating_sub(self.state.unsettled(of))
    }

    /// One lease record for each queue that gives messages or whose cursor moves. `waiting` are messages that the cursor
    /// moves past and nobody gets yet.
    pub(super) fn lease(
        &mut self,
        pop: &Pop,
        picked: Vec<(QueueId, QueueOffset, Place)>,
        cursors: &BTreeMap<QueueId, QueueOffset>,
        mut waiting: BTreeMap<QueueId, Vec<QueueOffset>>,
        now: Now,
    ) -> Vec<Grant> {
        let duration = duration(pop.lease);
        let mut queues: BTreeMap<QueueId, Vec<(QueueOffset, Place)>> =
            cursors.keys().map(|queue| (*queue, Vec::new())).collect();
        for (queue, offset, place) in picked {
            queues.entry(queue).or_default().push((offset, place));
        }
        let mut grants = Vec::new();
        for (queue, messages) in queues {
            let of = QueueOf { group: pop.group.id, topic: pop.topic.id, queue };
            let delivery = self.next_delivery();
            for (offset, place) in &messages {
                let attempt = self.entry(of, *offset).map_or(1, |earlier: Entry| earlier.attempt + 1);
                grants.push(self.grant_of(of, *offset, (self.epoch, delivery), attempt, duration, *place));
            }
            let offsets = messages.iter().map(|(offset, _)| *offset).collect();
            let lease = Lease {
                queue: of,
                deliveries: Deliveries { delivery, offsets },
                cursor: cursors.get(&queue).copied().unwrap_or_else(|| self.cursor(of)),
                duration_ms: duration.as_millis(),
                auto_renew: pop.lease == LeaseTerms::AutoRenew,
                client: crate::client_hash(&pop.client),
                attempt_id: attempt_hash(pop).unwrap_or(0),
                waiting: waiting.remove(&queue).unwrap_or_default().into(),
            };
            self.propose(Record::Lease(lease), now);
        }
        grants
    }

    fn next_delivery(&mut self) -> DeliverySeq {
        self.last_delivery = self.last_delivery.max(DeliverySeq(self.state.next_delivery.0 - 1));
        self.last_delivery = DeliverySeq(self.last_delivery.0 + 1);
        self.last_delivery
    }

    fn grant_of(
        &self,
        of: QueueOf,
        offset: QueueOffset,
        (epoch, delivery): (Epoch, DeliverySeq),
        attempt: u32,
        invisible: InvisibleDuration,
        place: Place,
    ) -> Grant {
        let QueueOf { group, topic, queue } = of;
        let key = DeliveryKey { epoch, group, topic, queue, offset, delivery };
        Grant { key, attempt: DeliveryAttempt(attempt), invisible, place }
    }

    /// Whether another pop would find something, as far as can be told without looking at filters.
    fn has_more(&self, pop: &Pop) -> bool {
        let key = (pop.group.id, pop.topic.id);
        self.ready.contains_key(&key)
            || self.state.queues_of(key.1).any(|(queue, state)| {
                let of = QueueOf { group: key.0, topic: key.1, queue };
                self.cursor(of).max(self.min(of.topic, queue)) < state.next && self.in_flight_room(of) > 0
            })
    }
}

fn duration(terms: LeaseTerms) -> InvisibleDuration {
    match terms {
        LeaseTerms::Fixed(duration) => duration,
        LeaseTerms::AutoRenew => InvisibleDuration::AUTO_RENEW,
    }
}

fn attempt_hash(pop: &Pop) -> Option<u64> {
    pop.attempt_id.as_ref().filter(|id| !id.is_empty()).map(|id| apogee_model::hash(id).max(1))
}

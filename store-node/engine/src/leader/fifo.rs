//! Pops of ordered groups: no message goes out while an earlier one of its message group is.
//!
//! A pop that meets a message of a locked message group leaves it behind as a waiting entry and goes on, so other message
//! groups do not wait for it. A pop that may have one message group only does the same with all others while it looks for
//! more of its own: where message groups take turns in a queue, batches would else be of one message each. Which ones are locked is known by `locks`, made with the first ordered pop of a group on a
//! topic and kept by every proposal from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use apogee_model::store::{LeaseTerms, Pop};
use apogee_model::{DeliveryOrder, DeliverySeq, Filter, GroupId, QueueId, QueueOffset, TopicId};

use super::bury::{Burial, Burials};
use super::locks::{Line, Locks};
use super::look::Unseen;
use super::pop::{RETRY_FIRST_EVERY, SCAN_BUDGET};
use super::{Granted, Leader, Now};
use crate::pop::Entry;
use crate::record::{Deliveries, QueueOf, Record};
use crate::views::Place;

/// Messages that one record may let wait, where blocks are large.
pub(super) const WAITING_MAX: usize = 1024;
/// A pop that found something lets no more than this wait while it looks for company.
const COMPANY_WAITING: usize = 64;
/// Unsettled messages of a queue beyond which no pop goes on past messages that others could have.
const AHEAD_MAX: usize = 2048;

/// One ordered pop under way.
struct Picking<'a> {
    pop: &'a Pop,
    locks: &'a Locks,
    picked: Vec<(QueueId, QueueOffset, Place)>,
    /// Lines all of whose earlier messages are picked: more of them may follow.
    mine: BTreeSet<Line>,
    /// The one line of a batch that may have no other.
    only: Option<Line>,
    waiting: BTreeMap<QueueId, Vec<(QueueOffset, u32)>>,
    /// How many may still wait.
    waiting_room: usize,
    /// Unsettled messages that this consumer's filter does not want.
    skipped: Vec<(QueueId, QueueOffset)>,
    /// The earliest of their message groups, and delivered as often as the group allows.
    condemned: Vec<(QueueId, QueueOffset, Entry, Place)>,
    /// Messages of which nobody has told whether the filter wants them.
    unseen: Unseen,
    /// New cursor positions.
    cursors: BTreeMap<QueueId, QueueOffset>,
    budget: usize,
}

impl Picking<'_> {
    fn full(&self) -> bool {
        self.picked.len() >= self.pop.batch
    }

    /// A push consumer works through its batch one by one: a second message group would wait for the first.
    fn one_line(&self) -> bool {
        self.pop.lease == LeaseTerms::AutoRenew
    }

    fn may_pick(&self, line: Line) -> bool {
        self.mine.contains(&line) || !self.locks.holds(line)
    }

    fn other_line_only(&self, line: Line) -> bool {
        self.only.is_some_and(|only| only != line)
    }

    fn pick(&mut self, line: Line, offset: QueueOffset, place: Place) {
        self.picked.push((line.0, offset, place));
        if self.one_line() {
            self.only = Some(line);
        }
    }

    fn wait(&mut self, (queue, group_hash): Line, offset: QueueOffset) {
        self.waiting.entry(queue).or_default().push((offset, group_hash));
        self.waiting_room -= 1;
        if self.waiting_room == 0 {
            self.budget = 0;
        } else if !self.picked.is_empty() {
            self.waiting_room = self.waiting_room.min(COMPANY_WAITING);
        }
    }
}

impl Leader {
    /// Begins or ends to keep the message groups of a consumer group in order, as its pops want it.
    pub(super) fn keep_order(&mut self, pop: &Pop) {
        let key = (pop.group.id, pop.topic.id);
        match pop.order {
            DeliveryOrder::Concurrent => {
                let waiting = self.locks.remove(&key).into_iter().flat_map(Locks::into_waiting);
                for (queue, offset) in waiting {
                    if let Some(place) = self.state.place(key.1, queue, offset) {
                        self.ready.entry(key).or_default().insert((queue, offset), place.tag_hash);
                    }
                }
            }
            DeliveryOrder::Fifo if self.locks.contains_key(&key) => {}
            DeliveryOrder::Fifo => {
                let locks = self.locks_of(key);
                self.ready.remove(&key);
                self.locks.insert(key, locks);
            }
        }
    }

    /// From what is applied and proposed.
    pub(super) fn locks_of(&self, (group, topic): (GroupId, TopicId)) -> Locks {
        let mut unsettled = BTreeMap::new();
        for (queue, state) in self.state.pops.get(&(group, topic)).into_iter().flat_map(|pop| &pop.queues) {
            let of = QueueOf { group, topic, queue: *queue };
            unsettled.extend(state.entries.keys().map(|offset| ((*queue, *offset), self.clock.runs((of, *offset)))));
        }
        for (queue, offset, entry) in self.overlay.entries(group, topic) {
            match entry {
                Some(entry) => drop(unsettled.insert((queue, offset), !entry.is_waiting())),
                None => drop(unsettled.remove(&(queue, offset))),
            }
        }
        let mut locks = Locks::default();
        for ((queue, offset), out) in unsettled {
            // Without a place the message was trimmed, and its entry goes with it.
            if let Some(place) = self.state.glance(topic, queue, offset) {
                locks.put(queue, offset, place.group_hash, out);
            }
        }
        locks
    }

    /// What a proposal does to unsettled messages: each is settled by it, or out until it is committed and longer.
    pub(super) fn turn_locks(&mut self, record: &Record) {
        let (of, offsets) = match record {
            Record::Settle { queue, deliveries }
            | Record::Change { queue, deliveries, .. }
            | Record::Release { queue, deliveries } => (*queue, &deliveries.offsets),
            Record::DeadLetter(dead) => (dead.origin, &dead.deliveries.offsets),
            Record::Reset { group, topic, starts } => {
                if let Some(locks) = self.locks.get_mut(&(*group, *topic)) {
                    starts.iter().for_each(|(queue, _)| locks.clear(*queue));
                }
                return;
            }
            // Leases are noted by the pops that propose them.
            Record::Lease(_)
            | Record::Message { .. }
            | Record::Kept(_)
            | Record::Fire(_)
            | Record::Recall(_)
            | Record::CommitOffset(_)
            | Record::ForgetOffsets(_)
            | Record::LiteTopic(_)
            | Record::LiteExpiry(_)
            | Record::LiteGone(_)
            | Record::LiteSubscribe(_)
            | Record::KeyIndex { .. }
            | Record::Seal { .. }
            | Record::Carried(_)
            | Record::Half(_)
            | Record::HalfCarried(_)
            | Record::HalfChecked(_)
            | Record::HalfEnd(_)
            | Record::Open { .. }
            | Record::Close { .. }
            | Record::Trim { .. }
            | Record::TopicName { .. }
            | Record::GroupName { .. } => return,
        };
        if !self.locks.contains_key(&(of.group, of.topic)) {
            return;
        }
        self.unlocked.push((of.group, of.topic));
        for offset in offsets.iter() {
            let unsettled = self.entry(of, *offset).is_some();
            let Some(locks) = self.locks.get_mut(&(of.group, of.topic)) else { return };
            match unsettled {
                true => locks.mark(of.queue, *offset, true),
                false => locks.remove(of.queue, *offset),
            }
        }
    }

    /// A committed record has settled the message, or it is gone.
    pub(super) fn unlock_settled(&mut self, of: QueueOf, offset: QueueOffset) {
        if self.entry(of, offset).is_none()
            && let Some(locks) = self.locks.get_mut(&(of.group, of.topic))
        {
            locks.remove(of.queue, offset);
            self.unlocked.push((of.group, of.topic));
        }
    }

    /// The lease of a message ended. Says whether its group is an ordered one.
    pub(super) fn unlock_ended(&mut self, of: QueueOf, offset: QueueOffset) -> bool {
        let key = (of.group, of.topic);
        let Some(locks) = self.locks.get_mut(&key) else { return false };
        locks.mark(of.queue, offset, false);
        self.unlocked.push(key);
        true
    }

    /// Message groups that became free may be what somebody waits for.
    pub(super) fn tell_of_unlocked(&mut self) {
        for (group, topic) in std::mem::take(&mut self.unlocked) {
            if topic.is_lite() {
                self.lite_stirred(group, topic);
                continue;
            }
            let freed = self.locks.get_mut(&(group, topic)).map_or(0, Locks::take_freed);
            (0..freed).for_each(|_| self.watches.nudge(group, topic));
        }
    }

    /// Of a batch that is to be given again: nothing behind an earlier message that is not in it, and nothing of a message
    /// group that somebody else has.
    pub(super) fn drop_overtaking(
        &self,
        key: (GroupId, TopicId),
        candidates: &mut Vec<(QueueId, QueueOffset)>,
        attempt_id: u64,
    ) {
        let Some(locks) = self.locks.get(&key) else { return };
        let (group, topic) = key;
        let same = |(queue, offset): &(QueueId, QueueOffset)| {
            let entry = self.entry(QueueOf { group, topic, queue: *queue }, *offset);
            entry.is_some_and(|entry| entry.attempt_id == attempt_id)
        };
        candidates.retain(same);
        let batch: BTreeSet<_> = candidates.iter().copied().collect();
        let lines: BTreeSet<_> = batch.iter().filter_map(|(queue, offset)| locks.line_of(*queue, *offset)).collect();
        let mut in_order = BTreeSet::new();
        for line in lines {
            let known = |offset: QueueOffset| batch.contains(&(line.0, offset));
            if locks.of_line(line).all(|(offset, out)| !out || known(offset)) {
                let earliest = locks.of_line(line).map(|(offset, _)| offset).take_while(|offset| known(*offset));
                in_order.extend(earliest.map(|offset| (line.0, offset)));
            }
        }
        candidates.retain(|message| in_order.contains(message));
    }

    /// Picks messages in the order of their message groups and leases them, for groups that want that. Says whether the
    /// scan budget ran out.
    pub(super) fn grant_in_order(&mut self, pop: &Pop, turn: u64, now: Now) -> Option<(Granted, bool)> {
        let key = (pop.group.id, pop.topic.id);
        let mut picking = Picking {
            pop,
            locks: self.locks.get(&key)?,
            picked: Vec::new(),
            mine: BTreeSet::new(),
            only: None,
            waiting: BTreeMap::new(),
            waiting_room: self.waiting_max,
            skipped: Vec::new(),
            condemned: Vec::new(),
            unseen: Unseen::default(),
            cursors: BTreeMap::new(),
            budget: SCAN_BUDGET,
        };
        if turn.is_multiple_of(RETRY_FIRST_EVERY) {
            self.pick_unread(&mut picking, turn);
            self.pick_free(&mut picking);
        } else {
            self.pick_free(&mut picking);
            self.pick_unread(&mut picking, turn);
        }
        let Picking { picked, waiting, skipped, condemned, unseen, cursors, budget, .. } = picking;
        self.skip(key, skipped, now);
        let burials = self.condemn_in_order(pop, condemned, now);
        let (mut out, mut behind) = (Vec::new(), Vec::new());
        out.extend(picked.iter().map(|(queue, offset, place)| (*queue, *offset, place.group_hash)));
        for (queue, messages) in &waiting {
            behind.extend(messages.iter().map(|(offset, group_hash)| (*queue, *offset, *group_hash)));
        }
        let offsets = |messages: Vec<(QueueOffset, u32)>| messages.into_iter().map(|(offset, _)| offset).collect();
        let waiting = waiting.into_iter().map(|(queue, messages)| (queue, offsets(messages))).collect();
        let grants = self.lease(pop, picked, &cursors, waiting, now);
        if !behind.is_empty() {
            self.unlocked.push(key); // some of them nobody has
        }
        if let Some(locks) = self.locks.get_mut(&key) {
            behind.into_iter().for_each(|(queue, offset, group_hash)| locks.put(queue, offset, group_hash, false));
            out.into_iter().for_each(|(queue, offset, group_hash)| locks.put(queue, offset, group_hash, true));
        }
        let look = unseen.into_looks();
        let more = !burials.is_empty() || !grants.is_empty() && self.has_more_in_order(pop);
        Some((Granted { grants, more, burials, look, ..Granted::default() }, budget == 0))
    }

    /// Nothing of their message groups goes out until they are buried, or nobody did it in time.
    fn condemn_in_order(
        &mut self,
        pop: &Pop,
        condemned: Vec<(QueueId, QueueOffset, Entry, Place)>,
        now: Now,
    ) -> Vec<Burial> {
        let (group, topic) = (pop.group.id, pop.topic.id);
        let mut burials = Burials::default();
        for (queue, offset, entry, place) in condemned {
            let of = QueueOf { group, topic, queue };
            if !burials.full()
                && self.condemn(pop, (of, offset), (entry, place), &mut burials, now)
                && let Some(locks) = self.locks.get_mut(&(group, topic))
            {
                locks.mark(queue, offset, true);
            }
        }
        burials.into_vec()
    }

    /// Messages below the cursor that wait or came back, of message groups that nobody has.
    fn pick_free(&self, picking: &mut Picking<'_>) {
        let (group, topic) = (picking.pop.group.id, picking.pop.topic.id);
        let attempts_max = picking.pop.dead_letters.as_ref().map_or(u32::MAX, |dead| dead.max_attempts);
        for line in picking.locks.free() {
            if picking.full() || picking.budget == 0 || picking.only.is_some() {
                return;
            }
            let (mut whole, before) = (true, picking.picked.len());
            for (offset, _) in picking.locks.of_line(line) {
                if picking.full() || picking.budget == 0 {
                    whole = false;
                    break;
                }
                picking.budget -= 1;
                if offset < self.min(topic, line.0) {
                    continue; // trimmed: gone when that is committed
                }
                let Some(place) = self.state.place(topic, line.0, offset) else { continue };
                let of = QueueOf { group, topic, queue: line.0 };
                let used_up = self.entry(of, offset).filter(|entry| entry.attempt >= attempts_max);
                match used_up {
                    Some(entry) => {
                        // Nothing behind it goes out before it is buried, and it is not before those ahead of it are settled.
                        whole = false;
                        if picking.picked.len() == before {
                            picking.condemned.push((line.0, offset, entry, place));
                        }
                        break;
                    }
                    None if wants_again(&picking.pop.filter, &place) => picking.pick(line, offset, place),
                    None => picking.skipped.push((line.0, offset)),
                }
            }
            if whole {
                picking.mine.insert(line);
            }
        }
    }

    /// Messages that no pop has looked at, from all queues in turn.
    fn pick_unread(&self, picking: &mut Picking<'_>, turn: u64) {
        let queues = u64::from(picking.pop.topic.queues.max(1));
        for step in 0..queues {
            if picking.full() || picking.budget == 0 {
                return;
            }
            let queue = QueueId(u16::try_from((turn + step) % queues).expect("smaller than a count of 16 bits"));
            if picking.only.is_none_or(|(only, _)| only == queue) {
                self.pick_unread_in(picking, queue);
            }
        }
    }

    fn pick_unread_in(&self, picking: &mut Picking<'_>, queue: QueueId) {
        let (group, topic) = (picking.pop.group.id, picking.pop.topic.id);
        let state = self.state.queue(topic, queue);
        let from = self.cursor(QueueOf { group, topic, queue }).max(self.min(topic, queue));
        let mut room = self.in_flight_max.saturating_sub(picking.locks.count(queue));
        let mut ahead = AHEAD_MAX.saturating_sub(picking.locks.count(queue));
        let (mut cursor, mut unseen) = (from, false);
        self.state.places(topic, queue, from, state.next, |offset, place| {
            let line = (queue, place.group_hash);
            let passes = picking.other_line_only(line);
            if picking.full() || picking.budget == 0 || room == 0 || passes && ahead == 0 {
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
                room -= 1;
                ahead = ahead.saturating_sub(1);
                if picking.may_pick(line) && !passes {
                    picking.mine.insert(line);
                    picking.pick(line, offset, place);
                } else {
                    picking.wait(line, offset);
                }
            }
            ControlFlow::Continue(())
        });
        if cursor > from {
            picking.cursors.insert(queue, cursor);
        }
    }

    /// The group is past messages that its consumers do not want any more, as it is past those they never wanted.
    fn skip(&mut self, (group, topic): (GroupId, TopicId), skipped: Vec<(QueueId, QueueOffset)>, now: Now) {
        let mut batches: BTreeMap<(QueueId, DeliverySeq), Vec<QueueOffset>> = BTreeMap::new();
        for (queue, offset) in skipped {
            if let Some(entry) = self.entry(QueueOf { group, topic, queue }, offset) {
                batches.entry((queue, entry.delivery)).or_default().push(offset);
            }
        }
        for ((queue, delivery), offsets) in batches {
            let deliveries = Deliveries { delivery, offsets: offsets.into() };
            self.propose(Record::Settle { queue: QueueOf { group, topic, queue }, deliveries }, now);
        }
    }

    /// Whether another pop may find something: a free message group, or messages nobody has looked at.
    fn has_more_in_order(&self, pop: &Pop) -> bool {
        let (group, topic) = (pop.group.id, pop.topic.id);
        let Some(locks) = self.locks.get(&(group, topic)) else { return false };
        locks.has_free()
            || self.state.queues_of(topic).any(|(queue, state)| {
                let unread = self.cursor(QueueOf { group, topic, queue }).max(self.min(topic, queue)) < state.next;
                unread && locks.count(queue) < self.in_flight_max
            })
    }
}

/// Whether a message that an earlier pop wanted is still wanted. An expression is asked again when the message was read.
fn wants_again(filter: &Filter, place: &Place) -> bool {
    match filter {
        Filter::Tags(tags) => tags.may_want(place.tag_hash),
        Filter::Sql(_) => true,
    }
}

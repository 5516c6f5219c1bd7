//! The leader of a replica group: decides, in one order, without IO.
//!
//! Memory = the applied view + an overlay of proposals the log has not committed. Every decision that changes
//! something is a record in the block under construction, and its answer belongs to that block: whoever drives the
//! leader (`proposer`) gives it out when the block is committed, and not before.
//!
//! Reading order: `ask` (what callers want), this file, then `append`, `pop`, `levels` (pops from PRIORITY topics), `fifo` with `locks`
//! (pops of ordered groups), `settle`, `bury`, `timer`, `transaction`, `dropping`, `carry`, `reset`, `seal`, `offsets`, `lite`
//! and `retention` for the decisions, `look` for filters by expression, `fetch` and `find`.

mod append;
mod ask;
mod block;
mod bury;
mod carry;
#[cfg(test)]
mod chain;
mod dropping;
mod fetch;
mod fifo;
mod find;
mod levels;
mod lite;
mod locks;
mod look;
mod offsets;
mod pop;
mod ready;
mod reset;
mod retention;
mod seal;
mod settle;
mod timer;
mod transaction;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use apogee_host::Monotonic;
use apogee_model::store::{Appended, GroupRef, HalfId, KeptId, QueueStatus, RequestId, TopicRef};
use apogee_model::{DeliverySeq, Epoch, GroupId, QueueId, QueueOffset, Timestamp, TopicId};

pub(crate) use ask::{Answer, Ask, Grant, Granted, NotAppended, StateDump};
pub(crate) use block::Draft;
pub(crate) use bury::{Burial, Buried, Condemned, Verdict};
pub(crate) use carry::Aged;
pub(crate) use fetch::Located;
pub(crate) use find::{Spoor, Track, Was};
pub(crate) use look::{Look, Verdicts};
pub use retention::Retention;
pub(crate) use settle::Moved;
pub(crate) use transaction::{CHECKS_MAX, Decided, Fresh};

use crate::block::Block;
use crate::lease_clock::{Due, Key, LeaseClock};
use crate::pop::{Entry, Overlay, When};
use crate::record::{ChangedBy, Deliveries, QueueOf, Record};
use crate::state::{BadBlock, QueueState, State, Timing};
use crate::watch::Watches;

/// Number of a block among those that this replica proposes, from 1.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// Now, on both clocks.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Now {
    pub(crate) wall: Timestamp,
    pub(crate) monotonic: Monotonic,
}

/// What the leader decides by.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Terms {
    /// Unsettled messages of one group in one queue; more are not delivered.
    pub(crate) in_flight_max: usize,
    pub(crate) retention: Retention,
    /// Bytes of a segment of the log: retention by size lets whole ones go.
    pub(crate) segment_bytes: u64,
    /// Lite topics that there may be.
    pub(crate) lite_topics_max: usize,
}

/// See the module.
pub(crate) struct Leader {
    pub(crate) state: State,
    overlay: Overlay,
    clock: LeaseClock,
    /// Messages whose lease ended and that nobody took since.
    ready: BTreeMap<(GroupId, TopicId), ready::Ready>,
    /// Messages that are to be buried, by their last delivery: nobody said anything about them since.
    dying: BTreeMap<Key, DeliverySeq>,
    /// The same and more of ordered groups that somebody receives for.
    locks: BTreeMap<(GroupId, TopicId), locks::Locks>,
    /// Groups on topics where message groups may have become free.
    unlocked: Vec<(GroupId, TopicId)>,
    /// Messages that one record may let wait.
    waiting_max: usize,
    /// Groups that were dropped; their ids are never given again, and late receives of them find nothing.
    dropped: BTreeSet<GroupId>,
    /// Appends on their way to the log.
    proposed: HashMap<RequestId, (Ticket, Vec<Appended>)>,
    watches: Watches,
    /// Which messages expressions are true of.
    looked: look::Looked,
    /// Where the next pop of a group on a topic begins, and how many there were.
    turns: BTreeMap<(GroupId, TopicId), u64>,
    blocks: block::Blocks,
    /// Pops that ran out of their scan budget.
    deferred: VecDeque<Ask>,
    in_flight_max: usize,
    timer: timer::Timer,
    /// Where the search for messages to carry goes on.
    carry_from: KeptId,
    carry_halves_from: HalfId,
    transactions: transaction::Transactions,
    /// Topics that are no more, and for which something may still wait.
    dropping: VecDeque<dropping::Dropping>,
    retention: retention::Retaining,
    lites: lite::Lites,
    pub(crate) epoch: Epoch,
    last_delivery: DeliverySeq,
}

impl Leader {
    /// Takes the lead over `state`, with `first` as its first proposal: leases that run go on for what remains of them by log time.
    pub(crate) fn new(state: State, epoch: Epoch, first: Ticket, terms: Terms, now: Now) -> Self {
        let Terms { in_flight_max, retention, segment_bytes, lite_topics_max } = terms;
        let blocks = block::Blocks::new(first, state.log_time);
        let mut leader = Self {
            state,
            overlay: Overlay::default(),
            clock: LeaseClock::default(),
            ready: BTreeMap::new(),
            dying: BTreeMap::new(),
            locks: BTreeMap::new(),
            unlocked: Vec::new(),
            waiting_max: fifo::WAITING_MAX,
            dropped: BTreeSet::new(),
            proposed: HashMap::new(),
            watches: Watches::default(),
            looked: look::Looked::default(),
            turns: BTreeMap::new(),
            blocks,
            deferred: VecDeque::new(),
            in_flight_max,
            timer: timer::Timer::new(now),
            carry_from: KeptId::MIN,
            carry_halves_from: HalfId(0),
            transactions: transaction::Transactions::new(now),
            dropping: VecDeque::new(),
            retention: retention::Retaining::new(retention, segment_bytes, now),
            lites: lite::Lites::new(lite_topics_max, now),
            epoch,
            last_delivery: DeliverySeq(0),
        };
        leader.resume_leases(now);
        leader.resume_lites(now);
        leader
    }

    /// The log takes no larger blocks than this.
    pub(crate) fn limit_blocks(&mut self, block_max: usize) {
        self.blocks.limit(block_max);
        self.waiting_max = fifo::WAITING_MAX.min(block_max / 64);
    }

    /// Leads no more. What was proposed and not applied is forgotten here; the log decides what becomes of it.
    pub(crate) fn into_state(self) -> State {
        self.state
    }

    fn resume_leases(&mut self, now: Now) {
        let log_time = self.state.log_time;
        for ((group, topic), state) in self.state.pops.iter() {
            for (queue, state) in &state.queues {
                for (offset, entry) in &state.entries {
                    let of = QueueOf { group: *group, topic: *topic, queue: *queue };
                    let remaining =
                        Duration::from_millis(entry.duration_ms).saturating_sub(log_time.since(entry.lease_from));
                    self.clock.start((of, *offset), entry, now.monotonic, remaining, log_time.since(entry.granted_at));
                }
            }
        }
    }

    /// Decides one request; its answer waits inside a block, or is returned when there is nothing to wait for.
    pub(crate) fn decide(&mut self, ask: Ask, now: Now) -> Option<Answer> {
        match ask {
            Ask::Append { messages, room, reply } => self.append(messages, room, reply, now),
            Ask::Pop { pop, reply } => self.pop(pop, reply, now),
            Ask::Looked(verdicts) => {
                self.learn(&verdicts);
                None
            }
            Ask::Settle { key, what, reply } => {
                let settled = self.settle(key, &what, now);
                self.blocks.answer(Answer::Settled(reply, settled))
            }
            Ask::GiveUp { key, reply } => {
                let condemned = self.give_up(&key);
                self.blocks.answer(Answer::Condemned(reply, condemned))
            }
            Ask::Bury { key, dead, message, verdict, reply } => {
                let buried = self.bury(&key, dead, message, verdict, now);
                self.blocks.answer(Answer::Buried(reply, buried))
            }
            Ask::Fetch { fetch, reply } => Some(Answer::Located(reply, self.locate(&fetch))),
            Ask::Find { find, reply } => Some(Answer::Tracks(reply, self.tracks(&find))),
            Ask::Follow { spoors, reply } => Some(Answer::Followed(reply, self.follow(&spoors))),
            Ask::Trace { trace, reply } => Some(Answer::Traced(reply, self.trace(trace, now.wall))),
            Ask::Reset { reset, reply } => self.reset(&reset, reply, now),
            Ask::Seal { seal, reply } => self.seal(&seal, reply, now),
            Ask::Aged { reply } => {
                let _nobody_waits = reply.send(self.aged(now));
                None
            }
            Ask::Carry { id, row, message, reply } => self.carry(id, row, message, reply, now),
            Ask::Recall { recall, reply } => self.recall(recall, reply, now),
            Ask::CarryHalf { id, row, message, reply } => self.carry_half(id, row, message, reply, now),
            Ask::EndTransaction { end, reply } => self.end_transaction(end, reply, now),
            Ask::Checked(checked) => {
                self.checked(checked, now);
                None
            }
            Ask::Producers => {
                self.transactions.look(now);
                None
            }
            Ask::Transactions { topic, from, max, reply } => {
                let _nobody_waits = reply.send(self.transactions_of(topic, from, max));
                None
            }
            Ask::CommitOffset { commit, reply } => self.commit_offset(&commit, reply, now),
            Ask::CommittedOffset { of, reply } => Some(Answer::CommittedOffset(reply, self.state.pull_offset(of))),
            Ask::Release { deliveries } => {
                self.release(&deliveries, now);
                None
            }
            Ask::Confirm { deliveries } => {
                for key in deliveries {
                    let of = QueueOf { group: key.group, topic: key.topic, queue: key.queue };
                    self.clock.confirm((of, key.offset), key.delivery.0, now.monotonic);
                }
                None
            }
            Ask::Heard { clients } => {
                clients.iter().for_each(|(client, ago)| self.clock.heard(*client, now.monotonic.before(*ago)));
                None
            }
            Ask::HungUp { clients } => {
                clients.iter().for_each(|(client, ago)| self.clock.hung_up(*client, now.monotonic, *ago));
                None
            }
            Ask::Lost { client } => {
                self.clock.lost(client, now.monotonic);
                self.lites_lost(client, now);
                None
            }
            Ask::Watch { group, client: Some(client), edge, .. } => {
                self.watches.add_for((group, client), edge);
                None
            }
            Ask::Watch { group, topic, filter, client: None, edge } => {
                self.watches.add(group, topic, filter, edge);
                None
            }
            Ask::LiteSubscribe { subscription, reply } => self.lite_subscribe(&subscription, reply, now),
            Ask::LiteList { list, reply } => Some(Answer::LiteList(reply, self.lite_list(&list))),
            Ask::TopicStatus { topic, reply } => Some(Answer::TopicStatus(reply, self.topic_status(topic))),
            Ask::GroupStatus { group, reply } => Some(Answer::GroupStatus(reply, self.group_status(group))),
            Ask::Dump { reply } => {
                let _nobody_waits = reply.send(StateDump::of(&self.state));
                None
            }
            Ask::HandOver { .. } | Ask::Base | Ask::LetGo { .. } => None, // the loop's business
            Ask::DropTopic { topic, reply } => {
                self.drop_topic(topic, now);
                self.drop_lites(topic, now);
                self.drop_waiting(topic, reply, now)
            }
            Ask::DropGroup { group, reply } => {
                self.turns.retain(|(of, _), _| *of != group);
                self.looked.forget(|(of, _)| of == group);
                self.locks.retain(|(of, _), _| *of != group);
                self.drop_lites_of(group);
                self.dropped.insert(group);
                self.propose(Record::Close { group }, now);
                self.blocks.answer(Answer::Done(reply))
            }
        }
    }

    /// A request that was begun and wants another turn.
    pub(crate) fn take_deferred(&mut self) -> Option<Ask> {
        self.deferred.pop_front()
    }

    pub(crate) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    fn next_offset(&self, topic: TopicId, queue: QueueId) -> QueueOffset {
        self.overlay.next_offset(topic, queue).unwrap_or_else(|| self.state.queue(topic, queue).next)
    }

    /// The first offset a queue holds, uncommitted trims included.
    fn min(&self, topic: TopicId, queue: QueueId) -> QueueOffset {
        self.state.queue(topic, queue).min.max(self.overlay.min(topic, queue).unwrap_or_default())
    }

    fn name_topic(&mut self, topic: &TopicRef, now: Now) {
        if !self.state.knows_topic(topic.id) && !self.overlay.knows_topic(topic.id) {
            self.propose(Record::TopicName { id: topic.id, name: topic.name.clone() }, now);
        }
    }

    fn name_group(&mut self, group: &GroupRef, now: Now) {
        if !self.state.knows_group(group.id) && !self.overlay.knows_group(group.id) {
            self.propose(Record::GroupName { id: group.id, name: group.name.clone() }, now);
        }
    }

    fn propose(&mut self, record: Record, now: Now) {
        let (block, at) = self.blocks.push(&record, now.wall);
        let applied = match &record {
            Record::Lease(lease) => self.state.pops.get(&(lease.queue.group, lease.queue.topic)),
            Record::Settle { queue, .. } | Record::Change { queue, .. } | Record::Release { queue, .. } => {
                self.state.pops.get(&(queue.group, queue.topic))
            }
            Record::DeadLetter(dead) => self.state.pops.get(&(dead.origin.group, dead.origin.topic)),
            Record::Reset { group, topic, .. } => self.state.pops.get(&(*group, *topic)),
            _ => None,
        };
        let at = When { log_time: at, epoch: self.epoch };
        self.overlay.propose(&record, block, at, applied);
        self.turn_locks(&record);
    }

    /// The entry of a message, uncommitted changes included.
    fn entry(&self, of: QueueOf, offset: QueueOffset) -> Option<Entry> {
        self.overlay.entry(of, offset).unwrap_or_else(|| self.state.entry(of, offset))
    }

    /// A group's cursor on a queue, uncommitted moves included.
    fn cursor(&self, of: QueueOf) -> QueueOffset {
        use crate::pop::PopStore as _;
        let applied = || self.state.pops.get(&(of.group, of.topic)).map_or(QueueOffset(0), |pop| pop.cursor(of.queue));
        self.overlay.cursor(of).unwrap_or_else(applied)
    }

    fn drop_topic(&mut self, topic: TopicId, now: Now) {
        self.turns.retain(|(_, of), _| *of != topic);
        self.looked.forget(|(_, of)| of == topic);
        self.locks.retain(|(_, of), _| *of != topic);
        let queues: Vec<_> = self.state.queues_of(topic).map(|(queue, _)| queue).collect();
        for queue in queues {
            let min = self.next_offset(topic, queue);
            self.propose(Record::Trim { topic, queue, min }, now);
        }
        self.forget_offsets(topic, now);
    }

    fn topic_status(&self, topic: TopicId) -> Vec<QueueStatus> {
        let queues: BTreeSet<_> = self.state.queues_of(topic).map(|(queue, _)| queue).collect();
        let status = |queue| {
            let QueueState { min, next: max, .. } = self.state.queue(topic, queue);
            QueueStatus { queue, min, max, delayed: self.state.waiting_in(topic, queue) }
        };
        queues
            .into_iter()
            .chain(self.state.waiting_queues(topic))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(status)
            .collect()
    }

    /// The next block to write, if one may go: a full one, or the open one when `may_be_partial`.
    pub(crate) fn take_block(&mut self, may_be_partial: bool) -> Option<(Ticket, Draft)> {
        self.blocks.take(may_be_partial)
    }

    /// Bytes in the block under construction.
    pub(crate) fn open_bytes(&self) -> usize {
        self.blocks.open_bytes()
    }

    /// Answers that belong to blocks up to `upto`, and results of sends in blocks up to `stored`.
    pub(crate) fn take_answers(&mut self, upto: Ticket, stored: Ticket) -> VecDeque<Answer> {
        self.blocks.take_answers(upto, stored)
    }

    /// The log committed the next block, which is our proposal `ticket` unless consensus made it for itself: the view
    /// moves, leases start to run, watches hear of it. Says what became of messages that wait for their time.
    ///
    /// # Errors
    /// [`BadBlock`] when the block cannot be read; that is the end of this process.
    pub(crate) fn committed(&mut self, block: &Block, ticket: Option<Ticket>, now: Now) -> Result<Timing, BadBlock> {
        let applied = self.state.apply(block)?;
        if let Some(ticket) = ticket {
            self.overlay.retire(ticket);
            self.lites.retire(ticket);
            self.proposed.retain(|_, (block, _)| *block > ticket);
        }
        self.timer.committed(applied.kept, ticket, now);
        self.recall_waiting(now);
        self.transactions.committed(applied.halves, ticket, now);
        self.end_waiting(now);
        if self.may_drop() {
            self.transactions.look(now);
        }
        for (topic, tag_hash) in applied.arrived {
            if topic.is_lite() {
                self.lite_arrived(topic);
            } else {
                self.watches.arrived(topic, tag_hash);
            }
        }
        self.lite_news(applied.lite, now);
        let mut settled: BTreeMap<QueueOf, usize> = BTreeMap::new();
        for (of, offset) in applied.touched {
            if !self.restart_lease(of, offset, now) {
                *settled.entry(of).or_default() += 1;
                self.unlock_settled(of, offset);
            }
        }
        for (of, count) in settled {
            self.tell_of_room(of, count);
        }
        for (group, topic) in applied.reset {
            if topic.is_lite() {
                self.unlocked.push((group, topic));
            } else {
                self.watches.nudge(group, topic);
            }
        }
        self.tell_of_unlocked();
        self.watches.tell();
        Ok(applied.timing)
    }

    /// Says whether the message is still unsettled.
    fn restart_lease(&mut self, of: QueueOf, offset: QueueOffset, now: Now) -> bool {
        let key = (of, offset);
        self.forget_ready(key);
        match self.state.entry(of, offset) {
            Some(entry) => {
                let remaining = Duration::from_millis(entry.duration_ms);
                let age = self.state.log_time.since(entry.granted_at);
                self.clock.start(key, &entry, now.monotonic, remaining, age);
                true
            }
            None => {
                self.clock.stop(key);
                false
            }
        }
    }

    /// A queue that was full of unsettled messages and no longer is may have something for those who wait.
    fn tell_of_room(&mut self, of: QueueOf, settled: usize) {
        let held = self.state.unsettled(of);
        if held < self.in_flight_max && held + settled >= self.in_flight_max {
            self.watches.nudge(of.group, of.topic);
        }
    }

    fn forget_ready(&mut self, (of, offset): Key) {
        self.dying.remove(&(of, offset));
        if let Some(ready) = self.ready.get_mut(&(of.group, of.topic)) {
            ready.remove((of.queue, offset));
            if ready.is_empty() {
                self.ready.remove(&(of.group, of.topic));
            }
        }
    }

    /// When [`Leader::tick`] has something to do.
    pub(crate) fn next_tick(&self) -> Option<Monotonic> {
        self.clock
            .next()
            .into_iter()
            .chain(self.timer.due())
            .chain(self.transactions.due())
            .chain([self.retention.due()])
            .chain(self.lites_due())
            .min()
    }

    /// Another replica is to lead: what the log does not say yet goes there, because the next leader knows only the log.
    pub(crate) fn leave_word(&mut self, now: Now) {
        self.clock.hurry(now.monotonic);
        self.tick(now);
    }

    /// Ends and renews the leases whose time came, lets messages into their queues, and trims what was kept long enough.
    pub(crate) fn tick(&mut self, now: Now) {
        self.retain(now);
        self.expire_lites(now);
        self.fire(now);
        self.ask_producers(now);
        let mut renewals: BTreeMap<(QueueOf, u64, Duration), Vec<QueueOffset>> = BTreeMap::new();
        for due in self.clock.due(now.monotonic) {
            match due {
                Due::Ready(key) => self.lease_ended(key),
                Due::Renew((of, offset), span) => {
                    // A change or a release on its way to the log ends renewal.
                    if let Some(entry) = self.entry(of, offset).filter(|entry| entry.auto_renew) {
                        renewals.entry((of, entry.delivery.0, span)).or_default().push(offset);
                    }
                }
            }
        }
        for ((queue, delivery, span), offsets) in renewals {
            let deliveries = Deliveries { delivery: DeliverySeq(delivery), offsets: offsets.into() };
            let duration_ms = u64::try_from(span.as_millis()).expect("at most 60 s");
            self.propose(Record::Change { queue, deliveries, duration_ms, by: ChangedBy::Renewal }, now);
        }
        self.tell_of_unlocked();
        self.watches.tell();
    }

    /// An uncommitted record about the message means that its lease starts anew when that is committed.
    fn lease_ended(&mut self, (of, offset): Key) {
        if self.overlay.entry(of, offset).is_some() || self.state.entry(of, offset).is_none() {
            return;
        }
        if self.unlock_ended(of, offset) {
            return;
        }
        // Without a place the message was trimmed, and its entry with it.
        if let Some(place) = self.state.place(of.topic, of.queue, offset) {
            self.ready.entry((of.group, of.topic)).or_default().insert((of.queue, offset), place.tag_hash);
            self.watches.ready(of.group, of.topic, place.tag_hash);
        }
    }
}

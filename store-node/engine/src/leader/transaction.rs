//! Transactions: half messages that wait for the decision of their producer, who is asked for it now and then.
//!
//! Half messages are rows of the views. In memory is when the producer of each is to be asked next, the oldest million of
//! them; messages that were asked about often enough are parked and take no memory. What was decided about a message and
//! is not committed yet is remembered here, so nothing is decided about it twice; who loses the lead forgets it, and the
//! next leader begins with what is committed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use apogee_host::Monotonic;
use apogee_model::store::{Checked, EndTransaction, Half, HalfId, RequestId, Resolution, TransactionEnded};
use apogee_model::{QueueId, StoredMessage, Timestamp, Topic, TopicId};
use tokio::sync::oneshot::Sender;

use super::{Answer, Leader, Now, Ticket};
use crate::checks::Desk;
use crate::record::{Ended, HalfCarried, HalfChecked, HalfEnd, HalfMessage, Record};
use crate::state::State;
use crate::views::half::HalfRow;

/// Checks that reach a producer; after them the message is parked.
pub(crate) const CHECKS_MAX: u32 = 15;
/// Between two of them.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// A check that nobody said reached a producer is given again after this time.
const GIVE_AGAIN: Duration = Duration::from_secs(10);
/// Half messages whose next check is in memory.
const KNOWN_MAX: usize = 1 << 20;
/// Rows read at once.
const READ: usize = 512;
/// Producers that are asked in one turn; sends come in between.
const TURN_MAX: usize = 256;
/// Ends that wait for a block.
const WAITING_MAX: usize = 4096;
/// A wall clock that jumps ahead, and room at a proxy, are noticed within this time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The answer to an [`EndTransaction`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Decided {
    pub(crate) ended: TransactionEnded,
    /// It ended just now.
    pub(crate) fresh: Option<Fresh>,
}

/// What is counted of an end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fresh {
    pub(crate) topic: Topic,
    pub(crate) resolution: Resolution,
    /// Since the message was stored.
    pub(crate) after: Duration,
}

/// What the leader knows of transactions.
#[derive(Debug)]
pub(super) struct Transactions {
    /// When producers are to be asked next.
    due: BTreeMap<TopicId, BTreeSet<(Timestamp, HalfId)>>,
    /// The same by message, and of those that are given, too.
    next_check: BTreeMap<HalfId, (TopicId, Timestamp)>,
    /// All messages before this one are in `next_check`, or parked.
    known: HalfId,
    /// Given to somebody who has producers.
    given: BTreeMap<HalfId, Given>,
    /// Decided, and not committed.
    deciding: BTreeMap<HalfId, (Ticket, Deciding)>,
    proposed: VecDeque<(Ticket, HalfId)>,
    /// Ends that can be decided when the blocks on their way are committed.
    ends: Vec<(EndTransaction, Sender<Decided>)>,
    desk: Arc<Desk>,
    /// When there is something to do.
    at: Option<Monotonic>,
    /// The number of the next half message.
    next: u64,
}

#[derive(Copy, Clone, Debug)]
struct Given {
    seat: u64,
    bytes: u32,
    until: Monotonic,
}

/// What was decided about a half message.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Deciding {
    Ended(Resolution),
    /// Its topic is no more.
    Dropped,
    /// It is written again or was checked, and waits on.
    Noted,
}

impl Transactions {
    pub(super) fn new(now: Now) -> Self {
        Self {
            due: BTreeMap::new(),
            next_check: BTreeMap::new(),
            known: HalfId(0),
            given: BTreeMap::new(),
            deciding: BTreeMap::new(),
            proposed: VecDeque::new(),
            ends: Vec::new(),
            desk: Arc::default(),
            at: Some(now.monotonic),
            next: 0,
        }
    }

    fn name(&mut self, state: &State) -> HalfId {
        let number = self.next.max(state.next_half());
        self.next = number + 1;
        HalfId(number)
    }

    /// When [`Leader::ask_producers`] has something to do.
    pub(super) fn due(&self) -> Option<Monotonic> {
        self.at
    }

    /// Looks for somebody to ask, at once.
    pub(super) fn look(&mut self, now: Now) {
        self.at = Some(now.monotonic);
    }

    /// A block with these messages is committed, ours if it has a ticket.
    pub(super) fn committed(&mut self, halves: Vec<(HalfId, Option<HalfRow>)>, ticket: Option<Ticket>, now: Now) {
        if let Some(ticket) = ticket {
            while let Some((_, id)) = self.proposed.pop_front_if(|(block, _)| *block <= ticket) {
                if self.deciding.get(&id).is_some_and(|(block, _)| *block <= ticket) {
                    self.deciding.remove(&id);
                }
            }
        }
        if halves.is_empty() {
            return;
        }
        let room = halves.iter().any(|(id, _)| self.given.contains_key(id));
        for (id, row) in halves {
            self.forget(id);
            if let Some(row) = row {
                self.learn(id, &row);
            }
        }
        self.arm(now);
        if room {
            self.look(now);
        }
    }

    fn learn(&mut self, id: HalfId, row: &HalfRow) {
        if row.checks >= CHECKS_MAX || id >= self.known {
            return;
        }
        let at = match row.checks {
            0 => row.stored_at.plus(Duration::from_millis(row.check_after_ms.into())),
            _ => row.checked_at.plus(CHECK_EVERY),
        };
        self.next_check.insert(id, (row.kept.topic, at));
        if !self.given.contains_key(&id) {
            self.due.entry(row.kept.topic).or_default().insert((at, id));
        }
    }

    fn forget(&mut self, id: HalfId) {
        self.take_back(id);
        if let Some((topic, at)) = self.next_check.remove(&id) {
            self.take_due(topic, at, id);
        }
    }

    fn take_due(&mut self, topic: TopicId, at: Timestamp, id: HalfId) {
        if let Some(due) = self.due.get_mut(&topic) {
            due.remove(&(at, id));
            if due.is_empty() {
                self.due.remove(&topic);
            }
        }
    }

    /// It is given to nobody any more.
    fn take_back(&mut self, id: HalfId) {
        let Some(Given { seat, bytes, .. }) = self.given.remove(&id) else { return };
        self.desk.take_back(seat, id, bytes);
        if let Some((topic, at)) = self.next_check.get(&id) {
            self.due.entry(*topic).or_default().insert((*at, id));
        }
    }

    /// Learns of some more messages that were there before.
    fn read(&mut self, state: &State) {
        if self.wants_more() {
            let (rows, next) = state.halves(self.known, READ);
            self.known = next;
            rows.iter().for_each(|(id, row)| self.learn(*id, row));
        }
    }

    fn wants_more(&self) -> bool {
        self.known < HalfId(u64::MAX) && self.next_check.len() < KNOWN_MAX
    }

    /// Those that are due last are read again later when there are too many.
    fn bound(&mut self) {
        while self.next_check.len() > KNOWN_MAX + READ
            && let Some((id, _)) = self.next_check.last_key_value()
        {
            let id = *id;
            self.forget(id);
            self.known = id;
        }
    }

    /// What nobody said was asked is to be asked by somebody else.
    fn give_again(&mut self, now: Now) {
        let over = |given: &Given| given.until <= now.monotonic || !self.desk.has(given.seat);
        let over: Vec<_> = self.given.iter().filter(|(_, given)| over(given)).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.take_back(id));
    }

    fn arm(&mut self, now: Now) {
        let topics = self.desk.topics();
        let first = |topic| self.due.get(topic).and_then(|due| due.first());
        let next = topics.iter().filter_map(first).map(|(at, _)| at.since(now.wall)).min();
        // With something due now and nobody who takes it, the next look is later.
        let next = next.filter(|wait| !wait.is_zero()).into_iter();
        let look = (!self.next_check.is_empty()).then_some(LOOK_EVERY);
        let read = self.wants_more().then_some(Duration::ZERO);
        self.at = next.chain(look).chain(read).min().map(|wait| now.monotonic + wait);
    }

    /// Messages that were decided about and are not committed.
    pub(super) fn deciding(&self) -> usize {
        self.deciding.len()
    }

    pub(super) fn is_deciding(&self, id: HalfId) -> bool {
        self.deciding.contains_key(&id)
    }

    pub(super) fn drops(&mut self, id: HalfId, block: Ticket) {
        self.decides(id, block, Deciding::Dropped);
    }

    fn decides(&mut self, id: HalfId, block: Ticket, what: Deciding) {
        self.deciding.insert(id, (block, what));
        self.proposed.push_back((block, id));
    }
}

impl Leader {
    /// Producers are asked through these proxies.
    pub(crate) fn ask_through(&mut self, desk: &Arc<Desk>) {
        desk.clear();
        self.transactions.desk = Arc::clone(desk);
    }

    /// Stores a message nobody sees until its transaction is committed.
    pub(super) fn begin_half(
        &mut self,
        topic: TopicId,
        queue: QueueId,
        request: RequestId,
        half: Half,
        message: StoredMessage,
        now: Now,
    ) -> HalfId {
        let id = self.transactions.name(&self.state);
        let check_after_ms = u32::try_from(half.check_after.as_millis()).unwrap_or(u32::MAX);
        self.propose(Record::Half(HalfMessage { topic, queue, id, request, check_after_ms, message }), now);
        id
    }

    /// Decided against what was decided before, committed or not.
    pub(super) fn end_transaction(&mut self, end: EndTransaction, reply: Sender<Decided>, now: Now) -> Option<Answer> {
        let EndTransaction { topic, id, resolution } = end;
        let said = |ended| if ended == resolution { TransactionEnded::Done } else { TransactionEnded::Otherwise };
        let (ended, fresh) = match self.transactions.deciding.get(&id).map(|(_, what)| *what) {
            Some(Deciding::Ended(ended)) => (said(ended), None),
            Some(Deciding::Dropped) => (TransactionEnded::Unknown, None),
            // Soon it is known what is known of it.
            Some(Deciding::Noted) => return self.end_later(end, reply),
            None if (self.state.next_half()..self.transactions.next).contains(&id.0) => {
                return self.end_later(end, reply);
            }
            None => match self.state.half(id) {
                Some(row) if row.kept.topic == topic => {
                    (TransactionEnded::Done, self.end_half(id, &row, resolution, now))
                }
                Some(_) => (TransactionEnded::Unknown, None),
                None => (self.state.half_end(id).map_or(TransactionEnded::Unknown, said), None),
            },
        };
        self.blocks.answer(Answer::Decided(reply, Decided { ended, fresh }))
    }

    fn end_half(&mut self, id: HalfId, row: &HalfRow, resolution: Resolution, now: Now) -> Option<Fresh> {
        let kept = row.kept;
        let how = match resolution {
            Resolution::Commit => Ended::Committed(self.next_offset(kept.topic, kept.queue)),
            Resolution::Rollback => Ended::RolledBack,
        };
        self.propose(Record::HalfEnd(HalfEnd { id, kept, how }), now);
        self.transactions.decides(id, self.blocks.ticket(), Deciding::Ended(resolution));
        let after = self.blocks.log_time().since(row.stored_at);
        let topic = self.state.topic_name(kept.topic)?.clone();
        Some(Fresh { topic, resolution, after })
    }

    /// Decides when the blocks on their way are committed.
    fn end_later(&mut self, end: EndTransaction, reply: Sender<Decided>) -> Option<Answer> {
        // Who is not heard asks again.
        if !reply.is_closed() && self.transactions.ends.len() < WAITING_MAX {
            self.transactions.ends.push((end, reply));
        }
        None
    }

    /// Decides ends that had to wait for a block.
    pub(super) fn end_waiting(&mut self, now: Now) {
        for (end, reply) in std::mem::take(&mut self.transactions.ends) {
            if let Some(answer) = self.end_transaction(end, reply, now) {
                answer.give();
            }
        }
    }

    /// A producer was asked. Said twice, or of a check before the last, it changes nothing.
    pub(super) fn checked(&mut self, checked: Checked, now: Now) {
        let Checked { topic, id, check } = checked;
        if self.transactions.deciding.contains_key(&id) {
            return;
        }
        let known = self.state.half(id).filter(|row| row.kept.topic == topic && row.checks + 1 == check);
        let Some(row) = known.filter(|row| row.checks < CHECKS_MAX) else { return };
        let row = HalfRow { checks: check, checked_at: now.wall, ..row };
        self.propose(Record::HalfChecked(HalfChecked { id, row }), now);
        self.transactions.decides(id, self.blocks.ticket(), Deciding::Noted);
    }

    /// Gives half messages whose time has come to those who have producers of their topics.
    pub(super) fn ask_producers(&mut self, now: Now) {
        if self.transactions.due().is_none_or(|at| at > now.monotonic) {
            return;
        }
        self.transactions.read(&self.state);
        self.transactions.bound();
        self.transactions.give_again(now);
        if self.may_drop() {
            self.drop_some(now);
        }
        for topic in self.transactions.desk.topics() {
            self.ask_producers_of(topic, now);
        }
        self.transactions.arm(now);
        if self.may_drop() {
            self.transactions.look(now);
        }
    }

    fn ask_producers_of(&mut self, topic: TopicId, now: Now) {
        let Self { transactions, state, .. } = self;
        let Some(due) = transactions.due.get(&topic) else { return };
        let ready: Vec<_> = due.iter().take_while(|(at, _)| *at <= now.wall).take(TURN_MAX).copied().collect();
        for (at, id) in ready {
            if transactions.deciding.contains_key(&id) {
                continue;
            }
            let Some(row) = state.half(id) else { continue };
            let Some(seat) = transactions.desk.deal((id, row)) else { return };
            transactions.take_due(topic, at, id);
            let until = now.monotonic + GIVE_AGAIN;
            transactions.given.insert(id, Given { seat, bytes: row.kept.len, until });
        }
    }

    /// Half messages of a topic, and where to go on.
    pub(super) fn transactions_of(&self, topic: TopicId, from: HalfId, max: usize) -> (Vec<(HalfId, HalfRow)>, HalfId) {
        if !self.state.open_halves().contains_key(&topic) {
            return (Vec::new(), HalfId(u64::MAX));
        }
        let (mut rows, mut next) = self.state.halves(from, READ);
        rows.retain(|(_, row)| row.kept.topic == topic);
        if let Some((id, _)) = rows.get(max) {
            next = *id;
            rows.truncate(max);
        }
        (rows, next)
    }

    /// Writes a half message again, unless something else was decided about it meanwhile.
    pub(super) fn carry_half(
        &mut self,
        id: HalfId,
        row: HalfRow,
        message: StoredMessage,
        reply: Sender<()>,
        now: Now,
    ) -> Option<Answer> {
        if !self.transactions.deciding.contains_key(&id) && self.state.half(id) == Some(row) {
            let bytes = usize::try_from(row.kept.len).expect("records are smaller than a block") + HalfCarried::MORE;
            self.blocks.reserve(bytes, 1, now.wall);
            self.propose(Record::HalfCarried(HalfCarried { id, was: row, message }), now);
            self.transactions.decides(id, self.blocks.ticket(), Deciding::Noted);
        }
        self.blocks.answer(Answer::Done(reply))
    }
}

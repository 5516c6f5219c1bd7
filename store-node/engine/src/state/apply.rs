//! Applying blocks. Deterministic: the same blocks give the same state, on every replica and after every restart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use apogee_model::store::{HalfId, KeptId};
use apogee_model::{
    DeliverySeq, Epoch, GroupId, QueueId, QueueOffset, StoredMessage, Timestamp, TopicId, message_group_hash, tag_hash,
};
use bytes::{Buf, Bytes};

use super::State;
use super::dirty::Tracked;
use super::keys::ById;
use super::lite::LiteNews;
use crate::block::{self, Block, BlockKind, Header, Lsn};
use crate::commitlog::{OpenError, segment_name};
use crate::pop::{self, PopStore as _, When};
use crate::record::{
    Carried, Ended, Fire, HalfCarried, HalfChecked, HalfEnd, HalfMessage, Kept, NotARecord, QueueOf, Record,
};
use crate::views::half::HalfRow;
use crate::views::kept::KeptRow;
use crate::views::rows::Earlier;
use crate::views::{Membership, Place};

/// Rows of the ConsumeQueue that are worth a range deletion when a trim leaves none; fewer go when the views rewrite
/// their files, because a range deletion makes every later read of the table a little slower.
const RANGE_MIN: u64 = 4096;

/// What applying a block changed, for those who wait for it.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// New messages: topic and tag hash.
    pub(crate) arrived: Vec<(TopicId, u32)>,
    /// Messages whose delivery state changed.
    pub(crate) touched: Vec<(QueueOf, QueueOffset)>,
    /// Groups that go on elsewhere in a topic.
    pub(crate) reset: Vec<(GroupId, TopicId)>,
    /// Messages that are kept back, and where they are now.
    pub(crate) kept: Vec<(KeptId, KeptRow)>,
    /// Half messages, and what is known of them; nothing when they are decided.
    pub(crate) halves: Vec<(HalfId, Option<HalfRow>)>,
    /// Lite topics, and who is subscribed to them.
    pub(crate) lite: Vec<LiteNews>,
    pub(crate) timing: Timing,
}

/// What became of messages that wait for their time, for those who count them.
#[derive(Debug, Default)]
pub(crate) struct Timing {
    /// Are kept back from now on, each for so long.
    pub(crate) kept: BTreeMap<TopicId, Vec<Duration>>,
    /// So many are in their queues now.
    pub(crate) came: BTreeMap<TopicId, u64>,
    /// Some were recalled, or dropped with their topic.
    recalled: BTreeSet<TopicId>,
}

impl Timing {
    /// The topics of which there are more or fewer now.
    pub(crate) fn topics(&self) -> BTreeSet<TopicId> {
        self.kept.keys().chain(self.came.keys()).chain(&self.recalled).copied().collect()
    }
}

/// A committed block that does not hold what a block must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record at byte {at} of the block at {lsn:?} cannot be read")]
pub(crate) struct BadBlock {
    pub(crate) lsn: Lsn,
    pub(crate) at: usize,
    #[source]
    pub(crate) cause: NotARecord,
}

impl BadBlock {
    /// What this means for a store that is being opened.
    pub(crate) fn into_open_error(self, segment_bytes: u64) -> OpenError {
        let offset = self.lsn.0 % segment_bytes;
        let file = segment_name(Lsn(self.lsn.0 - offset));
        OpenError::Corrupt { file, offset, why: format!("{self}: {}", self.cause) }
    }
}

/// Where a record is.
struct At {
    /// Of its block.
    block: Lsn,
    epoch: Epoch,
    log_time: Timestamp,
    lsn: Lsn,
    len: usize,
}

impl At {
    fn when(&self) -> When {
        When { log_time: self.log_time, epoch: self.epoch }
    }

    fn len(&self) -> u32 {
        u32::try_from(self.len).expect("records are smaller than a block")
    }

    /// What the index by key says of a message that is in the record.
    fn found(&self) -> (Lsn, u32, Timestamp) {
        (self.lsn, self.len(), self.log_time)
    }

    /// Where a message that is in the record is found again.
    fn place(&self, message: &StoredMessage) -> Place {
        let len = self.len();
        let tag_hash = tag_hash(message.tag());
        let group_hash = message_group_hash(message.message_group());
        let (lsn, visible, stored_at) = (self.lsn, self.lsn, self.log_time);
        Place { lsn, len, tag_hash, group_hash, stored_at, flags: 0, visible }
    }
}

impl State {
    /// Applies the next block. Touches memory only, unless a trim asks for the place of a message that is not new.
    ///
    /// # Errors
    /// [`BadBlock`] when a record cannot be read although the block's checksum is right; the state is then unusable.
    pub(crate) fn apply(&mut self, block: &Block) -> Result<Applied, BadBlock> {
        let header = &block.header;
        assert_eq!(header.index.0, self.applied.0 + 1, "blocks are applied in order, none twice");
        let mut applied = Applied::default();
        match header.kind {
            BlockKind::Records => self.apply_records(header, block.bytes.slice(block::HEADER..), &mut applied)?,
            BlockKind::Membership => {
                let bytes = Bytes::copy_from_slice(&block.bytes[block::HEADER..]);
                self.membership = Some(Membership { term: header.term, index: header.index, bytes });
            }
            BlockKind::Blank => {}
            BlockKind::Filler => unreachable!("a filler has no index of its own"),
        }
        self.applied = header.index;
        self.term = header.term;
        self.end = after(header.lsn, header.total_len);
        self.hash = block.hash;
        self.log_time = header.log_time;
        self.resend.forget(header.log_time);
        self.tail.evict();
        Ok(applied)
    }

    fn apply_records(&mut self, header: &Header, mut rest: Bytes, applied: &mut Applied) -> Result<(), BadBlock> {
        for _ in 0..header.records {
            let at = header.total_len - rest.len();
            let (record, len) = Record::read(&rest).map_err(|cause| BadBlock { lsn: header.lsn, at, cause })?;
            let at = At {
                block: header.lsn,
                epoch: header.term,
                log_time: header.log_time,
                lsn: after(header.lsn, at),
                len,
            };
            self.apply_record(&record, &at, applied);
            rest.advance(len);
        }
        Ok(())
    }

    fn apply_record(&mut self, record: &Record, at: &At, applied: &mut Applied) {
        match record {
            Record::Message { topic, queue, offset, request, message } => {
                let place = at.place(message);
                self.append((*topic, *queue), *offset, place);
                self.index(*topic, ById::No, message, at.found());
                if topic.is_lite() {
                    self.lites.written(*topic, at.log_time);
                }
                let (topic, queue, first, stored_at) = (*topic, *queue, *offset, at.log_time);
                let due = Timestamp::default();
                let earlier = Earlier { request: *request, lsn: at.lsn, topic, queue, first, count: 1, stored_at, due };
                self.resend.remember(earlier, at.block);
                applied.arrived.push((topic, place.tag_hash));
            }
            Record::DeadLetter(dead) => {
                let (place, of) = (at.place(&dead.message), dead.origin);
                self.append((dead.topic, dead.queue), dead.offset, place);
                self.index(dead.topic, ById::Yes, &dead.message, at.found());
                applied.arrived.push((dead.topic, place.tag_hash));
                if let Some(mut store) = Tracked::existing(&mut self.pops, &mut self.dirty, of.group, of.topic) {
                    pop::apply(record, at.when(), &mut store);
                }
                applied.touched.extend(dead.deliveries.offsets.iter().map(|offset| (of, *offset)));
            }
            Record::Open { group, topic, .. } => {
                let mut store = Tracked::or_create(&mut self.pops, &mut self.dirty, *group, *topic);
                pop::apply(record, at.when(), &mut store);
            }
            Record::Lease(lease) => {
                self.next_delivery = self.next_delivery.max(DeliverySeq(lease.deliveries.delivery.0 + 1));
                let of = lease.queue;
                let mut store = Tracked::or_create(&mut self.pops, &mut self.dirty, of.group, of.topic);
                pop::apply(record, at.when(), &mut store);
                applied.touched.extend(lease.deliveries.offsets.iter().map(|offset| (of, *offset)));
            }
            Record::Settle { queue, deliveries }
            | Record::Change { queue, deliveries, .. }
            | Record::Release { queue, deliveries } => {
                if let Some(mut store) = Tracked::existing(&mut self.pops, &mut self.dirty, queue.group, queue.topic) {
                    pop::apply(record, at.when(), &mut store);
                }
                applied.touched.extend(deliveries.offsets.iter().map(|offset| (*queue, *offset)));
            }
            Record::Reset { group, topic, starts } => {
                self.offsets.reset(*group, *topic, starts);
                let Some(mut store) = Tracked::existing(&mut self.pops, &mut self.dirty, *group, *topic) else {
                    return;
                };
                for (queue, _) in starts {
                    let of = QueueOf { group: *group, topic: *topic, queue: *queue };
                    applied.touched.extend(store.offsets(*queue).into_iter().map(|offset| (of, offset)));
                }
                pop::apply(record, at.when(), &mut store);
                applied.reset.push((*group, *topic));
            }
            Record::Close { group } => self.close(*group, applied),
            Record::Trim { topic, queue, min } => self.trim((*topic, *queue), *min, applied),
            Record::Kept(kept) => self.keep(kept, at, applied),
            Record::Carried(carried) => self.carry(carried, at, applied),
            Record::Fire(fire) => self.fire(fire, at, applied),
            Record::Recall(it) => {
                let row =
                    KeptRow { topic: it.topic, queue: it.queue, lsn: it.lsn, len: it.len, tag_hash: 0, group_hash: 0 };
                self.kept.leave(it.id, row);
                applied.timing.recalled.insert(it.topic);
            }
            Record::Half(half) => self.begin_half(half, at, applied),
            Record::HalfCarried(carried) => self.carry_half(carried, at, applied),
            Record::HalfChecked(HalfChecked { id, row }) => {
                let row = HalfRow { checked_at: at.log_time, ..*row };
                self.halves.change(*id, row);
                applied.halves.push((*id, Some(row)));
            }
            Record::HalfEnd(end) => self.end_half(end, at, applied),
            Record::CommitOffset(commit) => self.offsets.commit(commit.queue, commit.offset),
            Record::ForgetOffsets(forget) => self.offsets.forget(forget.topic),
            Record::LiteTopic(lite) => self.lites.topic(lite, at.log_time),
            Record::LiteExpiry(expiry) => self.lites.expiry(*expiry),
            Record::LiteGone(gone) => gone.ids.iter().for_each(|id| self.lite_gone(*id, applied)),
            Record::LiteSubscribe(subscribe) => self.lites.subscribed(subscribe, &mut applied.lite),
            Record::Seal { topic, epoch } => self.seal(*topic, *epoch),
            Record::KeyIndex { topic, on } => self.keys.set(*topic, *on),
            Record::TopicName { id, name } => {
                self.topics.insert(*id, name.clone());
                self.dirty.topic_name(*id);
            }
            Record::GroupName { id, name } => {
                self.groups.insert(*id, name.clone());
                self.dirty.group_name(*id);
            }
        }
    }

    fn keep(&mut self, kept: &Kept, at: &At, applied: &mut Applied) {
        let Kept { topic, queue, id, request, message } = kept;
        let row = kept_row(*topic, *queue, message, at);
        self.kept.keep(*id, row);
        self.index(*topic, ById::Yes, message, at.found());
        let (first, stored_at) = (QueueOffset(id.number), at.log_time);
        let (topic, queue, due) = (*topic, *queue, id.due);
        let earlier = Earlier { request: *request, lsn: at.lsn, topic, queue, first, count: 1, stored_at, due };
        self.resend.remember(earlier, at.block);
        applied.kept.push((*id, row));
        applied.timing.kept.entry(topic).or_default().push(due.since(stored_at));
    }

    fn carry(&mut self, carried: &Carried, at: &At, applied: &mut Applied) {
        let row = kept_row(carried.topic, carried.queue, &carried.message, at);
        self.kept.moved(carried.id, (carried.from, carried.from_len), row);
        self.index(carried.topic, ById::Yes, &carried.message, at.found());
        applied.kept.push((carried.id, row));
    }

    fn fire(&mut self, fire: &Fire, at: &At, applied: &mut Applied) {
        let (topic, queue) = (fire.topic, fire.queue);
        let count = u64::try_from(fire.messages.len()).expect("they are in one block");
        *applied.timing.came.entry(topic).or_default() += count;
        for (offset, it) in (fire.first.0..).zip(&fire.messages) {
            let (lsn, len, tag_hash, group_hash) = (it.lsn, it.len, it.tag_hash, it.group_hash);
            self.kept.leave(it.id, KeptRow { topic, queue, lsn, len, tag_hash, group_hash });
            self.kept.came((topic, queue), QueueOffset(offset), lsn, at.log_time);
            let (stored_at, visible) = (at.log_time, at.lsn);
            let place = Place { lsn, len, tag_hash, group_hash, stored_at, flags: 0, visible };
            self.append((topic, queue), QueueOffset(offset), place);
            applied.arrived.push((topic, tag_hash));
        }
    }

    fn begin_half(&mut self, half: &HalfMessage, at: &At, applied: &mut Applied) {
        let HalfMessage { topic, queue, id, request, check_after_ms, message } = half;
        let kept = kept_row(*topic, *queue, message, at);
        let (stored_at, checked_at) = (at.log_time, Timestamp(0));
        let row = HalfRow { kept, stored_at, check_after_ms: *check_after_ms, checks: 0, checked_at };
        self.halves.begin(*id, row);
        self.index(*topic, ById::Yes, message, at.found());
        self.kept.hold(kept.lsn, kept.len);
        let (topic, queue, first, due) = (*topic, *queue, QueueOffset(id.0), Earlier::HALF);
        let earlier = Earlier { request: *request, lsn: at.lsn, topic, queue, first, count: 1, stored_at, due };
        self.resend.remember(earlier, at.block);
        applied.halves.push((*id, Some(row)));
    }

    fn carry_half(&mut self, carried: &HalfCarried, at: &At, applied: &mut Applied) {
        let HalfCarried { id, was, message } = carried;
        let kept = kept_row(was.kept.topic, was.kept.queue, message, at);
        let row = HalfRow { kept, ..*was };
        self.halves.change(*id, row);
        self.index(was.kept.topic, ById::Yes, message, at.found());
        self.kept.let_go(was.kept.lsn, was.kept.len);
        self.kept.hold(kept.lsn, kept.len);
        applied.halves.push((*id, Some(row)));
    }

    fn end_half(&mut self, end: &HalfEnd, at: &At, applied: &mut Applied) {
        let HalfEnd { id, kept, how } = *end;
        let KeptRow { topic, queue, lsn, len, tag_hash, group_hash } = kept;
        self.halves.end(id, topic, how.resolution(), at.log_time);
        self.kept.let_go(lsn, len);
        if let Ended::Committed(offset) = how {
            self.kept.came((topic, queue), offset, lsn, at.log_time);
            let (stored_at, visible) = (at.log_time, at.lsn);
            let place = Place { lsn, len, tag_hash, group_hash, stored_at, flags: 0, visible };
            self.append((topic, queue), offset, place);
            applied.arrived.push((topic, tag_hash));
        }
        applied.halves.push((id, None));
    }

    fn append(&mut self, queue: (TopicId, QueueId), offset: QueueOffset, place: Place) {
        let state = self.queues.entry(queue).or_default();
        assert_eq!(offset, state.next, "the offsets of a queue follow one another");
        let before = *state;
        if state.min == state.next {
            state.min_lsn = place.visible;
        }
        state.next = offset.next();
        self.oldest.moved(queue, before, *state);
        self.tail.push(queue, offset, place);
        self.dirty.queue(queue);
    }

    fn close(&mut self, group: GroupId, applied: &mut Applied) {
        let topics: Vec<_> = self.topics_of(group).map(|(topic, _)| topic).collect();
        for topic in topics {
            let Some(state) = self.pops.remove(group, topic) else { continue };
            for (queue, state) in state.queues {
                let of = QueueOf { group, topic, queue };
                applied.touched.extend(state.entries.keys().map(|offset| (of, *offset)));
            }
        }
        self.groups.remove(&group);
        self.offsets.close(group);
        self.lites.close(group);
        self.dirty.close(group);
    }

    fn trim(&mut self, (topic, queue): (TopicId, QueueId), min: QueueOffset, applied: &mut Applied) {
        let key = (topic, queue);
        let Some(state) = self.queues.get_mut(&key) else { return };
        let before = *state;
        let min = min.min(before.next);
        if min <= before.min {
            return;
        }
        state.min = min;
        let gone = min.0 - before.min.0;
        self.trimmed += gone;
        self.tail.trim(key, min);
        self.kept.trim(key, min);
        self.dirty.trim(key, min == before.next && gone >= RANGE_MIN);
        let oldest = self.glance(topic, queue, min);
        if let Some(state) = self.queues.get_mut(&key) {
            state.min_lsn = oldest.map_or(state.min_lsn, |oldest| oldest.visible);
            self.oldest.moved(key, before, *state);
        }
        let readers = self.pops.of_topic(topic).filter(|(_, state)| state.queues.contains_key(&queue));
        let readers: Vec<_> = readers.map(|(group, _)| group).collect();
        for group in readers {
            let Some(state) = self.pops.get_mut(group, topic) else { continue };
            let of = QueueOf { group, topic, queue };
            self.dirty.cursor(of);
            for offset in state.trim(queue, min) {
                self.dirty.removed(of, offset);
                applied.touched.push((of, offset));
            }
        }
    }
}

fn after(lsn: Lsn, bytes: usize) -> Lsn {
    Lsn(lsn.0 + u64::try_from(bytes).expect("blocks are at most 8 MiB"))
}

fn kept_row(topic: TopicId, queue: QueueId, message: &StoredMessage, at: &At) -> KeptRow {
    let Place { lsn, len, tag_hash, group_hash, .. } = at.place(message);
    KeptRow { topic, queue, lsn, len, tag_hash, group_hash }
}

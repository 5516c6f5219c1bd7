//! Random but possible logs.

use std::collections::BTreeMap;

use apogee_model::store::{HalfId, KeptId, RequestId};
use apogee_model::{
    BlockIndex, ConsumerGroup, DeliverySeq, Epoch, GroupId, QueueId, QueueOffset, StoredMessage, Timestamp, Topic,
    TopicId, message_group_hash, tag_hash,
};
use bytes::Bytes;
use proptest::prelude::*;

use crate::block::{Block, BlockKind, HEADER, Header, Lsn};
use crate::record::{
    Carried, ChangedBy, CommitOffset, DeadLetter, Deliveries, Ended, Fire, Fired, ForgetOffsets, HalfCarried,
    HalfChecked, HalfEnd, HalfMessage, Kept, Lease, LiteChanged, LiteExpiry, LiteGone, LiteSubscribe, LiteTopic,
    QueueOf, Recall, Record,
};
use crate::views::half::HalfRow;
use crate::views::kept::KeptRow;

/// What one block holds. Topics, groups and queues are few, so that events meet.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// `request` 0 has no proxy.
    Send {
        queue: u16,
        count: u16,
        request: u64,
    },
    Lease {
        group: u32,
        queue: u16,
        first: u64,
        count: u64,
        attempt: u64,
    },
    Settle {
        group: u32,
        queue: u16,
        first: u64,
        count: u64,
    },
    /// Of the newest delivery.
    Bury {
        group: u32,
        queue: u16,
        first: u64,
    },
    Change {
        group: u32,
        queue: u16,
        first: u64,
        by: u8,
    },
    Release {
        group: u32,
        queue: u16,
        first: u64,
        count: u64,
    },
    Open {
        group: u32,
        start: u64,
    },
    Reset {
        group: u32,
        queue: u16,
        to: u64,
    },
    Close {
        group: u32,
    },
    Trim {
        queue: u16,
        min: u64,
    },
    Keep {
        queue: u16,
        count: u16,
        after: u64,
        request: u64,
    },
    /// Those that are due first, of one queue.
    Fire {
        queue: u16,
        count: usize,
    },
    Recall {
        nth: usize,
    },
    Carry {
        nth: usize,
    },
    Half {
        queue: u16,
        count: u16,
        request: u64,
    },
    EndHalf {
        nth: usize,
        how: u8,
    },
    CheckHalf {
        nth: usize,
    },
    CarryHalf {
        nth: usize,
    },
    Commit {
        group: u32,
        queue: u16,
        offset: u64,
    },
    Forget,
    Lite,
    /// To the nth lite topic.
    LiteSend {
        nth: usize,
    },
    LiteLease {
        group: u32,
        nth: usize,
    },
    LiteSubscribe {
        group: u32,
        client: u8,
        nth: usize,
        how: u8,
    },
    LiteGone {
        nth: usize,
    },
    LiteExpiry {
        after_ms: Option<u64>,
    },
    Name {
        id: u32,
    },
    KeyIndex {
        on: bool,
    },
    Seal {
        epoch: u32,
    },
    Wait {
        ms: u64,
    },
    Blank,
    Membership {
        byte: u8,
    },
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let (group, queue, first, count) = (0..3u32, 0..3u16, 0..12u64, 0..5u64);
    prop_oneof![
        8 => (queue.clone(), 1..8u16, prop_oneof![0..12u64, 0..1000u64])
            .prop_map(|(queue, count, request)| Event::Send { queue, count, request }),
        6 => (group.clone(), queue.clone(), first.clone(), count.clone(), 0..3u64).prop_map(
            |(group, queue, first, count, attempt)| Event::Lease { group, queue, first, count, attempt }
        ),
        4 => (group.clone(), queue.clone(), first.clone(), count.clone())
            .prop_map(|(group, queue, first, count)| Event::Settle { group, queue, first, count }),
        2 => (group.clone(), queue.clone(), first.clone())
            .prop_map(|(group, queue, first)| Event::Bury { group, queue, first }),
        2 => (group.clone(), queue.clone(), first.clone(), 0..4u8)
            .prop_map(|(group, queue, first, by)| Event::Change { group, queue, first, by }),
        2 => (group.clone(), queue.clone(), first.clone(), count)
            .prop_map(|(group, queue, first, count)| Event::Release { group, queue, first, count }),
        1 => (group.clone(), first.clone()).prop_map(|(group, start)| Event::Open { group, start }),
        2 => (group.clone(), queue.clone(), first.clone())
            .prop_map(|(group, queue, to)| Event::Reset { group, queue, to }),
        3 => (group.clone(), queue.clone(), first)
            .prop_map(|(group, queue, offset)| Event::Commit { group, queue, offset }),
        1 => Just(Event::Forget),
        3 => Just(Event::Lite),
        4 => (0..6usize).prop_map(|nth| Event::LiteSend { nth }),
        4 => (group.clone(), 0..6usize).prop_map(|(group, nth)| Event::LiteLease { group, nth }),
        5 => (group.clone(), 0..3u8, 0..6usize, 0..3u8)
            .prop_map(|(group, client, nth, how)| Event::LiteSubscribe { group, client, nth, how }),
        2 => (0..6usize).prop_map(|nth| Event::LiteGone { nth }),
        1 => prop_oneof![Just(None), (0..9u64).prop_map(Some)].prop_map(|after_ms| Event::LiteExpiry { after_ms }),
        1 => group.prop_map(|group| Event::Close { group }),
        6 => (queue.clone(), 1..6u16, 0..50_000u64, prop_oneof![0..12u64, 0..1000u64])
            .prop_map(|(queue, count, after, request)| Event::Keep { queue, count, after, request }),
        4 => (queue.clone(), 1..8usize).prop_map(|(queue, count)| Event::Fire { queue, count }),
        2 => (0..12usize).prop_map(|nth| Event::Recall { nth }),
        2 => (0..12usize).prop_map(|nth| Event::Carry { nth }),
        5 => (queue.clone(), 1..5u16, prop_oneof![0..12u64, 0..1000u64])
            .prop_map(|(queue, count, request)| Event::Half { queue, count, request }),
        4 => (0..8usize, 0..3u8).prop_map(|(nth, how)| Event::EndHalf { nth, how }),
        2 => (0..8usize).prop_map(|nth| Event::CheckHalf { nth }),
        2 => (0..8usize).prop_map(|nth| Event::CarryHalf { nth }),
        2 => (queue, 0..30u64).prop_map(|(queue, min)| Event::Trim { queue, min }),
        1 => (0..3u32).prop_map(|id| Event::Name { id }),
        1 => any::<bool>().prop_map(|on| Event::KeyIndex { on }),
        1 => (1..9u32).prop_map(|epoch| Event::Seal { epoch }),
        3 => (0..45_000u64).prop_map(|ms| Event::Wait { ms }),
        1 => Just(Event::Blank),
        1 => any::<u8>().prop_map(|byte| Event::Membership { byte }),
    ]
}

/// Writes blocks one after the other.
#[derive(Default)]
pub(super) struct World {
    index: u64,
    end: u64,
    hash: u32,
    now: u64,
    next: BTreeMap<u16, u64>,
    deliveries: u64,
    /// Queue, place and length of messages that are kept back.
    kept: BTreeMap<KeptId, (u16, u64, u32)>,
    ever_kept: u64,
    halves: BTreeMap<HalfId, HalfRow>,
    next_half: u64,
    /// The next offset of each lite topic.
    lites: BTreeMap<TopicId, u64>,
    lites_given: u32,
}

const TOPIC: TopicId = TopicId(1);
/// The queue of dead letters, which groups read as they do all others.
const DEAD: u16 = 2;

impl World {
    pub(super) fn blocks(&mut self, events: Vec<Event>) -> Vec<Block> {
        events.into_iter().map(|event| self.block(&event)).collect()
    }

    fn block(&mut self, event: &Event) -> Block {
        let mut bytes = vec![0; HEADER];
        let (kind, records) = match event {
            Event::Blank => (BlockKind::Blank, 0),
            Event::Membership { byte } => {
                bytes.extend_from_slice(&[*byte; 8]);
                (BlockKind::Membership, 0)
            }
            event => {
                let records = self.records(event);
                for record in &records {
                    let at = self.end + u64::try_from(bytes.len()).unwrap();
                    let len = u32::try_from(record.write(&mut bytes)).unwrap();
                    self.note(record, at, len);
                }
                (BlockKind::Records, u32::try_from(records.len()).unwrap())
            }
        };
        self.index += 1;
        let header = Header {
            kind,
            records,
            total_len: bytes.len(),
            previous: self.hash,
            term: Epoch(1 + self.index / 10),
            leader: 0,
            index: BlockIndex(self.index),
            lsn: Lsn(self.end),
            commit: BlockIndex(self.index - 1),
            log_time: Timestamp(self.now),
        };
        self.hash = header.seal(&mut bytes);
        self.end += u64::try_from(bytes.len()).unwrap();
        Block::read(&Bytes::from(bytes), header.lsn).unwrap()
    }

    fn records(&mut self, event: &Event) -> Vec<Record> {
        match *event {
            Event::Send { queue, count, request } => (0..count).map(|_| self.message(queue, request)).collect(),
            Event::Lease { group, queue, first, count, attempt } => {
                self.deliveries += 1;
                vec![Record::Lease(Lease {
                    queue: of(group, queue),
                    deliveries: deliveries(self.deliveries, first, count),
                    cursor: QueueOffset(first + count),
                    duration_ms: 30_000,
                    auto_renew: attempt == 1,
                    client: 5,
                    attempt_id: attempt,
                    // Those behind the batch, every third time.
                    waiting: (first + count..first + count * u64::from(self.deliveries.is_multiple_of(3)))
                        .map(QueueOffset)
                        .collect(),
                })]
            }
            // Of the newest delivery, which may be another's: then nothing happens.
            Event::Settle { group, queue, first, count } => {
                let deliveries = deliveries(self.deliveries, first, count);
                vec![Record::Settle { queue: of(group, queue), deliveries }]
            }
            Event::Bury { group, queue, first } => {
                let Record::Message { topic, queue: at, offset, message, .. } = self.message(DEAD, 0) else {
                    unreachable!("it is a message")
                };
                let (origin, deliveries) = (of(group, queue), deliveries(self.deliveries, first, 1));
                vec![Record::DeadLetter(DeadLetter { origin, deliveries, topic, queue: at, offset, message })]
            }
            Event::Change { group, queue, first, by } => {
                let all = [ChangedBy::Client, ChangedBy::Renewal, ChangedBy::Replay, ChangedBy::Suspend];
                let by = all[usize::from(by)];
                let deliveries = deliveries(self.deliveries, first, 2);
                vec![Record::Change { queue: of(group, queue), deliveries, duration_ms: 10_000, by }]
            }
            Event::Release { group, queue, first, count } => {
                let deliveries = deliveries(self.deliveries, first, count);
                vec![Record::Release { queue: of(group, queue), deliveries }]
            }
            Event::Open { group, start } => {
                let starts = vec![(QueueId(0), QueueOffset(start)), (QueueId(5), QueueOffset(0))];
                vec![Record::Open { group: GroupId(group), topic: TOPIC, starts }]
            }
            Event::Reset { group, queue, to } => {
                let starts = vec![(QueueId(queue), QueueOffset(to))];
                vec![Record::Reset { group: GroupId(group), topic: TOPIC, starts }]
            }
            Event::Close { group } => vec![Record::Close { group: GroupId(group) }],
            Event::Trim { queue, min } => {
                vec![Record::Trim { topic: TOPIC, queue: QueueId(queue), min: QueueOffset(min) }]
            }
            Event::Keep { queue, count, after, request } => {
                (0..count).map(|nth| self.keep(queue, self.now + after * u64::from(nth + 1), request)).collect()
            }
            Event::Fire { queue, count } => {
                let of_queue = self.kept.iter().filter(|(_, (of, ..))| *of == queue);
                let fired = of_queue.take(count).map(|(id, (_, at, len))| Fired {
                    id: *id,
                    lsn: Lsn(*at),
                    len: *len,
                    tag_hash: 1,
                    group_hash: 2,
                });
                let (messages, next) = (fired.collect::<Vec<_>>(), self.next.entry(queue).or_default());
                let first = QueueOffset(*next);
                *next += u64::try_from(messages.len()).unwrap();
                vec![Record::Fire(Fire { topic: TOPIC, queue: QueueId(queue), first, messages })]
            }
            Event::Recall { nth } => {
                let found = self.kept.iter().nth(nth).into_iter();
                let recall = |(id, (queue, at, len)): (&KeptId, &(u16, u64, u32))| {
                    Record::Recall(Recall { topic: TOPIC, queue: QueueId(*queue), id: *id, lsn: Lsn(*at), len: *len })
                };
                found.map(recall).collect()
            }
            Event::Carry { nth } => {
                let found = self.kept.iter().nth(nth).into_iter();
                let carry = |(id, (queue, at, len)): (&KeptId, &(u16, u64, u32))| {
                    let (queue, from, from_len) = (QueueId(*queue), Lsn(*at), *len);
                    Record::Carried(Carried { topic: TOPIC, queue, id: *id, from, from_len, message: message() })
                };
                found.map(carry).collect()
            }
            Event::Half { queue, count, request } => (0..count).map(|_| self.half(queue, request)).collect(),
            Event::EndHalf { nth, how } => self.some_half(nth, |world, id, row| {
                let how = match how {
                    0 => {
                        let next = world.next.entry(row.kept.queue.0).or_default();
                        *next += 1;
                        Ended::Committed(QueueOffset(*next - 1))
                    }
                    1 => Ended::RolledBack,
                    _ => Ended::Dropped,
                };
                Record::HalfEnd(HalfEnd { id, kept: row.kept, how })
            }),
            Event::CheckHalf { nth } => self.some_half(nth, |_, id, row| {
                Record::HalfChecked(HalfChecked { id, row: HalfRow { checks: row.checks + 1, ..row } })
            }),
            Event::CarryHalf { nth } => {
                self.some_half(nth, |_, id, was| Record::HalfCarried(HalfCarried { id, was, message: message() }))
            }
            Event::Commit { group, queue, offset } => {
                vec![Record::CommitOffset(CommitOffset { queue: of(group, queue), offset: QueueOffset(offset) })]
            }
            Event::Forget => vec![Record::ForgetOffsets(ForgetOffsets { topic: TOPIC })],
            Event::Lite => {
                let id = TopicId(TopicId::LITE.0 + self.lites_given);
                self.lites_given += 1;
                self.lites.insert(id, 0);
                let name = format!("lite-{}", id.0 % 5).into();
                vec![Record::LiteTopic(LiteTopic { parent: TOPIC, id, name })]
            }
            Event::LiteSend { nth } => {
                let Some((topic, next)) = self.lites.iter_mut().nth(nth) else { return Vec::new() };
                let (topic, queue, offset) = (*topic, QueueId(0), QueueOffset(*next));
                *next += 1;
                let request = RequestId { proxy_incarnation: 0, sequence: 0 };
                vec![Record::Message { topic, queue, offset, request, message: message() }]
            }
            Event::LiteLease { group, nth } => {
                let Some((topic, next)) = self.lites.iter().nth(nth) else { return Vec::new() };
                self.deliveries += 1;
                let queue = QueueOf { group: GroupId(group), topic: *topic, queue: QueueId(0) };
                let deliveries = deliveries(self.deliveries, 0, *next);
                let (cursor, duration_ms, waiting) = (QueueOffset(*next), 30_000, [].into());
                let open = Record::Open { group: GroupId(group), topic: *topic, starts: Vec::new() };
                let (auto_renew, client, attempt_id) = (true, 5, 7);
                let lease = Lease { queue, deliveries, cursor, duration_ms, auto_renew, client, attempt_id, waiting };
                vec![open, Record::Lease(lease)]
            }
            Event::LiteSubscribe { group, client, nth, how } => {
                let change = [LiteChanged::Added, LiteChanged::Removed, LiteChanged::TakenOver][usize::from(how)];
                let ids = self.lites.keys().skip(nth).take(3).copied().collect();
                let client = format!("client-{client}").into();
                vec![Record::LiteSubscribe(LiteSubscribe { group: GroupId(group), parent: TOPIC, client, change, ids })]
            }
            Event::LiteGone { nth } => {
                let ids: Vec<_> = self.lites.keys().skip(nth).take(2).copied().collect();
                self.lites.retain(|id, _| !ids.contains(id));
                vec![Record::LiteGone(LiteGone { ids })]
            }
            Event::Seal { epoch } => vec![Record::Seal { topic: TOPIC, epoch }],
            Event::KeyIndex { on } => vec![Record::KeyIndex { topic: TOPIC, on }],
            Event::LiteExpiry { after_ms } => vec![Record::LiteExpiry(LiteExpiry { parent: TOPIC, after_ms })],
            Event::Name { id } => vec![
                Record::TopicName { id: TopicId(id), name: Topic::parse("", &format!("topic-{id}")).unwrap() },
                Record::GroupName { id: GroupId(id), name: ConsumerGroup::parse("", &format!("group-{id}")).unwrap() },
            ],
            Event::Wait { ms } => {
                self.now += ms;
                Vec::new()
            }
            Event::Blank | Event::Membership { .. } => Vec::new(),
        }
    }

    /// Where messages that are kept back are.
    fn note(&mut self, record: &Record, at: u64, len: u32) {
        match record {
            Record::Kept(Kept { queue, id, .. }) | Record::Carried(Carried { queue, id, .. }) => {
                self.kept.insert(*id, (queue.0, at, len));
            }
            Record::Half(HalfMessage { topic, queue, id, check_after_ms, .. }) => {
                let (lsn, tag_hash, group_hash) = (Lsn(at), tag_hash(None), message_group_hash(None));
                let kept = KeptRow { topic: *topic, queue: *queue, lsn, len, tag_hash, group_hash };
                let (stored_at, check_after_ms) = (Timestamp(self.now), *check_after_ms);
                let row = HalfRow { kept, stored_at, check_after_ms, checks: 0, checked_at: Timestamp(0) };
                self.halves.insert(*id, row);
            }
            Record::HalfCarried(HalfCarried { id, was, .. }) => {
                let kept = KeptRow { lsn: Lsn(at), len, ..was.kept };
                self.halves.insert(*id, HalfRow { kept, ..*was });
            }
            Record::HalfChecked(HalfChecked { id, row }) => {
                self.halves.insert(*id, HalfRow { checked_at: Timestamp(self.now), ..*row });
            }
            Record::HalfEnd(end) => {
                self.halves.remove(&end.id);
            }
            Record::Fire(fire) => fire.messages.iter().for_each(|fired| {
                self.kept.remove(&fired.id);
            }),
            Record::Recall(recall) => {
                self.kept.remove(&recall.id);
            }
            _ => {}
        }
    }

    fn keep(&mut self, queue: u16, due: u64, request: u64) -> Record {
        let id = KeptId { due: Timestamp(due), number: self.ever_kept };
        self.ever_kept += 1;
        let request = RequestId { proxy_incarnation: u64::from(request > 0), sequence: request };
        Record::Kept(Kept { topic: TOPIC, queue: QueueId(queue), id, request, message: message() })
    }

    /// Their numbers are far from one another, so that few ends share a row.
    fn half(&mut self, queue: u16, request: u64) -> Record {
        let id = HalfId(self.next_half);
        self.next_half += 1500;
        let request = RequestId { proxy_incarnation: u64::from(request > 0), sequence: request };
        let (topic, queue, check_after_ms) = (TOPIC, QueueId(queue), 6000);
        Record::Half(HalfMessage { topic, queue, id, request, check_after_ms, message: message() })
    }

    fn some_half(&mut self, nth: usize, record: impl FnOnce(&mut Self, HalfId, HalfRow) -> Record) -> Vec<Record> {
        let found = self.halves.iter().nth(nth).map(|(id, row)| (*id, *row));
        found.map(|(id, row)| record(self, id, row)).into_iter().collect()
    }

    fn message(&mut self, queue: u16, request: u64) -> Record {
        let next = self.next.entry(queue).or_default();
        let offset = QueueOffset(*next);
        *next += 1;
        let message = message();
        let request = RequestId { proxy_incarnation: u64::from(request > 0), sequence: request };
        Record::Message { topic: TOPIC, queue: QueueId(queue), offset, request, message }
    }
}

/// With a key.
fn message() -> StoredMessage {
    StoredMessage { body_part: Bytes::from_static(b"body"), properties_part: Bytes::from_static(b"\x12\x03k x") }
}

fn of(group: u32, queue: u16) -> QueueOf {
    QueueOf { group: GroupId(group), topic: TOPIC, queue: QueueId(queue) }
}

fn deliveries(delivery: u64, first: u64, count: u64) -> Deliveries {
    Deliveries { delivery: DeliverySeq(delivery), offsets: (first..first + count).map(QueueOffset).collect() }
}

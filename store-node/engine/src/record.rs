//! Records: everything that happens to a replica group, one after the other inside blocks.

mod dead_letter;
mod half;
mod kept;
mod lite;
mod offsets;

use std::sync::Arc;

use apogee_model::{
    ConsumerGroup, DeliverySeq, GroupId, QueueId, QueueOffset, StoredMessage, Topic, TopicId, store::RequestId,
};
use bytes::Bytes;

pub(crate) use dead_letter::DeadLetter;
pub(crate) use half::{Ended, HalfCarried, HalfChecked, HalfEnd, HalfMessage};
pub(crate) use kept::{Carried, Fire, Fired, Kept, Recall};
pub(crate) use lite::{LiteChanged, LiteExpiry, LiteGone, LiteSubscribe, LiteTopic};
pub(crate) use offsets::{CommitOffset, ForgetOffsets};

use crate::codec::{Reader, crc32c, put_text, u16_at, u32_at, u64_at};

/// Bytes of a record header.
pub(crate) const HEADER: usize = 48;

const CRC_AT: usize = 8;

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Record {
    Message {
        topic: TopicId,
        queue: QueueId,
        offset: QueueOffset,
        request: RequestId,
        message: StoredMessage,
    },
    /// A message was delivered often enough: it is settled, and its copy is among the dead letters.
    DeadLetter(DeadLetter),
    Lease(Lease),
    Settle {
        queue: QueueOf,
        deliveries: Deliveries,
    },
    Change {
        queue: QueueOf,
        deliveries: Deliveries,
        duration_ms: u64,
        by: ChangedBy,
    },
    /// A batch that never reached its consumer: visible at once, attempt not counted.
    Release {
        queue: QueueOf,
        deliveries: Deliveries,
    },
    /// The first receive of a group on a topic. Queues that are not named start at 0.
    Open {
        group: GroupId,
        topic: TopicId,
        starts: Vec<(QueueId, QueueOffset)>,
    },
    /// The group goes on elsewhere in these queues: all its deliveries there end, what is below the offset is settled, and
    /// nothing from there on is.
    Reset {
        group: GroupId,
        topic: TopicId,
        starts: Vec<(QueueId, QueueOffset)>,
    },
    /// Everything of the group is forgotten.
    Close {
        group: GroupId,
    },
    /// Messages below `min` are gone.
    Trim {
        topic: TopicId,
        queue: QueueId,
        min: QueueOffset,
    },
    /// What an id stands for; comes before its first use.
    TopicName {
        id: TopicId,
        name: Topic,
    },
    GroupName {
        id: GroupId,
        name: ConsumerGroup,
    },
    Kept(Kept),
    Carried(Carried),
    Fire(Fire),
    Recall(Recall),
    Half(HalfMessage),
    HalfCarried(HalfCarried),
    HalfChecked(HalfChecked),
    HalfEnd(HalfEnd),
    CommitOffset(CommitOffset),
    ForgetOffsets(ForgetOffsets),
    LiteTopic(LiteTopic),
    LiteExpiry(LiteExpiry),
    LiteGone(LiteGone),
    LiteSubscribe(LiteSubscribe),
    /// Messages of a topic are found by their keys from now on, or are not.
    KeyIndex {
        topic: TopicId,
        on: bool,
    },
    /// No message of a message group is taken that was hashed over the queues of an epoch before this one.
    Seal {
        topic: TopicId,
        epoch: u32,
    },
}

/// One queue of one group.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct QueueOf {
    pub(crate) group: GroupId,
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
}

/// Messages of one queue that were delivered together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Deliveries {
    pub(crate) delivery: DeliverySeq,
    pub(crate) offsets: Arc<[QueueOffset]>,
}

/// A batch is given to a consumer, and the group's cursor moves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lease {
    pub(crate) queue: QueueOf,
    /// Nothing but the cursor moves when no offset is named.
    pub(crate) deliveries: Deliveries,
    pub(crate) cursor: QueueOffset,
    pub(crate) duration_ms: u64,
    pub(crate) auto_renew: bool,
    /// Hash of the client id.
    pub(crate) client: u64,
    /// Hash of the attempt id, 0 for none.
    pub(crate) attempt_id: u64,
    /// Messages the cursor moves past and nobody gets yet, because an earlier one of their message group is out.
    pub(crate) waiting: Arc<[QueueOffset]>,
}

/// Who moved the end of a lease.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum ChangedBy {
    /// The consumer asked for it: nobody renews this delivery any more.
    Client,
    /// The leader renews the lease of a consumer that confirmed the delivery and lives.
    Renewal,
    /// The leader gives the same batch again to the consumer that lost the answer.
    Replay,
    /// The consumer wants it later: nobody renews it, and the attempt does not count.
    Suspend,
}

/// Why bytes are not a record.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NotARecord {
    #[error("the record ends too early")]
    Short,
    #[error("record checksum mismatch")]
    Checksum,
    #[error("record kind {0} is unknown")]
    Kind(u8),
    #[error("the body of a record of kind {0} is malformed")]
    Body(u8),
}

mod kind {
    pub(super) const MESSAGE: u8 = 1;
    pub(super) const KEPT: u8 = 2;
    pub(super) const HALF_END: u8 = 3;
    pub(super) const LEASE: u8 = 4;
    pub(super) const SETTLE: u8 = 5;
    pub(super) const CHANGE: u8 = 6;
    pub(super) const RELEASE: u8 = 7;
    pub(super) const FIRE: u8 = 9;
    pub(super) const DEAD_LETTER: u8 = 8;
    pub(super) const TRIM: u8 = 10;
    pub(super) const OPEN: u8 = 11;
    pub(super) const MAPPING: u8 = 12;
    pub(super) const CLOSE: u8 = 13;
    pub(super) const RESET: u8 = 14;
    pub(super) const RECALL: u8 = 15;
    pub(super) const COMMIT_OFFSET: u8 = 16;
    pub(super) const FORGET_OFFSETS: u8 = 17;
    pub(super) const CARRIED: u8 = 20;
    pub(super) const HALF: u8 = 21;
    pub(super) const HALF_CHECKED: u8 = 22;
    pub(super) const HALF_CARRIED: u8 = 23;
    pub(super) const LITE_TOPIC: u8 = 24;
    pub(super) const LITE_EXPIRY: u8 = 25;
    pub(super) const LITE_GONE: u8 = 26;
    pub(super) const LITE_SUBSCRIBE: u8 = 27;
    pub(super) const KEY_INDEX: u8 = 28;
    pub(super) const SEAL: u8 = 29;
}

const AUTO_RENEW: u8 = 1;
const BY_RENEWAL: u8 = 1;
const BY_REPLAY: u8 = 2;
const BY_SUSPEND: u8 = 3;
const MAPS_TOPIC: u8 = 1;
const MAPS_GROUP: u8 = 2;

impl Record {
    /// Appends the record to a block under construction; returns the bytes it took.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.resize(start + HEADER, 0);
        let head = self.write_body(out);
        let body_len = out.len() - start - HEADER;
        let total = (HEADER + body_len).next_multiple_of(8);
        out.resize(start + total, 0);
        head.seal(&mut out[start..], body_len);
        total
    }

    fn write_body(&self, out: &mut Vec<u8>) -> Head {
        match self {
            Self::Message { topic, queue, offset, request, message } => {
                out.extend_from_slice(&message.body_part);
                out.extend_from_slice(&message.properties_part);
                let head = Head::of(kind::MESSAGE, *topic, *queue, *offset);
                Head { request: *request, b_len: message.properties_part.len(), ..head }
            }
            Self::DeadLetter(dead) => dead.write_body(out),
            Self::Lease(lease) => {
                put_deliveries(out, lease.queue.group, &lease.deliveries);
                for number in [lease.duration_ms, lease.client, lease.attempt_id] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                lease.waiting.iter().for_each(|offset| out.extend_from_slice(&offset.0.to_le_bytes()));
                let head = Head::of(kind::LEASE, lease.queue.topic, lease.queue.queue, lease.cursor);
                Head { flags: if lease.auto_renew { AUTO_RENEW } else { 0 }, ..head }
            }
            Self::Settle { queue, deliveries } => {
                put_deliveries(out, queue.group, deliveries);
                Head::of_queue(kind::SETTLE, queue)
            }
            Self::Change { queue, deliveries, duration_ms, by } => {
                put_deliveries(out, queue.group, deliveries);
                out.extend_from_slice(&duration_ms.to_le_bytes());
                let flags = match by {
                    ChangedBy::Client => 0,
                    ChangedBy::Renewal => BY_RENEWAL,
                    ChangedBy::Replay => BY_REPLAY,
                    ChangedBy::Suspend => BY_SUSPEND,
                };
                Head { flags, ..Head::of_queue(kind::CHANGE, queue) }
            }
            Self::Release { queue, deliveries } => {
                put_deliveries(out, queue.group, deliveries);
                Head::of_queue(kind::RELEASE, queue)
            }
            Self::Open { group, topic, starts } => {
                put_starts(out, *group, starts);
                Head::of(kind::OPEN, *topic, QueueId(0), QueueOffset(0))
            }
            Self::Reset { group, topic, starts } => {
                put_starts(out, *group, starts);
                Head::of(kind::RESET, *topic, QueueId(0), QueueOffset(0))
            }
            Self::Close { group } => {
                out.extend_from_slice(&group.0.to_le_bytes());
                Head::of(kind::CLOSE, TopicId(0), QueueId(0), QueueOffset(0))
            }
            Self::Trim { topic, queue, min } => Head::of(kind::TRIM, *topic, *queue, *min),
            Self::Kept(kept) => kept.put(out),
            Self::Carried(carried) => carried.put(out),
            Self::Fire(fire) => fire.put(out),
            Self::Recall(recall) => recall.put(out),
            Self::Half(half) => half.put(out),
            Self::HalfCarried(carried) => carried.put(out),
            Self::HalfChecked(checked) => checked.put(out),
            Self::HalfEnd(end) => end.put(out),
            Self::CommitOffset(commit) => commit.put(out),
            Self::ForgetOffsets(forget) => forget.put(),
            Self::LiteTopic(lite) => lite.put(out),
            Self::LiteExpiry(expiry) => expiry.put(),
            Self::LiteGone(gone) => gone.put(out),
            Self::LiteSubscribe(subscribe) => subscribe.put(out),
            Self::Seal { topic, epoch } => Head::of(kind::SEAL, *topic, QueueId(0), QueueOffset(u64::from(*epoch))),
            Self::KeyIndex { topic, on } => {
                let head = Head::of(kind::KEY_INDEX, *topic, QueueId(0), QueueOffset(0));
                Head { flags: u8::from(*on), ..head }
            }
            Self::TopicName { id, name } => put_mapping(out, MAPS_TOPIC, id.0, name.namespace(), name.name()),
            Self::GroupName { id, name } => put_mapping(out, MAPS_GROUP, id.0, name.namespace(), name.name()),
        }
    }

    /// Reads the record at the start of `bytes`; says how many bytes it took. The parts of a message share `bytes`.
    pub(crate) fn read(bytes: &Bytes) -> Result<(Self, usize), NotARecord> {
        let (head, a_len, total) = Head::read(bytes)?;
        let body = bytes.slice(HEADER..HEADER + a_len + head.b_len);
        let record = match head.kind {
            kind::MESSAGE => Some(Self::Message {
                topic: head.topic,
                queue: head.queue,
                offset: head.offset,
                request: head.request,
                message: StoredMessage { body_part: body.slice(..a_len), properties_part: body.slice(a_len..) },
            }),
            kind::KEPT => Kept::read(&head, a_len, &body),
            kind::CARRIED => Carried::read(&head, a_len, &body),
            kind::FIRE => Fire::read(&head, &mut Reader::new(&body)),
            kind::RECALL => Recall::read(&head, &mut Reader::new(&body)),
            kind::HALF => HalfMessage::read(&head, a_len, &body),
            kind::HALF_CARRIED => HalfCarried::read(&head, a_len, &body),
            kind::HALF_CHECKED => HalfChecked::read(&head, &mut Reader::new(&body)),
            kind::HALF_END => HalfEnd::read(&head, &mut Reader::new(&body)),
            kind::COMMIT_OFFSET => CommitOffset::read(&head, &mut Reader::new(&body)),
            kind::FORGET_OFFSETS => Some(ForgetOffsets::read(&head)),
            kind::LITE_TOPIC => LiteTopic::read(&head, &mut Reader::new(&body)),
            kind::LITE_EXPIRY => Some(LiteExpiry::read(&head)),
            kind::LITE_GONE => LiteGone::read(&mut Reader::new(&body)),
            kind::LITE_SUBSCRIBE => LiteSubscribe::read(&head, &mut Reader::new(&body)),
            kind::SEAL => u32::try_from(head.offset.0).ok().map(|epoch| Self::Seal { topic: head.topic, epoch }),
            kind::KEY_INDEX => (head.flags <= 1).then_some(Self::KeyIndex { topic: head.topic, on: head.flags == 1 }),
            kind::DEAD_LETTER => DeadLetter::read(&head, &body, a_len),
            kind::LEASE => head.lease(&mut Reader::new(&body)),
            kind::SETTLE => head.settle(&mut Reader::new(&body)),
            kind::CHANGE => head.change(&mut Reader::new(&body)),
            kind::RELEASE => head.release(&mut Reader::new(&body)),
            kind::TRIM => Some(Self::Trim { topic: head.topic, queue: head.queue, min: head.offset }),
            kind::OPEN => head.open(&mut Reader::new(&body)),
            kind::RESET => head.reset(&mut Reader::new(&body)),
            kind::MAPPING => mapping(&mut Reader::new(&body)),
            kind::CLOSE => Reader::new(&body).u32().map(|group| Self::Close { group: GroupId(group) }),
            other => return Err(NotARecord::Kind(other)),
        };
        Ok((record.ok_or(NotARecord::Body(head.kind))?, total))
    }
}

/// The fixed part of every record. Layout: kind 0, flags 1, queue 2, total length 4, checksum 8, topic 12,
/// queue offset 16, proxy incarnation 24, request sequence 32, length of part A 40, of part B 44.
struct Head {
    kind: u8,
    flags: u8,
    queue: QueueId,
    topic: TopicId,
    offset: QueueOffset,
    request: RequestId,
    b_len: usize,
}

impl Head {
    fn of(kind: u8, topic: TopicId, queue: QueueId, offset: QueueOffset) -> Self {
        let request = RequestId { proxy_incarnation: 0, sequence: 0 };
        Self { kind, flags: 0, queue, topic, offset, request, b_len: 0 }
    }

    fn of_queue(kind: u8, queue: &QueueOf) -> Self {
        Self::of(kind, queue.topic, queue.queue, QueueOffset(0))
    }

    fn seal(&self, record: &mut [u8], body_len: usize) {
        let total = count(record.len());
        record[0] = self.kind;
        record[1] = self.flags;
        record[2..4].copy_from_slice(&self.queue.0.to_le_bytes());
        record[4..8].copy_from_slice(&total.to_le_bytes());
        record[12..16].copy_from_slice(&self.topic.0.to_le_bytes());
        record[16..24].copy_from_slice(&self.offset.0.to_le_bytes());
        record[24..32].copy_from_slice(&self.request.proxy_incarnation.to_le_bytes());
        record[32..40].copy_from_slice(&self.request.sequence.to_le_bytes());
        record[40..44].copy_from_slice(&count(body_len - self.b_len).to_le_bytes());
        record[44..48].copy_from_slice(&count(self.b_len).to_le_bytes());
        let crc = checksum(record);
        record[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    }

    /// The header, the length of part A, and the length of the whole record.
    fn read(bytes: &[u8]) -> Result<(Self, usize, usize), NotARecord> {
        let len_at = |at| usize::try_from(u32_at(bytes, at)).map_err(|_| NotARecord::Short);
        if bytes.len() < HEADER {
            return Err(NotARecord::Short);
        }
        let (total, a_len, b_len) = (len_at(4)?, len_at(40)?, len_at(44)?);
        let body_len = a_len.checked_add(b_len).ok_or(NotARecord::Short)?;
        if total > bytes.len() || body_len.checked_add(HEADER).is_none_or(|least| least > total) {
            return Err(NotARecord::Short);
        }
        if checksum(&bytes[..total]) != u32_at(bytes, CRC_AT) {
            return Err(NotARecord::Checksum);
        }
        let head = Self {
            kind: bytes[0],
            flags: bytes[1],
            queue: QueueId(u16_at(bytes, 2)),
            topic: TopicId(u32_at(bytes, 12)),
            offset: QueueOffset(u64_at(bytes, 16)),
            request: RequestId { proxy_incarnation: u64_at(bytes, 24), sequence: u64_at(bytes, 32) },
            b_len,
        };
        Ok((head, a_len, total))
    }

    fn queue_of(&self, group: GroupId) -> QueueOf {
        QueueOf { group, topic: self.topic, queue: self.queue }
    }

    fn lease(&self, body: &mut Reader<'_>) -> Option<Record> {
        let (group, deliveries) = deliveries(body)?;
        Some(Record::Lease(Lease {
            queue: self.queue_of(group),
            deliveries,
            cursor: self.offset,
            duration_ms: body.u64()?,
            auto_renew: self.flags & AUTO_RENEW != 0,
            client: body.u64()?,
            attempt_id: body.u64()?,
            waiting: waiting(body)?,
        }))
    }

    fn settle(&self, body: &mut Reader<'_>) -> Option<Record> {
        let (group, deliveries) = deliveries(body)?;
        Some(Record::Settle { queue: self.queue_of(group), deliveries })
    }

    fn change(&self, body: &mut Reader<'_>) -> Option<Record> {
        let (group, deliveries) = deliveries(body)?;
        let by = match self.flags {
            0 => ChangedBy::Client,
            BY_RENEWAL => ChangedBy::Renewal,
            BY_REPLAY => ChangedBy::Replay,
            BY_SUSPEND => ChangedBy::Suspend,
            _ => return None,
        };
        Some(Record::Change { queue: self.queue_of(group), deliveries, duration_ms: body.u64()?, by })
    }

    fn release(&self, body: &mut Reader<'_>) -> Option<Record> {
        let (group, deliveries) = deliveries(body)?;
        Some(Record::Release { queue: self.queue_of(group), deliveries })
    }

    fn open(&self, body: &mut Reader<'_>) -> Option<Record> {
        let (group, starts) = starts(body)?;
        Some(Record::Open { group, topic: self.topic, starts })
    }

    fn reset(&self, body: &mut Reader<'_>) -> Option<Record> {
        let (group, starts) = starts(body)?;
        Some(Record::Reset { group, topic: self.topic, starts })
    }
}

fn put_starts(out: &mut Vec<u8>, group: GroupId, starts: &[(QueueId, QueueOffset)]) {
    out.extend_from_slice(&group.0.to_le_bytes());
    out.extend_from_slice(&count(starts.len()).to_le_bytes());
    for (queue, start) in starts {
        out.extend_from_slice(&queue.0.to_le_bytes());
        out.extend_from_slice(&start.0.to_le_bytes());
    }
}

fn starts(body: &mut Reader<'_>) -> Option<(GroupId, Vec<(QueueId, QueueOffset)>)> {
    let group = GroupId(body.u32()?);
    let starts = (0..body.u32()?).map(|_| Some((QueueId(body.u16()?), QueueOffset(body.u64()?))));
    Some((group, starts.collect::<Option<_>>()?))
}

fn put_deliveries(out: &mut Vec<u8>, group: GroupId, deliveries: &Deliveries) {
    out.extend_from_slice(&group.0.to_le_bytes());
    out.extend_from_slice(&count(deliveries.offsets.len()).to_le_bytes());
    out.extend_from_slice(&deliveries.delivery.0.to_le_bytes());
    for offset in deliveries.offsets.iter() {
        out.extend_from_slice(&offset.0.to_le_bytes());
    }
}

fn deliveries(body: &mut Reader<'_>) -> Option<(GroupId, Deliveries)> {
    let group = GroupId(body.u32()?);
    let count = body.u32()?;
    let delivery = DeliverySeq(body.u64()?);
    let offsets = (0..count).map(|_| body.u64().map(QueueOffset)).collect::<Option<_>>()?;
    Some((group, Deliveries { delivery, offsets }))
}

/// Messages up to the end of the body.
fn waiting(body: &mut Reader<'_>) -> Option<Arc<[QueueOffset]>> {
    let count = body.left() / 8;
    let offsets = (0..count).map(|_| body.u64().map(QueueOffset)).collect::<Option<_>>()?;
    (body.left() == 0).then_some(offsets)
}

fn put_mapping(out: &mut Vec<u8>, what: u8, id: u32, namespace: &str, name: &str) -> Head {
    out.push(what);
    out.extend_from_slice(&id.to_le_bytes());
    put_text(out, namespace);
    put_text(out, name);
    Head::of(kind::MAPPING, TopicId(0), QueueId(0), QueueOffset(0))
}

fn mapping(body: &mut Reader<'_>) -> Option<Record> {
    let (what, id) = (body.u8()?, body.u32()?);
    let (namespace, name) = (body.text()?, body.text()?);
    match what {
        MAPS_TOPIC => Topic::parse(namespace, name).ok().map(|name| Record::TopicName { id: TopicId(id), name }),
        MAPS_GROUP => {
            ConsumerGroup::parse(namespace, name).ok().map(|name| Record::GroupName { id: GroupId(id), name })
        }
        _ => None,
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("records are smaller than a block, and blocks than 8 MiB")
}

fn checksum(record: &[u8]) -> u32 {
    crc32c(&[&record[..CRC_AT], &record[CRC_AT + 4..]])
}

#[cfg(test)]
mod tests;

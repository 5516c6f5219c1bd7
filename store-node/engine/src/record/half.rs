//! Half messages: in the log, and in no queue until their transaction is committed.
//!
//! Bodies are written once. The record of the end names where the message is and what its row needs, so that applying it
//! reads nothing. Beside what any message takes, a transaction costs a few bytes and one end.

use apogee_model::store::{HalfId, RequestId, Resolution};
use apogee_model::{QueueId, QueueOffset, StoredMessage, Timestamp, TopicId};
use bytes::Bytes;

use super::kept::{message, put_message};
use super::{Head, Record, kind};
use crate::block::Lsn;
use crate::codec::{Reader, u32_at, u64_at};
use crate::views::half::HalfRow;
use crate::views::kept::KeptRow;

/// Bytes before part A: after how many milliseconds its producer is asked, and four for later.
const CHECK_AFTER: usize = 8;
/// Bytes before part A of a copy: the same, where it was, how long, how often its producer was asked, and when it was
/// stored and checked.
const AND_FROM: usize = 40;

const COMMIT: u8 = 1;
const ROLLBACK: u8 = 2;
const DROPPED: u8 = 3;

/// A message for one queue, if its transaction is committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HalfMessage {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
    pub(crate) id: HalfId,
    pub(crate) request: RequestId,
    pub(crate) check_after_ms: u32,
    pub(crate) message: StoredMessage,
}

/// The same message again, at the end of the log, so that the segment that held it may go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct HalfCarried {
    pub(crate) id: HalfId,
    /// What was known of it, and where it was.
    pub(crate) was: HalfRow,
    pub(crate) message: StoredMessage,
}

/// Its producer was asked once more.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct HalfChecked {
    pub(crate) id: HalfId,
    /// What is known of it from now on; it was checked when the record is written.
    pub(crate) row: HalfRow,
}

/// The end of a transaction.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct HalfEnd {
    pub(crate) id: HalfId,
    /// The message, and what its row in the queue needs.
    pub(crate) kept: KeptRow,
    pub(crate) how: Ended,
}

/// How a transaction ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// The message enters its queue there.
    Committed(QueueOffset),
    RolledBack,
    /// Its topic is no more; nobody will ask how it ended.
    Dropped,
}

impl Ended {
    pub(crate) fn resolution(self) -> Option<Resolution> {
        match self {
            Self::Committed(_) => Some(Resolution::Commit),
            Self::RolledBack => Some(Resolution::Rollback),
            Self::Dropped => None,
        }
    }
}

impl HalfMessage {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Head {
        out.extend_from_slice(&self.check_after_ms.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        put_message(out, &self.message);
        let head = Head::of(kind::HALF, self.topic, self.queue, QueueOffset(self.id.0));
        Head { request: self.request, b_len: self.message.properties_part.len(), ..head }
    }

    pub(super) fn read(head: &Head, a_len: usize, body: &Bytes) -> Option<Record> {
        let message = message(body, CHECK_AFTER, a_len)?;
        let (topic, queue, id) = (head.topic, head.queue, HalfId(head.offset.0));
        let check_after_ms = u32_at(body, 0);
        Some(Record::Half(Self { topic, queue, id, request: head.request, check_after_ms, message }))
    }
}

impl HalfCarried {
    /// Bytes more than those of the message.
    pub(crate) const MORE: usize = AND_FROM;

    pub(super) fn put(&self, out: &mut Vec<u8>) -> Head {
        let HalfRow { kept, stored_at, check_after_ms, checks, checked_at } = self.was;
        out.extend_from_slice(&check_after_ms.to_le_bytes());
        out.extend_from_slice(&checks.to_le_bytes());
        [kept.lsn.0, stored_at.0, checked_at.0].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        out.extend_from_slice(&kept.len.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        put_message(out, &self.message);
        let head = Head::of(kind::HALF_CARRIED, kept.topic, kept.queue, QueueOffset(self.id.0));
        Head { b_len: self.message.properties_part.len(), ..head }
    }

    /// Hashes of the message are not in the record: whoever applies it makes them again.
    pub(super) fn read(head: &Head, a_len: usize, body: &Bytes) -> Option<Record> {
        let message = message(body, AND_FROM, a_len)?;
        let (lsn, len) = (Lsn(u64_at(body, 8)), u32_at(body, 32));
        let tag_hash = apogee_model::tag_hash(message.tag());
        let group_hash = apogee_model::message_group_hash(message.message_group());
        let was = HalfRow {
            kept: KeptRow { topic: head.topic, queue: head.queue, lsn, len, tag_hash, group_hash },
            check_after_ms: u32_at(body, 0),
            checks: u32_at(body, 4),
            stored_at: Timestamp(u64_at(body, 16)),
            checked_at: Timestamp(u64_at(body, 24)),
        };
        Some(Record::HalfCarried(Self { id: HalfId(head.offset.0), was, message }))
    }
}

impl HalfChecked {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Head {
        let HalfRow { kept, stored_at, check_after_ms, checks, checked_at } = self.row;
        put_place(out, &kept);
        [check_after_ms, checks].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        [stored_at.0, checked_at.0].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        Head::of(kind::HALF_CHECKED, kept.topic, kept.queue, QueueOffset(self.id.0))
    }

    pub(super) fn read(head: &Head, body: &mut Reader<'_>) -> Option<Record> {
        let row = HalfRow {
            kept: place(head, body)?,
            check_after_ms: body.u32()?,
            checks: body.u32()?,
            stored_at: Timestamp(body.u64()?),
            checked_at: Timestamp(body.u64()?),
        };
        Some(Record::HalfChecked(Self { id: HalfId(head.offset.0), row }))
    }
}

impl HalfEnd {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Head {
        out.extend_from_slice(&self.id.0.to_le_bytes());
        put_place(out, &self.kept);
        let (flags, offset) = match self.how {
            Ended::Committed(offset) => (COMMIT, offset),
            Ended::RolledBack => (ROLLBACK, QueueOffset(0)),
            Ended::Dropped => (DROPPED, QueueOffset(0)),
        };
        Head { flags, ..Head::of(kind::HALF_END, self.kept.topic, self.kept.queue, offset) }
    }

    pub(super) fn read(head: &Head, body: &mut Reader<'_>) -> Option<Record> {
        let how = match head.flags {
            COMMIT => Ended::Committed(head.offset),
            ROLLBACK => Ended::RolledBack,
            DROPPED => Ended::Dropped,
            _ => return None,
        };
        Some(Record::HalfEnd(Self { id: HalfId(body.u64()?), kept: place(head, body)?, how }))
    }
}

fn put_place(out: &mut Vec<u8>, kept: &KeptRow) {
    out.extend_from_slice(&kept.lsn.0.to_le_bytes());
    [kept.len, kept.tag_hash, kept.group_hash].iter().for_each(|it| out.extend_from_slice(&it.to_le_bytes()));
}

fn place(head: &Head, body: &mut Reader<'_>) -> Option<KeptRow> {
    Some(KeptRow {
        topic: head.topic,
        queue: head.queue,
        lsn: Lsn(body.u64()?),
        len: body.u32()?,
        tag_hash: body.u32()?,
        group_hash: body.u32()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn len(record: &Record) -> usize {
        record.write(&mut Vec::new())
    }

    /// What a transaction costs beside its message.
    #[test]
    fn a_transaction_adds_few_bytes() {
        let (topic, queue, request) = (TopicId(1), QueueId(1), RequestId { proxy_incarnation: 7, sequence: 8 });
        for body in [0, 1, 100, 4096] {
            let message = StoredMessage { body_part: vec![1; body].into(), properties_part: Bytes::from_static(b"p") };
            let plain = Record::Message { topic, queue, offset: QueueOffset(1), request, message: message.clone() };
            let half = HalfMessage { topic, queue, id: HalfId(1), request, check_after_ms: 6000, message };
            let kept = KeptRow { topic, queue, lsn: Lsn(9), len: 100, tag_hash: 1, group_hash: 2 };
            for how in [Ended::Committed(QueueOffset(9)), Ended::RolledBack] {
                let end = HalfEnd { id: HalfId(1), kept, how };
                let more = len(&Record::Half(half.clone())) + len(&Record::HalfEnd(end)) - len(&plain);
                assert!(more <= 128, "{more} bytes");
            }
        }
    }
}

//! Messages that are kept back: in the log, and in no queue until a later record says so.
//!
//! Bodies are written once. The record that lets messages into their queue names where they are and what their rows
//! need, so that applying it reads nothing.

use apogee_model::store::{KeptId, RequestId};
use apogee_model::{QueueId, QueueOffset, StoredMessage, Timestamp, TopicId};
use bytes::Bytes;

use super::{Head, Record, count, kind};
use crate::block::Lsn;
use crate::codec::{Reader, u32_at, u64_at};

/// Bytes before part A: when it is due.
const DUE: usize = 8;
/// Bytes before part A of a copy: when it is due, where it was, and how long.
const DUE_AND_FROM: usize = 20;

/// A message for one queue, later.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
    pub(crate) id: KeptId,
    pub(crate) request: RequestId,
    pub(crate) message: StoredMessage,
}

/// The same message again, at the end of the log, so that the segment that held it may go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Carried {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
    pub(crate) id: KeptId,
    /// Where it was, and the length of that record.
    pub(crate) from: Lsn,
    pub(crate) from_len: u32,
    pub(crate) message: StoredMessage,
}

/// Messages that enter one queue now, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fire {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
    /// Offset of the first; the others follow.
    pub(crate) first: QueueOffset,
    pub(crate) messages: Vec<Fired>,
}

/// One of them.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fired {
    pub(crate) id: KeptId,
    /// Where the record with the message is, and its length.
    pub(crate) lsn: Lsn,
    pub(crate) len: u32,
    pub(crate) tag_hash: u32,
    pub(crate) group_hash: u32,
}

/// A message that will never enter its queue.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Recall {
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
    pub(crate) id: KeptId,
    /// Where the record with the message is, and its length.
    pub(crate) lsn: Lsn,
    pub(crate) len: u32,
}

impl Kept {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Head {
        out.extend_from_slice(&self.id.due.0.to_le_bytes());
        put_message(out, &self.message);
        let head = Head::of(kind::KEPT, self.topic, self.queue, QueueOffset(self.id.number));
        Head { request: self.request, b_len: self.message.properties_part.len(), ..head }
    }

    pub(super) fn read(head: &Head, a_len: usize, body: &Bytes) -> Option<Record> {
        let message = message(body, DUE, a_len)?;
        let id = KeptId { due: Timestamp(u64_at(body, 0)), number: head.offset.0 };
        Some(Record::Kept(Self { topic: head.topic, queue: head.queue, id, request: head.request, message }))
    }
}

impl Carried {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Head {
        out.extend_from_slice(&self.id.due.0.to_le_bytes());
        out.extend_from_slice(&self.from.0.to_le_bytes());
        out.extend_from_slice(&self.from_len.to_le_bytes());
        put_message(out, &self.message);
        let head = Head::of(kind::CARRIED, self.topic, self.queue, QueueOffset(self.id.number));
        Head { b_len: self.message.properties_part.len(), ..head }
    }

    pub(super) fn read(head: &Head, a_len: usize, body: &Bytes) -> Option<Record> {
        let message = message(body, DUE_AND_FROM, a_len)?;
        let id = KeptId { due: Timestamp(u64_at(body, 0)), number: head.offset.0 };
        let (from, from_len) = (Lsn(u64_at(body, DUE)), u32_at(body, DUE + 8));
        Some(Record::Carried(Self { topic: head.topic, queue: head.queue, id, from, from_len, message }))
    }
}

impl Fire {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Head {
        out.extend_from_slice(&count(self.messages.len()).to_le_bytes());
        for Fired { id, lsn, len, tag_hash, group_hash } in &self.messages {
            [id.due.0, id.number, lsn.0].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
            [len, tag_hash, group_hash].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        }
        Head::of(kind::FIRE, self.topic, self.queue, self.first)
    }

    pub(super) fn read(head: &Head, body: &mut Reader<'_>) -> Option<Record> {
        let messages = (0..body.u32()?).map(|_| fired(body)).collect::<Option<_>>()?;
        Some(Record::Fire(Self { topic: head.topic, queue: head.queue, first: head.offset, messages }))
    }
}

fn fired(body: &mut Reader<'_>) -> Option<Fired> {
    Some(Fired {
        id: KeptId { due: Timestamp(body.u64()?), number: body.u64()? },
        lsn: Lsn(body.u64()?),
        len: body.u32()?,
        tag_hash: body.u32()?,
        group_hash: body.u32()?,
    })
}

impl Recall {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Head {
        out.extend_from_slice(&self.id.due.0.to_le_bytes());
        out.extend_from_slice(&self.lsn.0.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        Head::of(kind::RECALL, self.topic, self.queue, QueueOffset(self.id.number))
    }

    pub(super) fn read(head: &Head, body: &mut Reader<'_>) -> Option<Record> {
        let id = KeptId { due: Timestamp(body.u64()?), number: head.offset.0 };
        let (lsn, len) = (Lsn(body.u64()?), body.u32()?);
        Some(Record::Recall(Self { topic: head.topic, queue: head.queue, id, lsn, len }))
    }
}

pub(super) fn put_message(out: &mut Vec<u8>, message: &StoredMessage) {
    out.extend_from_slice(&message.body_part);
    out.extend_from_slice(&message.properties_part);
}

/// Part A is behind `before` bytes of something else, which count as its own.
pub(super) fn message(body: &Bytes, before: usize, a_len: usize) -> Option<StoredMessage> {
    (before <= a_len)
        .then(|| StoredMessage { body_part: body.slice(before..a_len), properties_part: body.slice(a_len..) })
}

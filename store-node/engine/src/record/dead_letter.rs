//! A message that becomes a dead letter: what happens to it and to its copy is one record.

use apogee_model::store::RequestId;
use apogee_model::{DeliverySeq, GroupId, QueueId, QueueOffset, StoredMessage, TopicId};
use bytes::Bytes;

use super::{Deliveries, Head, QueueOf, Record, kind};
use crate::codec::Reader;

/// Its delivery is settled, and its copy is the next message of another queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DeadLetter {
    pub(crate) origin: QueueOf,
    /// Of one message.
    pub(crate) deliveries: Deliveries,
    pub(crate) topic: TopicId,
    pub(crate) queue: QueueId,
    pub(crate) offset: QueueOffset,
    pub(crate) message: StoredMessage,
}

impl DeadLetter {
    /// Bytes such a record has beyond those of a message: group 0, topic 4, queue 8, 2 unused, offset 12, delivery 20, 4 unused.
    pub(crate) const ORIGIN: usize = 32;

    pub(super) fn write_body(&self, out: &mut Vec<u8>) -> Head {
        let QueueOf { group, topic, queue } = self.origin;
        let first = self.deliveries.offsets.first().copied().unwrap_or_default();
        out.extend_from_slice(&group.0.to_le_bytes());
        out.extend_from_slice(&topic.0.to_le_bytes());
        out.extend_from_slice(&queue.0.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&first.0.to_le_bytes());
        out.extend_from_slice(&self.deliveries.delivery.0.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.message.body_part);
        out.extend_from_slice(&self.message.properties_part);
        let request = RequestId { proxy_incarnation: 0, sequence: 0 };
        let (topic, queue, offset, b_len) = (self.topic, self.queue, self.offset, self.message.properties_part.len());
        Head { kind: kind::DEAD_LETTER, flags: 0, queue, topic, offset, request, b_len }
    }

    /// `body` is that of the record, with `a_len` bytes of part A.
    pub(super) fn read(head: &Head, body: &Bytes, a_len: usize) -> Option<Record> {
        let mut origin = Reader::new(body.get(..Self::ORIGIN.min(a_len))?);
        let (group, topic, queue) = (GroupId(origin.u32()?), TopicId(origin.u32()?), QueueId(origin.u16()?));
        let _unused = origin.u16()?;
        let (offset, delivery) = (QueueOffset(origin.u64()?), DeliverySeq(origin.u64()?));
        let _unused = origin.u32()?;
        Some(Record::DeadLetter(Self {
            origin: QueueOf { group, topic, queue },
            deliveries: Deliveries { delivery, offsets: [offset].into() },
            topic: head.topic,
            queue: head.queue,
            offset: head.offset,
            message: StoredMessage { body_part: body.slice(Self::ORIGIN..a_len), properties_part: body.slice(a_len..) },
        }))
    }
}

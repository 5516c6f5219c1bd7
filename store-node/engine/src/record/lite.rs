//! Lite topics: topics of their own inside a replica group, made by its log.

use apogee_model::{GroupId, QueueId, QueueOffset, TopicId};

use super::{Head, Record, count, kind};
use crate::codec::{Reader, put_text};

/// A lite topic begins; comes before its first use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LiteTopic {
    /// The topic that it is a part of.
    pub(crate) parent: TopicId,
    pub(crate) id: TopicId,
    pub(crate) name: Box<str>,
}

/// How long the lite topics of a topic outlive their last message.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct LiteExpiry {
    pub(crate) parent: TopicId,
    /// `None`: for ever.
    pub(crate) after_ms: Option<u64>,
}

/// Lite topics are gone, with everything that belongs to them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LiteGone {
    pub(crate) ids: Vec<TopicId>,
}

/// What a client of a group is subscribed to changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LiteSubscribe {
    pub(crate) group: GroupId,
    pub(crate) parent: TopicId,
    pub(crate) client: Box<str>,
    pub(crate) change: LiteChanged,
    pub(crate) ids: Vec<TopicId>,
}

/// How.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum LiteChanged {
    Added,
    Removed,
    /// And nobody else of the group is subscribed to them any more.
    TakenOver,
}

impl LiteTopic {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Head {
        out.extend_from_slice(&self.id.0.to_le_bytes());
        put_text(out, &self.name);
        Head::of(kind::LITE_TOPIC, self.parent, QueueId(0), QueueOffset(0))
    }

    pub(super) fn read(head: &Head, body: &mut Reader<'_>) -> Option<Record> {
        let (id, name) = (TopicId(body.u32()?), body.text()?.into());
        Some(Record::LiteTopic(Self { parent: head.topic, id, name }))
    }
}

impl LiteExpiry {
    pub(super) fn put(&self) -> Head {
        let after_ms = QueueOffset(self.after_ms.unwrap_or(u64::MAX));
        Head::of(kind::LITE_EXPIRY, self.parent, QueueId(0), after_ms)
    }

    pub(super) fn read(head: &Head) -> Record {
        let after_ms = Some(head.offset.0).filter(|after_ms| *after_ms < u64::MAX);
        Record::LiteExpiry(Self { parent: head.topic, after_ms })
    }
}

impl LiteGone {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Head {
        put_ids(out, &self.ids);
        Head::of(kind::LITE_GONE, TopicId(0), QueueId(0), QueueOffset(0))
    }

    pub(super) fn read(body: &mut Reader<'_>) -> Option<Record> {
        Some(Record::LiteGone(Self { ids: ids(body)? }))
    }
}

impl LiteSubscribe {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Head {
        out.extend_from_slice(&self.group.0.to_le_bytes());
        put_text(out, &self.client);
        put_ids(out, &self.ids);
        let flags = match self.change {
            LiteChanged::Added => 0,
            LiteChanged::Removed => 1,
            LiteChanged::TakenOver => 2,
        };
        Head { flags, ..Head::of(kind::LITE_SUBSCRIBE, self.parent, QueueId(0), QueueOffset(0)) }
    }

    pub(super) fn read(head: &Head, body: &mut Reader<'_>) -> Option<Record> {
        let change = match head.flags {
            0 => LiteChanged::Added,
            1 => LiteChanged::Removed,
            2 => LiteChanged::TakenOver,
            _ => return None,
        };
        let (group, client, ids) = (GroupId(body.u32()?), body.text()?.into(), ids(body)?);
        Some(Record::LiteSubscribe(Self { group, parent: head.topic, client, change, ids }))
    }
}

fn put_ids(out: &mut Vec<u8>, ids: &[TopicId]) {
    out.extend_from_slice(&count(ids.len()).to_le_bytes());
    ids.iter().for_each(|id| out.extend_from_slice(&id.0.to_le_bytes()));
}

fn ids(body: &mut Reader<'_>) -> Option<Vec<TopicId>> {
    let count = body.u32()?;
    (0..count).map(|_| body.u32().map(TopicId)).collect()
}

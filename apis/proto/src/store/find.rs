//! Finding messages, and what became of them.

use apogee_model::store::{Delivered, Find, FindBy, Found, GroupRef, GroupTrace, HalfId, Progress, Trace, Whereabouts};
use apogee_model::{QueueId, QueueOffset, Timestamp, TopicId};

use super::v1::find_ask::By;
use super::v1::found::Whereabouts as At;
use super::v1::group_trace::Progress as Step;
use super::{Malformed, narrow, required, v1};

impl From<&Find> for v1::FindAsk {
    fn from(find: &Find) -> Self {
        let by = match &find.by {
            FindBy::Key(key) => By::Key(key.clone()),
            FindBy::MessageId(id) => By::MessageId(id.clone()),
        };
        Self {
            topic: find.topic.0,
            by: Some(by),
            from_ms: find.from.0,
            until_ms: find.until.0,
            messages: u32::try_from(find.messages).unwrap_or(u32::MAX),
        }
    }
}

impl TryFrom<v1::FindAsk> for Find {
    type Error = Malformed;

    fn try_from(ask: v1::FindAsk) -> Result<Self, Malformed> {
        let by = match required(ask.by, "what to look for")? {
            By::Key(key) => FindBy::Key(key),
            By::MessageId(id) => FindBy::MessageId(id),
        };
        Ok(Self {
            topic: TopicId(ask.topic),
            by,
            from: Timestamp(ask.from_ms),
            until: Timestamp(ask.until_ms),
            messages: usize::try_from(ask.messages).unwrap_or(usize::MAX),
        })
    }
}

impl v1::Finds {
    pub fn of(found: &[Found]) -> Self {
        Self { found: found.iter().map(Into::into).collect() }
    }

    /// What [`v1::Finds::of`] was made of.
    ///
    /// # Errors
    /// [`Malformed`] names the part.
    pub fn into_found(self) -> Result<Vec<Found>, Malformed> {
        self.found.into_iter().map(Found::try_from).collect()
    }
}

impl From<&Found> for v1::Found {
    fn from(found: &Found) -> Self {
        let whereabouts = match found.whereabouts {
            Whereabouts::Queued { offset } => At::Queued(v1::Queued { offset: offset.map(|offset| offset.0) }),
            Whereabouts::Waits { due } => At::DueMs(due.0),
            Whereabouts::Half { id, checks } => At::Half(v1::FoundHalf { half: id.0, checks }),
        };
        Self {
            message: Some((&found.message).into()),
            stored_at_ms: found.stored_at.0,
            topic: found.topic.0,
            queue: found.queue.0.into(),
            whereabouts: Some(whereabouts),
        }
    }
}

impl TryFrom<v1::Found> for Found {
    type Error = Malformed;

    fn try_from(found: v1::Found) -> Result<Self, Malformed> {
        let whereabouts = match required(found.whereabouts, "where the message is")? {
            At::Queued(v1::Queued { offset }) => Whereabouts::Queued { offset: offset.map(QueueOffset) },
            At::DueMs(due) => Whereabouts::Waits { due: Timestamp(due) },
            At::Half(v1::FoundHalf { half, checks }) => Whereabouts::Half { id: HalfId(half), checks },
        };
        Ok(Self {
            message: required(found.message, "the message")?.into(),
            stored_at: Timestamp(found.stored_at_ms),
            topic: TopicId(found.topic),
            queue: QueueId(narrow(found.queue, "the queue")?),
            whereabouts,
        })
    }
}

impl From<Trace> for v1::TraceAsk {
    fn from(trace: Trace) -> Self {
        Self { topic: trace.topic.0, queue: trace.queue.0.into(), offset: trace.offset.0 }
    }
}

impl TryFrom<v1::TraceAsk> for Trace {
    type Error = Malformed;

    fn try_from(ask: v1::TraceAsk) -> Result<Self, Malformed> {
        let queue = QueueId(narrow(ask.queue, "the queue")?);
        Ok(Self { topic: TopicId(ask.topic), queue, offset: QueueOffset(ask.offset) })
    }
}

impl v1::Traces {
    pub fn of(groups: &[GroupTrace]) -> Self {
        Self { groups: groups.iter().map(Into::into).collect() }
    }

    /// What [`v1::Traces::of`] was made of.
    ///
    /// # Errors
    /// [`Malformed`] names the part.
    pub fn into_groups(self) -> Result<Vec<GroupTrace>, Malformed> {
        self.groups.into_iter().map(GroupTrace::try_from).collect()
    }
}

impl From<&GroupTrace> for v1::GroupTrace {
    fn from(trace: &GroupTrace) -> Self {
        let progress = match trace.progress {
            Progress::Ahead => Step::Ahead(v1::Done {}),
            Progress::Waits => Step::Waits(v1::Done {}),
            Progress::Settled => Step::Settled(v1::Done {}),
            Progress::Delivered(Delivered { attempt, at, until, ready, auto_renew, client }) => {
                Step::Delivered(v1::DeliveryTrace {
                    attempt,
                    at_ms: at.0,
                    until_ms: until.0,
                    ready,
                    auto_renew,
                    client,
                })
            }
        };
        let group = GroupRef { id: trace.group, name: trace.name.clone() };
        Self { group: Some((&group).into()), progress: Some(progress) }
    }
}

impl TryFrom<v1::GroupTrace> for GroupTrace {
    type Error = Malformed;

    fn try_from(trace: v1::GroupTrace) -> Result<Self, Malformed> {
        let progress = match required(trace.progress, "how far the group is")? {
            Step::Ahead(_) => Progress::Ahead,
            Step::Waits(_) => Progress::Waits,
            Step::Settled(_) => Progress::Settled,
            Step::Delivered(v1::DeliveryTrace { attempt, at_ms, until_ms, ready, auto_renew, client }) => {
                let (at, until) = (Timestamp(at_ms), Timestamp(until_ms));
                Progress::Delivered(Delivered { attempt, at, until, ready, auto_renew, client })
            }
        };
        let GroupRef { id, name } = required(trace.group, "the group")?.try_into()?;
        Ok(Self { group: id, name, progress })
    }
}

//! Finding messages of which nobody knows the place, and what became of one.

use super::HalfId;
use crate::{ConsumerGroup, GroupId, QueueId, QueueOffset, StoredMessage, Timestamp, TopicId};

/// Asks for messages of one topic by what their sender called them, the newest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Find {
    pub topic: TopicId,
    pub by: FindBy,
    /// Only those that were stored then or later,
    pub from: Timestamp,
    /// and then or earlier.
    pub until: Timestamp,
    /// At most this many, and at most [`Find::MESSAGES_MAX`].
    pub messages: usize,
}

/// What their sender called them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FindBy {
    Key(String),
    /// Finds only messages that wait for their time or for the end of their transaction, that did so, and dead letters. All
    /// others are found by the time that their id tells, see [`super::Fetch`].
    MessageId(String),
}

/// A message, and where it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub message: StoredMessage,
    pub stored_at: Timestamp,
    /// The topic, or the lite topic of it.
    pub topic: TopicId,
    pub queue: QueueId,
    pub whereabouts: Whereabouts,
}

/// Where a message is in its topic.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Whereabouts {
    /// In its queue. Where in it is not known of some that came late.
    Queued { offset: Option<QueueOffset> },
    /// Waits for its time.
    Waits { due: Timestamp },
    /// Waits for the end of its transaction, whose producer was asked so often.
    Half { id: HalfId, checks: u32 },
}

/// Asks what became of the message at one offset.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    pub topic: TopicId,
    pub queue: QueueId,
    pub offset: QueueOffset,
}

/// What became of a message in one group that reads the topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupTrace {
    pub group: GroupId,
    pub name: ConsumerGroup,
    pub progress: Progress,
}

/// How far a group is with one message.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Was not there yet.
    Ahead,
    /// Waits for the turn of its message group, of which nothing later can overtake it.
    Waits,
    /// Was delivered, and is not settled.
    Delivered(Delivered),
    /// Is over: acknowledged, passed over, or a dead letter.
    Settled,
}

/// The last delivery of a message. Times are those of the replica group.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Delivered {
    /// Deliveries so far, this one included.
    pub attempt: u32,
    pub at: Timestamp,
    /// When the message is ready again unless something happens.
    pub until: Timestamp,
    /// That time has come.
    pub ready: bool,
    /// Renewed while the client lives.
    pub auto_renew: bool,
    /// Hash of the id of the client that got it, see [`client_hash`].
    pub client: u64,
}

impl Find {
    /// Messages that one search finds.
    pub const MESSAGES_MAX: usize = 64;
}

/// How replica groups remember clients.
pub fn client_hash(client: &str) -> u64 {
    crate::hash(client.as_bytes())
}

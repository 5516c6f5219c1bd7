//! Reading a queue without consuming it.

use crate::{Filter, QueueId, QueueOffset, StoredMessage, Timestamp, TopicId};

/// Asks for committed messages of one queue, in order. Nothing changes for any group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetch {
    pub topic: TopicId,
    pub queue: QueueId,
    pub from: FetchFrom,
    /// At most this many messages are found. With 0 the answer says only where it would begin.
    pub messages: usize,
    /// At most this many bytes of messages are read, and at most [`Fetch::BYTES_MAX`]; one message may be larger.
    pub bytes: usize,
    /// Messages with another id are passed over.
    pub message_id: Option<String>,
    /// Messages that it does not want are passed over, those with another tag without being read.
    pub filter: Filter,
}

/// Where to begin.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum FetchFrom {
    /// Here, or at the nearest offset that the queue has.
    Offset(QueueOffset),
    /// At the first message that was stored then or later.
    Time(Timestamp),
    /// Behind the last message.
    End,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fetched {
    /// The first message that the queue holds.
    pub min: QueueOffset,
    /// The offset that the next message gets.
    pub max: QueueOffset,
    /// Where the next fetch goes on.
    pub next: QueueOffset,
    /// When the last message that was looked at was stored, those passed over included.
    pub reached: Option<Timestamp>,
    pub messages: Vec<FetchedMessage>,
}

/// One stored message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedMessage {
    pub offset: QueueOffset,
    pub stored_at: Timestamp,
    pub message: StoredMessage,
}

impl Fetch {
    /// Messages that one fetch reads.
    pub const MESSAGES_MAX: usize = 512;
    /// Bytes of messages that one fetch reads, unless one is larger.
    pub const BYTES_MAX: usize = 1 << 20;
}

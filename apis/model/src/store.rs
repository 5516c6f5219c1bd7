//! What a proxy asks of the leader of a replica group, and what it hears back.
//!
//! These are the words of the lanes: today function calls inside one process, later frames between machines.

mod dead_letters;
mod fetch;
mod find;
mod kept;
mod lite;
mod offsets;
mod reset;
mod seal;
mod transaction;

use std::time::Duration;

pub use dead_letters::DeadLetters;
pub use fetch::{Fetch, FetchFrom, Fetched, FetchedMessage};
pub use find::{Delivered, Find, FindBy, Found, GroupTrace, Progress, Trace, Whereabouts, client_hash};
pub use kept::{KeptId, Recall, Recalled};
pub use lite::{
    LiteChange, LiteGroupStatus, LiteList, LiteName, LiteStart, LiteStatus, LiteSubscribed, LiteSubscription, LiteTerms,
};
pub use offsets::{CommitOffset, GroupQueue, OffsetCommitted};
pub use reset::{QueueReset, Reset, ResetTo};
pub use seal::{Seal, Sealed};
pub use transaction::{
    CheckBack, Checked, EndTransaction, Half, HalfId, OpenTransaction, Resolution, TransactionEnded,
};

use bytes::Bytes;

use crate::{
    ClientId, ConsumerGroup, DeliveryAttempt, DeliveryOrder, DeliverySeq, Epoch, Filter, GroupId, InvisibleDuration,
    PriorityFactor, QueueId, QueueOffset, ReplicaId, Rests, StoredMessage, Timestamp, Topic, TopicId,
};

/// A topic by name and id. The id is what the log knows; the name travels along so that the log can explain itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicRef {
    pub id: TopicId,
    pub name: Topic,
    pub queues: u16,
}

/// A consumer group by name and id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupRef {
    pub id: GroupId,
    pub name: ConsumerGroup,
}

/// Identifies one send for ever, so that a resend of it can be recognised.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub struct RequestId {
    /// Drawn at random when the proxy starts.
    pub proxy_incarnation: u64,
    /// Counts the proxy's sends.
    pub sequence: u64,
}

/// One message to append.
#[derive(Clone, Debug)]
pub struct Append {
    pub topic: TopicRef,
    pub queue: QueueId,
    pub message: StoredMessage,
    pub request: RequestId,
    /// When consumers may see it; a time that has come, or none, is now.
    pub due: Option<Timestamp>,
    /// Consumers see it when its transaction is committed, whatever `due` says.
    pub half: Option<Half>,
    /// It goes into this lite topic of the topic, at once, and the queue only says where that is.
    pub lite: Option<LiteName>,
    /// The messages of the topic are found by their keys.
    pub indexed: bool,
    /// Which list of queues of the topic the message group was hashed over, see [`crate::TopicConfig::epoch`].
    pub epoch: u32,
}

/// Where a message is now; it is durable and committed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Appended {
    pub queue: QueueId,
    /// 0 of a message that is in no queue yet.
    pub offset: QueueOffset,
    pub stored_at: Timestamp,
    /// Names the message while it is kept back, to recall it.
    pub kept: Option<KeptId>,
    /// Names a half message, to end its transaction.
    pub half: Option<HalfId>,
}

/// Asks for messages that no consumer of the group holds.
#[derive(Clone, Debug)]
pub struct Pop {
    pub group: GroupRef,
    pub topic: TopicRef,
    pub filter: Filter,
    /// At most this many messages, at least 1.
    pub batch: usize,
    pub lease: LeaseTerms,
    /// Replays the same batch when the answer to an earlier try was lost.
    pub attempt_id: Option<Bytes>,
    pub client: ClientId,
    /// Messages that were delivered often enough go there instead. `None`: they come again for ever.
    pub dead_letters: Option<DeadLetters>,
    /// That of the group: [`DeliveryOrder::Fifo`] never delivers a message while an earlier one of its message group is
    /// out, and an auto-renewed batch holds messages of one message group.
    pub order: DeliveryOrder,
    /// The queues are levels, the highest the most urgent, and so many pops of a concurrent group begin there. `None`: all
    /// queues are alike.
    pub priority: Option<PriorityFactor>,
    /// From lite topics of the topic that the client is subscribed to, each in order.
    pub lite: bool,
}

/// How long a delivery is hidden from the rest of its group.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum LeaseTerms {
    Fixed(InvisibleDuration),
    /// The store renews it while the client lives, for at most 3 h, once its delivery was confirmed.
    AutoRenew,
}

/// The answer to a [`Pop`]; its leases are committed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Popped {
    pub messages: Vec<Delivery>,
    /// More is ready for this group: another waiting call may try at once.
    pub more: bool,
    /// Nothing was granted: the client has so many messages of lite topics that it did not settle.
    pub unsettled: Option<usize>,
    /// Lite topics that the client lost to another one of its group; it is to be told.
    pub evicted: Vec<Box<str>>,
}

/// One message given to one consumer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    pub key: DeliveryKey,
    pub attempt: DeliveryAttempt,
    pub stored_at: Timestamp,
    pub invisible: InvisibleDuration,
    pub message: StoredMessage,
}

/// Names one delivery inside its replica group.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeliveryKey {
    pub epoch: Epoch,
    pub group: GroupId,
    pub topic: TopicId,
    pub queue: QueueId,
    pub offset: QueueOffset,
    pub delivery: DeliverySeq,
}

/// What a leader is asked to do with a delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settlement {
    /// Done: never deliver the message to this group again.
    Ack,
    /// Visible again after this time, counted from now.
    Change(InvisibleDuration),
    /// The same, and the attempt does not count: the consumer puts the message off.
    Suspend(InvisibleDuration),
    /// The same as [`Settlement::Change`], but a push consumer gets no less than its group's rest for this attempt when it asks for less than the
    /// shortest of them: it did not read the policy.
    Rest { asked: InvisibleDuration, rests: Rests },
    /// Never deliver it to this group again, and store a copy among its dead letters.
    DeadLetter(DeadLetters),
}

/// The fate of one settlement.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Settled {
    /// Committed, or the message had been settled before.
    Done,
    /// A later delivery replaced this one, or it never was.
    Stale,
}

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the store has no room for this request now: {what} is full")]
    Busy { what: &'static str },
    #[error("a record of {bytes} bytes is larger than {max}")]
    TooLarge { bytes: usize, max: usize },
    #[error("queue {queue} is not one of the {queues} queues of {topic}")]
    NoSuchQueue { topic: Topic, queue: QueueId, queues: u16 },
    #[error("the store did not answer within {waited:?}; whether the request was carried out is unknown")]
    Timeout { waited: Duration },
    #[error("stored message cannot be read: {why}")]
    Unreadable { why: String },
    #[error("the store stopped before it answered; whether the request was carried out is unknown")]
    Stopped,
    /// Nothing was done; somebody else leads the replica group, or nobody does for now.
    #[error("this replica does not lead its replica group{}", leader.map(|id| format!(", replica {id} does")).unwrap_or_default())]
    NotLeader { leader: Option<ReplicaId> },
    #[error("the leadership changed before the request was answered; whether it was carried out is unknown")]
    LeaderLost,
    /// Nothing was done; the replica that was to lead is not in touch, has no vote, or lacks too much of the log.
    #[error("replica {replica} cannot take the lead now")]
    CannotLead { replica: ReplicaId },
    #[error("there are as many lite topics in this replica group as there may be: {max}")]
    TooManyLiteTopics { max: usize },
    /// Nothing was done; the queues of the topic are about to become more, and message groups will be hashed over those.
    #[error(
        "topic {topic} takes no messages of message groups until those it has are consumed, because it gets more queues"
    )]
    Sealed { topic: Topic },
}

/// Counters of one queue.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct QueueStatus {
    pub queue: QueueId,
    pub min: QueueOffset,
    /// Offset the next message will get.
    pub max: QueueOffset,
    /// Messages that wait for their time, and have no offset yet.
    pub delayed: u64,
}

/// Progress of one group on one queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupStatus {
    pub topic: TopicId,
    pub queue: QueueId,
    /// Everything below is settled.
    pub floor: QueueOffset,
    /// Everything below was delivered at least once, or skipped by a filter.
    pub cursor: QueueOffset,
    pub max: QueueOffset,
    /// Delivered and not settled.
    pub in_flight: u64,
    /// What the group committed itself. When it never popped from the topic, `floor` and `cursor` are the same.
    pub pulled: Option<QueueOffset>,
}

//! What a call may fail with: situations a caller can act on, with the facts a person will want.

use std::time::Duration;

use apogee_model::store::{Resolution, StoreError};
use apogee_model::{
    ConsumerGroup, FilterError, InvisibleDuration, InvisibleDurationError, MessageType, MetadataError, NameError,
    QueueId, QueueOffset, Topic, TopicType,
};

/// Why a call was refused or failed. `edge/status.rs` maps each variant to its code.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("header x-mq-client-id is {problem}")]
    ClientId { problem: ClientIdProblem },
    #[error("{what}: at most {limit}, try again later")]
    TooMany { what: &'static str, limit: usize },
    #[error("not answered within {waited:?}; whether the request was carried out is unknown")]
    DeadlinePassed { waited: Duration },

    #[error("endpoints {problem}")]
    AccessPoint { problem: String },
    #[error(transparent)]
    TopicName(NameError),
    #[error(transparent)]
    GroupName(NameError),
    #[error("topic {topic} does not exist")]
    TopicNotFound { topic: Topic },
    #[error("consumer group {group} does not exist")]
    GroupNotFound { group: ConsumerGroup },
    #[error("topic {topic} has no readable queue")]
    NotReadable { topic: Topic },
    #[error("topic {topic} has no writable queue")]
    NotWritable { topic: Topic },
    #[error("client type {client_type} is not one this server knows how to serve")]
    ClientType { client_type: String },

    #[error("the request has no messages")]
    NoMessages,
    #[error("message {index} is for topic {found}, but message 0 is for {expected}; one request has one topic")]
    MixedTopics { index: usize, expected: Topic, found: String },
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("message {index}: {error}")]
    InBatch { index: usize, error: Box<Self> },
    #[error("the messages of this request take {bytes} bytes together, at most {max} are allowed in one request")]
    RequestTooLarge { bytes: usize, max: usize },
    #[error("message {index} is of another message group than message 0; one request has one message group, or none")]
    MixedMessageGroups { index: usize },
    #[error("message {index} has another priority than message 0; one request has one priority, or none")]
    MixedPriorities { index: usize },
    #[error("topic {topic} takes {} messages, but this one is {}", names(expected), name(*actual))]
    MessageType { topic: Topic, expected: TopicType, actual: MessageType },

    #[error(transparent)]
    InvisibleDuration(#[from] InvisibleDurationError),
    #[error("invisible duration {problem}, allowed are {}", InvisibleDuration::allowed_from(*min))]
    NoInvisibleDuration { problem: String, min: Duration },
    #[error("the deadline of this call is {remaining:?} away, a long poll takes at least {min:?}")]
    PollingTime { remaining: Duration, min: Duration, client_knows_the_code: bool },
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error("filter {problem}")]
    FilterExpression { problem: String },
    #[error("attempt id has {bytes} bytes, at most {max} are allowed")]
    AttemptId { bytes: usize, max: usize },

    #[error("the request has no entries")]
    NoEntries,
    #[error("the request has {entries} entries, at most {max} are allowed")]
    TooManyEntries { entries: usize, max: usize },
    #[error("receipt handle {problem}")]
    Receipt { problem: String },
    #[error("{problem}")]
    RecallHandle { problem: String },
    #[error("message {message_id} cannot be recalled any more: its time has come")]
    TooLateToRecall { message_id: String },
    #[error("{problem}")]
    TransactionId { problem: String },
    #[error(
        "the transaction of message {message_id} was {} before and cannot be {} any more",
        ended(other(*asked)),
        ended(*asked)
    )]
    EndedOtherwise { message_id: String, asked: Resolution },

    #[error("queue {queue} is not one of the {queues} queues of {topic}")]
    NoSuchQueue { topic: Topic, queue: i32, queues: u16 },
    #[error("offset {offset} is negative")]
    OffsetNegative { offset: i64 },
    #[error("offset {offset} is behind {max}, which the next message of the queue gets")]
    OffsetBeyond { offset: QueueOffset, max: QueueOffset },
    #[error("consumer group {group} has no offset in queue {queue} of {topic}")]
    NoOffset { group: ConsumerGroup, topic: Topic, queue: QueueId },
    #[error("query offset policy: {problem}")]
    OffsetPolicy { problem: String },

    #[error("consumer group {group} {problem}")]
    NoLiteGroup { group: ConsumerGroup, problem: &'static str },
    #[error("consumer group {group} reads {}, not those of topic {topic}", lite_topics_of(reads.as_ref()))]
    OtherLiteTopic { group: ConsumerGroup, topic: Topic, reads: Option<Topic> },
    #[error("there would be more than {max} subscriptions to lite topics")]
    TooManyLiteSubscriptions { max: usize },
    #[error("the client holds {unsettled} messages of lite topics that it did not settle")]
    TooManyUnsettled { unsettled: usize },
    #[error("message {index} is for another lite topic than message 0; one request has one lite topic, or none")]
    MixedLiteTopics { index: usize },

    #[error("settings carry neither publishing nor subscription")]
    SettingsWithoutRole,
    #[error("settings say client type {client_type}, but carry a {carried}")]
    SettingsContradict { client_type: &'static str, carried: &'static str },

    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// What is wrong with a client id.
#[derive(Debug, Copy, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClientIdProblem {
    #[error("missing or blank")]
    Missing,
    #[error("not UTF-8 text")]
    NotText,
    #[error("{bytes} bytes long, at most {max} are allowed")]
    TooLong { bytes: usize, max: usize },
}

/// What is wrong with one message of a send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("message body is empty")]
    BodyEmpty,
    #[error("message body has {bytes} bytes, at most {max} are allowed")]
    BodyTooLarge { bytes: usize, max: usize },
    #[error("message has {count} user properties, at most {max} are allowed")]
    TooManyProperties { count: usize, max: usize },
    #[error("user properties, tag and keys have {bytes} bytes, at most {max} are allowed")]
    PropertiesTooLarge { bytes: usize, max: usize },
    #[error("user property key {key:?} is reserved for the system")]
    ReservedProperty { key: String },
    #[error("a user property has an empty key")]
    EmptyPropertyKey,
    #[error("user property {key:?} has a control character in its {place}")]
    PropertyCharacter { key: String, place: &'static str },
    #[error("tag {tag:?} {problem}")]
    Tag { tag: String, problem: &'static str },
    #[error("key {key:?} {problem}")]
    Key { key: String, problem: &'static str },
    #[error("message id is blank")]
    MessageId,
    #[error("message id has {bytes} bytes, at most {max} are allowed")]
    MessageIdTooLong { bytes: usize, max: usize },
    #[error("{field} has {bytes} bytes, at most {max} are allowed")]
    FieldTooLong { field: &'static str, bytes: usize, max: usize },
    #[error("transaction recovery duration is {asked} s, at most {max} s are allowed")]
    RecoveryDuration { asked: i64, max: i64 },
    #[error("a message of a transaction has no delivery timestamp: it comes when the transaction is committed")]
    TransactionWithDelay,
    #[error("delivery timestamp is {ahead:?} ahead, at most {max:?} are allowed")]
    DeliveryTimestamp { ahead: Duration, max: Duration },
    #[error("message group {group:?} {problem}")]
    MessageGroup { group: String, problem: &'static str },
    #[error("message group has {bytes} bytes, at most {max} are allowed")]
    MessageGroupTooLong { bytes: usize, max: usize },
    #[error("priority is {priority}, at least 0 is allowed")]
    Priority { priority: i32 },
    #[error("lite topic {lite_topic:?} {problem}")]
    LiteTopic { lite_topic: String, problem: &'static str },
}

impl ServiceError {
    /// The same failure of message `index` of `count`: told only where there is more than one.
    pub(crate) fn of_message(self, index: usize, count: usize) -> Self {
        if count > 1 { Self::InBatch { index, error: Box::new(self) } } else { self }
    }
}

/// The name the API gives a message type.
pub(crate) fn name(message_type: MessageType) -> &'static str {
    match message_type {
        MessageType::Normal => "NORMAL",
        MessageType::Fifo => "FIFO",
        MessageType::Delay => "DELAY",
        MessageType::Transaction => "TRANSACTION",
        MessageType::Lite => "LITE",
        MessageType::Priority => "PRIORITY",
    }
}

fn lite_topics_of(topic: Option<&Topic>) -> String {
    topic.map_or_else(|| "no lite topics".to_owned(), |topic| format!("lite topics of {topic}"))
}

fn ended(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Commit => "committed",
        Resolution::Rollback => "rolled back",
    }
}

fn other(resolution: Resolution) -> Resolution {
    match resolution {
        Resolution::Commit => Resolution::Rollback,
        Resolution::Rollback => Resolution::Commit,
    }
}

fn names(topic_type: &TopicType) -> String {
    topic_type.accepts().iter().map(|accepted| name(*accepted)).collect::<Vec<_>>().join(", ")
}

//! What an admin call may fail with, and the one mapping to gRPC codes.

use std::time::Duration;

use apogee_model::store::{Resolution, StoreError};
use apogee_model::{BadNodeName, ClientId, ConsumerGroup, FilterError, MetadataError, NameError, Topic};
use tonic::{Code, Status};

/// Why an admin call was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    NodeName(#[from] BadNodeName),
    #[error("{field} is {given}, which is none of {allowed}")]
    Choice { field: &'static str, given: i32, allowed: &'static str },
    #[error("read queues {read} and write queues {write} differ; they must be equal")]
    UnequalQueues { read: u32, write: u32 },
    #[error("the request does not say {field}")]
    Missing { field: &'static str },
    #[error("topic {topic} has {queues} queues, and no queue {queue}")]
    NoSuchQueue { topic: Topic, queue: u32, queues: u16 },
    #[error("message id {given:?} does not say when its message was born; only a place can find that message")]
    MessageId { given: String },
    #[error("topic {topic} has no index by key: its messages are found by id or by place")]
    NotIndexed { topic: Topic },
    #[error("topic {topic} holds no message {what}")]
    NoSuchMessage { topic: Topic, what: String },
    #[error("message {message_id} is not among those of topic {topic} that were looked at, and there are more")]
    SearchTooLong { topic: Topic, message_id: String },
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error("page size is {asked}, at most {max} are allowed")]
    PageSize { asked: u32, max: u32 },
    #[error("page token {token:?} was not given by this server")]
    PageToken { token: String },
    #[error("a client id is not blank")]
    ClientId,
    #[error("no proxy hears a client {id}")]
    NoSuchClient { id: ClientId },
    #[error(
        "no proxy that answered hears a client {id}, but {} did not answer: {why}",
        proxies(proxy, *others)
    )]
    ClientNotFound { id: ClientId, proxy: String, others: usize, why: String },
    #[error("{problem}")]
    TransactionId { problem: String },
    #[error("the transaction of message {message_id} was ended before, and not by a {}", resolution(*asked))]
    EndedOtherwise { message_id: String, asked: Resolution },
    #[error("there is no transaction of message {message_id} any more; it ended so long ago that it is forgotten")]
    NoSuchTransaction { message_id: String },
    #[error("topic {topic} has no lite topic {name:?}")]
    NoSuchLiteTopic { topic: Topic, name: String },
    #[error("no telemetry stream of client {id} is open, so it cannot be asked anything")]
    NoStream { id: ClientId },
    #[error("client {id} did not answer within {waited:?}; its SDK may know nothing of such questions")]
    NoAnswer { id: ClientId, waited: Duration },
    #[error("client {id} hung up before it answered")]
    HungUp { id: ClientId },
    #[error("client {id} does not answer that: {code} {words}")]
    ClientRefuses { id: ClientId, code: String, words: String },
    #[error("client {id} is no consumer of group {group}")]
    NotOfGroup { id: ClientId, group: ConsumerGroup },
    #[error("too many questions to clients wait for their answers")]
    TooManyQuestions,
    /// Another proxy has asked, and says so.
    #[error("{}", .0.message())]
    Passed(Box<Status>),
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{deleted} is deleted, but its room on disk is not free yet: {cause}")]
    NotFreed {
        deleted: String,
        #[source]
        cause: StoreError,
    },
}

impl AdminError {
    pub(super) fn no_such_topic(topic: Topic) -> AdminError {
        AdminError::Metadata(MetadataError::NoSuchTopic { topic })
    }

    pub(super) fn no_such_group(group: ConsumerGroup) -> AdminError {
        AdminError::Metadata(MetadataError::NoSuchGroup { group })
    }
}

fn resolution(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Commit => "commit",
        Resolution::Rollback => "rollback",
    }
}

fn proxies(first: &str, others: usize) -> String {
    match (first, others) {
        ("", _) => "other proxies".to_owned(),
        (first, 0) => format!("proxy {first}"),
        (first, others) => format!("proxy {first} and {others} more"),
    }
}

impl From<AdminError> for Status {
    fn from(error: AdminError) -> Status {
        Status::new(code(&error), error.to_string())
    }
}

/// No `_` arm, so that a new situation must choose its code here.
fn code(error: &AdminError) -> Code {
    match error {
        AdminError::Name(_)
        | AdminError::NodeName(_)
        | AdminError::Choice { .. }
        | AdminError::UnequalQueues { .. }
        | AdminError::Missing { .. }
        | AdminError::NoSuchQueue { .. }
        | AdminError::MessageId { .. }
        | AdminError::Filter(_)
        | AdminError::PageSize { .. }
        | AdminError::PageToken { .. }
        | AdminError::TransactionId { .. }
        | AdminError::ClientId => Code::InvalidArgument,
        AdminError::NoSuchClient { .. } => Code::NotFound,
        AdminError::ClientNotFound { .. } => Code::Unavailable,
        AdminError::NotIndexed { .. }
        | AdminError::EndedOtherwise { .. }
        | AdminError::NoStream { .. }
        | AdminError::ClientRefuses { .. }
        | AdminError::NotOfGroup { .. } => Code::FailedPrecondition,
        AdminError::NoAnswer { .. } => Code::DeadlineExceeded,
        AdminError::HungUp { .. } => Code::Unavailable,
        AdminError::TooManyQuestions => Code::ResourceExhausted,
        AdminError::Passed(status) => status.code(),
        AdminError::NoSuchMessage { .. }
        | AdminError::NoSuchTransaction { .. }
        | AdminError::NoSuchLiteTopic { .. } => Code::NotFound,
        AdminError::SearchTooLong { .. } => Code::ResourceExhausted,
        AdminError::Metadata(error) => metadata_code(error),
        AdminError::Store(cause) | AdminError::NotFreed { cause, .. } => store_code(cause),
    }
}

fn metadata_code(error: &MetadataError) -> Code {
    match error {
        MetadataError::TopicExists { .. } | MetadataError::GroupExists { .. } => Code::AlreadyExists,
        MetadataError::NoSuchTopic { .. } | MetadataError::NoSuchGroup { .. } | MetadataError::NoSuchNode { .. } => {
            Code::NotFound
        }
        MetadataError::OutOfRange { .. } => Code::InvalidArgument,
        MetadataError::NoReplicaGroups { .. }
        | MetadataError::OtherIncarnation { .. }
        | MetadataError::NoTurn { .. }
        | MetadataError::KeepsReplicas { .. }
        | MetadataError::Refused { .. } => Code::FailedPrecondition,
        MetadataError::NotLeader { .. } | MetadataError::Unreachable { .. } | MetadataError::Stopped => {
            Code::Unavailable
        }
    }
}

fn store_code(error: &StoreError) -> Code {
    match error {
        StoreError::Busy { .. } | StoreError::Stopped | StoreError::NotLeader { .. } | StoreError::LeaderLost => {
            Code::Unavailable
        }
        StoreError::Timeout { .. } => Code::DeadlineExceeded,
        StoreError::Unreadable { .. } => Code::DataLoss,
        // No admin call asks for that.
        StoreError::TooLarge { .. }
        | StoreError::NoSuchQueue { .. }
        | StoreError::TooManyLiteTopics { .. }
        | StoreError::Sealed { .. }
        | StoreError::CannotLead { .. } => Code::Internal,
    }
}

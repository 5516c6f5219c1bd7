//! The words of the product, as types that cannot be wrong.
//!
//! Invariant: no async, no IO, no clock, no protobuf library; uses nothing of ours.
//! Reading order: `name`, `ids`, `hash`, `time`, `retry`, `message`, `message_group`, `priority`, `dead_letter`, `message_id`, `wire`,
//! `filter`, `receipt`, `handle`, `recall`, `transaction`, `metadata`, `placement`, `members`, `store`.

mod dead_letter;
mod filter;
#[doc(hidden)]
pub mod fuzz;
mod handle;
mod hash;
mod ids;
mod members;
mod message;
mod message_group;
pub mod message_id;
mod metadata;
mod name;
mod placement;
mod priority;
mod proxy;
mod recall;
mod receipt;
mod retry;
pub mod store;
mod time;
mod transaction;
pub mod wire;

pub use filter::{Filter, FilterError, NoTag, Sql, SqlError, SqlProblem, TagFilter, tag_hash};
pub use hash::{HASH_START, hash, hash_on};
pub use ids::{
    BlockIndex, ClientId, DeliveryAttempt, DeliverySeq, Epoch, GroupId, QueueId, QueueOffset, ReplicaGroupId,
    ReplicaId, TopicId,
};
pub use members::{NamesrvMember, NamesrvMembers};
pub use message::{MessageType, StoredMessage, TopicType};
pub use message_group::{message_group_hash, message_group_queue};
pub use metadata::{
    Cluster, DeliveryOrder, GroupChanges, GroupConfig, LiteGroup, MetadataError, NewGroup, NewTopic, Permission,
    TopicChanges, TopicConfig,
};
pub use name::{ConsumerGroup, NameError, Topic};
pub use placement::{
    BadNodeName, MoveStage, NewNode, NodeName, NodeStanding, ReplicaGroup, ReplicaMove, StoreNodeConfig,
};
pub use priority::{PriorityFactor, PriorityTurn, priority_queue};
pub use proxy::ProxyNode;
pub use recall::{RecallError, RecallHandle};
pub use receipt::{MacKey, MacKeys, ReceiptError, ReceiptHandle};
pub use retry::{BadRetryPolicy, Rests, RetryPolicy};
pub use time::{InvisibleDuration, InvisibleDurationError, Timestamp};
pub use transaction::{TransactionId, TransactionIdError};

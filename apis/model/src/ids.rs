//! Numbers with a meaning, each its own type.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Id of a topic; namesrv gives it once and never again, unless [`TopicId::is_lite`].
    TopicId(u32)
);
number!(
    /// Id of a consumer group; namesrv gives it once and never again.
    GroupId(u32)
);
number!(
    /// Number of a queue inside its topic, from 0.
    QueueId(u16)
);
number!(
    /// Place of a message in its queue, counted in messages from 0.
    QueueOffset(u64)
);
number!(
    /// Number of one delivery: every granted batch has its own, growing over the life of a replica group.
    DeliverySeq(u64)
);
number!(
    /// How often a message was delivered to a group, the current time included: 1 on the first delivery.
    DeliveryAttempt(u32)
);
number!(
    /// Raft term in which a delivery was granted.
    Epoch(u64)
);
number!(
    /// Number of a replica group; namesrv gives it once and never again. RocketMQ calls it a broker: `broker-0`.
    ReplicaGroupId(u32)
);
number!(
    /// Id of one replica of a replica group; it stays the same when the replica loses its disk.
    ReplicaId(u64)
);
number!(
    /// Index of a block in the CommitLog of its replica group, from 1.
    BlockIndex(u64)
);

impl ReplicaGroupId {
    /// The name that RocketMQ users know for it: `broker-0`.
    pub fn broker_name(self) -> String {
        format!("broker-{self}")
    }
}

impl TopicId {
    /// From here on ids are those of lite topics: the log of a replica group gives them, each its own.
    pub const LITE: Self = Self(1 << 31);

    /// Whether it is the id of a lite topic.
    pub fn is_lite(self) -> bool {
        self >= Self::LITE
    }
}

impl QueueOffset {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl DeliveryAttempt {
    pub const FIRST: Self = Self(1);
}

/// The name an SDK gives one client object; opaque, unique by agreement.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// `None` when the text is blank.
    pub fn parse(text: &str) -> Option<Self> {
        (!text.trim().is_empty()).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

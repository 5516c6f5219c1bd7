//! RecallMessage: a delayed message that nobody shall see after all.

use apogee_model::store::{KeptId, Recall as Recalling, Recalled as Fate};
use apogee_model::{MacKeys, MessageType, RecallHandle, ReplicaGroupId, Topic, TopicId, TopicType};

use super::{Call, ServiceError};
use crate::route::Directory;
use crate::store::Stores;

/// Takes one message back.
#[derive(Clone, Debug)]
pub(crate) struct Recall {
    pub topic: Topic,
    pub recall_handle: String,
}

/// No consumer will see the message with this id.
#[derive(Clone, Debug)]
pub(crate) struct Recalled {
    pub message_id: String,
}

pub(crate) struct Service {
    directory: Directory,
    stores: Stores,
}

impl Service {
    pub(crate) fn new(directory: Directory, stores: Stores) -> Self {
        Self { directory, stores }
    }

    /// Idempotent: a message that was recalled before is recalled again.
    pub(crate) async fn run(&self, _call: Call, recall: Recall) -> Result<Recalled, ServiceError> {
        let topic = self.directory.topic(&recall.topic)?;
        if !matches!(topic.topic_type, TopicType::Delay | TopicType::Mixed) {
            let (expected, actual) = (topic.topic_type, MessageType::Delay);
            return Err(ServiceError::MessageType { topic: recall.topic, expected, actual });
        }
        let keys = &self.directory.routes().cluster().mac_keys;
        let handle = RecallHandle::verify(&recall.recall_handle, keys);
        let handle = handle.map_err(|error| ServiceError::RecallHandle { problem: error.to_string() })?;
        if handle.topic != topic.id {
            let problem = format!("recall handle is not for topic {}", recall.topic);
            return Err(ServiceError::RecallHandle { problem });
        }
        let RecallHandle { replica_group, topic, id, message_id } = handle;
        match self.stores.of(replica_group)?.recall(Recalling { topic, id }).await? {
            Fate::Done => Ok(Recalled { message_id }),
            Fate::TooLate => Err(ServiceError::TooLateToRecall { message_id }),
        }
    }
}

/// The handle a client gets for a message that this replica group keeps back.
pub(crate) fn sign(
    replica_group: ReplicaGroupId,
    topic: TopicId,
    id: KeptId,
    message_id: &str,
    keys: &MacKeys,
) -> String {
    RecallHandle { replica_group, topic, id, message_id: message_id.to_owned() }.sign(keys)
}

//! ForwardMessageToDeadLetterQueue: a consumer gives up on a message.

use std::sync::Arc;

use apogee_model::store::{DeadLetters, Settlement, StoreError};
use apogee_model::{Cluster, ConsumerGroup, GroupConfig, ReplicaGroupId, Topic, TopicConfig};

use super::receipt::{self, Claim};
use super::{Call, ServiceError};
use crate::route::{Directory, topic_ref};
use crate::session::Sessions;
use crate::store::Stores;

/// Ends one delivery for good: its message goes to the dead letters of the group.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    pub group: ConsumerGroup,
    pub topic: Topic,
    pub receipt_handle: String,
}

/// The message is among the dead letters, or was settled before.
#[derive(Debug)]
pub(crate) struct Forwarded;

pub(crate) struct Service {
    directory: Directory,
    stores: Stores,
    sessions: Arc<Sessions>,
}

impl Service {
    pub(crate) fn new(directory: Directory, stores: Stores, sessions: Arc<Sessions>) -> Self {
        Self { directory, stores, sessions }
    }

    /// Idempotent: what is settled already, by whomever, is OK again. SDKs repeat every other answer for ever.
    pub(crate) async fn run(&self, call: Call, forward: Forward) -> Result<Forwarded, ServiceError> {
        self.sessions.heard(&call);
        let claim = Claim::new(self.directory.routes().cluster(), &forward.topic, &forward.group);
        let delivery = claim.delivery(&forward.receipt_handle)?;
        let (cluster, topic, group) = claim.parties()?;
        let what = match dead_letters(cluster, topic, group, delivery.0) {
            Some(dead) => Settlement::DeadLetter(dead),
            // What a group reads among its own dead letters is there already.
            None if topic.topic == group.group.dead_letter_topic() => Settlement::Ack,
            // This proxy hears of the queue in a moment.
            None => return Err(ServiceError::Store(StoreError::NotLeader { leader: None })),
        };
        receipt::settle(&self.stores, delivery, what, &forward.receipt_handle).await?;
        Ok(Forwarded)
    }
}

/// When messages of a topic are dead to a group, and where they go in this replica group. `None` while nobody knows, and for
/// the group's own dead letters, which stay where they are.
pub(crate) fn dead_letters(
    cluster: &Cluster,
    topic: &TopicConfig,
    group: &GroupConfig,
    replica_group: ReplicaGroupId,
) -> Option<DeadLetters> {
    let name = group.group.dead_letter_topic();
    let target = cluster.topics.get(&name).filter(|_| topic.topic != name)?;
    let queue = target.queue_in(replica_group)?;
    Some(DeadLetters { max_attempts: group.max_attempts, topic: topic_ref(target), queue })
}

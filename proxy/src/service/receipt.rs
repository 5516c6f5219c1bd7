//! From the text of a receipt handle to the delivery it proves.

use std::sync::Arc;

use apogee_model::store::{DeliveryKey, Settled, Settlement};
use apogee_model::{
    Cluster, ConsumerGroup, GroupConfig, MacKeys, ReceiptHandle, ReplicaGroupId, Topic, TopicConfig, TopicType,
};

use super::ServiceError;
use crate::store::Stores;

/// The topic and group a request says its handles belong to.
///
/// One that does not exist (any more) makes its handles invalid instead of the request: push consumers repeat every
/// other failure for ever.
pub(crate) struct Claim {
    cluster: Arc<Cluster>,
    target: Result<(Arc<TopicConfig>, Arc<GroupConfig>), ServiceError>,
}

impl Claim {
    pub(crate) fn new(cluster: Arc<Cluster>, topic: &Topic, group: &ConsumerGroup) -> Self {
        let target = match (cluster.topics.get(topic), cluster.groups.get(group)) {
            (Some(topic), Some(group)) => Ok((Arc::clone(topic), Arc::clone(group))),
            (None, _) => Err(invalid(format!("cannot be used: topic {topic} does not exist"))),
            (_, None) => Err(invalid(format!("cannot be used: consumer group {group} does not exist"))),
        };
        Self { cluster, target }
    }

    /// The cluster, the topic and the group.
    ///
    /// # Errors
    /// [`ServiceError::Receipt`] when one of the two does not exist.
    pub(crate) fn parties(&self) -> Result<(&Cluster, &TopicConfig, &GroupConfig), ServiceError> {
        let (topic, group) = self.target.as_ref().map_err(Clone::clone)?;
        Ok((&self.cluster, topic, group))
    }

    /// The delivery behind a handle, and the replica group that granted it.
    ///
    /// # Errors
    /// [`ServiceError::Receipt`] for a handle we did not sign, or signed for another topic or group.
    pub(crate) fn delivery(&self, text: &str) -> Result<(ReplicaGroupId, DeliveryKey), ServiceError> {
        let (topic, group) = self.target.as_ref().map_err(Clone::clone)?;
        let handle = ReceiptHandle::verify(text, &self.cluster.mac_keys)
            .map_err(|_| invalid(format!("{} is corrupt or was not given by this cluster", shorten(text))))?;
        // Lite topics are known by name where they are, and the cluster knows the topic that they are parts of.
        let lite = handle.topic.is_lite() && topic.topic_type == TopicType::Lite;
        if handle.topic != topic.id && !lite {
            return Err(invalid(format!("{} is not for topic {}", shorten(text), topic.topic)));
        }
        if handle.group != group.id {
            return Err(invalid(format!("{} is not for consumer group {}", shorten(text), group.group)));
        }
        let ReceiptHandle { replica_group, epoch, group, topic, queue, offset, delivery } = handle;
        Ok((replica_group, DeliveryKey { epoch, group, topic, queue, offset, delivery }))
    }
}

/// The handle a client gets for a delivery that this replica group granted.
pub(crate) fn sign(replica_group: ReplicaGroupId, key: &DeliveryKey, keys: &MacKeys) -> String {
    let DeliveryKey { epoch, group, topic, queue, offset, delivery } = *key;
    ReceiptHandle { replica_group, epoch, group, topic, queue, offset, delivery }.sign(keys)
}

/// Settles the delivery that a claim found behind a handle.
///
/// # Errors
/// [`ServiceError::Receipt`] when a later delivery replaced it; what the store says.
pub(crate) async fn settle(
    stores: &Stores,
    (replica_group, delivery): (ReplicaGroupId, DeliveryKey),
    what: Settlement,
    handle: &str,
) -> Result<(), ServiceError> {
    match stores.of(replica_group)?.settle(delivery, what).await? {
        Settled::Done => Ok(()),
        Settled::Stale => Err(invalid(format!("{} was replaced by a later delivery", shorten(handle)))),
    }
}

fn invalid(problem: String) -> ServiceError {
    ServiceError::Receipt { problem }
}

/// Enough of a handle to find it in a log of the client.
fn shorten(text: &str) -> String {
    const SHOWN: usize = 64;
    if text.chars().count() <= SHOWN {
        format!("{text:?}")
    } else {
        format!("{:?}…", text.chars().take(SHOWN).collect::<String>())
    }
}

//! EndTransaction: a half message enters its queue, or nobody will ever see it.
//!
//! The transaction id says where the half message is, so every proxy can end every transaction, hours later, too.

use apogee_model::store::{EndTransaction, HalfId, Resolution, TransactionEnded};
use apogee_model::{MacKeys, ReplicaGroupId, Topic, TopicId, TransactionId};

use super::{Call, ServiceError};
use crate::route::Directory;
use crate::store::Stores;

/// How one transaction ends.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub topic: Topic,
    /// Not blank.
    pub transaction_id: String,
    /// `None`: its producer does not know yet, and is asked later.
    pub resolution: Option<Resolution>,
}

/// It has ended so, and for good; or nothing was to be done.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ended;

pub(crate) struct Service {
    directory: Directory,
    stores: Stores,
}

impl Service {
    pub(crate) fn new(directory: Directory, stores: Stores) -> Self {
        Self { directory, stores }
    }

    /// Idempotent. A second decision that is another one is refused: the first may have been seen by consumers.
    pub(crate) async fn run(&self, _call: Call, end: End) -> Result<Ended, ServiceError> {
        let topic = self.directory.topic(&end.topic)?;
        let keys = &self.directory.routes().cluster().mac_keys;
        let id = TransactionId::verify(&end.transaction_id, keys);
        let id = id.map_err(|error| ServiceError::TransactionId { problem: error.to_string() })?;
        if id.topic != topic.id {
            return Err(ServiceError::TransactionId {
                problem: format!("transaction id is not for topic {}", end.topic),
            });
        }
        let Some(resolution) = end.resolution else { return Ok(Ended) };
        let TransactionId { replica_group, topic, half: id, message_id } = id;
        match self.stores.of(replica_group)?.end_transaction(EndTransaction { topic, id, resolution }).await? {
            TransactionEnded::Done => Ok(Ended),
            TransactionEnded::Otherwise => Err(ServiceError::EndedOtherwise { message_id, asked: resolution }),
            TransactionEnded::Unknown => {
                let problem = format!("the transaction of message {message_id} ended so long ago that it is forgotten");
                Err(ServiceError::TransactionId { problem })
            }
        }
    }
}

/// The id a client gets for the transaction of a half message that this replica group keeps.
pub(crate) fn sign(
    replica_group: ReplicaGroupId,
    topic: TopicId,
    half: HalfId,
    message_id: &str,
    keys: &MacKeys,
) -> String {
    TransactionId { replica_group, topic, half, message_id: message_id.to_owned() }.sign(keys)
}

//! EndTransaction.

use apogee_model::store::Resolution;
use apogee_proto::v2::{self, TransactionResolution};

use super::{Parse, topic};
use crate::service::end_transaction::End;
use crate::service::{Call, ServiceError};

/// Who decided, and what is told for traces, makes no difference.
impl Parse<v2::EndTransactionRequest> for End {
    fn parse(wire: v2::EndTransactionRequest, call: &Call) -> Result<Self, ServiceError> {
        let topic = topic(wire.topic.as_ref(), call)?;
        if wire.transaction_id.trim().is_empty() {
            return Err(ServiceError::TransactionId { problem: "transaction id is blank".to_owned() });
        }
        let resolution = match TransactionResolution::try_from(wire.resolution) {
            Ok(TransactionResolution::Commit) => Some(Resolution::Commit),
            Ok(TransactionResolution::Rollback) => Some(Resolution::Rollback),
            Ok(TransactionResolution::Unspecified) | Err(_) => None,
        };
        Ok(Self { topic, transaction_id: wire.transaction_id, resolution })
    }
}

//! RecallMessage.

use apogee_proto::v2;

use super::{Parse, topic};
use crate::service::recall::Recall;
use crate::service::{Call, ServiceError};

impl Parse<v2::RecallMessageRequest> for Recall {
    fn parse(wire: v2::RecallMessageRequest, call: &Call) -> Result<Self, ServiceError> {
        Ok(Self { topic: topic(wire.topic.as_ref(), call)?, recall_handle: wire.recall_handle })
    }
}

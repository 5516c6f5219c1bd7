//! Errors to codes: the only place, and every variant has to choose here.

use apogee_model::MetadataError;
use apogee_model::store::StoreError;
use apogee_proto::v2::{self, Code};

use crate::service::{MessageError, ServiceError};

/// Source: apache/rocketmq `proxy/.../ResponseBuilder.java`, `GrpcValidator.java`, `SendMessageActivity.java`.
pub(crate) fn code(error: &ServiceError) -> Code {
    match error {
        ServiceError::ClientId { .. } => Code::ClientIdRequired,
        ServiceError::TooMany { .. } => Code::TooManyRequests,
        ServiceError::DeadlinePassed { .. } => Code::ProxyTimeout,
        ServiceError::AccessPoint { .. } => Code::IllegalAccessPoint,
        ServiceError::TopicName(_) | ServiceError::OtherLiteTopic { .. } => Code::IllegalTopic,
        ServiceError::GroupName(_) | ServiceError::NoLiteGroup { .. } => Code::IllegalConsumerGroup,
        ServiceError::TopicNotFound { .. } => Code::TopicNotFound,
        ServiceError::GroupNotFound { .. } => Code::ConsumerGroupNotFound,
        ServiceError::NotReadable { .. } | ServiceError::NotWritable { .. } | ServiceError::TooManyUnsettled { .. } => {
            Code::Forbidden
        }
        ServiceError::TooManyLiteSubscriptions { .. } => Code::LiteSubscriptionQuotaExceeded,
        ServiceError::MixedLiteTopics { .. } => Code::IllegalLiteTopic,
        ServiceError::ClientType { .. } => Code::UnrecognizedClientType,
        ServiceError::NoMessages | ServiceError::MixedTopics { .. } => Code::MessageCorrupted,
        ServiceError::Message(error) => message(error),
        ServiceError::InBatch { error, .. } => code(error),
        ServiceError::RequestTooLarge { .. } => Code::PayloadTooLarge,
        ServiceError::MixedMessageGroups { .. } => Code::IllegalMessageGroup,
        ServiceError::MessageType { .. } => Code::MessagePropertyConflictWithType,
        ServiceError::InvisibleDuration(_) | ServiceError::NoInvisibleDuration { .. } => Code::IllegalInvisibleTime,
        ServiceError::PollingTime { client_knows_the_code: true, .. } => Code::IllegalPollingTime,
        ServiceError::PollingTime { client_knows_the_code: false, .. }
        | ServiceError::AttemptId { .. }
        | ServiceError::MixedPriorities { .. }
        | ServiceError::NoEntries
        | ServiceError::TooManyEntries { .. }
        | ServiceError::RecallHandle { .. }
        | ServiceError::EndedOtherwise { .. }
        | ServiceError::NoSuchQueue { .. }
        | ServiceError::OffsetPolicy { .. }
        | ServiceError::SettingsWithoutRole
        | ServiceError::SettingsContradict { .. } => Code::BadRequest,
        ServiceError::Filter(_) | ServiceError::FilterExpression { .. } => Code::IllegalFilterExpression,
        ServiceError::OffsetNegative { .. } | ServiceError::OffsetBeyond { .. } => Code::IllegalOffset,
        ServiceError::NoOffset { .. } => Code::OffsetNotFound,
        ServiceError::Receipt { .. } => Code::InvalidReceiptHandle,
        ServiceError::TransactionId { .. } => Code::InvalidTransactionId,
        ServiceError::TooLateToRecall { .. } => Code::MessageNotFound,
        ServiceError::Store(error) => store(error),
        ServiceError::Metadata(error) => metadata(error),
    }
}

fn message(error: &MessageError) -> Code {
    match error {
        MessageError::BodyEmpty => Code::MessageBodyEmpty,
        MessageError::BodyTooLarge { .. } => Code::MessageBodyTooLarge,
        MessageError::TooManyProperties { .. }
        | MessageError::PropertiesTooLarge { .. }
        | MessageError::FieldTooLong { .. } => Code::MessagePropertiesTooLarge,
        MessageError::EmptyPropertyKey
        | MessageError::ReservedProperty { .. }
        | MessageError::PropertyCharacter { .. } => Code::IllegalMessagePropertyKey,
        MessageError::Tag { .. } => Code::IllegalMessageTag,
        MessageError::Key { .. } => Code::IllegalMessageKey,
        MessageError::MessageId | MessageError::MessageIdTooLong { .. } => Code::IllegalMessageId,
        MessageError::RecoveryDuration { .. } | MessageError::Priority { .. } => Code::BadRequest,
        MessageError::TransactionWithDelay => Code::MessagePropertyConflictWithType,
        MessageError::DeliveryTimestamp { .. } => Code::IllegalDeliveryTime,
        MessageError::MessageGroup { .. } | MessageError::MessageGroupTooLong { .. } => Code::IllegalMessageGroup,
        MessageError::LiteTopic { .. } => Code::IllegalLiteTopic,
    }
}

fn store(error: &StoreError) -> Code {
    match error {
        StoreError::Busy { .. } | StoreError::Sealed { .. } => Code::TooManyRequests,
        StoreError::TooLarge { .. } => Code::PayloadTooLarge,
        StoreError::TooManyLiteTopics { .. } => Code::LiteTopicQuotaExceeded,
        StoreError::Timeout { .. } => Code::ProxyTimeout,
        // SDKs try again after each of these, and after a timeout.
        StoreError::NotLeader { .. } => Code::HaNotAvailable,
        StoreError::NoSuchQueue { .. }
        | StoreError::Unreadable { .. }
        | StoreError::LeaderLost
        | StoreError::CannotLead { .. }
        | StoreError::Stopped => Code::InternalServerError,
    }
}

fn metadata(error: &MetadataError) -> Code {
    match error {
        MetadataError::NoSuchTopic { .. } => Code::TopicNotFound,
        MetadataError::NoSuchGroup { .. } => Code::ConsumerGroupNotFound,
        MetadataError::TopicExists { .. }
        | MetadataError::GroupExists { .. }
        | MetadataError::OutOfRange { .. }
        | MetadataError::NoReplicaGroups { .. }
        | MetadataError::NoSuchNode { .. }
        | MetadataError::OtherIncarnation { .. }
        | MetadataError::NoTurn { .. }
        | MetadataError::KeepsReplicas { .. }
        | MetadataError::NotLeader { .. }
        | MetadataError::Unreachable { .. }
        | MetadataError::Refused { .. }
        | MetadataError::Stopped => Code::InternalServerError,
    }
}

/// A status that says what happened.
pub(crate) fn status(code: Code, message: impl Into<String>) -> v2::Status {
    v2::Status { code: code.into(), message: message.into() }
}

/// What a successful answer carries.
pub(crate) fn ok() -> v2::Status {
    status(Code::Ok, "OK")
}

/// What a refusal carries.
pub(crate) fn failed(error: &ServiceError) -> v2::Status {
    status(code(error), error.to_string())
}

/// The code a batch as a whole gets: the common one, else MULTIPLE_RESULTS.
pub(crate) fn common(codes: impl IntoIterator<Item = Code>) -> Code {
    let mut codes = codes.into_iter();
    let Some(first) = codes.next() else { return Code::InternalServerError };
    if codes.all(|code| code == first) { first } else { Code::MultipleResults }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_one_code_or_many() {
        assert_eq!(common([Code::Ok, Code::Ok]), Code::Ok);
        assert_eq!(common([Code::Ok, Code::InvalidReceiptHandle]), Code::MultipleResults);
        assert_eq!(common([Code::InvalidReceiptHandle]), Code::InvalidReceiptHandle);
    }

    #[test]
    fn old_clients_get_the_code_they_know() {
        let polling = |client_knows_the_code| {
            let zero = std::time::Duration::ZERO;
            code(&ServiceError::PollingTime { remaining: zero, min: zero, client_knows_the_code })
        };
        assert_eq!((polling(true), polling(false)), (Code::IllegalPollingTime, Code::BadRequest));
    }
}

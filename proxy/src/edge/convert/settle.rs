//! AckMessage, ChangeInvisibleDuration and ForwardMessageToDeadLetterQueue.

use std::time::Duration;

use apogee_model::InvisibleDuration;
use apogee_proto::v2;

use super::receive::span;
use super::{Parse, group, topic};
use crate::service::ack::{Ack, AckEntry};
use crate::service::change_invisible::ChangeInvisible;
use crate::service::dead_letter::Forward;
use crate::service::{Call, ServiceError};

/// Entries of one request; SDKs send one.
const ENTRIES_MAX: usize = 4096;

impl Parse<v2::AckMessageRequest> for Ack {
    fn parse(wire: v2::AckMessageRequest, call: &Call) -> Result<Self, ServiceError> {
        let (topic, group) = (topic(wire.topic.as_ref(), call)?, group(wire.group.as_ref(), call)?);
        match wire.entries.len() {
            0 => Err(ServiceError::NoEntries),
            entries if entries > ENTRIES_MAX => Err(ServiceError::TooManyEntries { entries, max: ENTRIES_MAX }),
            _ => {
                let entry = |entry: v2::AckMessageEntry| AckEntry {
                    message_id: entry.message_id,
                    receipt_handle: entry.receipt_handle,
                };
                Ok(Self { topic, group, entries: wire.entries.into_iter().map(entry).collect() })
            }
        }
    }
}

impl Parse<v2::ChangeInvisibleDurationRequest> for ChangeInvisible {
    fn parse(wire: v2::ChangeInvisibleDurationRequest, call: &Call) -> Result<Self, ServiceError> {
        let (topic, group) = (topic(wire.topic.as_ref(), call)?, group(wire.group.as_ref(), call)?);
        let asked = wire.invisible_duration.unwrap_or_default(); // none is zero
        let after = InvisibleDuration::for_change(span(asked, Duration::ZERO)?)?;
        let suspend = wire.suspend();
        Ok(Self { topic, group, receipt_handle: wire.receipt_handle, after, suspend })
    }
}

/// What the client counts is not looked at: the store knows the attempts.
impl Parse<v2::ForwardMessageToDeadLetterQueueRequest> for Forward {
    fn parse(wire: v2::ForwardMessageToDeadLetterQueueRequest, call: &Call) -> Result<Self, ServiceError> {
        let (topic, group) = (topic(wire.topic.as_ref(), call)?, group(wire.group.as_ref(), call)?);
        Ok(Self { topic, group, receipt_handle: wire.receipt_handle })
    }
}

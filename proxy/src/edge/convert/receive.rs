//! ReceiveMessage.

use std::time::Duration;

use apogee_model::store::LeaseTerms;
use apogee_model::{Filter, FilterError, InvisibleDuration, TagFilter};
use apogee_proto::v2::{self, FilterType};
use bytes::Bytes;

use super::{Parse, group, time, topic};
use crate::service::receive::{BATCH_MAX, Receive};
use crate::service::{Call, ServiceError};

/// Longest filter expression in bytes.
const EXPRESSION_MAX: usize = 4096;
/// Longest attempt id in bytes; SDKs use UUIDs.
const ATTEMPT_ID_MAX: usize = 256;

impl Parse<v2::ReceiveMessageRequest> for Receive {
    fn parse(wire: v2::ReceiveMessageRequest, call: &Call) -> Result<Self, ServiceError> {
        let queue = wire.message_queue.unwrap_or_default(); // its id is a hint, and Pop needs none
        let topic = topic(queue.topic.as_ref(), call)?;
        let group = group(wire.group.as_ref(), call)?;
        let lease = match wire.auto_renew {
            true => LeaseTerms::AutoRenew,
            false => LeaseTerms::Fixed(invisible(wire.invisible_duration)?),
        };
        Ok(Self {
            topic,
            group,
            filter: filter(wire.filter_expression)?,
            batch: usize::try_from(wire.batch_size).unwrap_or(1).clamp(1, BATCH_MAX),
            lease,
            polling: wire.long_polling_timeout.map(|asked| time::duration(asked).unwrap_or_default()),
            attempt_id: attempt_id(wire.attempt_id)?,
        })
    }
}

fn invisible(asked: Option<prost_types::Duration>) -> Result<InvisibleDuration, ServiceError> {
    let min = InvisibleDuration::RECEIVE_MIN;
    let missing = || ServiceError::NoInvisibleDuration { problem: "is missing".to_owned(), min };
    Ok(InvisibleDuration::for_receive(span(asked.ok_or_else(missing)?, min)?)?)
}

/// A span in whole milliseconds; what is none gets an error that names `min`.
pub(super) fn span(asked: prost_types::Duration, min: Duration) -> Result<Duration, ServiceError> {
    let prost_types::Duration { seconds, nanos } = asked;
    let Some(span) = time::duration(asked) else {
        let what = if seconds < 0 || nanos < 0 { "negative" } else { "no duration" };
        return Err(ServiceError::NoInvisibleDuration { problem: format!("{seconds} s {nanos} ns is {what}"), min });
    };
    Ok(span.saturating_sub(Duration::from_nanos(u64::from(span.subsec_nanos() % 1_000_000))))
}

/// The filter a consumer asks for. Unspecified counts as TAG. An SQL92 expression that does not compile is refused here, with
/// the place of the mistake; the reference refuses only an empty one, and fails a receive with an internal error.
pub(super) fn filter(expression: Option<v2::FilterExpression>) -> Result<Filter, ServiceError> {
    let v2::FilterExpression { r#type, expression } = expression.unwrap_or_default();
    if expression.len() > EXPRESSION_MAX {
        let problem = format!("has {} bytes, at most {EXPRESSION_MAX} are allowed", expression.len());
        return Err(ServiceError::FilterExpression { problem });
    }
    match FilterType::try_from(r#type) {
        Ok(FilterType::Tag | FilterType::Unspecified) => {
            Ok(TagFilter::parse(&expression).map_err(FilterError::from)?.into())
        }
        Ok(FilterType::Sql) => Ok(Filter::sql(&expression)?),
        Err(_) => Err(ServiceError::FilterExpression {
            problem: format!("has type {type}, allowed are TAG and SQL", type = r#type),
        }),
    }
}

fn attempt_id(id: Option<String>) -> Result<Option<Bytes>, ServiceError> {
    match id {
        Some(id) if id.len() > ATTEMPT_ID_MAX => Err(ServiceError::AttemptId { bytes: id.len(), max: ATTEMPT_ID_MAX }),
        Some(id) if !id.is_empty() => Ok(Some(id.into())),
        Some(_) | None => Ok(None),
    }
}

//! PullMessage, UpdateOffset, GetOffset, QueryOffset.

use apogee_model::{QueueOffset, Topic};
use apogee_proto::v2::{self, QueryOffsetPolicy};

use super::{Parse, group, receive, time, topic};
use crate::service::offsets::{Get, Point, Query, Update};
use crate::service::pull::{BATCH_MAX, Pull};
use crate::service::{Call, ServiceError};

impl Parse<v2::PullMessageRequest> for Pull {
    fn parse(wire: v2::PullMessageRequest, call: &Call) -> Result<Self, ServiceError> {
        let (topic, queue) = queue(wire.message_queue, call)?;
        Ok(Self {
            topic,
            queue,
            group: group(wire.group.as_ref(), call)?,
            offset: offset(wire.offset)?,
            filter: receive::filter(wire.filter_expression)?,
            batch: usize::try_from(wire.batch_size).unwrap_or(1).clamp(1, BATCH_MAX),
            polling: wire.long_polling_timeout.map(|asked| time::duration(asked).unwrap_or_default()),
        })
    }
}

impl Parse<v2::UpdateOffsetRequest> for Update {
    fn parse(wire: v2::UpdateOffsetRequest, call: &Call) -> Result<Self, ServiceError> {
        let (topic, queue) = queue(wire.message_queue, call)?;
        Ok(Self { topic, queue, group: group(wire.group.as_ref(), call)?, offset: offset(wire.offset)? })
    }
}

impl Parse<v2::GetOffsetRequest> for Get {
    fn parse(wire: v2::GetOffsetRequest, call: &Call) -> Result<Self, ServiceError> {
        let (topic, queue) = queue(wire.message_queue, call)?;
        Ok(Self { topic, queue, group: group(wire.group.as_ref(), call)? })
    }
}

impl Parse<v2::QueryOffsetRequest> for Query {
    fn parse(wire: v2::QueryOffsetRequest, call: &Call) -> Result<Self, ServiceError> {
        let (topic, queue) = queue(wire.message_queue, call)?;
        let of = match (QueryOffsetPolicy::try_from(wire.query_offset_policy), wire.timestamp) {
            (Ok(QueryOffsetPolicy::Beginning), _) => Point::Beginning,
            (Ok(QueryOffsetPolicy::End), _) => Point::End,
            (Ok(QueryOffsetPolicy::Timestamp), Some(at)) => Point::Time(time::timestamp(&at)),
            (Ok(QueryOffsetPolicy::Timestamp), None) => {
                return Err(ServiceError::OffsetPolicy { problem: "TIMESTAMP needs a timestamp".to_owned() });
            }
            (Err(_), _) => {
                let problem = format!("{} is none, allowed are BEGINNING, END, TIMESTAMP", wire.query_offset_policy);
                return Err(ServiceError::OffsetPolicy { problem });
            }
        };
        Ok(Self { topic, queue, of })
    }
}

/// The topic and the number of a queue, which the topic may not have.
fn queue(queue: Option<v2::MessageQueue>, call: &Call) -> Result<(Topic, i32), ServiceError> {
    let queue = queue.unwrap_or_default();
    Ok((topic(queue.topic.as_ref(), call)?, queue.id))
}

fn offset(wire: i64) -> Result<QueueOffset, ServiceError> {
    u64::try_from(wire).map(QueueOffset).map_err(|_| ServiceError::OffsetNegative { offset: wire })
}

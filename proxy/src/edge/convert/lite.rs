//! SyncLiteSubscription.

use apogee_model::QueueOffset;
use apogee_model::store::{LiteChange, LiteStart};
use apogee_proto::v2::offset_option::{OffsetType, Policy};
use apogee_proto::v2::{self, LiteSubscriptionAction};

use super::property::check_lite_topic;
use super::{Parse, group, topic};
use crate::service::lite::Subscribe;
use crate::service::{Call, MessageError, ServiceError};

impl Parse<v2::SyncLiteSubscriptionRequest> for Subscribe {
    fn parse(wire: v2::SyncLiteSubscriptionRequest, call: &Call) -> Result<Self, ServiceError> {
        let (topic, group) = (topic(wire.topic.as_ref(), call)?, group(wire.group.as_ref(), call)?);
        let change = match wire.action() {
            LiteSubscriptionAction::PartialAdd => LiteChange::Add,
            LiteSubscriptionAction::PartialRemove => LiteChange::Remove,
            LiteSubscriptionAction::CompleteAdd => LiteChange::Complete,
            LiteSubscriptionAction::CompleteRemove => LiteChange::RemoveAll,
        };
        if matches!(change, LiteChange::Add | LiteChange::Complete) {
            wire.lite_topic_set.iter().try_for_each(|name| check_name(name))?;
        }
        let from = wire.offset_option.map_or(Ok(LiteStart::Last), start)?;
        let names = wire.lite_topic_set.into_iter().map(String::into_boxed_str).collect();
        Ok(Self { group, topic, change, names, from })
    }
}

fn check_name(name: &str) -> Result<(), MessageError> {
    if name.is_empty() {
        return Err(MessageError::LiteTopic { lite_topic: String::new(), problem: "is empty" });
    }
    check_lite_topic(name)
}

fn start(option: v2::OffsetOption) -> Result<LiteStart, ServiceError> {
    let number = |offset: i64| u64::try_from(offset).map_err(|_| ServiceError::OffsetNegative { offset });
    Ok(match option.offset_type {
        None => LiteStart::Last,
        Some(OffsetType::Policy(policy)) => match Policy::try_from(policy) {
            Ok(Policy::Last) | Err(_) => LiteStart::Last,
            Ok(Policy::Min) => LiteStart::Earliest,
            Ok(Policy::Max) => LiteStart::Latest,
        },
        Some(OffsetType::Offset(offset)) => LiteStart::At(QueueOffset(number(offset)?)),
        Some(OffsetType::TailN(count)) => LiteStart::Tail(number(count)?),
        Some(OffsetType::Timestamp(at)) => LiteStart::Time(apogee_model::Timestamp(number(at)?)),
    })
}

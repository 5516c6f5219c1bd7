//! Settings of the telemetry stream: what the client says, and what both will follow.

use std::time::Duration;

use apogee_model::{Filter, RetryPolicy, Topic};
use apogee_proto::v2::settings::PubSub;
use apogee_proto::v2::{self, ClientType, retry_policy::Strategy};

use super::message::BODY_MAX;
use super::receive::filter;
use super::route::client_type;
use super::{Parse, group, time, topic};
use crate::service::receive::{BATCH_MAX, POLLING_MAX};
use crate::service::telemetry::{Agreed, ClientSettings};
use crate::service::{Call, ServiceError};
use crate::session::{ConsumeMode, Named, Role, Subscriptions};

/// Attempts of a producer for one message.
const PRODUCER_ATTEMPTS: i32 = 3;
/// Longest name of a lite topic.
const LITE_TOPIC_MAX: i32 = 64;

impl Parse<v2::Settings> for ClientSettings {
    fn parse(wire: v2::Settings, call: &Call) -> Result<Self, ServiceError> {
        let (mut topics, mut subscriptions) = (Vec::new(), Vec::new());
        let role = match &wire.pub_sub {
            None => return Err(ServiceError::SettingsWithoutRole),
            Some(PubSub::Publishing(publishing)) => {
                publishes(&wire)?;
                for resource in &publishing.topics {
                    topics.push(topic(Some(resource), call)?);
                }
                Role::Producer
            }
            Some(PubSub::Subscription(subscription)) => consumer(&wire, subscription, &mut subscriptions, call)?,
        };
        topics.extend(subscriptions.iter().map(|(topic, _)| topic.clone()));
        Ok(Self {
            role,
            topics: Named::of(&topics),
            named: topics,
            subscriptions: Subscriptions::of(subscriptions),
            request_timeout: wire.request_timeout.and_then(time::duration),
        })
    }
}

/// A type that is missing or unknown contradicts nothing.
fn publishes(wire: &v2::Settings) -> Result<(), ServiceError> {
    match wire.client_type() {
        ClientType::Producer | ClientType::Unspecified => Ok(()),
        ClientType::PushConsumer
        | ClientType::SimpleConsumer
        | ClientType::PullConsumer
        | ClientType::LitePushConsumer
        | ClientType::LiteSimpleConsumer => Err(ServiceError::SettingsContradict {
            client_type: wire.client_type().as_str_name(),
            carried: "publishing",
        }),
    }
}

fn consumer(
    wire: &v2::Settings,
    subscription: &v2::Subscription,
    subscriptions: &mut Vec<(Topic, Filter)>,
    call: &Call,
) -> Result<Role, ServiceError> {
    let mode = match wire.client_type() {
        ClientType::PushConsumer => ConsumeMode::Push,
        ClientType::SimpleConsumer => ConsumeMode::Simple,
        ClientType::LitePushConsumer => ConsumeMode::LitePush,
        ClientType::LiteSimpleConsumer => ConsumeMode::LiteSimple,
        ClientType::Producer => {
            let client_type = wire.client_type().as_str_name();
            return Err(ServiceError::SettingsContradict { client_type, carried: "subscription" });
        }
        ClientType::Unspecified | ClientType::PullConsumer => {
            return Err(client_type(wire.client_type.unwrap_or_default()));
        }
    };
    for entry in &subscription.subscriptions {
        subscriptions.push((topic(entry.topic.as_ref(), call)?, filter(entry.expression.clone())?));
    }
    Ok(Role::Consumer { mode, group: group(subscription.group.as_ref(), call)? })
}

/// The client's own settings with everything that is ours to say written over.
///
/// Source: apache/rocketmq `proxy/.../GrpcClientSettingsManager.java`.
pub(in crate::edge) fn merged(mut settings: v2::Settings, agreed: &Agreed) -> v2::Settings {
    settings.metric = Some(v2::Metric { on: false, endpoints: None });
    match (agreed, &mut settings.pub_sub) {
        (Agreed::Producer, Some(PubSub::Publishing(publishing))) => {
            settings.backoff_policy = Some(v2::RetryPolicy {
                max_attempts: PRODUCER_ATTEMPTS,
                strategy: Some(exponential(Duration::from_millis(10), Duration::from_secs(1), 2)),
            });
            publishing.max_body_size = i32::try_from(BODY_MAX).expect("4 MiB");
            publishing.validate_message_type = true;
        }
        (Agreed::Consumer { fifo, max_attempts, retry, lite_max }, Some(PubSub::Subscription(subscription))) => {
            settings.backoff_policy = Some(v2::RetryPolicy {
                max_attempts: i32::try_from(*max_attempts).unwrap_or(i32::MAX),
                strategy: Some(strategy(retry)),
            });
            subscription.fifo = Some(*fifo);
            subscription.receive_batch_size = Some(i32::try_from(BATCH_MAX).expect("32"));
            subscription.long_polling_timeout = span(POLLING_MAX);
            subscription.lite_subscription_quota = Some(i32::try_from(*lite_max).unwrap_or(i32::MAX));
            subscription.max_lite_topic_size = Some(LITE_TOPIC_MAX);
        }
        (Agreed::Producer | Agreed::Consumer { .. }, _) => {
            unreachable!("what was agreed follows from which of the two the settings carry")
        }
    }
    settings
}

fn strategy(policy: &RetryPolicy) -> Strategy {
    match policy {
        RetryPolicy::Customized { next } => {
            let next = next.iter().copied().filter_map(span).collect();
            Strategy::CustomizedBackoff(v2::CustomizedBackoff { next })
        }
        RetryPolicy::Exponential { initial, max, multiplier } => {
            exponential(*initial, *max, u8::try_from(*multiplier).unwrap_or(u8::MAX))
        }
    }
}

fn exponential(initial: Duration, max: Duration, multiplier: u8) -> Strategy {
    let (initial, max, multiplier) = (span(initial), span(max), f32::from(multiplier));
    Strategy::ExponentialBackoff(v2::ExponentialBackoff { initial, max, multiplier })
}

fn span(span: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(span).ok()
}

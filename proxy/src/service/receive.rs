//! ReceiveMessage: the next messages of a topic for a group, waiting for them if need be.

use std::sync::Arc;
use std::time::Duration;

use apogee_model::store::{Delivery, DeliveryKey, LeaseTerms, Pop, Popped, StoreError};
use apogee_model::{
    Cluster, ConsumerGroup, DeliveryOrder, Filter, GroupConfig, ReplicaGroupId, Topic, TopicConfig, TopicType,
};
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::dead_letter::dead_letters;
use super::lite::reads_lite;
use super::mismatch::Mismatches;
use super::readiness::{Interest, Place, Readiness};
use super::{Call, Language, ServiceError};
use crate::listen::{Departure, Stage};
use crate::metrics::Metrics;
use crate::route::{Directory, group_ref, topic_ref};
use crate::session::{Sessions, Streams};
use crate::store::{StoreNode, Stores};

/// Most messages of one answer.
pub(crate) const BATCH_MAX: usize = 32;
/// Shortest and longest long poll.
pub(crate) const POLLING_MIN: Duration = Duration::from_secs(5);
pub(crate) const POLLING_MAX: Duration = Duration::from_secs(20);
/// What SDKs wait for a unary answer unless they say otherwise.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Polls that end in one such span end together at its beginning: one wake of the machine for all of them costs a third of
/// one for each.
const POLLS_END_EVERY: Duration = Duration::from_millis(100);
/// Time for the store after the end of the poll, for clients without a deadline.
pub(super) const STORE_GRACE: Duration = Duration::from_secs(5);
/// The first SDK version that knows ILLEGAL_POLLING_TIME, compared as text like upstream does.
const KNOWS_POLLING_TIME: &str = "5.0.3";

/// Asks for messages.
#[derive(Clone, Debug)]
pub(crate) struct Receive {
    pub group: ConsumerGroup,
    pub topic: Topic,
    pub filter: Filter,
    /// 1 to [`BATCH_MAX`].
    pub batch: usize,
    pub lease: LeaseTerms,
    /// How long to wait, if the request says it.
    pub polling: Option<Duration>,
    pub attempt_id: Option<Bytes>,
}

/// What a receive ends with.
pub(crate) enum Received {
    /// At least one message.
    Messages(Held),
    /// Nothing within the time of the poll, or its connection ends with the proxy.
    Nothing,
}

/// Granted deliveries on their way to the client. Dropped before [`Held::written`], they go back to the store: visible
/// at once, attempt not counted.
pub(crate) struct Held {
    pub deliveries: Vec<Delivery>,
    pub topic: Arc<TopicConfig>,
    pub group: Arc<GroupConfig>,
    /// Who granted them.
    pub replica_group: ReplicaGroupId,
    /// Whose keys sign the handles.
    pub cluster: Arc<Cluster>,
    keys: Vec<DeliveryKey>,
    renewed: bool,
    store: Arc<dyn StoreNode>,
}

impl Held {
    /// Messages of the batch.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Leaves a delivery to the end of its lease: it is neither written nor given back.
    pub(crate) fn leave(&mut self, key: &DeliveryKey) {
        self.keys.retain(|held| held != key);
    }

    /// The transport took the whole batch.
    pub(crate) fn written(mut self) {
        let keys = std::mem::take(&mut self.keys);
        if self.renewed && !keys.is_empty() {
            self.store.confirm(keys);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            self.store.release(std::mem::take(&mut self.keys));
        }
    }
}

pub(crate) struct Service {
    pub(crate) directory: Directory,
    pub(crate) stores: Stores,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) mismatches: Mismatches,
    /// From where spans in which polls end together are counted.
    pub(crate) since: Instant,
}

/// When a receive stops waiting for messages, and when it must have answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Until {
    poll_ends: Instant,
    answer: Instant,
}

impl Until {
    /// The poll ends with others, a little sooner.
    fn with_others(self, since: Instant) -> Self {
        let (span, from) = (POLLS_END_EVERY.as_nanos(), self.poll_ends.saturating_duration_since(since).as_nanos());
        let over = Duration::from_nanos(u64::try_from(from % span).unwrap_or_default());
        Self { poll_ends: self.poll_ends - over, ..self }
    }
}

/// How long a receive may wait, and what ends it sooner.
struct Waited {
    until: Until,
    since: Instant,
    departure: Departure,
    /// How far its connection may leave under it.
    ends_at: Stage,
}

impl Waited {
    fn has_to_end(&self) -> bool {
        self.departure.stage() >= self.ends_at
    }
}

/// A poll outlasts the GOAWAY of an old connection, because libraries make their next call on another one. That of the Rust
/// SDK (tonic) makes it on the old one while that lives, and fails it: so that closes at once.
pub(super) fn patience(language: Language) -> Stage {
    match language {
        Language::Rust => Stage::Left,
        Language::Java
        | Language::Go
        | Language::Python
        | Language::NodeJs
        | Language::Cpp
        | Language::DotNet
        | Language::Other => Stage::Ends,
    }
}

impl Service {
    /// The first receive of a topic or group creates it, where that is allowed.
    pub(crate) async fn run(&self, call: Call, ask: Receive) -> Result<Received, ServiceError> {
        let until = until(&call, ask.polling, self.sessions.request_timeout(&call.client))?.with_others(self.since);
        self.sessions.greet(&call)?;
        let topic = self.directory.topic_on_first_use(&ask.topic).await?;
        let group = self.directory.group_on_first_use(&ask.group).await?;
        if !topic.permission.readable() {
            return Err(ServiceError::NotReadable { topic: ask.topic });
        }
        self.mismatches.look(&topic, &group);
        let lite = reads_lite(&group, &topic)?;
        let pop = Pop {
            group: group_ref(&group),
            topic: topic_ref(&topic),
            filter: if lite { Filter::default() } else { ask.filter },
            batch: ask.batch,
            lease: ask.lease,
            attempt_id: ask.attempt_id,
            client: call.client,
            dead_letters: None,
            priority: (topic.topic_type == TopicType::Priority).then_some(group.priority_factor),
            order: if lite { DeliveryOrder::Fifo } else { group.order },
            lite,
        };
        let renewed = pop.lease == LeaseTerms::AutoRenew;
        let ends_at = patience(call.language);
        let waited = Waited { until, since: call.started, departure: call.departure, ends_at };
        let Some((replica_group, deliveries)) = self.wait(pop, &topic, &group, &waited).await? else {
            return Ok(Received::Nothing);
        };
        let keys = deliveries.iter().map(|delivery| delivery.key).collect();
        let (store, cluster) = (self.stores.of(replica_group)?, self.directory.routes().cluster());
        Ok(Received::Messages(Held { deliveries, topic, group, replica_group, cluster, keys, renewed, store }))
    }

    /// Asks replica groups whenever they may have something, until one gives something or the time is over.
    async fn wait(
        &self,
        pop: Pop,
        topic: &TopicConfig,
        group: &GroupConfig,
        waited: &Waited,
    ) -> Result<Option<(ReplicaGroupId, Vec<Delivery>)>, ServiceError> {
        let Waited { until, since, .. } = waited;
        if waited.has_to_end() {
            return Ok(None);
        }
        let interest = if pop.lite { Interest::Lite(pop.client.clone()) } else { Interest::All(pop.filter.clone()) };
        let mut place = self.readiness.join(&pop.group, topic, &interest, pop.batch, pop.attempt_id.clone())?;
        loop {
            while let Some(offer) = place.offer() {
                if waited.has_to_end() {
                    return Ok(None);
                }
                let store = self.stores.of(offer.group)?;
                let dead_letters = dead_letters(&self.directory.routes().cluster(), topic, group, offer.group);
                let popped = timeout_at(until.answer, store.pop(Pop { dead_letters, ..pop.clone() })).await;
                match popped.map_err(|_| ServiceError::DeadlinePassed { waited: since.elapsed() })? {
                    Ok(Popped { messages, more, .. }) if !messages.is_empty() => {
                        place.served(offer, more);
                        return Ok(Some((offer.group, messages)));
                    }
                    Ok(Popped { unsettled: Some(unsettled), .. }) => {
                        return Err(ServiceError::TooManyUnsettled { unsettled });
                    }
                    Ok(Popped { evicted, .. }) if !evicted.is_empty() => {
                        evicted.into_iter().for_each(|lite_topic| self.streams.evicted(&pop.client, lite_topic));
                    }
                    Ok(Popped { more: true, .. }) => tokio::task::yield_now().await, // skipped what the filter refuses, or is dead
                    Ok(Popped { .. }) => place.found_nothing(offer),
                    // Its next leader tells when there is something.
                    Err(StoreError::NotLeader { .. }) if topic.replica_groups().len() > 1 => place.found_nothing(offer),
                    Err(error) => return Err(error.into()),
                }
                if Instant::now() >= until.poll_ends {
                    return Ok(None);
                }
            }
            let woken = self.sleep(&mut place, waited).await;
            self.directory.still_there(topic)?;
            if !woken || Instant::now() >= until.poll_ends {
                return Ok(None);
            }
        }
    }

    /// Whether it was woken, rather than out of time or told to end.
    async fn sleep(&self, place: &mut Place, waited: &Waited) -> bool {
        let _parked = self.metrics.long_poll();
        tokio::select! {
            biased;
            () = waited.departure.reached(waited.ends_at) => false,
            () = place.woken() => true,
            () = tokio::time::sleep_until(waited.until.poll_ends) => false,
        }
    }
}

/// The rule of the reference: what the request says, else what the deadline leaves; within 5 s to 20 s; at most what
/// the deadline leaves, which must be 5 s then. A call without deadline may wait as long as it likes within that.
///
/// Source: apache/rocketmq `proxy/.../ReceiveMessageActivity.java`.
fn until(call: &Call, asked: Option<Duration>, request_timeout: Option<Duration>) -> Result<Until, ServiceError> {
    let remaining = call.remaining();
    let left_over = remaining.map(|left| left.saturating_sub(request_timeout.unwrap_or(REQUEST_TIMEOUT) / 2));
    let mut polling = asked.or(left_over).unwrap_or(POLLING_MAX).clamp(POLLING_MIN, POLLING_MAX);
    if let Some(remaining) = remaining.filter(|remaining| *remaining < polling) {
        if remaining < POLLING_MIN {
            let client_knows_the_code = *call.version >= *KNOWS_POLLING_TIME;
            return Err(ServiceError::PollingTime { remaining, min: POLLING_MIN, client_knows_the_code });
        }
        polling = remaining;
    }
    let answer = call.answer_by(polling + STORE_GRACE);
    Ok(Until { poll_ends: answer.min(call.started + polling), answer })
}

#[cfg(test)]
mod tests;

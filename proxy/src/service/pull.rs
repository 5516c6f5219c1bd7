//! PullMessage: messages of one queue from an offset on, waiting for them if need be. Nothing is leased, and no progress
//! is kept but what the group commits itself (`offsets`).

mod arrivals;

use std::sync::Arc;
use std::time::Duration;

use apogee_model::store::{Fetch, FetchFrom, Fetched, FetchedMessage};
use apogee_model::{ConsumerGroup, Filter, GroupConfig, QueueId, QueueOffset, Topic, TopicConfig};
use tokio::time::{Instant, timeout_at};

pub(crate) use self::arrivals::Arrivals;
use super::offsets::queue_of;
use super::receive::{POLLING_MAX, REQUEST_TIMEOUT, STORE_GRACE, patience};
use super::{Call, ServiceError};
use crate::metrics::Metrics;
use crate::route::{Directory, group_ref};
use crate::session::Sessions;
use crate::store::Stores;

/// Most messages of one answer. Its bytes are bounded by what a fetch reads.
pub(crate) const BATCH_MAX: usize = 32;

/// Asks for messages of one queue.
#[derive(Clone, Debug)]
pub(crate) struct Pull {
    pub group: ConsumerGroup,
    pub topic: Topic,
    /// As the client says it.
    pub queue: i32,
    pub offset: QueueOffset,
    pub filter: Filter,
    /// 1 to [`BATCH_MAX`].
    pub batch: usize,
    /// How long to wait, if the request says it.
    pub polling: Option<Duration>,
}

/// What a pull ends with.
#[derive(Debug)]
pub(crate) struct Pulled {
    pub topic: Arc<TopicConfig>,
    pub group: Arc<GroupConfig>,
    pub queue: QueueId,
    pub found: Found,
    /// Where the next pull goes on.
    pub next: QueueOffset,
}

#[derive(Debug)]
pub(crate) enum Found {
    /// At least one message.
    Messages(Vec<FetchedMessage>),
    /// Nothing that the filter wants within the time of the poll.
    Nothing,
    /// The queue holds `min..max`, and the offset is neither there nor the next one.
    OutOfRange { asked: QueueOffset, min: QueueOffset, max: QueueOffset },
}

pub(crate) struct Service {
    pub(crate) directory: Directory,
    pub(crate) stores: Stores,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) arrivals: Arrivals,
    pub(crate) metrics: Arc<Metrics>,
}

/// When a pull stops waiting for messages, and when it must have answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Until {
    poll_ends: Instant,
    answer: Instant,
}

impl Service {
    /// The first pull of a topic or group creates it, where that is allowed.
    pub(crate) async fn run(&self, call: Call, ask: Pull) -> Result<Pulled, ServiceError> {
        let until = until(&call, ask.polling, self.sessions.request_timeout(&call.client));
        self.sessions.greet(&call)?;
        let topic = self.directory.topic_on_first_use(&ask.topic).await?;
        let group = self.directory.group_on_first_use(&ask.group).await?;
        if !topic.permission.readable() {
            return Err(ServiceError::NotReadable { topic: ask.topic });
        }
        let (queue, _) = queue_of(&topic, ask.queue)?;
        let (found, next) = self.find(&call, &ask, (&topic, &group, queue), until).await?;
        Ok(Pulled { topic, group, queue, found, next })
    }

    /// Reads on until there is something that the filter wants, or the time is over.
    async fn find(
        &self,
        call: &Call,
        ask: &Pull,
        (topic, group, queue): (&TopicConfig, &GroupConfig, QueueId),
        until: Until,
    ) -> Result<(Found, QueueOffset), ServiceError> {
        let (_, replica_group) = queue_of(topic, ask.queue)?;
        let (store, ends_at) = (self.stores.of(replica_group)?, patience(call.language));
        let (mut at, mut arrivals) = (ask.offset, None);
        loop {
            let (from, messages, bytes) = (FetchFrom::Offset(at), ask.batch, Fetch::BYTES_MAX);
            let fetch =
                Fetch { topic: topic.id, queue, from, messages, bytes, message_id: None, filter: ask.filter.clone() };
            let fetched = timeout_at(until.answer, store.fetch(fetch)).await;
            let fetched = fetched.map_err(|_| ServiceError::DeadlinePassed { waited: call.started.elapsed() })??;
            let Fetched { min, max, next, messages, .. } = fetched;
            if at == ask.offset && !(min..=max).contains(&at) {
                return Ok((Found::OutOfRange { asked: at, min, max }, at.clamp(min, max)));
            }
            at = next;
            if !messages.is_empty() {
                return Ok((Found::Messages(messages), at));
            }
            if Instant::now() >= until.poll_ends || call.departure.stage() >= ends_at {
                return Ok((Found::Nothing, at));
            }
            if at < max {
                tokio::task::yield_now().await; // passed over what the filter refuses
                continue;
            }
            let arrivals = match &mut arrivals {
                Some(arrivals) => arrivals,
                none => none.insert(self.arrivals.join(&group_ref(group), topic, replica_group)?),
            };
            let _parked = self.metrics.long_poll();
            let arrived = tokio::select! {
                biased;
                () = call.departure.reached(ends_at) => false,
                () = arrivals.beyond(queue, at) => true,
                () = tokio::time::sleep_until(until.poll_ends) => false,
            };
            self.directory.still_there(topic)?;
            if !arrived {
                return Ok((Found::Nothing, at));
            }
        }
    }
}

/// What the request says, else what the deadline leaves, as for a receive; at most 20 s, and never beyond the deadline. A
/// reader that does not want to wait says zero, and there is no least time: such a reader does not come again for nothing.
fn until(call: &Call, asked: Option<Duration>, request_timeout: Option<Duration>) -> Until {
    let left_over = || Some(call.remaining()?.saturating_sub(request_timeout.unwrap_or(REQUEST_TIMEOUT) / 2));
    let polling = asked.or_else(left_over).unwrap_or(POLLING_MAX).min(POLLING_MAX);
    let answer = call.answer_by(polling + STORE_GRACE);
    Until { poll_ends: answer.min(call.started + polling), answer }
}

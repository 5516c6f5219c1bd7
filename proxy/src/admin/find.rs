//! Finding one message.
//!
//! There is no index by id: an id says in which second its message was born, and what was stored about then is looked at,
//! in all queues side by side.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use apogee_model::store::{Fetch, FetchFrom, Fetched, FetchedMessage};
use apogee_model::{Filter, QueueId, QueueOffset, Timestamp, Topic, TopicConfig, message_id};
use apogee_proto::admin::v1;
use apogee_proto::admin::v1::get_message_request::By;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::timeout;

use super::error::AdminError;
use super::offsets::queue_of;
use super::stored::shown;
use super::{Admin, known_topic};
use crate::Stores;

/// A message may have been stored this long before its id says it was born, because clocks differ,
const EARLY: Duration = Duration::from_secs(10);
/// and this long after, because it was sent again and again.
const LATE: Duration = Duration::from_secs(600);
/// Messages that one search looks at.
const LOOKS: usize = 200_000;
/// How long a search may take.
const SEARCH_MAX: Duration = Duration::from_secs(8);
/// Queues that are looked at side by side.
pub(super) const QUEUES: usize = 8;

impl Admin {
    pub(super) async fn do_get_message(
        &self,
        ask: v1::GetMessageRequest,
    ) -> Result<v1::GetMessageResponse, AdminError> {
        let topic = known_topic(&self.routes.cluster(), Topic::parse(&ask.namespace, &ask.topic)?)?;
        let (queue, found) = self.find(&topic, ask.by.ok_or(AdminError::Missing { field: "which message" })?).await?;
        Ok(v1::GetMessageResponse { message: Some(shown(&topic, queue, found)?) })
    }

    /// One message, and its queue.
    pub(super) async fn find(&self, topic: &TopicConfig, by: By) -> Result<(QueueId, FetchedMessage), AdminError> {
        match by {
            By::Place(place) => {
                let queue = place.queue_id.ok_or(AdminError::Missing { field: "the queue of the message" })?;
                self.at(topic, queue_of(queue, topic)?, QueueOffset(place.offset)).await
            }
            By::MessageId(id) => {
                let search = Search::new(topic, &id)?;
                let found = timeout(SEARCH_MAX, self.search(&search)).await;
                found.map_err(|_| search.gave_up())?
            }
        }
    }

    async fn at(
        &self,
        topic: &TopicConfig,
        queue: QueueId,
        offset: QueueOffset,
    ) -> Result<(QueueId, FetchedMessage), AdminError> {
        let from = FetchFrom::Offset(offset);
        let ask =
            Fetch { topic: topic.id, queue, from, messages: 1, bytes: 1, message_id: None, filter: Filter::default() };
        let found = fetch(&self.stores, topic, ask).await?.messages.into_iter().find(|found| found.offset == offset);
        let nothing = || AdminError::NoSuchMessage {
            topic: topic.topic.clone(),
            what: format!("at offset {offset} of queue {queue}"),
        };
        found.map(|found| (queue, found)).ok_or_else(nothing)
    }

    /// The first one that any queue has.
    async fn search(&self, search: &Search<'_>) -> Result<(QueueId, FetchedMessage), AdminError> {
        let queues = (0..search.topic.queues).map(QueueId);
        let looked = stream::iter(queues).map(|queue| self.search_in(search, queue)).buffer_unordered(QUEUES);
        let found = looked.try_filter_map(async |found| Ok(found));
        let mut found = std::pin::pin!(found);
        found.try_next().await?.ok_or_else(|| search.nothing())
    }

    async fn search_in(
        &self,
        search: &Search<'_>,
        queue: QueueId,
    ) -> Result<Option<(QueueId, FetchedMessage)>, AdminError> {
        let mut from = FetchFrom::Time(search.from);
        loop {
            let ask = Fetch {
                topic: search.topic.id,
                queue,
                from,
                messages: Fetch::MESSAGES_MAX,
                bytes: Fetch::BYTES_MAX,
                message_id: Some(search.id.to_owned()),
                filter: Filter::default(),
            };
            let Fetched { max, next, reached, messages, .. } = fetch(&self.stores, search.topic, ask).await?;
            if let Some(found) = messages.into_iter().next() {
                return Ok(Some((queue, found)));
            }
            if next >= max || reached.is_none_or(|at| at > search.until) {
                return Ok(None);
            }
            search.looked()?;
            from = FetchFrom::Offset(next);
        }
    }
}

/// # Errors
/// [`AdminError::Store`], also for a queue whose replica group this proxy has not heard of.
pub(super) async fn fetch(stores: &Stores, topic: &TopicConfig, ask: Fetch) -> Result<Fetched, AdminError> {
    let group = topic.replica_group(ask.queue).ok_or_else(|| AdminError::NoSuchQueue {
        topic: topic.topic.clone(),
        queue: ask.queue.0.into(),
        queues: topic.queues,
    })?;
    Ok(stores.of(group)?.fetch(ask).await?)
}

/// One search by id.
struct Search<'a> {
    topic: &'a TopicConfig,
    id: &'a str,
    from: Timestamp,
    until: Timestamp,
    looked_at: AtomicUsize,
}

impl<'a> Search<'a> {
    fn new(topic: &'a TopicConfig, id: &'a str) -> Result<Self, AdminError> {
        let shortened = || id.chars().take(64).collect();
        let born = message_id::born(id).ok_or_else(|| AdminError::MessageId { given: shortened() })?;
        let from = Timestamp(born.0.saturating_sub(u64::try_from(EARLY.as_millis()).unwrap_or(u64::MAX)));
        Ok(Self { topic, id, from, until: born.plus(LATE), looked_at: AtomicUsize::new(0) })
    }

    /// One more fetch found nothing.
    fn looked(&self) -> Result<(), AdminError> {
        let before = self.looked_at.fetch_add(Fetch::MESSAGES_MAX, Ordering::Relaxed);
        if before < LOOKS { Ok(()) } else { Err(self.gave_up()) }
    }

    fn gave_up(&self) -> AdminError {
        AdminError::SearchTooLong { topic: self.topic.topic.clone(), message_id: self.id.to_owned() }
    }

    fn nothing(&self) -> AdminError {
        AdminError::NoSuchMessage { topic: self.topic.topic.clone(), what: format!("with id {}", self.id) }
    }
}

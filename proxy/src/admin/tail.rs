//! New messages as they are stored.
//!
//! The leaders are asked a few times a second how far the queues are, one call for all queues of a replica group, and
//! messages are fetched only of queues that grew. The next ones are asked for when the transport has taken the last.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use apogee_model::store::{Fetch, FetchFrom, Fetched};
use apogee_model::{Filter, FilterError, QueueId, QueueOffset, TagFilter, Topic, TopicConfig};
use apogee_proto::admin::v1;
use futures::future::try_join_all;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _};
use tokio::time::sleep;
use tonic::Status;

use super::error::AdminError;
use super::find::fetch;
use super::stored::shown;
use super::{Admin, known_topic};
use crate::{Routes, Stores};

/// How often the leaders are asked how far the queues are.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Messages of one part of the answer.
const BATCH: usize = 64;

/// What goes on the wire.
pub(super) type Parts = BoxStream<'static, Result<v1::TailMessagesResponse, Status>>;

/// One caller who watches a topic.
struct Tail {
    routes: Arc<dyn Routes>,
    stores: Stores,
    topic: Arc<TopicConfig>,
    filter: TagFilter,
    /// What the caller has seen of each queue.
    seen: BTreeMap<QueueId, QueueOffset>,
    /// Queues that hold more.
    grown: VecDeque<QueueId>,
}

impl Admin {
    /// From where the queues are now. Ends when the process stops.
    pub(super) async fn do_tail_messages(&self, ask: v1::TailMessagesRequest) -> Result<Parts, AdminError> {
        let topic = known_topic(&self.routes.cluster(), Topic::parse(&ask.namespace, &ask.topic)?)?;
        let filter = TagFilter::parse(&ask.tag).map_err(FilterError::from)?;
        let (routes, stores) = (Arc::clone(&self.routes), self.stores.clone());
        let mut tail = Tail { routes, stores, topic, filter, seen: BTreeMap::new(), grown: VecDeque::new() };
        tail.seen = tail.ends().await?;
        let parts = stream::unfold(Some(tail), async |tail| {
            let mut tail = tail?;
            match tail.next().await {
                Ok(part) => Some((Ok(part), Some(tail))),
                Err(error) => Some((Err(error.into()), None)),
            }
        });
        Ok(parts.take_until(self.stop.clone().cancelled_owned().map(drop)).boxed())
    }
}

impl Tail {
    /// Waits for messages that the caller wants.
    async fn next(&mut self) -> Result<v1::TailMessagesResponse, AdminError> {
        loop {
            let Some(queue) = self.grown.pop_front() else {
                self.look().await?;
                continue;
            };
            let messages = self.read(queue).await?;
            if !messages.is_empty() {
                return Ok(v1::TailMessagesResponse { messages });
            }
        }
    }

    /// Some messages of one queue. It comes again after the others when it holds more.
    async fn read(&mut self, queue: QueueId) -> Result<Vec<v1::Message>, AdminError> {
        let seen = self.seen.get(&queue).copied().unwrap_or_default();
        let (topic, from) = (self.topic.id, FetchFrom::Offset(seen));
        let ask = Fetch {
            topic,
            queue,
            from,
            messages: BATCH,
            bytes: Fetch::BYTES_MAX,
            message_id: None,
            filter: Filter::default(),
        };
        let Fetched { max, next, messages, .. } = fetch(&self.stores, &self.topic, ask).await?;
        self.seen.insert(queue, next);
        if next < max {
            self.grown.push_back(queue);
        }
        let wanted = messages.into_iter().filter(|found| self.filter.wants(found.message.tag()));
        Ok(wanted.map(|found| shown(&self.topic, queue, found)).collect::<Result<_, _>>()?)
    }

    /// Finds queues that grew; waits a little when there is none.
    async fn look(&mut self) -> Result<(), AdminError> {
        let ends = self.ends().await?;
        let grew = |(queue, end): &(&QueueId, &QueueOffset)| self.seen.get(queue).copied().unwrap_or_default() < **end;
        self.grown.extend(ends.iter().filter(grew).map(|(queue, _)| *queue));
        if self.grown.is_empty() {
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Where the queues end. The topic may have got more of them.
    async fn ends(&mut self) -> Result<BTreeMap<QueueId, QueueOffset>, AdminError> {
        let topic = known_topic(&self.routes.cluster(), self.topic.topic.clone())?;
        if topic.id != self.topic.id {
            return Err(AdminError::no_such_topic(topic.topic.clone())); // another one by the same name
        }
        self.topic = topic;
        let stores = self.stores.of_topic(&self.topic)?;
        let statuses = try_join_all(stores.iter().map(|store| store.topic_status(self.topic.id))).await?.concat();
        Ok(statuses.iter().map(|status| (status.queue, status.max)).collect())
    }
}

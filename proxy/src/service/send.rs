//! SendMessage: messages into one queue, answered once they are as durable as the store promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use apogee_model::store::{Append, Appended, LiteName, RequestId, StoreError};
use apogee_model::{MessageType, QueueId, QueueOffset, ReplicaGroupId, Topic, TopicConfig, TopicType};
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout_at};

use super::in_order::InOrder;
use super::{Call, Draft, ServiceError, end_transaction, recall};
use crate::metrics::Metrics;
use crate::route::{Directory, topic_ref};
use crate::store::{StoreNode, Stores};

/// How long a send waits for an earlier one of its message group whose outcome is unknown.
const HELD_BACK_MAX: Duration = Duration::from_secs(5);

/// Messages of one topic that are stored together or not at all.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub topic: Topic,
    /// The queue the client would like; SDKs hash differently, so it is a hint, and none for message groups.
    pub queue_hint: Option<u32>,
    /// At least one.
    pub messages: Vec<Draft>,
}

/// Where each message of the batch is, in order.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub entries: Vec<SentMessage>,
}

#[derive(Clone, Debug)]
pub(crate) struct SentMessage {
    pub message_id: String,
    pub offset: QueueOffset,
    /// Of a message that waits for its time: takes it back.
    pub recall_handle: Option<String>,
    /// Of a half message: ends its transaction.
    pub transaction_id: Option<String>,
}

pub(crate) struct Service {
    directory: Directory,
    stores: Stores,
    metrics: Arc<Metrics>,
    in_order: InOrder,
    incarnation: u64,
    sequence: AtomicU64,
    turn: AtomicU64,
}

impl Service {
    /// `incarnation` is drawn at random for every start of a proxy.
    pub(crate) fn new(
        directory: Directory,
        stores: Stores,
        metrics: Arc<Metrics>,
        in_order: InOrder,
        incarnation: u64,
    ) -> Self {
        let (sequence, turn) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { directory, stores, metrics, in_order, incarnation, sequence, turn }
    }

    pub(crate) async fn run(&self, call: Call, batch: Batch) -> Result<Sent, ServiceError> {
        let mut topic = self.directory.topic(&batch.topic)?;
        let count = batch.messages.len();
        for (index, message) in batch.messages.iter().enumerate() {
            check_type(&topic, message.message_type).map_err(|error| error.of_message(index, count))?;
        }
        if !topic.permission.writable() {
            return Err(ServiceError::NotWritable { topic: batch.topic });
        }

        let line = one_line(&batch.messages)?;
        let priority = one_priority(&batch.messages)?;
        let until = call.answer_by(HELD_BACK_MAX);
        let (mut ids, mut appends) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let mut sizes = Vec::with_capacity(count);
        for mut message in batch.messages {
            sizes.push(message.body.len());
            ids.push(std::mem::take(&mut message.message_id));
            let expiration = topic.lite_expiration;
            let lite = message.lite_topic.take().map(|name| LiteName { name, expiration });
            appends.push(self.append(&topic, message, lite).await);
        }
        let (replica_group, appended) = match line {
            Some(name) => self.append_in_order(&mut topic, &name, appends, until).await?,
            None => {
                let queue = topic.queue_of(None, priority);
                let queue = queue.unwrap_or_else(|| self.choose(&topic, batch.queue_hint));
                let (replica_group, store) = self.store_of(&topic, queue)?;
                let appends = appends.into_iter().map(|append| Append { queue, ..append }).collect();
                (replica_group, store.append(appends).await.map_err(refusal)?)
            }
        };
        assert_eq!(appended.len(), ids.len(), "the store answers once per message");
        self.metrics.messages_in(&topic, &sizes);

        let cluster = self.directory.routes().cluster();
        let entry = |(message_id, at): (String, Appended)| {
            let sign = |id| recall::sign(replica_group, topic.id, id, &message_id, &cluster.mac_keys);
            let recall_handle = at.kept.map(sign);
            let sign = |half| end_transaction::sign(replica_group, topic.id, half, &message_id, &cluster.mac_keys);
            let transaction_id = at.half.map(sign);
            SentMessage { message_id, offset: at.offset, recall_handle, transaction_id }
        };
        Ok(Sent { entries: ids.into_iter().zip(appended).map(entry).collect() })
    }

    /// Messages of one message group or lite topic. While the topic gets more queues they wait for those, because they are
    /// hashed over them.
    async fn append_in_order(
        &self,
        topic: &mut Arc<TopicConfig>,
        name: &str,
        appends: Vec<Append>,
        until: Instant,
    ) -> Result<(ReplicaGroupId, Vec<Appended>), ServiceError> {
        let bytes = appends.iter().map(|append| append.message.len()).sum();
        loop {
            if topic.growing.is_some() {
                *topic = self.grown(topic, until).await?;
            }
            let queue = topic.queue_of(Some(name), None).unwrap_or_default();
            let (replica_group, store) = self.store_of(topic, queue)?;
            let (target, epoch) = (topic_ref(topic), topic.epoch);
            let retarget = |append: &Append| Append { topic: target.clone(), queue, epoch, ..append.clone() };
            let appends: Vec<_> = appends.iter().map(retarget).collect();
            let tries = move || {
                let (store, appends) = (Arc::clone(&store), appends.clone());
                Box::pin(async move { store.append(appends).await }) as BoxFuture<'static, _>
            };
            match self.in_order.append((topic.id, name.into()), bytes, tries, until).await {
                // This proxy had not heard of it.
                Err(ServiceError::Store(StoreError::Sealed { .. })) => *topic = self.grown(topic, until).await?,
                Ok(appended) => return Ok((replica_group, appended)),
                Err(error) => return Err(counted(error)),
            }
        }
    }

    /// The topic when it has the queues that it waits for.
    async fn grown(&self, topic: &TopicConfig, until: Instant) -> Result<Arc<TopicConfig>, ServiceError> {
        let grown = async {
            loop {
                let seen = self.directory.routes().cluster().version;
                let now = self.directory.topic(&topic.topic)?;
                if now.epoch > topic.epoch || now.id != topic.id {
                    return Ok(now);
                }
                self.directory.routes().changed(seen).await;
            }
        };
        let sealed = |_| ServiceError::Store(StoreError::Sealed { topic: topic.topic.clone() });
        timeout_at(until, grown).await.map_err(sealed)?
    }

    fn store_of(
        &self,
        topic: &TopicConfig,
        queue: QueueId,
    ) -> Result<(ReplicaGroupId, Arc<dyn StoreNode>), ServiceError> {
        let nowhere = ServiceError::Store(StoreError::NotLeader { leader: None });
        let replica_group = topic.replica_group(queue).ok_or(nowhere)?;
        Ok((replica_group, self.stores.of(replica_group)?))
    }

    /// The client's queue where the topic has one like it. 0 is what a client sends that does not care, so it takes
    /// turns like no hint at all. While nobody leads the replica group of that queue the next one does that somebody
    /// leads; when there is none the send waits for a leader.
    fn choose(&self, topic: &TopicConfig, hint: Option<u32>) -> QueueId {
        let queues = u64::from(topic.queues.max(1));
        let wanted = match hint {
            Some(hint) if hint > 0 => u64::from(hint),
            _ => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        let queue = |at: u64| QueueId(u16::try_from(at % queues).expect("smaller than a count of 16 bits"));
        let mut all = (0..queues).map(|step| queue(wanted % queues + step));
        all.find(|queue| topic.replica_group(*queue).is_some_and(|group| self.stores.leads(group)))
            .unwrap_or_else(|| queue(wanted))
    }

    /// For a queue that is still to be chosen.
    async fn append(&self, topic: &TopicConfig, message: Draft, lite: Option<LiteName>) -> Append {
        let request =
            RequestId { proxy_incarnation: self.incarnation, sequence: self.sequence.fetch_add(1, Ordering::Relaxed) };
        let (due, half) = (message.due, message.half);
        let (topic, queue, indexed, epoch) = (topic_ref(topic), QueueId(0), topic.key_index, topic.epoch);
        Append { topic, queue, message: message.seal().await, request, due, half, lite, indexed, epoch }
    }
}

fn counted(error: ServiceError) -> ServiceError {
    match error {
        ServiceError::Store(error) => refusal(error),
        error => error,
    }
}

/// The message group or the lite topic of the whole request, which is stored in one queue, in order.
fn one_line(messages: &[Draft]) -> Result<Option<Box<str>>, ServiceError> {
    let group = messages.first().and_then(|first| first.message_group.clone());
    let lite = messages.first().and_then(|first| first.lite_topic.clone());
    if let Some(index) = messages.iter().position(|message| message.message_group != group) {
        return Err(ServiceError::MixedMessageGroups { index });
    }
    match messages.iter().position(|message| message.lite_topic != lite) {
        Some(index) => Err(ServiceError::MixedLiteTopics { index }),
        None => Ok(lite.or(group)),
    }
}

/// That of the whole request, which is stored in one queue.
fn one_priority(messages: &[Draft]) -> Result<Option<u32>, ServiceError> {
    let priority = messages.first().and_then(|first| first.priority);
    match messages.iter().position(|message| message.priority != priority) {
        Some(index) => Err(ServiceError::MixedPriorities { index }),
        None => Ok(priority),
    }
}

/// The store counts the messages of a request together.
fn refusal(error: StoreError) -> ServiceError {
    match error {
        StoreError::TooLarge { bytes, max } => ServiceError::RequestTooLarge { bytes, max },
        error => ServiceError::Store(error),
    }
}

/// Routes of MIXED topics list four types, but a send may bring any that needs no topic of its own.
fn check_type(topic: &TopicConfig, actual: MessageType) -> Result<(), ServiceError> {
    let any = topic.topic_type == TopicType::Mixed && actual != MessageType::Lite;
    if !any && !topic.topic_type.accepts().contains(&actual) {
        return Err(ServiceError::MessageType { topic: topic.topic.clone(), expected: topic.topic_type, actual });
    }
    Ok(())
}

//! Dead letters: whose there are, and sending them again.
//!
//! A group that sends its dead letters again reads them as any consumer would, for itself: what is sent is settled for the
//! group, and so it is known what is left, by every proxy and after every restart.

use std::sync::Arc;
use std::time::Duration;

use apogee_model::store::{
    Append, Delivery, GroupStatus, LeaseTerms, Pop, Popped, QueueStatus, RequestId, Reset, ResetTo, Settlement,
};
use apogee_model::{
    ClientId, Cluster, ConsumerGroup, DeliveryOrder, Filter, GroupConfig, InvisibleDuration, QueueId, StoredMessage,
    Topic, TopicConfig,
};
use apogee_proto::admin::v1;
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::error::AdminError;
use super::{Admin, known_group, known_topic, page};
use crate::StoreNode;
use crate::route::{group_ref, topic_ref};

/// Dead letters that one call sends again.
const REDRIVE_MAX: usize = 1000;
/// How long they are held for that; it gives way to nobody, because nobody else reads for the group.
const HELD: Duration = Duration::from_secs(60);
const BATCH: usize = 16;
/// Groups whose dead letters are counted side by side.
const COUNTED: usize = 16;

impl Admin {
    pub(super) async fn do_list_dead_letters(
        &self,
        ask: v1::ListDeadLettersRequest,
    ) -> Result<v1::ListDeadLettersResponse, AdminError> {
        let cluster = self.routes.cluster();
        let page = page::of(&cluster.groups, ask.page_size, &ask.page_token)?;
        let counts: Vec<_> = page.items.into_iter().map(|group| self.dead_letters(&cluster, group)).collect();
        let counted: Vec<_> = stream::iter(counts).buffered(COUNTED).try_collect().await?;
        let groups = counted.into_iter().filter(|found| found.kept > 0).collect();
        Ok(v1::ListDeadLettersResponse { groups, next_page_token: page.next })
    }

    async fn dead_letters(&self, cluster: &Cluster, group: &GroupConfig) -> Result<v1::DeadLetters, AdminError> {
        let topic = group.group.dead_letter_topic();
        let told = v1::DeadLetters {
            namespace: topic.namespace().to_owned(),
            group: group.group.name().to_owned(),
            topic: topic.name().to_owned(),
            ..v1::DeadLetters::default()
        };
        let Some(topic) = cluster.topics.get(&topic) else { return Ok(told) };
        let stores = self.stores.of_topic(topic)?;
        let held = try_join_all(stores.iter().map(|store| store.topic_status(topic.id))).await?.concat();
        let kept = held.iter().map(|queue| queue.max.0 - queue.min.0).sum();
        if kept == 0 {
            return Ok(told);
        }
        let read = try_join_all(stores.iter().map(|store| store.group_status(group.id))).await?.concat();
        let waiting = held.iter().map(|queue| waiting(topic, queue, &read)).sum();
        Ok(v1::DeadLetters { waiting, kept, ..told })
    }

    pub(super) async fn do_redrive_dead_letters(
        &self,
        ask: v1::RedriveDeadLettersRequest,
    ) -> Result<v1::RedriveDeadLettersResponse, AdminError> {
        let cluster = self.routes.cluster();
        let group = known_group(&cluster, ConsumerGroup::parse(&ask.namespace, &ask.group)?)?;
        let topic = known_topic(&cluster, group.group.dead_letter_topic())?;
        let count = usize::try_from(ask.count).ok().filter(|count| *count > 0).unwrap_or(REDRIVE_MAX);
        let mut redrive = Redrive { admin: self, cluster, group, topic, answer: Default::default(), stay: Vec::new() };
        let outcome = redrive.run(count.min(REDRIVE_MAX)).await;
        redrive.stay.into_iter().for_each(|(store, delivery)| store.release(vec![delivery.key]));
        outcome?;
        let (group, sent) = (&redrive.group.group, redrive.answer.sent);
        tracing::info!(event = "dead_letters_redriven", %group, sent, failed = redrive.answer.failed.len(), "dead letters were sent again");
        Ok(redrive.answer)
    }
}

/// Those of one queue that the group has not settled.
fn waiting(topic: &TopicConfig, queue: &QueueStatus, read: &[GroupStatus]) -> u64 {
    let progress = read.iter().find(|row| row.topic == topic.id && row.queue == queue.queue);
    progress.map_or(queue.max.0 - queue.min.0, |row| queue.max.0.saturating_sub(row.cursor.0) + row.in_flight)
}

/// One call under way.
struct Redrive<'a> {
    admin: &'a Admin,
    cluster: Arc<Cluster>,
    group: Arc<GroupConfig>,
    topic: Arc<TopicConfig>,
    answer: v1::RedriveDeadLettersResponse,
    /// What could not be sent; nobody gets it before the call ends.
    stay: Vec<(Arc<dyn StoreNode>, Delivery)>,
}

impl Redrive<'_> {
    async fn run(&mut self, count: usize) -> Result<(), AdminError> {
        for store in self.admin.stores.of_topic(&self.topic)? {
            self.begin(&*store).await?;
            loop {
                let left = count.saturating_sub(self.done());
                if left == 0 {
                    self.answer.more = true;
                    return Ok(());
                }
                let Popped { messages, more, .. } = store.pop(self.pop(left.min(BATCH))).await?;
                if messages.is_empty() && !more {
                    break;
                }
                for delivery in messages {
                    self.send_again(&store, delivery).await?;
                }
            }
        }
        Ok(())
    }

    fn done(&self) -> usize {
        usize::try_from(self.answer.sent).unwrap_or(usize::MAX).saturating_add(self.stay.len())
    }

    /// A group that never read its dead letters begins with the first that is kept, and not where new groups do.
    async fn begin(&self, store: &dyn StoreNode) -> Result<(), AdminError> {
        let read = store.group_status(self.group.id).await?;
        if read.iter().any(|row| row.topic == self.topic.id) {
            return Ok(());
        }
        let (group, topic) = (group_ref(&self.group), topic_ref(&self.topic));
        store.reset_offset(Reset { group, topic, to: ResetTo::Earliest, dry_run: false }).await?;
        Ok(())
    }

    fn pop(&self, batch: usize) -> Pop {
        Pop {
            group: group_ref(&self.group),
            topic: topic_ref(&self.topic),
            filter: Filter::default(),
            batch,
            lease: LeaseTerms::Fixed(InvisibleDuration::for_receive(HELD).expect("in range")),
            attempt_id: None,
            client: ClientId::parse("apogee-redrive").expect("not blank"),
            dead_letters: None,
            order: DeliveryOrder::Concurrent,
            priority: None,
            lite: false,
        }
    }

    async fn send_again(&mut self, store: &Arc<dyn StoreNode>, delivery: Delivery) -> Result<(), AdminError> {
        match self.send(&delivery.message).await {
            Ok(()) => {
                store.settle(delivery.key, Settlement::Ack).await?;
                self.answer.sent += 1;
            }
            Err(why) => {
                let (message_id, topic) = (delivery.message.message_id().unwrap_or_default().to_owned(), self.name());
                self.answer.failed.push(v1::NotRedriven { message_id, topic, why });
                self.stay.push((Arc::clone(store), delivery));
            }
        }
        Ok(())
    }

    fn name(&self) -> String {
        self.topic.topic.name().to_owned()
    }

    async fn send(&self, dead: &StoredMessage) -> Result<(), String> {
        let origin = dead.origin_topic().ok_or("it does not say where it came from")?;
        let origin = Topic::parse(self.topic.topic.namespace(), origin).map_err(|error| error.to_string())?;
        let config = self.cluster.topics.get(&origin).ok_or_else(|| format!("topic {origin} does not exist"))?;
        let message = dead.revived(&origin).ok_or("it cannot be read")?;
        let queue = config.queue_of(message.message_group(), message.priority()).or_else(|| self.queue(config));
        let queue = queue.ok_or_else(|| format!("nobody leads a queue of topic {origin}"))?;
        let store = config.replica_group(queue).map(|group| self.admin.stores.of(group));
        let store = store.ok_or("the queue is nowhere")?.map_err(|error| error.to_string())?;
        // Nobody remembers a send without a proxy: it may be stored twice when an answer gets lost on its way.
        let request = RequestId { proxy_incarnation: 0, sequence: 0 };
        let append = Append {
            topic: topic_ref(config),
            queue,
            message,
            request,
            due: None,
            half: None,
            lite: None,
            indexed: config.key_index,
            epoch: config.epoch,
        };
        store.append(vec![append]).await.map(drop).map_err(|error| error.to_string())
    }

    /// In turn, among those whose replica group has a leader.
    fn queue(&self, topic: &TopicConfig) -> Option<QueueId> {
        let turn = u16::try_from(self.answer.sent % u64::from(topic.queues.max(1))).unwrap_or_default();
        let queues = (turn..topic.queues).chain(0..turn).map(QueueId);
        let leads = |queue: &QueueId| topic.replica_group(*queue).is_some_and(|group| self.admin.stores.leads(group));
        queues.into_iter().find(leads)
    }
}

//! Finding messages by key, and what became of one.
//!
//! Every replica group of the topic is asked for its newest messages, and the newest of all of them are told. A trace begins
//! at the replica group that has the message; what is dead there has its copy there, too.

use std::collections::{BTreeMap, BTreeSet};

use apogee_model::store::{
    Delivered, Fetch, FetchFrom, FetchedMessage, Find, FindBy, Found, GroupTrace, Progress, StoreError, Trace,
    Whereabouts, client_hash,
};
use apogee_model::{Filter, QueueId, QueueOffset, ReplicaGroupId, Timestamp, Topic, TopicConfig};
use apogee_proto::admin::v1;
use apogee_proto::admin::v1::get_message_request::By;
use apogee_proto::admin::v1::trace_message_request::By as Traced;
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::convert::{moment, time};
use super::error::AdminError;
use super::find::{QUEUES, fetch};
use super::stored::shown;
use super::{Admin, known_topic};

/// Clients of one group that are looked through for the one that has a message.
const CLIENTS: u32 = 1000;

impl Admin {
    pub(super) async fn do_find_messages(
        &self,
        ask: v1::FindMessagesRequest,
    ) -> Result<v1::FindMessagesResponse, AdminError> {
        let topic = known_topic(&self.routes.cluster(), Topic::parse(&ask.namespace, &ask.topic)?)?;
        let messages = at_most(ask.max_messages)?;
        let (from, until) = (ask.from.map(|at| moment(&at)), ask.until.map(|at| moment(&at)));
        let until = until.unwrap_or(Timestamp(u64::MAX));
        if ask.key.is_empty() {
            let from = from.ok_or(AdminError::Missing { field: "a key or a time" })?;
            return self.stored_in(&topic, from, until, messages).await;
        }
        if !topic.key_index {
            return Err(AdminError::NotIndexed { topic: topic.topic.clone() });
        }
        let from = from.unwrap_or(Timestamp(0));
        let find = Find { topic: topic.id, by: FindBy::Key(ask.key), from, until, messages };
        let mut found = self.look_everywhere(&topic, &find).await?;
        found.truncate(messages);
        let messages = found.into_iter().map(|(_, found)| found_message(&topic, found)).collect::<Result<_, _>>()?;
        Ok(v1::FindMessagesResponse { messages })
    }

    /// The oldest first, of all queues.
    async fn stored_in(
        &self,
        topic: &TopicConfig,
        from: Timestamp,
        until: Timestamp,
        messages: usize,
    ) -> Result<v1::FindMessagesResponse, AdminError> {
        let queues = (0..topic.queues).map(QueueId);
        let mut looks =
            stream::iter(queues).map(|queue| self.stored_from(topic, queue, from, messages)).buffered(QUEUES);
        let mut found = Vec::new();
        while let Some(some) = looks.try_next().await? {
            found.extend(some.into_iter().filter(|(_, it)| it.stored_at <= until));
            found.sort_by_key(|(queue, it)| (it.stored_at, *queue, it.offset));
            found.truncate(messages);
        }
        let shown = |(queue, it): (QueueId, FetchedMessage)| {
            let message = Some(shown(topic, queue, it)?);
            Ok(v1::FoundMessage { message, state: v1::MessageState::Queued.into(), offset_known: true, checks: 0 })
        };
        Ok(v1::FindMessagesResponse { messages: found.into_iter().map(shown).collect::<Result<_, AdminError>>()? })
    }

    async fn stored_from(
        &self,
        topic: &TopicConfig,
        queue: QueueId,
        from: Timestamp,
        messages: usize,
    ) -> Result<Vec<(QueueId, FetchedMessage)>, AdminError> {
        let (from, bytes) = (FetchFrom::Time(from), Fetch::BYTES_MAX);
        let (message_id, filter) = (None, Filter::default());
        let ask = Fetch { topic: topic.id, queue, from, messages, bytes, message_id, filter };
        Ok(fetch(&self.stores, topic, ask).await?.messages.into_iter().map(|it| (queue, it)).collect())
    }

    pub(super) async fn do_trace_message(
        &self,
        ask: v1::TraceMessageRequest,
    ) -> Result<v1::TraceMessageResponse, AdminError> {
        let topic = known_topic(&self.routes.cluster(), Topic::parse(&ask.namespace, &ask.topic)?)?;
        let (group, found) = self.whereabouts(&topic, ask.by).await?;
        let (store, place) = (self.stores.of(group)?, (found.topic, found.queue));
        let groups = match found.whereabouts {
            Whereabouts::Queued { offset: Some(offset) } => {
                store.trace(Trace { topic: place.0, queue: place.1, offset }).await?
            }
            Whereabouts::Queued { offset: None } | Whereabouts::Waits { .. } | Whereabouts::Half { .. } => Vec::new(),
        };
        let message_id = found.message.message_id().unwrap_or_default().to_owned();
        let traces = groups.into_iter().map(|trace| self.told(&topic, group, &message_id, trace));
        let mut groups = try_join_all(traces).await?;
        groups.sort_by(|one, other| one.group.cmp(&other.group));
        self.name_clients(topic.topic.namespace(), &mut groups).await?;
        let groups = groups.into_iter().map(|told| told.trace).collect();
        Ok(v1::TraceMessageResponse { found: Some(found_message(&topic, found)?), groups })
    }

    /// The newest first, each with the replica group that has it.
    async fn look_everywhere(
        &self,
        topic: &TopicConfig,
        find: &Find,
    ) -> Result<Vec<(ReplicaGroupId, Found)>, AdminError> {
        let looks = topic.replica_groups().into_iter().map(async |group| {
            let found = self.stores.of(group)?.find(find.clone()).await?;
            Ok::<_, StoreError>(found.into_iter().map(move |found| (group, found)))
        });
        let mut found: Vec<_> = try_join_all(looks).await?.into_iter().flatten().collect();
        found.sort_by_key(|(_, found)| std::cmp::Reverse(found.stored_at));
        Ok(found)
    }

    /// One message. By its id, those that wait or waited for something are looked for first.
    async fn whereabouts(
        &self,
        topic: &TopicConfig,
        by: Option<Traced>,
    ) -> Result<(ReplicaGroupId, Found), AdminError> {
        let by = match by.ok_or(AdminError::Missing { field: "which message" })? {
            Traced::Place(place) => By::Place(place),
            Traced::MessageId(id) => {
                let by = FindBy::MessageId(id.clone());
                let find = Find { topic: topic.id, by, from: Timestamp(0), until: Timestamp(u64::MAX), messages: 1 };
                if let Some(found) = self.look_everywhere(topic, &find).await?.into_iter().next() {
                    return Ok(found);
                }
                By::MessageId(id)
            }
        };
        let (queue, found) = self.find(topic, by).await?;
        let group = topic.replica_group(queue).ok_or(StoreError::NotLeader { leader: None })?;
        let whereabouts = Whereabouts::Queued { offset: Some(found.offset) };
        let (message, stored_at) = (found.message, found.stored_at);
        Ok((group, Found { message, stored_at, topic: topic.id, queue, whereabouts }))
    }

    /// What a group made of the message. Of what is settled, its dead letters are asked.
    async fn told(
        &self,
        topic: &TopicConfig,
        group: ReplicaGroupId,
        message_id: &str,
        trace: GroupTrace,
    ) -> Result<Told, AdminError> {
        let mut told = told(&trace);
        if trace.progress == Progress::Settled
            && let Some((queue, offset)) = self.grave(topic, group, message_id, &trace).await?
        {
            told.trace.set_progress(v1::MessageProgress::DeadLetter);
            told.trace.dead_letter = Some(v1::QueueOffset { queue_id: Some(queue.0.into()), offset: offset.0 });
        }
        Ok(told)
    }

    async fn grave(
        &self,
        topic: &TopicConfig,
        group: ReplicaGroupId,
        message_id: &str,
        trace: &GroupTrace,
    ) -> Result<Option<(QueueId, QueueOffset)>, AdminError> {
        let graves = self.routes.cluster().topics.get(&trace.name.dead_letter_topic()).map(|graves| graves.id);
        let Some(graves) = graves.filter(|_| !message_id.is_empty()) else { return Ok(None) };
        let by = FindBy::MessageId(message_id.to_owned());
        let find = Find { topic: graves, by, from: Timestamp(0), until: Timestamp(u64::MAX), messages: 1 };
        let found = self.stores.of(group)?.find(find).await?;
        let of_topic = |found: &Found| found.message.origin_topic() == Some(topic.topic.name());
        Ok(found.into_iter().find(of_topic).and_then(|found| match found.whereabouts {
            Whereabouts::Queued { offset } => Some((found.queue, offset?)),
            Whereabouts::Waits { .. } | Whereabouts::Half { .. } => None,
        }))
    }

    /// Says which client has the message, where proxies hear it.
    async fn name_clients(&self, namespace: &str, groups: &mut [Told]) -> Result<(), AdminError> {
        let held: BTreeSet<_> = groups.iter().filter(|told| told.client.is_some()).map(|told| &told.group).collect();
        let mut clients = BTreeMap::new();
        for group in held {
            let ask = v1::ListClientsRequest {
                namespace: namespace.to_owned(),
                group: group.clone(),
                page_size: CLIENTS,
                ..v1::ListClientsRequest::default()
            };
            let page = self.clients.list(&*self.routes, ask).await?;
            clients.extend(page.clients.into_iter().map(|client| (client_hash(&client.id), client.id)));
        }
        for told in groups {
            if let Some(id) = told.client.and_then(|client| clients.get(&client)) {
                told.trace.client_id.clone_from(id);
            }
        }
        Ok(())
    }
}

/// Messages to find: 64 for 0.
fn at_most(asked: u32) -> Result<usize, AdminError> {
    let max = u32::try_from(Find::MESSAGES_MAX).unwrap_or(u32::MAX);
    match usize::try_from(asked) {
        Ok(0) => Ok(Find::MESSAGES_MAX),
        Ok(messages) if messages <= Find::MESSAGES_MAX => Ok(messages),
        _ => Err(AdminError::PageSize { asked, max }),
    }
}

/// What is told of one group.
struct Told {
    group: String,
    /// Who has it, by hash.
    client: Option<u64>,
    trace: v1::GroupTrace,
}

fn told(trace: &GroupTrace) -> Told {
    let group = trace.name.name().to_owned();
    let mut told = v1::GroupTrace { group: group.clone(), ..v1::GroupTrace::default() };
    told.set_progress(match trace.progress {
        Progress::Ahead => v1::MessageProgress::Ahead,
        Progress::Waits => v1::MessageProgress::Waits,
        Progress::Settled => v1::MessageProgress::Settled,
        Progress::Delivered(Delivered { ready: false, .. }) => v1::MessageProgress::InFlight,
        Progress::Delivered(Delivered { ready: true, .. }) => v1::MessageProgress::ReadyAgain,
    });
    let mut client = None;
    if let Progress::Delivered(it) = trace.progress {
        (told.attempt, told.auto_renew, client) = (it.attempt, it.auto_renew, Some(it.client));
        (told.delivered, told.until) = (Some(time(it.at)), Some(time(it.until)));
    }
    Told { group, client, trace: told }
}

fn found_message(topic: &TopicConfig, found: Found) -> Result<v1::FoundMessage, AdminError> {
    let Found { message, stored_at, queue, whereabouts, .. } = found;
    let (state, offset, checks) = match whereabouts {
        Whereabouts::Queued { offset } => (v1::MessageState::Queued, offset, 0),
        Whereabouts::Waits { .. } => (v1::MessageState::Delayed, None, 0),
        Whereabouts::Half { checks, .. } => (v1::MessageState::InTransaction, None, checks),
    };
    let fetched = FetchedMessage { offset: offset.unwrap_or_default(), stored_at, message };
    Ok(v1::FoundMessage {
        message: Some(shown(topic, queue, fetched)?),
        state: state.into(),
        offset_known: offset.is_some(),
        checks,
    })
}

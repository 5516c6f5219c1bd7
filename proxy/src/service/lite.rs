//! SyncLiteSubscription: the lite topics that a client wants to receive from; and who may read lite topics at all.
//!
//! A lite topic is where its name is hashed to, like a message group, so every replica group of the topic hears of those
//! that are its own. A client that says all of them again and again keeps them.

use std::collections::BTreeMap;
use std::sync::Arc;

use apogee_model::store::{LiteChange, LiteStart, LiteSubscribed, LiteSubscription, LiteTerms, StoreError};
use apogee_model::{
    ConsumerGroup, GroupConfig, LiteGroup, ReplicaGroupId, Topic, TopicConfig, TopicType, message_group_queue,
};
use futures::future::try_join_all;

use super::{Call, ServiceError};
use crate::route::{Directory, group_ref, topic_ref};
use crate::session::{Role, Sessions};
use crate::store::Stores;

/// A client may be subscribed to so many more than its group says, while it changes what it is subscribed to.
///
/// Source: apache/rocketmq 5.5 `proxy/.../LiteSubscriptionService`.
const QUOTA_BUFFER: u32 = 300;

/// What a client says about its subscriptions.
#[derive(Clone, Debug)]
pub(crate) struct Subscribe {
    pub group: ConsumerGroup,
    pub topic: Topic,
    pub change: LiteChange,
    pub names: Vec<Box<str>>,
    pub from: LiteStart,
}

/// It is subscribed as it said.
#[derive(Debug)]
pub(crate) struct Done;

pub(crate) struct Service {
    directory: Directory,
    stores: Stores,
    sessions: Arc<Sessions>,
}

impl Service {
    pub(crate) fn new(directory: Directory, stores: Stores, sessions: Arc<Sessions>) -> Self {
        Self { directory, stores, sessions }
    }

    pub(crate) async fn run(&self, call: Call, ask: Subscribe) -> Result<Done, ServiceError> {
        self.sessions.greet(&call)?;
        let topic = self.directory.topic(&ask.topic)?;
        let unknown = || ServiceError::NoLiteGroup { group: ask.group.clone(), problem: "does not exist" };
        let group = self.directory.group(&ask.group).ok_or_else(unknown)?;
        let lite = bound(&group, &topic)?;
        let max = usize::try_from(lite.client_max.saturating_add(QUOTA_BUFFER)).unwrap_or(usize::MAX);
        if ask.names.len() > max {
            return Err(ServiceError::TooManyLiteSubscriptions { max });
        }
        let terms = LiteTerms {
            exclusive: lite.exclusive,
            reset_on_takeover: lite.reset_on_takeover,
            reset_on_unsubscribe: lite.reset_on_unsubscribe,
            client_max: max,
            expiration: topic.lite_expiration,
        };
        let subscriptions =
            by_replica_group(&topic, ask.change, ask.names)?.into_iter().map(|(replica_group, names)| {
                let subscription = LiteSubscription {
                    group: group_ref(&group),
                    topic: topic_ref(&topic),
                    client: call.client.clone(),
                    change: ask.change,
                    names,
                    from: ask.from,
                    terms,
                };
                async move {
                    let store = self.stores.of(replica_group)?;
                    match store.lite_subscribe(subscription).await? {
                        LiteSubscribed::Done => Ok(()),
                        LiteSubscribed::TooManySubscriptions { max } => {
                            Err(ServiceError::TooManyLiteSubscriptions { max })
                        }
                        LiteSubscribed::TooManyTopics { max } => Err(StoreError::TooManyLiteTopics { max }.into()),
                    }
                }
            });
        try_join_all(subscriptions).await?;
        Ok(Done)
    }
}

/// Names by where their lite topics are. Whoever says everything says it to all of them.
fn by_replica_group(
    topic: &TopicConfig,
    change: LiteChange,
    names: Vec<Box<str>>,
) -> Result<BTreeMap<ReplicaGroupId, Vec<Box<str>>>, ServiceError> {
    let mut all: BTreeMap<ReplicaGroupId, Vec<Box<str>>> = BTreeMap::new();
    if matches!(change, LiteChange::Complete | LiteChange::RemoveAll) {
        all.extend(topic.replica_groups().into_iter().map(|replica_group| (replica_group, Vec::new())));
    }
    for name in names {
        let nowhere = ServiceError::Store(StoreError::NotLeader { leader: None });
        let replica_group = topic.replica_group(message_group_queue(&name, topic.queues)).ok_or(nowhere)?;
        all.entry(replica_group).or_default().push(name);
    }
    Ok(all)
}

/// How a group reads lite topics of this topic.
fn bound<'a>(group: &'a GroupConfig, topic: &TopicConfig) -> Result<&'a LiteGroup, ServiceError> {
    let reads = group.lite.as_ref().map(|lite| lite.topic.clone());
    let other = || ServiceError::OtherLiteTopic { group: group.group.clone(), topic: topic.topic.clone(), reads };
    group.lite.as_ref().filter(|lite| lite.topic == topic.topic).ok_or_else(other)
}

/// Whether receives of a group from a topic are of lite topics.
///
/// # Errors
/// A group that reads lite topics reads those of one topic, and nothing else; other groups read none.
pub(crate) fn reads_lite(group: &GroupConfig, topic: &TopicConfig) -> Result<bool, ServiceError> {
    match &group.lite {
        Some(_) if topic.topic != group.group.dead_letter_topic() => bound(group, topic).map(|_| true),
        None if topic.topic_type == TopicType::Lite => {
            Err(ServiceError::NoLiteGroup { group: group.group.clone(), problem: "does not read lite topics" })
        }
        Some(_) | None => Ok(false),
    }
}

/// Whether a client of this role fits its group.
///
/// # Errors
/// [`ServiceError::NoLiteGroup`] when only one of them is about lite topics; [`ServiceError::OtherLiteTopic`].
pub(crate) fn check_role(directory: &Directory, role: &Role, topics: &[Topic]) -> Result<(), ServiceError> {
    let Role::Consumer { mode, group } = role else { return Ok(()) };
    let refused = |problem| Err(ServiceError::NoLiteGroup { group: group.clone(), problem });
    let config = directory.group(group);
    match (mode.is_lite(), config.as_ref().map(|config| config.lite.as_ref())) {
        (true, None) => refused("does not exist"),
        (true, Some(None)) => refused("does not read lite topics"),
        (false, Some(Some(_))) => refused("reads lite topics, for which there are clients of other types"),
        (true, Some(Some(lite))) => match topics.iter().find(|topic| **topic != lite.topic) {
            Some(topic) => {
                let (group, topic, reads) = (group.clone(), topic.clone(), Some(lite.topic.clone()));
                Err(ServiceError::OtherLiteTopic { group, topic, reads })
            }
            None => Ok(()),
        },
        (false, None | Some(None)) => Ok(()),
    }
}

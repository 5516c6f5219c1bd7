//! Topics and groups by name, created on first use where that is allowed.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use apogee_model::store::{GroupRef, TopicRef};
use apogee_model::{
    ConsumerGroup, DeliveryOrder, GroupConfig, MetadataError, NewGroup, NewTopic, Permission, PriorityFactor,
    RetryPolicy, Topic, TopicConfig, TopicType,
};

use super::Routes;
use crate::service::ServiceError;

/// How long a first use waits for namesrv.
const CREATE_MAX: Duration = Duration::from_secs(5);

/// Finds topics and groups in the snapshot of [`Routes`].
#[derive(Clone)]
pub(crate) struct Directory {
    routes: Arc<dyn Routes>,
    auto_create: bool,
}

impl Directory {
    pub(crate) fn new(routes: Arc<dyn Routes>, auto_create: bool) -> Self {
        Self { routes, auto_create }
    }

    pub(crate) fn routes(&self) -> &dyn Routes {
        &*self.routes
    }

    /// # Errors
    /// [`ServiceError::TopicNotFound`].
    pub(crate) fn topic(&self, topic: &Topic) -> Result<Arc<TopicConfig>, ServiceError> {
        let found = self.routes.cluster().topics.get(topic).cloned();
        found.ok_or_else(|| ServiceError::TopicNotFound { topic: topic.clone() })
    }

    /// Whether the first use of a name creates what it names.
    pub(crate) fn creates(&self) -> bool {
        self.auto_create
    }

    /// A topic may be deleted while somebody waits for its messages.
    ///
    /// # Errors
    /// [`ServiceError::TopicNotFound`], also when there is another one by the same name.
    pub(crate) fn still_there(&self, topic: &TopicConfig) -> Result<(), ServiceError> {
        match self.routes.cluster().topics.get(&topic.topic) {
            Some(known) if known.id == topic.id => Ok(()),
            _ => Err(ServiceError::TopicNotFound { topic: topic.topic.clone() }),
        }
    }

    pub(crate) fn group(&self, group: &ConsumerGroup) -> Option<Arc<GroupConfig>> {
        self.routes.cluster().groups.get(group).cloned()
    }

    /// The topic, made MIXED with 8 queues on its first use. Names of retry and dead letter topics are never made
    /// this way: they belong to their group.
    ///
    /// # Errors
    /// [`ServiceError::TopicNotFound`] where first use creates nothing.
    pub(crate) async fn topic_on_first_use(&self, topic: &Topic) -> Result<Arc<TopicConfig>, ServiceError> {
        let found = self.topic(topic);
        if found.is_ok() || !self.auto_create || topic.name().starts_with('%') {
            return found;
        }
        let new = NewTopic {
            topic: topic.clone(),
            topic_type: TopicType::Mixed,
            queues: TopicConfig::QUEUES_DEFAULT,
            permission: Permission::ReadWrite,
            lite_expiration: None,
            key_index: true,
        };
        match in_time(self.routes.create_topic(new)).await? {
            Ok(created) => {
                tracing::info!(event = "topic_created", topic = %created.topic, queues = created.queues, "first use");
                Ok(created)
            }
            Err(MetadataError::TopicExists { .. }) => self.topic(topic), // somebody was faster
            Err(error) => Err(error.into()),
        }
    }

    /// The group, made CONCURRENT with 17 attempts on its first use.
    ///
    /// # Errors
    /// [`ServiceError::GroupNotFound`] where first use creates nothing.
    pub(crate) async fn group_on_first_use(&self, group: &ConsumerGroup) -> Result<Arc<GroupConfig>, ServiceError> {
        let missing = || ServiceError::GroupNotFound { group: group.clone() };
        if let Some(found) = self.group(group) {
            return Ok(found);
        }
        if !self.auto_create {
            return Err(missing());
        }
        let new = NewGroup {
            group: group.clone(),
            order: DeliveryOrder::Concurrent,
            max_attempts: GroupConfig::MAX_ATTEMPTS_DEFAULT,
            retry: RetryPolicy::default(),
            priority_factor: PriorityFactor::default(),
            lite: None,
        };
        match in_time(self.routes.create_group(new)).await? {
            Ok(created) => {
                tracing::info!(event = "group_created", group = %created.group, "first use");
                Ok(created)
            }
            Err(MetadataError::GroupExists { .. }) => self.group(group).ok_or_else(missing), // somebody was faster
            Err(error) => Err(error.into()),
        }
    }
}

async fn in_time<T>(creation: impl Future<Output = T>) -> Result<T, ServiceError> {
    let created = tokio::time::timeout(CREATE_MAX, creation).await;
    created.map_err(|_| ServiceError::DeadlinePassed { waited: CREATE_MAX })
}

pub(crate) fn topic_ref(config: &TopicConfig) -> TopicRef {
    TopicRef { id: config.id, name: config.topic.clone(), queues: config.queues }
}

pub(crate) fn group_ref(config: &GroupConfig) -> GroupRef {
    GroupRef { id: config.id, name: config.group.clone() }
}

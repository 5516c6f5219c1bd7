//! The one task that notices when an operator changed what clients were told to follow.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use apogee_model::{ClientId, Cluster, ConsumerGroup, GroupConfig, Topic, TopicType};
use tokio_util::sync::CancellationToken;

use super::{Role, Sessions, Streams};
use crate::route::Routes;

/// Deleted topics whose type is remembered, in case they come back as another.
const GONE_MAX: usize = 1024;

/// Follows the metadata until `stop`, and lets the streams of clients look again that a change is about.
pub(crate) async fn renew(
    routes: Arc<dyn Routes>,
    sessions: Arc<Sessions>,
    streams: Arc<Streams>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut followed = Followed::new(routes.cluster());
    while stop.run_until_cancelled(routes.changed(followed.cluster.version)).await.is_some() {
        let changed = followed.step(routes.cluster());
        if !changed.is_empty() {
            let clients = sessions.about(&changed);
            tracing::debug!(event = "settings_changed", ?changed, clients = clients.len());
            streams.stale(&clients);
        }
    }
    Ok(())
}

/// The metadata as it was looked at last.
struct Followed {
    cluster: Arc<Cluster>,
    gone: BTreeMap<Topic, TopicType>,
}

/// What is not as it was.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// With another order, other attempts or other rests; or that are there now.
    groups: BTreeSet<ConsumerGroup>,
    /// Of another type than the last one of that name.
    topics: BTreeSet<Topic>,
}

impl Changed {
    fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.topics.is_empty()
    }
}

impl Followed {
    fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, gone: BTreeMap::new() }
    }

    fn step(&mut self, now: Arc<Cluster>) -> Changed {
        let before = std::mem::replace(&mut self.cluster, Arc::clone(&now));
        let mut changed = Changed::default();
        for (name, group) in &now.groups {
            if before.groups.get(name).is_none_or(|known| !told_alike(known, group)) {
                changed.groups.insert(name.clone());
            }
        }
        for (name, topic) in &now.topics {
            let known = before.topics.get(name).map(|known| known.topic_type).or_else(|| self.gone.remove(name));
            if known.is_some_and(|known| known != topic.topic_type) {
                changed.topics.insert(name.clone());
            }
        }
        for (name, topic) in &before.topics {
            if !now.topics.contains_key(name) && self.gone.len() < GONE_MAX {
                self.gone.insert(name.clone(), topic.topic_type);
            }
        }
        changed
    }
}

/// Whether consumers of both are told the same.
fn told_alike(one: &Arc<GroupConfig>, other: &Arc<GroupConfig>) -> bool {
    Arc::ptr_eq(one, other)
        || (one.order == other.order
            && one.max_attempts == other.max_attempts
            && one.retry == other.retry
            && one.lite == other.lite)
}

impl Sessions {
    /// Consumers of these groups, and producers of these topics.
    fn about(&self, changed: &Changed) -> Vec<ClientId> {
        let book = self.book();
        let about = book.clients.iter().filter(|(_, session)| match &session.role {
            None => false,
            Some(Role::Producer) => session.topics.first.iter().any(|topic| changed.topics.contains(topic)),
            Some(Role::Consumer { group, .. }) => changed.groups.contains(group),
        });
        about.map(|(client, _)| client.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use apogee_model::{
        DeliveryOrder, GroupId, MacKey, MacKeys, Permission, PriorityFactor, RetryPolicy, Timestamp, TopicConfig,
        TopicId,
    };

    use super::*;

    fn cluster() -> Cluster {
        let keys = MacKeys { current: MacKey { generation: 1, secret: [7; 32] }, previous: None };
        Cluster::born(1, 1, Arc::new(keys))
    }

    fn group(cluster: &mut Cluster, name: &str, max_attempts: u32) {
        let group = ConsumerGroup::parse("", name).unwrap();
        let config = GroupConfig {
            group: group.clone(),
            id: GroupId(1),
            order: DeliveryOrder::Concurrent,
            max_attempts,
            retry: RetryPolicy::default(),
            priority_factor: PriorityFactor::default(),
            lite: None,
            created: Timestamp(0),
        };
        cluster.groups.insert(group, Arc::new(config));
    }

    fn topic(cluster: &mut Cluster, name: &str, topic_type: TopicType) {
        let topic = Topic::parse("", name).unwrap();
        let config = TopicConfig {
            topic: topic.clone(),
            id: TopicId(1),
            topic_type,
            queues: 1,
            placement: Vec::new(),
            permission: Permission::ReadWrite,
            lite_expiration: None,
            key_index: true,
            epoch: 0,
            growing: None,
            created: Timestamp(0),
        };
        cluster.topics.insert(topic, Arc::new(config));
    }

    #[test]
    fn what_clients_follow_is_compared() {
        let mut now = cluster();
        let mut followed = Followed::new(Arc::new(now.clone()));
        let mut changed = |now: &Cluster| {
            let Changed { groups, topics } = followed.step(Arc::new(now.clone()));
            let names = groups.iter().map(|group| group.name().to_owned());
            names.chain(topics.iter().map(|topic| topic.name().to_owned())).collect::<Vec<_>>().join(" ")
        };
        group(&mut now, "g", 3);
        group(&mut now, "h", 3);
        topic(&mut now, "t", TopicType::Normal);
        assert_eq!(changed(&now), "g h", "a new topic is nothing to tell its producers of");
        assert_eq!(changed(&now), "");
        group(&mut now, "g", 4);
        group(&mut now, "h", 3);
        topic(&mut now, "t", TopicType::Normal);
        assert_eq!(changed(&now), "g");
        now.groups.clear();
        now.topics.clear();
        assert_eq!(changed(&now), "");
        topic(&mut now, "t", TopicType::Fifo);
        assert_eq!(changed(&now), "t");
        topic(&mut now, "t", TopicType::Delay);
        assert_eq!(changed(&now), "t");
    }
}

//! Who stores which topic, as namesrv says it, and what the first use of a name means.

mod directory;

use std::sync::Arc;
use std::time::Duration;

use apogee_model::{
    Cluster, ConsumerGroup, GroupChanges, GroupConfig, MetadataError, NamesrvMembers, NewGroup, NewTopic, NodeName,
    ProxyNode, Topic, TopicChanges, TopicConfig,
};
use futures::future::BoxFuture;

pub(crate) use directory::{Directory, group_ref, topic_ref};

/// The metadata of the cluster: reads come from a snapshot, changes go to namesrv.
pub trait Routes: Send + Sync + 'static {
    /// The newest snapshot; never waits.
    fn cluster(&self) -> Arc<Cluster>;

    /// Returns once the snapshot is of another version than `seen`; never, when no other will come. Cancel safe.
    fn changed(&self, seen: u64) -> BoxFuture<'_, ()>;

    /// How long ago the snapshot was known to be the newest. Zero for a namesrv in the same process.
    fn age(&self) -> Duration {
        Duration::ZERO
    }

    /// Creates a topic; returns once the snapshot has it.
    fn create_topic(&self, new: NewTopic) -> BoxFuture<'_, Result<Arc<TopicConfig>, MetadataError>>;

    /// Gives a topic more queues or another permission; returns once the snapshot has it.
    fn alter_topic(&self, changes: TopicChanges) -> BoxFuture<'_, Result<Arc<TopicConfig>, MetadataError>>;

    /// Deletes a topic and returns what it was.
    fn delete_topic<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Arc<TopicConfig>, MetadataError>>;

    /// Creates a consumer group with the topic of its dead letters; returns once the snapshot has it.
    fn create_group(&self, new: NewGroup) -> BoxFuture<'_, Result<Arc<GroupConfig>, MetadataError>>;

    /// Gives a consumer group other attempts or rests; returns once the snapshot has it.
    fn alter_group(&self, changes: GroupChanges) -> BoxFuture<'_, Result<Arc<GroupConfig>, MetadataError>>;

    /// Deletes a consumer group and returns what it was.
    fn delete_group<'a>(&'a self, group: &'a ConsumerGroup) -> BoxFuture<'a, Result<Arc<GroupConfig>, MetadataError>>;

    /// The proxies of the cluster that namesrv hears, in any order; the own one may be among them.
    fn proxies(&self) -> BoxFuture<'_, Result<Vec<ProxyNode>, MetadataError>>;

    /// Marks a store-node as about to leave; returns once the snapshot has it. One that is marked already stays so.
    fn drain_node<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<(), MetadataError>>;

    /// Takes the mark away; returns once the snapshot has it.
    fn undrain_node<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<(), MetadataError>>;

    /// Forgets a store-node that drains, keeps nothing and is not heard; returns once the snapshot does not have it.
    fn remove_node<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<(), MetadataError>>;

    /// Who keeps all this.
    fn members(&self) -> BoxFuture<'_, Result<NamesrvMembers, MetadataError>>;
}

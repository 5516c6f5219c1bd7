//! What the proxy asks of its routes, answered by namesrv elsewhere.

use std::sync::Arc;
use std::time::Duration;

use apogee_model::{
    Cluster, ConsumerGroup, GroupChanges, GroupConfig, MetadataError, NamesrvMember, NamesrvMembers, NewGroup,
    NewTopic, NodeName, ProxyNode, Topic, TopicChanges, TopicConfig,
};
use apogee_namesrv::{Member, NamesrvClient};
use apogee_proxy::Routes;
use futures::future::BoxFuture;

/// The routes of a namesrv elsewhere, which has told of the cluster once.
pub(super) struct RemoteRoutes {
    client: NamesrvClient,
    first: Arc<Cluster>,
}

impl RemoteRoutes {
    /// `first` is what was told first.
    pub(super) fn new(client: NamesrvClient, first: Arc<Cluster>) -> RemoteRoutes {
        RemoteRoutes { client, first }
    }
}

impl Routes for RemoteRoutes {
    fn cluster(&self) -> Arc<Cluster> {
        self.client.cluster().unwrap_or_else(|| Arc::clone(&self.first))
    }

    fn changed(&self, seen: u64) -> BoxFuture<'_, ()> {
        let mut told = self.client.watch();
        Box::pin(async move {
            if told.wait_for(|told| told.as_ref().is_some_and(|told| told.version != seen)).await.is_err() {
                std::future::pending::<()>().await; // it ends, and so does this process
            }
        })
    }

    fn age(&self) -> Duration {
        self.client.age()
    }

    fn create_topic(&self, new: NewTopic) -> BoxFuture<'_, Result<Arc<TopicConfig>, MetadataError>> {
        Box::pin(self.client.create_topic(new))
    }

    fn alter_topic(&self, changes: TopicChanges) -> BoxFuture<'_, Result<Arc<TopicConfig>, MetadataError>> {
        Box::pin(self.client.alter_topic(changes))
    }

    fn delete_topic<'a>(&'a self, topic: &'a Topic) -> BoxFuture<'a, Result<Arc<TopicConfig>, MetadataError>> {
        Box::pin(self.client.delete_topic(topic))
    }

    fn create_group(&self, new: NewGroup) -> BoxFuture<'_, Result<Arc<GroupConfig>, MetadataError>> {
        Box::pin(self.client.create_group(new))
    }

    fn alter_group(&self, changes: GroupChanges) -> BoxFuture<'_, Result<Arc<GroupConfig>, MetadataError>> {
        Box::pin(self.client.alter_group(changes))
    }

    fn delete_group<'a>(&'a self, group: &'a ConsumerGroup) -> BoxFuture<'a, Result<Arc<GroupConfig>, MetadataError>> {
        Box::pin(self.client.delete_group(group))
    }

    fn proxies(&self) -> BoxFuture<'_, Result<Vec<ProxyNode>, MetadataError>> {
        Box::pin(self.client.proxies())
    }

    fn drain_node<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<(), MetadataError>> {
        Box::pin(self.client.drain_node(node))
    }

    fn undrain_node<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<(), MetadataError>> {
        Box::pin(self.client.undrain_node(node))
    }

    fn remove_node<'a>(&'a self, node: &'a NodeName) -> BoxFuture<'a, Result<(), MetadataError>> {
        Box::pin(self.client.remove_node(node))
    }

    fn members(&self) -> BoxFuture<'_, Result<NamesrvMembers, MetadataError>> {
        Box::pin(async {
            let (members, leader) = self.client.members().await?;
            let member = |member: Member| NamesrvMember { id: member.id, address: member.registry };
            Ok(NamesrvMembers { members: members.into_iter().map(member).collect(), leader })
        })
    }
}

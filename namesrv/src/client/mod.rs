//! Namesrv from afar: whoever needs the metadata keeps a copy of it here, and asks for changes.
//!
//! Reading order: this file (the door), `links` (which namesrv to ask), `follow` (the copy).

mod follow;
mod links;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use apogee_host::{OnError, Tasks};
use apogee_model::{
    Cluster, ConsumerGroup, GroupChanges, GroupConfig, MetadataError, NewGroup, NewNode, NewTopic, NodeName, ProxyNode,
    ReplicaGroupId, ReplicaId, Topic, TopicChanges, TopicConfig,
};
use apogee_proto::namesrv::v1;
use apogee_proto::token::ClusterToken;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tonic::{Response, Status};

use self::follow::Follower;
use self::links::{Client, Links};
use crate::server::{Member, lock};
use crate::wire;

pub use self::links::BadAddress;

/// Longest wait for a change, over all tries.
const CHANGE_MAX: Duration = Duration::from_secs(5);

/// What a client is made of.
pub struct NamesrvClientParts {
    /// `host:port` of the registries; the order does not matter.
    pub addresses: Vec<String>,
    /// Shown with every call.
    pub token: Option<ClusterToken>,
    /// The cluster that this process belongs to already, if it knows; another one is refused.
    pub cluster_id: Option<u64>,
    /// Gets the task `namesrv-watch`.
    pub tasks: Tasks,
}

/// Some namesrv of one cluster, as one. Clones are the same client.
///
/// Calls go to the leader, are tried again when nobody answered, and end after 5 s with [`MetadataError::Unreachable`];
/// whether a change was made is then unknown. So a call may meet its own change: [`MetadataError::TopicExists`] can mean
/// the topic that it made. What a call returns is in [`NamesrvClient::cluster`] when it returns.
#[derive(Clone)]
pub struct NamesrvClient {
    links: Arc<Links>,
    cluster: watch::Receiver<Option<Arc<Cluster>>>,
    cluster_id: Option<u64>,
    trouble: watch::Receiver<Option<String>>,
    told: Arc<Mutex<Instant>>,
}

impl NamesrvClient {
    /// Connects to nobody yet; a task follows the cluster from now on.
    ///
    /// # Errors
    /// [`BadAddress`] names the first one that cannot be.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(parts: NamesrvClientParts) -> Result<NamesrvClient, BadAddress> {
        let NamesrvClientParts { addresses, token, cluster_id, tasks } = parts;
        let links = Arc::new(Links::new(addresses, token.as_ref())?);
        let (publisher, cluster) = watch::channel(None);
        let (causes, trouble) = watch::channel(Some("no namesrv has answered yet".to_owned()));
        let told = Arc::new(Mutex::new(Instant::now()));
        let follower = Follower { links: Arc::clone(&links), publisher, causes, told: Arc::clone(&told), cluster_id };
        tasks.spawn("namesrv-watch", OnError::StopProcess, follower.run(tasks.token()));
        Ok(NamesrvClient { links, cluster, cluster_id, trouble, told })
    }

    /// The cluster as it was told last; `None` until it was told once. It stays while no namesrv can be reached.
    pub fn cluster(&self) -> Option<Arc<Cluster>> {
        self.cluster.borrow().clone()
    }

    /// How long ago [`NamesrvClient::cluster`] was known to be the newest, or since this client began; some namesrv says so
    /// every second.
    pub fn age(&self) -> Duration {
        lock(&self.told).elapsed()
    }

    /// Follows the cluster. May skip versions, never goes back; what did not change is the same `Arc`, unless another
    /// namesrv was followed meanwhile.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Cluster>>> {
        self.cluster.clone()
    }

    /// Why no namesrv tells of changes now; `None` while one does.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.trouble.clone()
    }

    /// # Errors
    /// Those of [`crate::Namesrv::create_topic`]; those of this client.
    pub async fn create_topic(&self, new: NewTopic) -> Result<Arc<TopicConfig>, MetadataError> {
        let request = wire::new_topic(&new);
        self.topic(move |mut client| {
            let request = request.clone();
            Box::pin(async move { client.create_topic(request).await })
        })
        .await
    }

    /// # Errors
    /// Those of [`crate::Namesrv::alter_topic`]; those of this client.
    pub async fn alter_topic(&self, changes: TopicChanges) -> Result<Arc<TopicConfig>, MetadataError> {
        let request = wire::topic_changes(&changes);
        self.topic(move |mut client| {
            let request = request.clone();
            Box::pin(async move { client.alter_topic(request).await })
        })
        .await
    }

    /// # Errors
    /// Those of [`crate::Namesrv::delete_topic`]; those of this client.
    pub async fn delete_topic(&self, topic: &Topic) -> Result<Arc<TopicConfig>, MetadataError> {
        let request = wire::topic_name(topic);
        self.topic(move |mut client| {
            let request = request.clone();
            Box::pin(async move { client.delete_topic(request).await })
        })
        .await
    }

    /// # Errors
    /// Those of [`crate::Namesrv::create_group`]; those of this client.
    pub async fn create_group(&self, new: NewGroup) -> Result<Arc<GroupConfig>, MetadataError> {
        let request = wire::new_group(&new);
        self.group(move |mut client| {
            let request = request.clone();
            Box::pin(async move { client.create_group(request).await })
        })
        .await
    }

    /// # Errors
    /// Those of [`crate::Namesrv::alter_group`]; those of this client.
    pub async fn alter_group(&self, changes: GroupChanges) -> Result<Arc<GroupConfig>, MetadataError> {
        let request = wire::group_changes(&changes);
        self.group(move |mut client| {
            let request = request.clone();
            Box::pin(async move { client.alter_group(request).await })
        })
        .await
    }

    /// # Errors
    /// Those of [`crate::Namesrv::delete_group`]; those of this client.
    pub async fn delete_group(&self, group: &ConsumerGroup) -> Result<Arc<GroupConfig>, MetadataError> {
        let request = wire::group_name(group);
        self.group(move |mut client| {
            let request = request.clone();
            Box::pin(async move { client.delete_group(request).await })
        })
        .await
    }

    /// # Errors
    /// Those of [`crate::Namesrv::rotate_mac_keys`]; those of this client.
    pub async fn rotate_mac_keys(&self) -> Result<(), MetadataError> {
        self.change(move |mut client| {
            Box::pin(async move { client.rotate_mac_keys(v1::RotateMacKeysRequest {}).await })
        })
        .await
    }

    /// Returns a cluster that has the store-node.
    ///
    /// # Errors
    /// Those of this client.
    pub async fn register(&self, new: NewNode) -> Result<Arc<Cluster>, MetadataError> {
        let request = v1::RegisterRequest { cluster_id: self.known(), node: Some(wire::new_node(&new)) };
        self.change(move |mut client| {
            let request = request.clone();
            Box::pin(async move { client.register(request).await })
        })
        .await?;
        self.cluster().ok_or(MetadataError::Stopped)
    }

    /// # Errors
    /// Those of [`crate::Namesrv::heartbeat`]; those of this client.
    pub async fn heartbeat(&self, node: &NodeName, incarnation: u64) -> Result<(), MetadataError> {
        let request = self.life(node, incarnation);
        let call = move |mut client: Client| -> Call<v1::HeartbeatReply> {
            let request = request.clone();
            Box::pin(async move { client.heartbeat(request).await })
        };
        self.links.ask(Instant::now() + CHANGE_MAX, call).await.map(|_| ())
    }

    /// # Errors
    /// Those of [`crate::Namesrv::unregister`]; those of this client.
    pub async fn unregister(&self, node: &NodeName, incarnation: u64) -> Result<(), MetadataError> {
        let request = self.life(node, incarnation);
        self.change(move |mut client| {
            let request = request.clone();
            Box::pin(async move { client.unregister(request).await })
        })
        .await
    }

    /// # Errors
    /// [`MetadataError::NoTurn`] while a replica group would lose its majority by it; those of
    /// [`crate::Namesrv::unregister`]; those of this client.
    pub async fn leave_in_turn(&self, node: &NodeName, incarnation: u64) -> Result<(), MetadataError> {
        let request = self.life(node, incarnation);
        self.change(move |mut client| {
            let request = request.clone();
            Box::pin(async move { client.leave(request).await })
        })
        .await
    }

    /// # Errors
    /// Those of [`crate::Namesrv::drain_node`]; those of this client.
    pub async fn drain_node(&self, node: &NodeName) -> Result<(), MetadataError> {
        let request = v1::NodeRequest { name: node.as_str().to_owned() };
        self.change(move |mut client| {
            let request = request.clone();
            Box::pin(async move { client.drain_node(request).await })
        })
        .await
    }

    /// # Errors
    /// Those of [`crate::Namesrv::undrain_node`]; those of this client.
    pub async fn undrain_node(&self, node: &NodeName) -> Result<(), MetadataError> {
        let request = v1::NodeRequest { name: node.as_str().to_owned() };
        self.change(move |mut client| {
            let request = request.clone();
            Box::pin(async move { client.undrain_node(request).await })
        })
        .await
    }

    /// # Errors
    /// Those of [`crate::Namesrv::remove_node`]; those of this client.
    pub async fn remove_node(&self, node: &NodeName) -> Result<(), MetadataError> {
        let request = v1::NodeRequest { name: node.as_str().to_owned() };
        self.change(move |mut client| {
            let request = request.clone();
            Box::pin(async move { client.remove_node(request).await })
        })
        .await
    }

    /// The replica that comes into this replica group has nearly all that the others have. Its leader says so.
    ///
    /// # Errors
    /// Those of this client.
    pub async fn move_ready(&self, group: ReplicaGroupId, comes: ReplicaId) -> Result<(), MetadataError> {
        self.report_move(group, comes, v1::MoveReached::Ready).await
    }

    /// It votes and the one that leaves does not, by a membership that is committed. The leader says so.
    ///
    /// # Errors
    /// [`MetadataError::Refused`] when it was not to vote yet; those of this client.
    pub async fn move_done(&self, group: ReplicaGroupId, comes: ReplicaId) -> Result<(), MetadataError> {
        self.report_move(group, comes, v1::MoveReached::Done).await
    }

    async fn report_move(
        &self,
        group: ReplicaGroupId,
        comes: ReplicaId,
        reached: v1::MoveReached,
    ) -> Result<(), MetadataError> {
        let (cluster_id, reached) = (self.known(), reached.into());
        let request = v1::MoveReport { cluster_id, replica_group: group.0, comes: comes.0, reached };
        self.change(move |mut client| Box::pin(async move { client.report_move(request).await })).await
    }

    /// The members of the group, and the one that leads if the one that answers knows.
    ///
    /// # Errors
    /// Those of this client.
    pub async fn members(&self) -> Result<(Vec<Member>, Option<u64>), MetadataError> {
        let call = |mut client: Client| -> Call<v1::Members> {
            Box::pin(async move { client.list_members(v1::ListMembersRequest {}).await })
        };
        let answer = self.links.ask(Instant::now() + CHANGE_MAX, call).await?;
        let member =
            |member: v1::Member| Member { id: member.id, registry: member.registry, consensus: member.consensus };
        let leader = Some(answer.leader).filter(|leader| *leader != 0);
        Ok((answer.members.into_iter().map(member).collect(), leader))
    }

    /// # Errors
    /// Those of [`crate::Namesrv::hear_proxy`]; those of this client.
    pub async fn hear_proxy(&self, proxy: &ProxyNode) -> Result<(), MetadataError> {
        self.tell_of_proxy(proxy, false).await
    }

    /// # Errors
    /// Those of [`crate::Namesrv::forget_proxy`]; those of this client.
    pub async fn forget_proxy(&self, proxy: &ProxyNode) -> Result<(), MetadataError> {
        self.tell_of_proxy(proxy, true).await
    }

    async fn tell_of_proxy(&self, proxy: &ProxyNode, leaves: bool) -> Result<(), MetadataError> {
        let proxy = Some(wire::proxy(proxy.clone()));
        let request = v1::HearProxyRequest { cluster_id: self.known(), proxy, leaves };
        let call = move |mut client: Client| -> Call<v1::HearProxyReply> {
            let request = request.clone();
            Box::pin(async move { client.hear_proxy(request).await })
        };
        self.links.ask(Instant::now() + CHANGE_MAX, call).await.map(|_| ())
    }

    /// The proxies heard in the last 10 s, by name.
    ///
    /// # Errors
    /// Those of this client.
    pub async fn proxies(&self) -> Result<Vec<ProxyNode>, MetadataError> {
        let call = |mut client: Client| -> Call<v1::Proxies> {
            Box::pin(async move { client.list_proxies(v1::ListProxiesRequest {}).await })
        };
        let answer = self.links.ask(Instant::now() + CHANGE_MAX, call).await?;
        let proxies = answer.proxies.into_iter().map(wire::read_proxy).collect::<Result<_, _>>();
        proxies.map_err(|error| MetadataError::Refused { why: error.to_string() })
    }

    async fn topic(&self, call: impl Fn(Client) -> Call<v1::Topic>) -> Result<Arc<TopicConfig>, MetadataError> {
        let answer = self.agreed(call, |topic| topic.version).await?;
        wire::read_topic(answer).map(Arc::new).map_err(|error| MetadataError::Refused { why: error.to_string() })
    }

    async fn group(&self, call: impl Fn(Client) -> Call<v1::Group>) -> Result<Arc<GroupConfig>, MetadataError> {
        let answer = self.agreed(call, |group| group.version).await?;
        wire::read_group(answer).map(Arc::new).map_err(|error| MetadataError::Refused { why: error.to_string() })
    }

    async fn change(&self, call: impl Fn(Client) -> Call<v1::Changed>) -> Result<(), MetadataError> {
        self.agreed(call, |changed| changed.version).await.map(drop)
    }

    /// The answer to a call, once the copy here agrees with it.
    async fn agreed<T>(
        &self,
        call: impl Fn(Client) -> Call<T>,
        version: impl Fn(&T) -> u64,
    ) -> Result<T, MetadataError> {
        let deadline = Instant::now() + CHANGE_MAX;
        match self.links.ask(deadline, call).await {
            Ok(answer) => self.until(version(&answer), deadline).await.map(|()| answer),
            Err(refused) => Err(self.until_true(refused, deadline).await),
        }
    }

    /// Returns a refusal when the copy here agrees with it: whoever hears that a topic exists already finds it.
    async fn until_true(&self, refused: MetadataError, deadline: Instant) -> MetadataError {
        let mut copy = self.cluster.clone();
        let agrees = |cluster: Option<&Arc<Cluster>>| match &refused {
            MetadataError::TopicExists { topic } => cluster.is_some_and(|cluster| cluster.topics.contains_key(topic)),
            MetadataError::NoSuchTopic { topic } => cluster.is_some_and(|cluster| !cluster.topics.contains_key(topic)),
            MetadataError::GroupExists { group } => cluster.is_some_and(|cluster| cluster.groups.contains_key(group)),
            MetadataError::NoSuchGroup { group } => cluster.is_some_and(|cluster| !cluster.groups.contains_key(group)),
            _ => true,
        };
        let there = copy.wait_for(|cluster| agrees(cluster.as_ref()));
        let _or_it_has_changed_since = timeout_at(deadline, there).await;
        refused
    }

    /// Returns when the copy here has the version.
    async fn until(&self, version: u64, deadline: Instant) -> Result<(), MetadataError> {
        let mut cluster = self.cluster.clone();
        let there = cluster.wait_for(|cluster| cluster.as_ref().is_some_and(|cluster| cluster.version >= version));
        let late = || MetadataError::Unreachable { why: "the change was made, but nobody has told of it".to_owned() };
        timeout_at(deadline, there).await.map_err(|_| late())?.map(|_| ()).map_err(|_| MetadataError::Stopped)
    }

    fn life(&self, node: &NodeName, incarnation: u64) -> v1::Life {
        v1::Life { cluster_id: self.known(), name: node.as_str().to_owned(), incarnation }
    }

    fn known(&self) -> u64 {
        let told = self.cluster.borrow().as_ref().map(|cluster| cluster.cluster_id);
        self.cluster_id.or(told).unwrap_or_default()
    }
}

type Call<T> = BoxFuture<'static, Result<Response<T>, Status>>;

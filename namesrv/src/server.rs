//! The door: what the roles ask of namesrv.

use std::fmt;
use std::sync::Arc;

use apogee_host::{Clock, Disk, Entropy, OnError, Tasks};
use apogee_model::{
    Cluster, ConsumerGroup, GroupConfig, MacKeys, MetadataError, NewGroup, NewNode, NewTopic, NodeName, Topic,
    TopicConfig,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::journal::{Journal, OpenError};
use crate::owner::{INBOX, Owner, Request};
use crate::state::{Change, Command, Secret, State};

/// What a namesrv is made of.
pub struct NamesrvParts {
    /// Takes the folder `namesrv/`.
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    /// Draws the cluster id and the MAC keys: must be good enough for secrets.
    pub entropy: Arc<dyn Entropy>,
    /// Gets the task `namesrv`, which stops the process with exit code 74 when the disk fails.
    pub tasks: Tasks,
    /// Replicas of every replica group, from the birth of the cluster on: 1, 3 or 5.
    pub replication_factor: u8,
}

/// The metadata of one cluster. Clones speak to the same one.
///
/// Every change is durable and visible in [`Namesrv::cluster`] when it returns. A caller that finds 256 others waiting
/// waits for its turn; the deadline is the caller's. Dropping the future leaves open whether the change is made, and so
/// does [`MetadataError::Stopped`], the answer of a namesrv whose disk failed or that is shutting down.
#[derive(Clone)]
pub struct Namesrv {
    inbox: mpsc::Sender<Request>,
    published: watch::Receiver<Arc<Cluster>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for Namesrv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namesrv").field("version", &self.published.borrow().version).finish_non_exhaustive()
    }
}

impl Namesrv {
    /// Recovers what is on the disk, or gives birth to a cluster on an empty one.
    ///
    /// # Errors
    /// [`OpenError`] names the file: it cannot be used, is corrupt, or comes from a newer version.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn open(parts: NamesrvParts) -> Result<Namesrv, OpenError> {
        let NamesrvParts { disk, clock, entropy, tasks, replication_factor } = parts;
        let (mut journal, mut state) = Journal::open(disk).await?;
        if state.cluster().is_none() {
            give_birth(&mut journal, &mut state, replication_factor, entropy.as_ref()).await?;
        }
        journal.mark_born().await?;
        let cluster = Arc::clone(state.cluster().expect("recovered or born above"));
        tracing::info!(
            event = "namesrv_open",
            cluster_id = %format_args!("{:016x}", cluster.cluster_id),
            version = cluster.version,
            topics = cluster.topics.len(),
            groups = cluster.groups.len(),
            "metadata is there"
        );
        let (inbox, requests) = mpsc::channel(INBOX);
        let (publisher, published) = watch::channel(cluster);
        let owner = Owner { state, journal, inbox: requests, published: publisher };
        tasks.spawn("namesrv", OnError::StopProcess, owner.run(tasks.token()));
        Ok(Namesrv { inbox, published, clock, entropy })
    }

    /// The cluster as of now. Stays answered after namesrv stopped.
    pub fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.published.borrow())
    }

    /// Follows the cluster. Shows the latest version and may skip some before it; unchanged topics and groups are the
    /// same `Arc`s in both.
    pub fn watch(&self) -> watch::Receiver<Arc<Cluster>> {
        self.published.clone()
    }

    /// Creates a topic under an id no topic had before.
    ///
    /// # Errors
    /// [`MetadataError::OutOfRange`] unless it has 1 to [`TopicConfig::QUEUES_MAX`] queues;
    /// [`MetadataError::TopicExists`] even if the existing one is alike; [`MetadataError::Stopped`].
    pub async fn create_topic(&self, new: NewTopic) -> Result<Arc<TopicConfig>, MetadataError> {
        match self.ask(Command::CreateTopic { new, created: self.clock.wall() }).await? {
            Change::TopicCreated(topic) => Ok(topic),
            other => not_an_answer(&other),
        }
    }

    /// Deletes a topic and returns what it was.
    ///
    /// # Errors
    /// [`MetadataError::NoSuchTopic`]; [`MetadataError::Stopped`].
    pub async fn delete_topic(&self, topic: &Topic) -> Result<Arc<TopicConfig>, MetadataError> {
        match self.ask(Command::DeleteTopic { topic: topic.clone() }).await? {
            Change::TopicDeleted(topic) => Ok(topic),
            other => not_an_answer(&other),
        }
    }

    /// Creates a consumer group under an id no group had before.
    ///
    /// # Errors
    /// [`MetadataError::OutOfRange`] without any attempt; [`MetadataError::GroupExists`] even if the existing one is
    /// alike; [`MetadataError::Stopped`].
    pub async fn create_group(&self, new: NewGroup) -> Result<Arc<GroupConfig>, MetadataError> {
        match self.ask(Command::CreateGroup { new, created: self.clock.wall() }).await? {
            Change::GroupCreated(group) => Ok(group),
            other => not_an_answer(&other),
        }
    }

    /// Deletes a consumer group and returns what it was.
    ///
    /// # Errors
    /// [`MetadataError::NoSuchGroup`]; [`MetadataError::Stopped`].
    pub async fn delete_group(&self, group: &ConsumerGroup) -> Result<Arc<GroupConfig>, MetadataError> {
        match self.ask(Command::DeleteGroup { group: group.clone() }).await? {
            Change::GroupDeleted(group) => Ok(group),
            other => not_an_answer(&other),
        }
    }

    /// Draws a new key for receipt handles. Handles signed with the one before it stay valid, older ones do not.
    ///
    /// # Errors
    /// [`MetadataError::Stopped`].
    pub async fn rotate_mac_keys(&self) -> Result<Arc<MacKeys>, MetadataError> {
        match self.ask(Command::RotateMacKey { secret: draw_secret(self.entropy.as_ref()) }).await? {
            Change::KeysRotated(keys) => Ok(keys),
            other => not_an_answer(&other),
        }
    }

    /// Takes a store-node in, or takes note that it has started again. Returns a cluster that has it, and the replica
    /// groups that it made possible: it is home of one as soon as there are enough store-nodes.
    ///
    /// # Errors
    /// [`MetadataError::Stopped`].
    pub async fn register(&self, new: NewNode) -> Result<Arc<Cluster>, MetadataError> {
        self.ask(Command::RegisterNode { new }).await.map(|_| self.cluster())
    }

    /// The store-node stops: it is suspect at once.
    ///
    /// # Errors
    /// [`MetadataError::NoSuchNode`]; [`MetadataError::OtherIncarnation`] when it has started again meanwhile;
    /// [`MetadataError::Stopped`].
    pub async fn unregister(&self, node: &NodeName, incarnation: u64) -> Result<(), MetadataError> {
        self.ask(Command::NodeHeard { node: node.clone(), incarnation, alive: false }).await.map(|_| ())
    }

    /// The store-node is about to leave: it gets nothing new.
    ///
    /// # Errors
    /// [`MetadataError::NoSuchNode`]; [`MetadataError::Stopped`].
    pub async fn drain_node(&self, node: &NodeName) -> Result<Arc<Cluster>, MetadataError> {
        self.ask(Command::DrainNode { node: node.clone() }).await.map(|_| self.cluster())
    }

    /// The store-node stays after all.
    ///
    /// # Errors
    /// As [`Namesrv::drain_node`].
    pub async fn undrain_node(&self, node: &NodeName) -> Result<Arc<Cluster>, MetadataError> {
        self.ask(Command::UndrainNode { node: node.clone() }).await.map(|_| self.cluster())
    }

    async fn ask(&self, command: Command) -> Result<Change, MetadataError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Request { command, reply }).await.map_err(|_| MetadataError::Stopped)?;
        answer.await.map_err(|_| MetadataError::Stopped)?
    }
}

/// Nobody can ask yet, so the owner's order is kept: decide, make durable, show.
async fn give_birth(
    journal: &mut Journal,
    state: &mut State,
    replication_factor: u8,
    entropy: &dyn Entropy,
) -> Result<(), OpenError> {
    let birth = Command::Birth { cluster_id: entropy.next_u64(), replication_factor, mac_key: draw_secret(entropy) };
    let change = state.decide(&birth).expect("nothing was before");
    journal.append(state.version(), vec![birth]).await?;
    state.apply(&change);
    Ok(())
}

fn draw_secret(entropy: &dyn Entropy) -> Secret {
    let mut secret = [0; 32];
    entropy.fill(&mut secret);
    Secret(secret)
}

fn not_an_answer(change: &Change) -> ! {
    unreachable!("the state decides each command as the change of its kind, not as {change:?}")
}

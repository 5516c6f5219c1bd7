//! The door: what the roles ask of namesrv.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apogee_host::{Clock, Disk, Entropy, OnError, Tasks};
use apogee_model::{
    Cluster, ConsumerGroup, GroupChanges, GroupConfig, MacKeys, MetadataError, NewGroup, NewNode, NewTopic, NodeName,
    NodeStanding, Topic, TopicChanges, TopicConfig,
};
use apogee_proto::token::ClusterToken;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::journal::{OpenError, Opened, open as open_journal};
use crate::leases::Leases;
use crate::life::Life;
use crate::network::TonicPeers;
use crate::proxies::Proxies;
use crate::raft::{Answer, Consensus, Peers, Question, Standing};
use crate::state::{Change, Command, Outcome, Secret};

/// Requests that may be with consensus at a time; others wait.
const INBOX: usize = 256;
/// Longest wait for a cluster to be born before a request is refused.
const BIRTH_MAX: Duration = Duration::from_secs(5);

/// What a namesrv is made of.
pub struct NamesrvParts {
    /// Takes the folder `namesrv/`.
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    /// Draws the cluster id, the MAC keys and the times of elections: must be good enough for secrets.
    pub entropy: Arc<dyn Entropy>,
    /// Gets the tasks `namesrv` and `namesrv-journal`, which stop the process with exit code 74 when the disk fails.
    pub tasks: Tasks,
    /// One or three; the same list at every member.
    pub members: Vec<Member>,
    /// Which of them this one is.
    pub me: u64,
    /// Replicas of every replica group, from the birth of the cluster on: 1, 3 or 5.
    pub replication_factor: u8,
    /// Shown to the other members.
    pub token: Option<ClusterToken>,
}

/// A namesrv of the group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// From 1 on, and never another one for the same data folder.
    pub id: u64,
    /// `host:port` that store-nodes, proxies and people reach.
    pub registry: String,
    /// `host:port` that the other members reach.
    pub consensus: String,
}

/// The metadata of one cluster. Clones speak to the same one.
///
/// Every change is durable at a majority and visible in [`Namesrv::cluster`] when it returns. A caller that finds 256
/// others waiting waits for its turn; the deadline is the caller's. Dropping the future leaves open whether the change is
/// made, and so do [`MetadataError::Unreachable`], when no majority can be heard, and [`MetadataError::Stopped`], the
/// answer of a namesrv whose disk failed or that is shutting down. One that does not lead refuses with
/// [`MetadataError::NotLeader`], and with the address of the one that does.
#[derive(Clone)]
pub struct Namesrv {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) me: u64,
    pub(crate) members: BTreeMap<u64, Member>,
    pub(crate) replication_factor: u8,
    /// `None` until it has begun.
    pub(crate) consensus: watch::Sender<Option<Consensus>>,
    /// Said to members that found the group; not from the moment on when this one begins.
    pub(crate) fresh: Mutex<bool>,
    pub(crate) leases: Mutex<Leases>,
    pub(crate) proxies: Mutex<Proxies>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Cancelled when this member takes part no more.
    pub(crate) left: CancellationToken,
    published: watch::Receiver<Option<Arc<Cluster>>>,
    inbox: Semaphore,
}

impl fmt::Debug for Namesrv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.cluster().map(|cluster| cluster.version);
        f.debug_struct("Namesrv").field("me", &self.shared.me).field("version", &version).finish_non_exhaustive()
    }
}

impl Namesrv {
    /// Recovers what is on the disk and takes part in consensus. One without other members returns when its cluster is
    /// there, born now if there was none; one of three returns at once, and needs [`crate::serve_consensus`] to be heard.
    ///
    /// # Errors
    /// [`OpenError`] names the file that cannot be used, is corrupt, or comes from another version; or what is wrong with
    /// the list of members.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn open(parts: NamesrvParts) -> Result<Namesrv, OpenError> {
        let NamesrvParts { disk, clock, entropy, tasks, members, me, replication_factor, token } = parts;
        let members = check_members(members, me)?;
        if ![1, 3, 5].contains(&replication_factor) {
            return Err(OpenError::Members(format!(
                "the replication factor is {replication_factor}; it can be 1, 3 or 5"
            )));
        }
        let peers: Arc<dyn Peers> = Arc::new(TonicPeers::new(me, &members, token.as_ref())?);
        let Opened { journal, writer, book } = open_journal(disk).await?;
        let (publisher, published) = watch::channel(book.applied.state.cluster().cloned());
        let shared = Arc::new(Shared {
            me,
            members,
            replication_factor,
            consensus: watch::Sender::new(None),
            fresh: Mutex::new(book.is_empty()),
            leases: Mutex::default(),
            proxies: Mutex::default(),
            clock,
            entropy,
            left: CancellationToken::new(),
            published,
            inbox: Semaphore::new(INBOX),
        });
        let journal_stop = CancellationToken::new();
        tasks.spawn("namesrv-journal", OnError::StopProcess, writer.run(journal_stop.clone()));
        let (ready, is_ready) = oneshot::channel();
        let namesrv = Namesrv { shared };
        let life = Life { namesrv: namesrv.clone(), journal, book, peers, publisher, ready: Some(ready), journal_stop };
        tasks.spawn("namesrv", OnError::StopProcess, life.run(tasks.token()));
        if namesrv.shared.members.len() == 1 {
            is_ready.await.map_err(|_| OpenError::Stopped("the reason is in the log".to_owned()))?;
        }
        Ok(namesrv)
    }

    /// The cluster as this member knows it; `None` until it is born. Stays answered after namesrv stopped.
    pub fn cluster(&self) -> Option<Arc<Cluster>> {
        self.shared.published.borrow().clone()
    }

    /// Follows the cluster. Shows the latest version and may skip some before it; what did not change is the same `Arc` in
    /// both.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Cluster>>> {
        self.shared.published.clone()
    }

    /// Creates a topic under an id no topic had before, its queues spread over the replica groups.
    ///
    /// # Errors
    /// [`MetadataError::OutOfRange`] unless it has 1 to [`TopicConfig::QUEUES_MAX`] queues;
    /// [`MetadataError::TopicExists`] even if the existing one is alike; [`MetadataError::NoReplicaGroups`]; those of
    /// [`Namesrv`].
    pub async fn create_topic(&self, new: NewTopic) -> Result<Arc<TopicConfig>, MetadataError> {
        let created = self.shared.clock.wall();
        match self.change(Command::CreateTopic { new, created }).await? {
            Change::TopicCreated(topic) => Ok(topic),
            other => not_an_answer(&other),
        }
    }

    /// Gives a topic more queues, behind those it has, or another permission.
    ///
    /// # Errors
    /// [`MetadataError::NoSuchTopic`]; [`MetadataError::OutOfRange`] for fewer queues than it has, or more than
    /// [`TopicConfig::QUEUES_MAX`]; [`MetadataError::Refused`] for other queues of a FIFO or MIXED topic; those of
    /// [`Namesrv`].
    pub async fn alter_topic(&self, changes: TopicChanges) -> Result<Arc<TopicConfig>, MetadataError> {
        match self.change(Command::AlterTopic { changes }).await? {
            Change::TopicAltered(topic) => Ok(topic),
            other => not_an_answer(&other),
        }
    }

    /// Deletes a topic and returns what it was.
    ///
    /// # Errors
    /// [`MetadataError::NoSuchTopic`]; those of [`Namesrv`].
    pub async fn delete_topic(&self, topic: &Topic) -> Result<Arc<TopicConfig>, MetadataError> {
        match self.change(Command::DeleteTopic { topic: topic.clone() }).await? {
            Change::TopicDeleted(topic) => Ok(topic),
            other => not_an_answer(&other),
        }
    }

    /// Creates a consumer group under an id no group had before, and the topic of its dead letters.
    ///
    /// # Errors
    /// [`MetadataError::OutOfRange`] without any attempt and for rests beyond their bounds; [`MetadataError::GroupExists`] even if the existing one is
    /// alike; those of [`Namesrv`].
    pub async fn create_group(&self, new: NewGroup) -> Result<Arc<GroupConfig>, MetadataError> {
        let created = self.shared.clock.wall();
        match self.change(Command::CreateGroup { new, created }).await? {
            Change::GroupCreated(group, _) => Ok(group),
            other => not_an_answer(&other),
        }
    }

    /// Gives a consumer group other attempts or rests.
    ///
    /// # Errors
    /// [`MetadataError::NoSuchGroup`]; [`MetadataError::OutOfRange`] as for a new group; those of [`Namesrv`].
    pub async fn alter_group(&self, changes: GroupChanges) -> Result<Arc<GroupConfig>, MetadataError> {
        match self.change(Command::AlterGroup { changes }).await? {
            Change::GroupAltered(group) => Ok(group),
            other => not_an_answer(&other),
        }
    }

    /// Deletes a consumer group with the topic of its dead letters, and returns what it was.
    ///
    /// # Errors
    /// [`MetadataError::NoSuchGroup`]; those of [`Namesrv`].
    pub async fn delete_group(&self, group: &ConsumerGroup) -> Result<Arc<GroupConfig>, MetadataError> {
        match self.change(Command::DeleteGroup { group: group.clone() }).await? {
            Change::GroupDeleted(group) => Ok(group),
            other => not_an_answer(&other),
        }
    }

    /// Draws a new key for receipt handles. Handles signed with the one before it stay valid, older ones do not.
    ///
    /// # Errors
    /// Those of [`Namesrv`].
    pub async fn rotate_mac_keys(&self) -> Result<Arc<MacKeys>, MetadataError> {
        match self.change(Command::RotateMacKey { secret: self.shared.draw_secret() }).await? {
            Change::KeysRotated(keys) => Ok(keys),
            other => not_an_answer(&other),
        }
    }

    /// Takes a store-node in, or takes note that it has started again. It is home of a replica group as soon as there are
    /// enough store-nodes. Returns a cluster that has it.
    ///
    /// # Errors
    /// Those of [`Namesrv`].
    pub async fn register(&self, new: NewNode) -> Result<Arc<Cluster>, MetadataError> {
        let node = new.name.clone();
        self.change(Command::RegisterNode { new }).await?;
        self.shared.leases().hear(&node, Instant::now());
        self.cluster().ok_or(MetadataError::Stopped)
    }

    /// The store-node is there. One that is not heard for 10 s is suspect.
    ///
    /// # Errors
    /// [`MetadataError::NoSuchNode`]; [`MetadataError::OtherIncarnation`] when it has started again meanwhile; those of
    /// [`Namesrv`].
    pub async fn heartbeat(&self, node: &NodeName, incarnation: u64) -> Result<(), MetadataError> {
        self.must_lead()?;
        let cluster = self.cluster();
        let known = cluster.as_ref().and_then(|cluster| cluster.nodes.get(node));
        let known = known.ok_or_else(|| MetadataError::NoSuchNode { node: node.clone() })?;
        if known.incarnation != incarnation {
            return Err(MetadataError::OtherIncarnation { node: node.clone() });
        }
        self.shared.leases().hear(node, Instant::now());
        match known.standing {
            NodeStanding::Alive | NodeStanding::Draining => Ok(()),
            NodeStanding::Suspect => {
                let heard = Command::NodeHeard { node: node.clone(), incarnation, alive: true };
                self.change(heard).await.map(|_| ())
            }
        }
    }

    /// The store-node stops: it is suspect at once.
    ///
    /// # Errors
    /// As [`Namesrv::heartbeat`].
    pub async fn unregister(&self, node: &NodeName, incarnation: u64) -> Result<(), MetadataError> {
        self.change(Command::NodeHeard { node: node.clone(), incarnation, alive: false }).await.map(|_| ())
    }

    /// The store-node stops, as [`Namesrv::unregister`], if it is its turn or none will come. Returns the version that has it.
    ///
    /// # Errors
    /// [`MetadataError::NoTurn`] while a replica group would lose its majority by it; as [`Namesrv::heartbeat`].
    pub async fn leave_in_turn(&self, node: NodeName, incarnation: u64) -> Result<u64, MetadataError> {
        let left = self.ask(Command::LeaveInTurn { node: node.clone(), incarnation }).await;
        let in_vain = |cluster: Arc<Cluster>| self.shared.leases().waits_in_vain(&cluster, &node, Instant::now());
        if matches!(left, Err(MetadataError::NoTurn { .. })) && self.cluster().is_some_and(in_vain) {
            tracing::warn!(event = "all_leave", %node, "all store-nodes with its replica groups stop; it need not wait");
            return self.ask(Command::NodeHeard { node, incarnation, alive: false }).await.map(|(version, _)| version);
        }
        left.map(|(version, _)| version)
    }

    /// The store-node is about to leave: it gets nothing new, and leads nothing if others can.
    ///
    /// # Errors
    /// [`MetadataError::NoSuchNode`]; those of [`Namesrv`].
    pub async fn drain_node(&self, node: &NodeName) -> Result<Arc<Cluster>, MetadataError> {
        self.change(Command::DrainNode { node: node.clone() }).await?;
        self.cluster().ok_or(MetadataError::Stopped)
    }

    /// The store-node stays after all.
    ///
    /// # Errors
    /// As [`Namesrv::drain_node`].
    pub async fn undrain_node(&self, node: &NodeName) -> Result<Arc<Cluster>, MetadataError> {
        self.change(Command::UndrainNode { node: node.clone() }).await?;
        self.cluster().ok_or(MetadataError::Stopped)
    }

    /// Forgets a store-node that drains and keeps nothing. Returns the version that has it.
    ///
    /// # Errors
    /// [`MetadataError::NoSuchNode`]; [`MetadataError::KeepsReplicas`]; [`MetadataError::Refused`] unless it drains, and
    /// while it may be there: it would register again at once. Those of [`Namesrv`].
    pub async fn remove_node(&self, node: NodeName) -> Result<u64, MetadataError> {
        self.must_lead()?;
        let drains = |cluster: Arc<Cluster>| {
            cluster.nodes.get(&node).is_some_and(|node| node.standing == NodeStanding::Draining)
                && cluster.hosted(&node).next().is_none()
        };
        if self.cluster().is_some_and(drains) && self.shared.leases().may_be_there(&node, Instant::now()) {
            let why = format!("store-node {node} lets itself be heard, or did a moment ago; stop it first");
            return Err(MetadataError::Refused { why });
        }
        self.ask(Command::RemoveNode { node }).await.map(|(version, _)| version)
    }

    /// The members of the group, and the one that leads as far as this one knows.
    pub fn members(&self) -> (Vec<Member>, Option<u64>) {
        let leader = self.consensus().ok().and_then(|consensus| consensus.leader());
        (self.shared.members.values().cloned().collect(), leader)
    }

    /// Whether what this member knows is up to date: it leads a majority, or hears who does.
    pub fn is_in_touch(&self) -> bool {
        self.consensus().is_ok_and(|consensus| consensus.is_in_touch())
    }

    /// What became of a command, and the version that has it.
    pub(crate) async fn ask(&self, command: Command) -> Result<(u64, Change), MetadataError> {
        let _turn = self.shared.inbox.acquire().await.map_err(|_| MetadataError::Stopped)?;
        let consensus = self.consensus()?;
        if consensus.leads() {
            self.until_born().await?;
        }
        match consensus.propose(command).await {
            Ok(Outcome { version, answer }) => answer.map(|change| (version, change)),
            Err(MetadataError::NotLeader { .. }) => Err(self.not_leader()),
            Err(error) => Err(error),
        }
    }

    async fn change(&self, command: Command) -> Result<Change, MetadataError> {
        self.ask(command).await.map(|(_, change)| change)
    }

    async fn until_born(&self) -> Result<(), MetadataError> {
        let mut published = self.shared.published.clone();
        let born = timeout(BIRTH_MAX, published.wait_for(Option::is_some)).await;
        let unborn = || MetadataError::Unreachable { why: "the cluster is not born yet".to_owned() };
        born.map_err(|_| unborn())?.map(|_| ()).map_err(|_| MetadataError::Stopped)
    }

    /// Answers another member; the error says why not.
    pub(crate) async fn answer(&self, question: Question) -> Result<Answer, String> {
        let consensus = self.shared.consensus.borrow().clone();
        match (consensus, question) {
            (Some(consensus), question) => consensus.answer(question).await.map_err(|error| error.to_string()),
            (None, Question::Standing) if *lock(&self.shared.fresh) => Ok(Answer::Standing(Standing::Fresh)),
            (None, _) => Err("this namesrv does not take part".to_owned()),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn consensus(&self) -> Result<Consensus, MetadataError> {
        let consensus = self.shared.consensus.borrow().clone();
        consensus.ok_or_else(|| match self.shared.left.is_cancelled() {
            true => MetadataError::Stopped,
            false => MetadataError::NotLeader { leader: None },
        })
    }

    /// # Errors
    /// [`MetadataError::NotLeader`] unless this one leads.
    pub(crate) fn must_lead(&self) -> Result<(), MetadataError> {
        if self.consensus()?.leads() { Ok(()) } else { Err(self.not_leader()) }
    }

    fn not_leader(&self) -> MetadataError {
        let leader = self.consensus().ok().and_then(|consensus| consensus.leader());
        let leader = leader.filter(|leader| *leader != self.shared.me);
        let address = leader.and_then(|leader| self.shared.members.get(&leader)).map(|member| member.registry.clone());
        MetadataError::NotLeader { leader: address }
    }
}

impl Shared {
    pub(crate) fn leases(&self) -> MutexGuard<'_, Leases> {
        lock(&self.leases)
    }

    pub(crate) fn draw_secret(&self) -> Secret {
        let mut secret = [0; 32];
        self.entropy.fill(&mut secret);
        Secret(secret)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_members(members: Vec<Member>, me: u64) -> Result<BTreeMap<u64, Member>, OpenError> {
    let count = members.len();
    if !matches!(count, 1 | 3) {
        return Err(OpenError::Members(format!("there are {count} namesrv; there can be one or three")));
    }
    let addresses: BTreeSet<&String> = members.iter().map(|member| &member.consensus).collect();
    let distinct = addresses.len() == count;
    let members: BTreeMap<u64, Member> = members.into_iter().map(|member| (member.id, member)).collect();
    if members.len() != count || !distinct {
        return Err(OpenError::Members("two namesrv have the same id or address".to_owned()));
    }
    if !members.contains_key(&me) {
        return Err(OpenError::Members(format!("namesrv {me} is not in the list of namesrv")));
    }
    Ok(members)
}

fn not_an_answer(change: &Change) -> ! {
    unreachable!("the state decides each command as the change of its kind, not as {change:?}")
}

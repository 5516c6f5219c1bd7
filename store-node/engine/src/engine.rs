//! The door of the engine.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use apogee_host::{Clock, Disk, Entropy, SeededEntropy, Tasks};
use apogee_model::store::{
    Append, Appended, DeliveryKey, GroupRef, GroupStatus, LiteList, LiteStatus, LiteSubscribed, LiteSubscription,
    QueueReset, QueueStatus, Recall, Recalled, Reset, Seal, Sealed, Settled, Settlement, StoreError, TopicRef,
};
use apogee_model::{BlockIndex, ClientId, Filter, GroupId, ReplicaId, StoredMessage, TopicId};
use opentelemetry::metrics::Meter;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::again::{Again, BeginAgain};
use crate::block;
use crate::bury::DeadLetterMetrics;
use crate::checks::Desk;
use crate::commitlog::{Log, OpenError};
use crate::hand_over::HandedOver;
use crate::leader::{Ask, Moved, NotAppended, Retention, StateDump};
use crate::open::{self, INBOX};
use crate::peers::Peers;
use crate::proposer::{AfterCommit, AnswerRule};
use crate::raft::Ear;
use crate::record::{self, DeadLetter, HalfCarried};
use crate::replica::{AckMode, Members, Role};
use crate::seating::Reached;
use crate::transactions::TransactionMetrics;
use crate::views::{MemoryViewStore, Place, ViewStore};
use crate::watch::Watch;

/// Room in the inbox kept for notes that nobody can repeat (confirmations, releases, who was heard).
const INBOX_FOR_NOTES: usize = INBOX / 4;
/// Bytes more of a message that is kept back, and carried forward.
const KEPT: usize = 24;
/// What people tune.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of one segment of a new store; an existing store keeps its own.
    pub segment_bytes: u64,
    /// Newest bytes of the log that are kept in memory for consumers that keep up.
    pub tail_bytes: usize,
    /// Bytes of messages that may wait to be written; more are refused.
    pub append_queue_bytes: usize,
    /// Unsettled messages of one group in one queue; more are not delivered.
    pub in_flight_max: usize,
    /// When results of sends are given.
    pub ack_mode: AckMode,
    /// The views are written at least this often, when something changed,
    pub views_batch_every: Duration,
    /// and flushed at least this often: it bounds what a restart has to apply again.
    pub views_flush_every: Duration,
    /// How long messages are kept.
    pub retention: Retention,
    /// Lite topics of a replica group; more are refused.
    pub lite_topics_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            tail_bytes: 32 << 20,
            append_queue_bytes: 32 << 20,
            in_flight_max: 10_000,
            ack_mode: AckMode::QuorumFsync,
            views_batch_every: Duration::from_secs(1),
            views_flush_every: Duration::from_secs(30),
            retention: Retention::default(),
            lite_topics_max: 500_000,
        }
    }
}

/// What the engine is built from.
pub struct EngineParts {
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub tasks: Tasks,
    pub meter: Meter,
}

/// What one replica among others is built from.
pub struct ReplicaParts {
    pub engine: EngineParts,
    /// Where the views and their bases live.
    pub views: Arc<dyn ViewStore>,
    pub peers: Arc<dyn Peers>,
    /// Draws instances and election timeouts.
    pub entropy: Arc<dyn Entropy>,
    /// What the others reach; served by the network before the engine is open.
    pub ear: Ear,
}

/// The storage engine of one replica group. Clones are cheap and share it.
///
/// Nothing is answered before it is durable. A dropped future of any method leaves nothing half done: either it
/// happened or it did not, and a popped batch that nobody receives is released.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inbox: mpsc::Sender<Ask>,
    pub(crate) append_bytes: Arc<Semaphore>,
    pub(crate) log: Log,
    pub(crate) role: watch::Receiver<Role>,
    pub(crate) reached: watch::Receiver<Option<Reached>>,
    pub(crate) again: Again,
    pub(crate) dead_letters: DeadLetterMetrics,
    pub(crate) transactions: TransactionMetrics,
    /// Who has producers to ask.
    pub(crate) desk: Arc<Desk>,
    pub(crate) lite_topics_max: usize,
}

/// Everything a replica has applied, in words that do not depend on the replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dump {
    pub applied: BlockIndex,
    /// All logical rows, sorted, one a line.
    pub views: String,
    /// Index, position and digest of every block this replica still has, up to `applied`.
    pub log: Vec<(u64, u64, u64)>,
}

impl Engine {
    /// Opens the store of a replica group with one replica, recovering what an earlier process left, and starts its
    /// tasks. Its views are in memory. It leads when this returns.
    ///
    /// # Errors
    /// [`OpenError`] names the file, and the offset where something is corrupt.
    pub async fn open(parts: EngineParts, settings: Settings) -> Result<Self, OpenError> {
        Self::open_with_rule(parts, settings, AfterCommit).await
    }

    /// [`Engine::open`] with another rule for when answers are given, for tests that want to see a wrong one caught.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub async fn open_with_rule(
        parts: EngineParts,
        settings: Settings,
        rule: impl AnswerRule,
    ) -> Result<Self, OpenError> {
        let views = Arc::new(MemoryViewStore::default());
        let (peers, entropy) = (Arc::new(open::Nobody), Arc::new(SeededEntropy::new(0)));
        Self::open_replica_with_rule(
            ReplicaParts { engine: parts, views, peers, entropy, ear: Ear::default() },
            Members::alone(),
            settings,
            rule,
        )
        .await
    }

    /// Opens one replica of a replica group and starts its tasks. Returns when it takes part; who leads shows later, in
    /// [`Engine::role`]. The only replica of its group leads when this returns.
    ///
    /// # Errors
    /// As [`Engine::open`], and when the data folder belongs to another cluster or replica.
    pub async fn open_replica(parts: ReplicaParts, members: Members, settings: Settings) -> Result<Self, OpenError> {
        Self::open_replica_with_rule(parts, members, settings, AfterCommit).await
    }

    /// [`Engine::open_replica`] with another rule, for tests.
    ///
    /// # Errors
    /// As [`Engine::open_replica`].
    pub async fn open_replica_with_rule(
        parts: ReplicaParts,
        members: Members,
        settings: Settings,
        rule: impl AnswerRule,
    ) -> Result<Self, OpenError> {
        open::open(parts, members, settings, rule).await
    }

    /// What this replica is doing, and every change of it. A leader that hears no majority for an election timeout
    /// shows as a follower of nobody.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.clone()
    }

    /// How far the replica group has come with the exchange of its seating, as the leader sees it; nothing while this replica
    /// does not lead. Whoever leads next says the same.
    pub fn reached(&self) -> watch::Receiver<Option<Reached>> {
        self.reached.clone()
    }

    /// Waits until this replica has to be closed and opened again to go on. Whoever runs it does that; a crash does, too.
    ///
    /// Cancel safe.
    pub async fn again(&self) -> BeginAgain {
        self.again.said().await
    }

    /// Lets everybody who waits for [`Engine::again`] know.
    pub fn begin_again(&self, why: impl Into<String>) {
        self.again.because(why);
    }

    /// Gives the lead to the voter that is furthest, if there is one, and returns when this replica leads no more. From the
    /// beginning on it decides nothing new: callers hear that it is not the leader.
    ///
    /// # Errors
    /// [`StoreError::Timeout`] when nobody took over within `wait`.
    pub async fn hand_over(&self, wait: Duration) -> Result<(), StoreError> {
        let (reply, led) = oneshot::channel();
        self.tell(Ask::HandOver { to: None, reply });
        match tokio::time::timeout(wait, led).await {
            // Nobody answers for a replica that does not lead, or that has nobody to give the lead to.
            Ok(Ok(HandedOver::Away) | Err(_)) => Ok(()),
            Ok(Ok(HandedOver::Kept)) | Err(_) => Err(StoreError::Timeout { waited: wait }),
        }
    }

    /// As [`Engine::hand_over`], but to one named replica, and only if it answered this leader a moment ago and has nearly
    /// all of the log. Otherwise nothing happens: this replica goes on as if nobody had asked.
    ///
    /// # Errors
    /// [`StoreError::CannotLead`] at once, or when that replica was there and did not take over;
    /// [`StoreError::NotLeader`], [`StoreError::Busy`], [`StoreError::Stopped`]; [`StoreError::Timeout`] when it did not
    /// take over within `wait`.
    pub async fn hand_over_to(&self, replica: ReplicaId, wait: Duration) -> Result<(), StoreError> {
        let asked = self.ask(|reply| Ask::HandOver { to: Some(replica), reply });
        match tokio::time::timeout(wait, asked).await {
            Ok(Ok(HandedOver::Away)) => Ok(()),
            Ok(Ok(HandedOver::Kept)) => Err(StoreError::CannotLead { replica }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StoreError::Timeout { waited: wait }),
        }
    }

    /// Takes a base of what is applied now, as it otherwise does by itself when the log has grown. It is there when the
    /// store of the views says so.
    pub fn take_base(&self) {
        self.tell(Ask::Base);
    }

    /// Gives up blocks up to `upto`, as far as a base covers them: from now on a replica that lacks them gets that base.
    /// For tests that cannot wait until nobody needs them.
    pub fn let_go(&self, upto: BlockIndex) {
        self.tell(Ask::LetGo { upto });
    }

    /// What this replica has applied, leader or not, to compare it with others.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`], [`StoreError::Unreadable`].
    pub async fn dump(&self) -> Result<Dump, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Ask::Dump { reply })?;
        let dump = answer.await.map_err(|_| StoreError::Stopped)?;
        let unreadable = |why: String| StoreError::Unreadable { why };
        let StateDump { applied, rows } = dump.map_err(|error| unreadable(error.to_string()))?;
        let mut log = Vec::new();
        let mut next = self.log.floor();
        while next <= applied {
            let blocks = match self.log.read_blocks(next, BlockIndex(applied.0 + 1)).await {
                // Its segment went meanwhile, and all before it.
                Err(error) if error.kind() == io::ErrorKind::NotFound && next < self.log.floor() => {
                    next = self.log.floor();
                    log.clear();
                    continue;
                }
                blocks => blocks.map_err(|error| unreadable(error.to_string()))?,
            };
            let Some(last) = blocks.last() else { break };
            next = BlockIndex(last.header.index.0 + 1);
            log.extend(blocks.iter().map(|block| {
                let digest = apogee_model::hash(&block.bytes[block::HEADER..]) ^ block.header.log_time.0;
                (block.header.index.0, block.header.lsn.0, digest)
            }));
        }
        Ok(Dump { applied, views: rows.join("\n"), log })
    }

    /// Appends messages of one topic to one queue, all in one block, and returns when they are committed.
    ///
    /// # Errors
    /// [`StoreError::Busy`] at once when too many bytes wait, [`StoreError::TooLarge`] when they do not fit into a
    /// block, [`StoreError::NoSuchQueue`], [`StoreError::Stopped`].
    pub async fn append(&self, messages: Vec<Append>) -> Result<Vec<Appended>, StoreError> {
        let bytes: usize = messages
            .iter()
            .map(|append| {
                let more = match append {
                    Append { half: Some(_), .. } => HalfCarried::MORE,
                    Append { due: Some(_), .. } => KEPT,
                    Append { .. } => 0,
                };
                record::HEADER + append.message.len() + more
            })
            .map(|len| len.next_multiple_of(8))
            .sum();
        let max = self.log.block_max() - block::HEADER - DeadLetter::ORIGIN;
        if bytes > max {
            return Err(StoreError::TooLarge { bytes, max });
        }
        for Append { topic, queue, .. } in &messages {
            if queue.0 >= topic.queues {
                let (topic, queues) = (topic.name.clone(), topic.queues);
                return Err(StoreError::NoSuchQueue { topic, queue: *queue, queues });
            }
        }
        let weight = u32::try_from(bytes).expect("checked to fit into a block");
        let room = Arc::clone(&self.append_bytes).try_acquire_many_owned(weight);
        let room = room.map_err(|_| StoreError::Busy { what: "the append queue" })?;
        let topic = messages.first().map(|first| first.topic.name.clone());
        let appended = self.ask(|reply| Ask::Append { messages, room, reply }).await?;
        appended.map_err(|why| match (why, topic) {
            (NotAppended::Sealed, Some(topic)) => StoreError::Sealed { topic },
            _ => StoreError::TooManyLiteTopics { max: self.lite_topics_max },
        })
    }

    /// Whether retention took the message.
    pub(crate) fn is_gone(&self, place: &Place) -> bool {
        place.lsn < self.log.begin()
    }

    pub(crate) async fn read(&self, place: &Place) -> Result<StoredMessage, StoreError> {
        Ok(self.record(place.lsn, place.len).await?.message)
    }

    /// Ends a delivery, or moves the end of its lease, and returns when that is committed.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`]; [`StoreError::Unreadable`] when the disk does not give back what is to
    /// be copied.
    pub async fn settle(&self, key: DeliveryKey, what: Settlement) -> Result<Settled, StoreError> {
        let what = match what {
            Settlement::Ack => Moved::Acked,
            Settlement::Change(asked) => Moved::Until(asked, None),
            Settlement::Suspend(asked) => Moved::PutOff(asked),
            Settlement::Rest { asked, rests } => Moved::Until(asked, Some(rests)),
            Settlement::DeadLetter(dead) => return self.give_up(key, dead).await,
        };
        self.ask(|reply| Ask::Settle { key, what, reply }).await
    }

    /// Lets a group go on elsewhere in the queues of a topic. Answers with one row for each queue that ever held a message
    /// here and that this is about.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`].
    pub async fn reset_offset(&self, reset: Reset) -> Result<Vec<QueueReset>, StoreError> {
        self.ask(|reply| Ask::Reset { reset, reply }).await
    }

    /// Takes no more messages of message groups that were hashed over the queues of an epoch, and says whether those that
    /// came before are settled.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`].
    pub async fn seal(&self, seal: Seal) -> Result<Sealed, StoreError> {
        self.ask(|reply| Ask::Seal { seal, reply }).await
    }

    /// Takes a message back that waits for its time. When this returns, it is either certain that nobody will ever see
    /// it, or it is in its queue. A message that was recalled before is recalled again.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`].
    pub async fn recall(&self, recall: Recall) -> Result<Recalled, StoreError> {
        self.ask(|reply| Ask::Recall { recall, reply }).await
    }

    /// Gives back deliveries that never reached their consumer: visible at once, attempt not counted, order kept.
    /// Best effort: what is not released comes again when its lease ends.
    pub fn release(&self, deliveries: Vec<DeliveryKey>) {
        self.tell(Ask::Release { deliveries });
    }

    /// The whole batch was written to its consumer: auto-renewed deliveries are renewed from now on.
    pub fn confirm(&self, deliveries: Vec<DeliveryKey>) {
        self.tell(Ask::Confirm { deliveries });
    }

    /// These clients were heard so long ago.
    pub fn heard(&self, clients: &[(ClientId, Duration)]) {
        self.tell(Ask::Heard { clients: hashed(clients) });
    }

    /// A proxy has no connection to these clients any more, and heard them last so long ago. They are lost, as in
    /// [`Engine::lost`], unless somebody heard them later.
    pub fn hung_up(&self, clients: &[(ClientId, Duration)]) {
        self.tell(Ask::HungUp { clients: hashed(clients) });
    }

    /// The client is gone; what it holds under auto-renewal is visible at once.
    pub fn lost(&self, client: &ClientId) {
        self.tell(Ask::Lost { client: crate::client_hash(client) });
    }

    /// Watches for messages that become ready for a group, from now on.
    pub fn watch(&self, group: &GroupRef, topic: &TopicRef, filter: Filter) -> Watch {
        let (group, topic, client) = (group.id, topic.id, None);
        Watch::new(self.inbox.clone(), |edge| Ask::Watch { group, topic, filter, client, edge })
    }

    /// Watches for lite topics that have something for a client of a group, from now on.
    pub fn watch_lite(&self, group: &GroupRef, topic: &TopicRef, client: &ClientId) -> Watch {
        let (group, topic, filter, client) = (group.id, topic.id, Filter::default(), Some(crate::client_hash(client)));
        Watch::new(self.inbox.clone(), |edge| Ask::Watch { group, topic, filter, client, edge })
    }

    /// Changes what a client is subscribed to, of the lite topics here.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`].
    pub async fn lite_subscribe(&self, subscription: LiteSubscription) -> Result<LiteSubscribed, StoreError> {
        self.ask(|reply| Ask::LiteSubscribe { subscription, reply }).await
    }

    /// Lite topics of a topic that are here, by name.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`].
    pub async fn lite_list(&self, list: LiteList) -> Result<Vec<LiteStatus>, StoreError> {
        self.ask(|reply| Ask::LiteList { list, reply }).await
    }

    /// The queues of a topic that ever held a message.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`].
    pub async fn topic_status(&self, topic: TopicId) -> Result<Vec<QueueStatus>, StoreError> {
        self.ask(|reply| Ask::TopicStatus { topic, reply }).await
    }

    /// How far a group is, on every queue of every topic it reads.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`].
    pub async fn group_status(&self, group: GroupId) -> Result<Vec<GroupStatus>, StoreError> {
        self.ask(|reply| Ask::GroupStatus { group, reply }).await
    }

    /// Trims every queue of a deleted topic to its end, and drops what waits for its time or for the end of its transaction.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`].
    pub async fn drop_topic(&self, topic: TopicId) -> Result<(), StoreError> {
        self.ask(|reply| Ask::DropTopic { topic, reply }).await
    }

    /// Forgets a deleted group.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Stopped`].
    pub async fn drop_group(&self, group: GroupId) -> Result<(), StoreError> {
        self.ask(|reply| Ask::DropGroup { group, reply }).await
    }

    pub(crate) async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.try_ask(ask(reply))?;
        answer.await.map_err(|_| self.unanswered())
    }

    /// Why nobody answered.
    pub(crate) fn unanswered(&self) -> StoreError {
        if self.inbox.is_closed() { StoreError::Stopped } else { StoreError::LeaderLost }
    }

    /// Only a leader can answer, one that hears a majority.
    pub(crate) fn try_ask(&self, ask: Ask) -> Result<(), StoreError> {
        match *self.role.borrow() {
            Role::Leader { .. } => self.send(ask),
            Role::Follower { .. } if self.inbox.is_closed() => Err(StoreError::Stopped),
            Role::Follower { leader } => Err(StoreError::NotLeader { leader }),
        }
    }

    pub(crate) fn send(&self, ask: Ask) -> Result<(), StoreError> {
        if self.inbox.capacity() < INBOX_FOR_NOTES && !self.inbox.is_closed() {
            return Err(StoreError::Busy { what: "the proposer's queue" });
        }
        self.inbox.try_send(ask).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy { what: "the proposer's queue" },
            TrySendError::Closed(_) => StoreError::Stopped,
        })
    }

    pub(crate) fn tell(&self, ask: Ask) {
        if let Err(TrySendError::Full(ask)) = self.inbox.try_send(ask) {
            tracing::warn!(event = "proposer_queue_full", ?ask, "a note to the store was dropped");
        }
    }
}

fn hashed(clients: &[(ClientId, Duration)]) -> Vec<(u64, Duration)> {
    clients.iter().map(|(client, ago)| (crate::client_hash(client), *ago)).collect()
}

//! A replica group over the network: whichever of its store-nodes leads it.
//!
//! Every store-node says on its control lane whether it leads, so nobody has to guess: a request goes to the one that
//! leads in the latest epoch, or waits for one. When the leader changes or a lane breaks before the answer came, the
//! same request is sent again to whoever leads then, until its time is over. That is safe: a send carries its request
//! id, a settlement names its delivery, and a pop its attempt, so that whoever carried it out before says it again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apogee_host::{OnError, Tasks};
use apogee_model::store::{
    Append, Appended, Checked, CommitOffset, DeliveryKey, EndTransaction, Fetch, Fetched, Find, Found, GroupQueue,
    GroupRef, GroupStatus, GroupTrace, HalfId, LiteList, LiteStatus, LiteSubscribed, LiteSubscription, OffsetCommitted,
    OpenTransaction, Pop, Popped, QueueReset, QueueStatus, Recall, Recalled, Reset, Seal, Sealed, Settled, Settlement,
    StoreError, TopicRef, Trace, TransactionEnded,
};
use apogee_model::{ClientId, Filter, GroupId, QueueOffset, ReplicaGroupId, ReplicaId, TopicId};
use apogee_proto::Malformed;
use apogee_proto::store::v1::lane_answer::Result as Answered;
use apogee_proto::store::v1::lane_request::Ask;
use apogee_proto::store::v1::{AppendAsk, SettleAsk, TransactionsAsk};
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use super::lane::{Fault, Lane, Lanes, Reply};
use super::leaders::Leaders;
use super::metrics::StoreMetrics;
use super::node::{Node, Shared};
use super::notes::{Note, Notes, deliver};
use super::producers::Producers;
use super::watches::Watches;
use super::{Checks, ClientHeard, StoreNode, Watch};

/// How long a request is sent again before the caller hears that it failed. Callers with less time drop it earlier.
const CALL_MAX: Duration = Duration::from_secs(8);
/// Before the same leader is asked again; doubles.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// What a remote replica group is made of.
pub struct RemoteGroupParts {
    pub group: ReplicaGroupId,
    pub connections: Arc<Connections>,
    /// The number under which the store-nodes know this proxy, drawn at its start.
    pub incarnation: u64,
    /// Owns a task per replica; closing it ends them.
    pub tasks: Tasks,
    /// Ends them, too.
    pub stop: CancellationToken,
    pub metrics: Arc<StoreMetrics>,
}

/// An address nobody can connect to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address:?} is not host:port")]
pub struct BadStoreAddress {
    pub address: String,
}

/// [`StoreNode`] over lanes.
///
/// What is not answered within 8 s ends with [`StoreError::NotLeader`] when nothing was done, and with
/// [`StoreError::Timeout`] when that is unknown. A future of [`StoreNode::pop`] that is dropped releases its batch when
/// it comes; one whose lane broke just then stays leased until its time is over.
pub struct RemoteGroup {
    resender: Resender,
    shared: Arc<Shared>,
    attempts: AtomicU64,
    connections: Arc<Connections>,
    nodes: Mutex<Nodes>,
    tasks: Tasks,
    stop: CancellationToken,
}

/// The replicas that lanes are kept to, by the address of their store-node.
#[derive(Default)]
struct Nodes {
    by_address: BTreeMap<String, CancellationToken>,
    /// How many there ever were.
    count: usize,
}

impl RemoteGroup {
    /// Knows no replica yet, see [`RemoteGroup::at`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(parts: RemoteGroupParts) -> Self {
        let RemoteGroupParts { group, connections, incarnation, tasks, stop, metrics } = parts;
        let (notes, inbox) = Notes::new();
        let shared = Arc::new(Shared {
            group,
            leaders: Leaders::new(metrics.leader_changes()),
            metrics,
            watches: Arc::<Watches>::default(),
            producers: Arc::<Producers>::default(),
            notes,
            incarnation,
            cluster_id: std::sync::OnceLock::new(),
        });
        let resender = Resender { shared: Arc::clone(&shared) };
        tasks.spawn("store-notes", OnError::StopProcess, deliver(resender.clone(), inbox, stop.clone()));
        let (attempts, nodes) = (AtomicU64::new(0), Mutex::default());
        Self { resender, shared, attempts, connections, nodes, tasks, stop }
    }

    /// Its replicas are at these lanes (`host:port`) from now on, and nowhere else: connects to those it did not know.
    ///
    /// # Errors
    /// [`BadStoreAddress`] names the first one that cannot be; nothing has changed then.
    pub fn at(&self, addresses: &[String]) -> Result<(), BadStoreAddress> {
        let channels = addresses.iter().map(|address| self.connections.to(address)).collect::<Result<Vec<_>, _>>()?;
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = nodes.by_address.extract_if(.., |address, _| !addresses.contains(address));
        gone.for_each(|(_, stop)| stop.cancel());
        for (address, channels) in addresses.iter().zip(channels) {
            if nodes.by_address.contains_key(address) {
                continue;
            }
            let (index, stop, shared) = (nodes.count, self.stop.child_token(), Arc::clone(&self.shared));
            nodes.count += 1;
            nodes.by_address.insert(address.clone(), stop.clone());
            let node = Node { index, address: address.clone(), channels, shared };
            self.tasks.spawn("store-lanes", OnError::StopProcess, node.run(stop));
        }
        Ok(())
    }

    /// Waits until some replica leads. Cancel safe.
    pub async fn has_leader(&self) {
        self.shared.leaders.known().await;
    }

    /// A try of a receive that has no name of its own gets one, so that its batch can be replayed.
    fn name(&self, pop: &mut Pop) {
        if pop.attempt_id.as_ref().is_none_or(Bytes::is_empty) {
            let number = self.attempts.fetch_add(1, Ordering::Relaxed);
            pop.attempt_id = Some(Bytes::from(format!("{:016x}-{number:x}", self.shared.incarnation)));
        }
    }

    async fn control<T>(
        &self,
        ask: impl Fn() -> Ask,
        read: impl FnOnce(Answered) -> Option<Result<T, Malformed>>,
    ) -> Result<T, StoreError> {
        other(self.resender.ask(|lanes| &lanes.control, 0, CALL_MAX, ask).await?, read)
    }
}

/// Asks whoever leads, again and again.
#[derive(Clone)]
pub(super) struct Resender {
    shared: Arc<Shared>,
}

/// What is known of a request that has no answer yet.
enum Fate {
    /// Whoever was asked did nothing.
    NotDone {
        leader: Option<ReplicaId>,
    },
    Unknown,
}

impl Resender {
    /// Sends what `ask` makes, on one kind of lane, until there is an answer or `limit` is over.
    async fn ask(
        &self,
        lane: impl Fn(&Lanes) -> &Lane,
        weight: usize,
        limit: Duration,
        ask: impl Fn() -> Ask,
    ) -> Result<Reply, StoreError> {
        let _counted = self.shared.metrics.request();
        let deadline = Instant::now() + limit;
        let (mut fate, mut pause) = (Fate::NotDone { leader: None }, PAUSE_MIN);
        loop {
            let Ok(leader) = timeout_at(deadline, self.shared.leaders.known()).await else { break };
            match timeout_at(deadline, lane(&leader.lanes).ask(ask(), weight, deadline)).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(fault)) => fate = fate.after(fault)?,
                Err(_) => {
                    fate = Fate::Unknown;
                    break;
                }
            }
            let rest = deadline.min(Instant::now() + pause);
            let _or_the_pause_is_over = timeout_at(rest, self.shared.leaders.changed_from(&leader)).await;
            if Instant::now() >= deadline {
                break;
            }
            pause = (pause * 2).min(PAUSE_MAX);
            self.shared.metrics.resent();
        }
        Err(match fate {
            Fate::NotDone { leader } => StoreError::NotLeader { leader },
            Fate::Unknown => StoreError::Timeout { waited: limit },
        })
    }

    /// Tells what needs no answer but that it was heard.
    pub(super) async fn note(&self, ask: impl Fn() -> Ask, limit: Duration) -> Result<(), StoreError> {
        self.ask(|lanes| &lanes.control, 0, limit, ask).await.map(|_| ())
    }
}

impl Fate {
    /// Goes on, or ends with an error that another leader would not change.
    fn after(self, fault: Fault) -> Result<Self, StoreError> {
        match fault {
            Fault::Broken | Fault::Failed(StoreError::LeaderLost | StoreError::Stopped) => Ok(Self::Unknown),
            Fault::Failed(StoreError::NotLeader { leader }) => Ok(match self {
                Self::NotDone { .. } => Self::NotDone { leader },
                Self::Unknown => Self::Unknown,
            }),
            // A later try was refused; what became of an earlier one is as unknown as before.
            Fault::Failed(StoreError::Busy { .. }) if matches!(self, Self::Unknown) => Ok(Self::Unknown),
            Fault::Failed(
                error @ (StoreError::Busy { .. }
                | StoreError::TooLarge { .. }
                | StoreError::NoSuchQueue { .. }
                | StoreError::Timeout { .. }
                | StoreError::Unreadable { .. }
                | StoreError::TooManyLiteTopics { .. }
                | StoreError::Sealed { .. }
                | StoreError::CannotLead { .. }),
            ) => Err(error),
        }
    }
}

/// The answer, if it is one to this question.
fn other<T>(reply: Reply, read: impl FnOnce(Answered) -> Option<Result<T, Malformed>>) -> Result<T, StoreError> {
    let strange = |why: String| StoreError::Unreadable { why: format!("the answer of the store-node: {why}") };
    let answer = match reply {
        Reply::Other(answered) => read(answered),
        Reply::Popped(_) => None,
    };
    let answer = answer.ok_or_else(|| strange("it answers another question".to_owned()))?;
    answer.map_err(|malformed| strange(malformed.to_string()))
}

impl StoreNode for RemoteGroup {
    fn leads(&self) -> bool {
        self.shared.leaders.is_known()
    }

    fn leader(&self) -> Option<ReplicaId> {
        self.shared.leaders.replica()
    }

    fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, StoreError>> {
        Box::pin(async move {
            let weight = messages.iter().map(|append| append.message.len()).sum();
            if messages.is_empty() {
                return Ok(Vec::new());
            }
            let ask = || Ask::Append(AppendAsk::of(&messages).expect("there is a message"));
            let reply = self.resender.ask(|lanes| &lanes.append, weight, CALL_MAX, ask).await?;
            let appended = other(reply, |answered| match answered {
                Answered::Appended(appended) => Some(appended.into_appended()),
                _ => None,
            })?;
            if appended.len() == messages.len() {
                Ok(appended)
            } else {
                Err(StoreError::Unreadable { why: "the store-node did not answer once per message".to_owned() })
            }
        })
    }

    fn pop(&self, mut pop: Pop) -> BoxFuture<'_, Result<Popped, StoreError>> {
        self.name(&mut pop);
        Box::pin(async move {
            let reply = self.resender.ask(|lanes| &lanes.pop, 0, CALL_MAX, || Ask::Pop((&pop).into())).await?;
            match reply {
                Reply::Popped(popped) => Ok(popped),
                Reply::Other(_) => other(reply, |_| None),
            }
        })
    }

    fn settle(&self, key: DeliveryKey, what: Settlement) -> BoxFuture<'_, Result<Settled, StoreError>> {
        Box::pin(self.control(
            move || Ask::Settle(SettleAsk::of(key, &what)),
            |answered| match answered {
                Answered::Settled(settled) => Some(Ok(settled.into())),
                _ => None,
            },
        ))
    }

    fn release(&self, deliveries: Vec<DeliveryKey>) {
        self.shared.notes.take(Note::Release(deliveries));
    }

    fn confirm(&self, deliveries: Vec<DeliveryKey>) {
        self.shared.notes.take(Note::Confirm(deliveries));
    }

    fn heard(&self, clients: Vec<ClientHeard>) {
        self.shared.notes.take(Note::Heard(clients));
    }

    fn hung_up(&self, clients: Vec<ClientHeard>) {
        self.shared.notes.take(Note::HungUp(clients));
    }

    fn lost(&self, client: ClientId) {
        self.shared.notes.take(Note::Lost(vec![client]));
    }

    fn watch(&self, group: GroupRef, topic: TopicRef, filter: Filter) -> Box<dyn Watch> {
        Box::new(self.shared.watches.add(group, topic, filter, None))
    }

    fn watch_lite(&self, group: GroupRef, topic: TopicRef, client: ClientId) -> Box<dyn Watch> {
        Box::new(self.shared.watches.add(group, topic, Filter::default(), Some(client)))
    }

    fn lite_subscribe(&self, subscription: LiteSubscription) -> BoxFuture<'_, Result<LiteSubscribed, StoreError>> {
        Box::pin(self.control(
            move || Ask::LiteSubscribe((&subscription).into()),
            |answered| match answered {
                Answered::LiteSubscribed(done) => Some(done.try_into()),
                _ => None,
            },
        ))
    }

    fn lite_list(&self, list: LiteList) -> BoxFuture<'_, Result<Vec<LiteStatus>, StoreError>> {
        Box::pin(self.control(
            move || Ask::LiteList((&list).into()),
            |answered| match answered {
                Answered::LiteList(statuses) => Some(statuses.into_statuses()),
                _ => None,
            },
        ))
    }

    fn seal(&self, seal: Seal) -> BoxFuture<'_, Result<Sealed, StoreError>> {
        Box::pin(self.control(
            move || Ask::Seal((&seal).into()),
            |answered| match answered {
                Answered::Sealed(sealed) => Some(Ok(sealed.into())),
                _ => None,
            },
        ))
    }

    fn find(&self, find: Find) -> BoxFuture<'_, Result<Vec<Found>, StoreError>> {
        Box::pin(async move {
            let ask = || Ask::Find((&find).into());
            other(self.resender.ask(|lanes| &lanes.pop, 0, CALL_MAX, ask).await?, |answered| match answered {
                Answered::Found(found) => Some(found.into_found()),
                _ => None,
            })
        })
    }

    fn trace(&self, trace: Trace) -> BoxFuture<'_, Result<Vec<GroupTrace>, StoreError>> {
        Box::pin(self.control(
            move || Ask::Trace(trace.into()),
            |answered| match answered {
                Answered::Traced(groups) => Some(groups.into_groups()),
                _ => None,
            },
        ))
    }

    fn topic_status(&self, topic: TopicId) -> BoxFuture<'_, Result<Vec<QueueStatus>, StoreError>> {
        Box::pin(self.control(
            move || Ask::TopicStatus(topic.0),
            |answered| match answered {
                Answered::TopicStatus(status) => Some(status.into_status()),
                _ => None,
            },
        ))
    }

    fn group_status(&self, group: GroupId) -> BoxFuture<'_, Result<Vec<GroupStatus>, StoreError>> {
        Box::pin(self.control(
            move || Ask::GroupStatus(group.0),
            |answered| match answered {
                Answered::GroupStatus(status) => Some(status.into_status()),
                _ => None,
            },
        ))
    }

    fn reset_offset(&self, reset: Reset) -> BoxFuture<'_, Result<Vec<QueueReset>, StoreError>> {
        Box::pin(self.control(
            move || Ask::Reset((&reset).into()),
            |answered| match answered {
                Answered::Reset(queues) => Some(queues.into_queues()),
                _ => None,
            },
        ))
    }

    fn recall(&self, recall: Recall) -> BoxFuture<'_, Result<Recalled, StoreError>> {
        Box::pin(self.control(
            move || Ask::Recall(recall.into()),
            |answered| match answered {
                Answered::Recalled(recalled) => Some(Ok(recalled.into())),
                _ => None,
            },
        ))
    }

    fn end_transaction(&self, end: EndTransaction) -> BoxFuture<'_, Result<TransactionEnded, StoreError>> {
        Box::pin(self.control(
            move || Ask::EndTransaction(end.into()),
            |answered| match answered {
                Answered::TransactionEnded(ended) => Some(ended.try_into()),
                _ => None,
            },
        ))
    }

    fn commit_offset(&self, commit: CommitOffset) -> BoxFuture<'_, Result<OffsetCommitted, StoreError>> {
        Box::pin(self.control(
            move || Ask::CommitOffset((&commit).into()),
            |answered| match answered {
                Answered::OffsetCommitted(committed) => Some(Ok(committed.into())),
                _ => None,
            },
        ))
    }

    /// On the lane of other messages, so that acknowledgements do not wait behind these.
    fn transactions(
        &self,
        topic: TopicId,
        from: HalfId,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<OpenTransaction>, StoreError>> {
        Box::pin(async move {
            let max = u32::try_from(max).unwrap_or(u32::MAX);
            let ask = || Ask::Transactions(TransactionsAsk { topic: topic.0, from: from.0, max });
            other(self.resender.ask(|lanes| &lanes.pop, 0, CALL_MAX, ask).await?, |answered| match answered {
                Answered::Transactions(transactions) => Some(transactions.into_open()),
                _ => None,
            })
        })
    }

    fn checks(&self, topics: BTreeSet<TopicId>) -> Box<dyn Checks> {
        Box::new(self.shared.producers.add(topics))
    }

    fn checked(&self, checked: Checked) {
        self.shared.notes.take(Note::Checked(vec![checked]));
    }

    fn committed_offset(&self, of: GroupQueue) -> BoxFuture<'_, Result<Option<QueueOffset>, StoreError>> {
        Box::pin(self.control(
            move || Ask::CommittedOffset(of.into()),
            |answered| match answered {
                Answered::CommittedOffset(committed) => Some(Ok(committed.into())),
                _ => None,
            },
        ))
    }

    /// On the lane of other messages, so that acknowledgements do not wait behind these.
    fn fetch(&self, fetch: Fetch) -> BoxFuture<'_, Result<Fetched, StoreError>> {
        Box::pin(async move {
            let ask = || Ask::Fetch((&fetch).into());
            other(self.resender.ask(|lanes| &lanes.pop, 0, CALL_MAX, ask).await?, |answered| match answered {
                Answered::Fetched(fetched) => Some(fetched.try_into()),
                _ => None,
            })
        })
    }

    fn drop_topic(&self, topic: TopicId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.control(move || Ask::DropTopic(topic.0), done))
    }

    fn drop_group(&self, group: GroupId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.control(move || Ask::DropGroup(group.0), done))
    }
}

fn done(answered: Answered) -> Option<Result<(), Malformed>> {
    matches!(answered, Answered::Done(_)).then_some(Ok(()))
}

#[cfg(test)]
mod tests;

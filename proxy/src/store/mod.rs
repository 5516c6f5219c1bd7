//! The proxy's view of the store: replica groups, each through its leader, wherever that lives.
//!
//! Reading order: the trait, `stores` (all replica groups), `follow` (where they are), then `remote` (one of them over the network) with `leaders`
//! (who leads), `node` (one replica), `connections`, `lane` (one lane to it), `watches`, `producers` and
//! `notes`, and `check_backs` (what all replica groups ask producers).

mod check_backs;
mod connections;
mod follow;
mod lane;
mod leaders;
mod metrics;
mod node;
mod notes;
mod producers;
mod reign;
mod remote;
mod stores;
mod watches;

pub(crate) use check_backs::CheckBacks;
pub use connections::Connections;
pub use follow::Follower;
pub use metrics::StoreMetrics;
pub use remote::{BadStoreAddress, RemoteGroup, RemoteGroupParts};
pub use stores::Stores;

use std::collections::BTreeSet;

use apogee_model::store::{
    Append, Appended, CheckBack, Checked, CommitOffset, DeliveryKey, EndTransaction, Fetch, Fetched, Find, Found,
    GroupQueue, GroupRef, GroupStatus, GroupTrace, HalfId, LiteList, LiteStatus, LiteSubscribed, LiteSubscription,
    OffsetCommitted, OpenTransaction, Pop, Popped, QueueReset, QueueStatus, Recall, Recalled, Reset, Seal, Sealed,
    Settled, Settlement, StoreError, TopicRef, Trace, TransactionEnded,
};
use apogee_model::{ClientId, Filter, GroupId, QueueOffset, ReplicaId, TopicId};
use futures::future::BoxFuture;
use tokio::time::Instant;

/// A leader that decides about messages and deliveries. In one process a function call, else
/// [`RemoteGroup`].
///
/// Whatever it answers is committed. A dropped future of [`StoreNode::pop`] releases its batch; dropping any other
/// future leaves the outcome unknown.
pub trait StoreNode: Send + Sync + 'static {
    /// Whether somebody leads now, as far as is known: nobody has to wait for an election.
    fn leads(&self) -> bool;

    /// The replica that leads now, as far as is known, for people who want to see it.
    fn leader(&self) -> Option<ReplicaId> {
        None
    }

    /// Appends all messages or none; one answer per message, in order.
    fn append(&self, messages: Vec<Append>) -> BoxFuture<'_, Result<Vec<Appended>, StoreError>>;

    /// Grants what is ready now; never waits for messages.
    fn pop(&self, pop: Pop) -> BoxFuture<'_, Result<Popped, StoreError>>;

    /// Ends a delivery or moves the end of its lease.
    fn settle(&self, key: DeliveryKey, what: Settlement) -> BoxFuture<'_, Result<Settled, StoreError>>;

    /// Gives back deliveries no client saw: visible at once, attempt not counted. Best effort.
    fn release(&self, deliveries: Vec<DeliveryKey>);

    /// The whole batch was written to its client: renewable from now on. Best effort.
    fn confirm(&self, deliveries: Vec<DeliveryKey>);

    /// Clients this proxy heard since it last said so; called every 5 s.
    fn heard(&self, clients: Vec<ClientHeard>);

    /// Clients that were silent for 10 s after their last connection to this proxy closed. They are lost, unless they were
    /// heard later elsewhere.
    fn hung_up(&self, clients: Vec<ClientHeard>);

    /// A client that terminated.
    fn lost(&self, client: ClientId);

    /// Tells when messages become ready for the group; interest ends when the watch is dropped.
    fn watch(&self, group: GroupRef, topic: TopicRef, filter: Filter) -> Box<dyn Watch>;

    /// As [`StoreNode::watch`], of a client that is subscribed to lite topics of the topic.
    fn watch_lite(&self, group: GroupRef, topic: TopicRef, client: ClientId) -> Box<dyn Watch>;

    /// Changes what a client is subscribed to, of the lite topics that are here.
    fn lite_subscribe(&self, subscription: LiteSubscription) -> BoxFuture<'_, Result<LiteSubscribed, StoreError>>;

    /// Lite topics of a topic that are here, by name; fewer than asked for when the store gives no more at once.
    fn lite_list(&self, list: LiteList) -> BoxFuture<'_, Result<Vec<LiteStatus>, StoreError>>;

    /// Takes no more messages of message groups that were hashed over the queues of an epoch. Asked again, it says how
    /// far the groups are.
    fn seal(&self, seal: Seal) -> BoxFuture<'_, Result<Sealed, StoreError>>;

    /// Finds messages of a topic here, the newest first.
    fn find(&self, find: Find) -> BoxFuture<'_, Result<Vec<Found>, StoreError>>;

    /// What became of a message in each group that reads its topic.
    fn trace(&self, trace: Trace) -> BoxFuture<'_, Result<Vec<GroupTrace>, StoreError>>;

    /// Counters of every queue of a topic.
    fn topic_status(&self, topic: TopicId) -> BoxFuture<'_, Result<Vec<QueueStatus>, StoreError>>;

    /// Progress of a group on every queue it opened.
    fn group_status(&self, group: GroupId) -> BoxFuture<'_, Result<Vec<GroupStatus>, StoreError>>;

    /// Lets a group go on elsewhere; one row for each queue that ever held a message here and that this is about. A call
    /// whose answer got lost on its way may be carried out twice, the second time on what consumers did since the first.
    fn reset_offset(&self, reset: Reset) -> BoxFuture<'_, Result<Vec<QueueReset>, StoreError>>;

    /// Takes a message back that waits for its time.
    fn recall(&self, recall: Recall) -> BoxFuture<'_, Result<Recalled, StoreError>>;

    /// Ends a transaction. Asked again, it says the same.
    fn end_transaction(&self, end: EndTransaction) -> BoxFuture<'_, Result<TransactionEnded, StoreError>>;

    /// Half messages of a topic in the order of their ids, `from` the first on. At most `max`, and no more than the store
    /// gives at once; none: there are no more.
    fn transactions(
        &self,
        topic: TopicId,
        from: HalfId,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<OpenTransaction>, StoreError>>;

    /// There are producers of these topics here: tells which of their transactions they are to be asked about, until it
    /// is dropped.
    fn checks(&self, topics: BTreeSet<TopicId>) -> Box<dyn Checks>;

    /// A producer was asked: that check counts. One nobody says this of comes again. Best effort.
    fn checked(&self, checked: Checked);

    /// Reads messages without consuming them.
    fn fetch(&self, fetch: Fetch) -> BoxFuture<'_, Result<Fetched, StoreError>>;

    /// Remembers where a group goes on in a queue, by its own word. Of several whose answers got lost, any may be last.
    fn commit_offset(&self, commit: CommitOffset) -> BoxFuture<'_, Result<OffsetCommitted, StoreError>>;

    /// What the group committed last.
    fn committed_offset(&self, of: GroupQueue) -> BoxFuture<'_, Result<Option<QueueOffset>, StoreError>>;

    /// Forgets the messages of a deleted topic.
    fn drop_topic(&self, topic: TopicId) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Forgets the progress of a deleted group.
    fn drop_group(&self, group: GroupId) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A client, and when this proxy heard it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHeard {
    pub client: ClientId,
    pub at: Instant,
}

/// Edge-triggered readiness of one (group, topic, filter).
pub trait Watch: Send {
    /// Waits until messages became ready and says how many at least. Edges between two calls add up.
    ///
    /// Cancel safe.
    fn ready(&mut self) -> BoxFuture<'_, u64>;
}

/// What producers here are to be asked.
pub trait Checks: Send {
    /// There are producers of these topics here, and of no others.
    fn set_topics(&self, topics: BTreeSet<TopicId>);

    /// Waits until a producer is to be asked.
    ///
    /// Cancel safe.
    fn next(&mut self) -> BoxFuture<'_, CheckBack>;
}
